"""Placements of the norm on text classification: accuracy, where higher is better.

Command:   main.py sweep sweeps/classify_text.py
Cost:      28 runs of 1,057 steps (8 tuning, 20 reported): 46 min on two cores of an AMD EPYC that had other work (2026-11-30, JAX 0.10.2)
Expected:  test accuracy, n = 5, 95 % intervals: post_ln 79.55 ± 0.56, pre_ln 79.09 ± 0.74, sandwich_ln 79.00 ± 0.98, no_norm 79.15 ± 0.64.
           No difference to post_ln is significant (p ≥ 0.65); differences from 1.0 to 1.7 would have been found with a power of 0.8.

At two blocks, where the norm stands makes no difference that 1,056 test texts and five seeds could show, and neither does leaving it out.
All rates won at the upper edge of the grid.
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
