"""Placements of the norm on text classification: accuracy, where higher is better.

Command:   main.py sweep sweeps/classify_text.py
Cost:      N
Expected:  N

All schemes share one init law (xavier, without the multipliers of sandwich_ln) and one warmup. Validation accuracy of one seed chooses
the learning rate; five other seeds are reported.
"""

from addnorm_exp.sweep import axis, product

CONFIG = "configs/classify_text.py"
BASE = {"init.law": "xavier", "init.multipliers": "none", "execution.attention_every": 0}
TUNED = ("optim.lr",)
BASELINE = "post_ln"

SCHEMES = ("post_ln", "pre_ln", "sandwich_ln", "no_norm")


def tune():
    return product(axis("scheme", SCHEMES), axis("optim.lr", (1e-3, 3e-3)), axis("seed", [0]))


def report(best):
    return product(best, axis("seed", (1, 2, 3, 4, 5)))
