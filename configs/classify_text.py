"""Text classification: the textbook Add & Norm network on snippets of movie reviews.

Command:   main.py train --config=configs/classify_text.py:post_ln --workdir=runs/try
           main.py train --config=configs/classify_text.py --config.data.path=FILE.csv --workdir=runs/mine   (columns text and label)
Cost:      N
Expected:  N

An encoder of 2 blocks of width 64 with padding masks, the mean over valid tokens, and a softmax.
"""

from ml_collections import ConfigDict

from addnorm_exp.config import Config, as_configdict


def get_config(scheme: str = "post_ln") -> ConfigDict:
    """`configs/classify_text.py:NAME` is a shorthand for `--config.scheme=NAME`."""
    config = as_configdict(Config())
    config.task.name = "classify_text"
    config.scheme = scheme
    config.seq_len = 48
    config.batch_size = 32
    config.steps = "4epochs"
    config.model.depth, config.model.width = 2, 64
    config.model.dropout = 0.5
    config.optim.lr, config.optim.warmup, config.optim.weight_decay = 3e-3, "10%", 1.0
    config.eval.every, config.eval.sequences = "1epoch", None
    return config
