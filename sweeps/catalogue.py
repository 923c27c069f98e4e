"""Every scheme of the catalogue as its authors made it, on enwik8: learning rates tuned, five seeds reported with intervals.

Command:   main.py sweep sweeps/catalogue.py
           main.py table runs/catalogue --nop_values
Cost:      477 runs of 200 steps (212 tuning, 265 reported) and one compilation per scheme and phase: about two hours on two cores that
           did other work as well (2026-11-26, with 52 schemes, two cores of an AMD EPYC, JAX 0.10.2); memory 6 GB.
Expected:  docs/catalogue-results.md, with what it does not show.

The smallest size at which most schemes learn more than the frequencies of bytes. To ask the question in earnest, raise `model.width`,
`model.depth` and `steps` in BASE; nothing else need change. Init laws are the schemes' own, so what differs is the whole recipe.
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
