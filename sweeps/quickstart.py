"""Post-LN, Pre-LN, Pre-RMSNorm and no norm on enwik8, learning rates tuned, three seeds reported.

Command:   main.py sweep sweeps/quickstart.py
"""

from addnorm_exp.sweep import axis, product

CONFIG = "configs/lm.py"
BASE = {
    "steps": 120,
    "batch_size": 12,
    "seq_len": 64,
    "init.law": "xavier",
    "optim.warmup": 12,
    "eval.every": 40,
    "eval.sequences": 128,
    "execution.attention_every": 0,
    "execution.layers_every": 5,
}
TUNED = ("optim.lr",)
BASELINE = "post_ln"

SCHEMES = ("post_ln", "pre_ln", "pre_rms", "no_norm")


def tune():
    return product(axis("scheme", SCHEMES), axis("optim.lr", (1e-3, 3e-3, 1e-2)), axis("seed", [0]))


def report(best):
    return product(best, axis("seed", (1, 2, 3)))
