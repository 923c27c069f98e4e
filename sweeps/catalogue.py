"""Every scheme of the catalogue, as published, on enwik8: learning rates tuned, five seeds reported with intervals.

Command:   main.py sweep sweeps/catalogue.py
"""

from addnorm_exp.residual import catalogue
from addnorm_exp.sweep import axis, product

CONFIG = "configs/lm.py"
BASE = {
    "steps": 200,
    "batch_size": 12,
    "seq_len": 64,
    "optim.warmup": 20,
    "eval.every": 100,
    "eval.sequences": 128,
    "execution.attention_every": 0,
    "execution.layers_every": 10,
    "execution.checkpoint_every": 0,
}
TUNED = ("optim.lr",)
BASELINE = "pre_ln"


def tune():
    return product(axis("scheme", catalogue.names()), axis("optim.lr", (1e-3, 3e-3, 1e-2, 3e-2)), axis("seed", [0]))


def report(best):
    return product(best, axis("seed", (1, 2, 3, 4, 5)))
