"""Every scheme of the catalogue under one init law and one norm, where it takes them: the rest is how the stream is read and written.

Command:   main.py sweep sweeps/catalogue_matched.py
           main.py table runs/catalogue_matched --nop_values
Cost:      that of sweeps/catalogue.py, its sibling, which has each scheme as its authors made it: nine runs of 200 steps a scheme,
           about two hours on two cores.
Expected:  not run yet.

The law is xavier: its deviation follows the width, where N(0, 0.02²) fits widths of a thousand and more. Init multipliers that came
with a scheme and are not its method are taken off (`init.multipliers=none`); those that are its method (DeepNorm's β, Fixup's zeros)
stay. The norm is LayerNorm with its published ε and affine. A scheme keeps its own where it has none, takes no other, or has a bounded
function in the norm's place. What still differs between rows, and which rows are the same function, the lines above the table say.
"""

from addnorm_exp.residual import catalogue
from addnorm_exp.residual.vocabulary import METHOD
from addnorm_exp.sweep import axis, product

CONFIG = "configs/lm.py"
BASE = {
    "steps": 200,
    "batch_size": 12,
    "seq_len": 64,
    "init.law": "xavier",
    "optim.warmup": 20,
    "eval.every": 100,
    "eval.sequences": 128,
    "execution.attention_every": 0,
    "execution.layers_every": 10,
    "execution.checkpoint_every": 0,
}
TUNED = ("optim.lr",)
BASELINE = "pre_ln"


def matched(name):
    """What the scheme needs besides BASE to be like the others."""
    scheme = catalogue.get(name)
    elementwise = "alpha" in scheme.norm.axes  # a function in place of a norm is the method
    own = not scheme.takes_norm or scheme.norm.kind in ("none", "layer") or elementwise
    norm = {} if own else {"norm.kind": "layer"}
    return {"scheme": name, **norm, "init.multipliers": "scheme" if scheme.multipliers == METHOD else "none"}


def tune():
    schemes = [matched(name) for name in catalogue.names()]
    return product(schemes, axis("optim.lr", (1e-3, 3e-3, 1e-2, 3e-2)), axis("seed", [0]))


def report(best):
    return product(best, axis("seed", (1, 2, 3, 4, 5)))
