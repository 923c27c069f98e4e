"""Language modelling on bytes: a small decoder-only Transformer on enwik8.

Command:   main.py train --config=configs/lm.py:pre_ln --workdir=runs/try
           main.py train --config=configs/lm.py:post_ln --config.optim.lr=3e-3 --config.steps=2000 --workdir=runs/longer
           main.py train --config=configs/lm.py --config.data.path=FILE --workdir=runs/mine   (any file of yours)
Cost:      to be measured
Expected:  to be measured

The defaults (addnorm_exp/config/schema.py) fit two CPU cores: 4 blocks of width 128, 1000 steps of 16 × 128 bytes.
"""

from ml_collections import ConfigDict

from addnorm_exp.config import Config, as_configdict


def get_config(scheme: str = "pre_ln") -> ConfigDict:
    """`configs/lm.py:NAME` is a shorthand for `--config=configs/lm.py --config.scheme=NAME`."""
    config = as_configdict(Config())
    config.scheme = scheme
    return config
