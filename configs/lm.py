"""Language modelling on bytes: a small decoder-only Transformer on enwik8.

Command:   main.py train --config=configs/lm.py:pre_ln --workdir=runs/try
           main.py train --config=configs/lm.py:post_ln --config.optim.lr=3e-3 --config.steps=2000 --workdir=runs/longer
           main.py train --config=configs/lm.py --config.data.path=FILE --workdir=runs/mine   (any file of yours)
Cost:      1000 steps of 5.3 MFLOP a token on 2048 tokens: 4 min 39 s on two cores of an AMD EPYC that had other work (205 ms a step,
           2026-11-23, JAX 0.10.2); expect less than half of that on cores of your own.
Expected:  the first command gave 3.1896 bits per byte on the test windows (n = 1).

The defaults (addnorm_exp/config/schema.py) fit two CPU cores: 4 blocks of width 128, 1000 steps of 16 × 128 bytes.
"""

from ml_collections import ConfigDict

from addnorm_exp.config import Config, as_configdict


def get_config(scheme: str = "pre_ln") -> ConfigDict:
    """`configs/lm.py:NAME` is a shorthand for `--config=configs/lm.py --config.scheme=NAME`."""
    config = as_configdict(Config())
    config.scheme = scheme
    return config
