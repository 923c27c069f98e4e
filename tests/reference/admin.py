"""Admin (Liu et al. 2020, 2004.08249): Post-LN whose skips are rescaled by what a batch says of the branches."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .norms import Array, Norm, f64, layer_norm
from .schemes import Bodies, sublayers


def admin(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None) -> Array:
    """x <- N(ω ⊙ x + F(x)); no final norm.

    p["blocks"][l][kind] = {"skip": ω: [D], "post": {gain: [D], bias: [D]}}
    """
    x = f64(x0)
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            q = p["blocks"][l][kind]
            x = norm(f64(q["skip"]) * x + body(x), q["post"])
    return x


def profile(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None) -> tuple[list[float], Array]:
    """One pass through a stack that sets each ω as it goes on, as the released code does: (every ω in order, output).

    The first ω is 1. Behind a sublayer the next one is √(Var[ω x] + Var[F(x)]), of all elements of x and of F(x), padded ones too, and x
    goes on as N(ω x + F(x)). p as in `admin`, its "skip" not looked at.
    """
    x, omega, found = f64(x0), 1.0, []
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            found.append(omega)
            shortcut, branch = omega * x, body(x)
            x = norm(shortcut + branch, p["blocks"][l][kind]["post"])
            omega = math.sqrt(np.var(shortcut) + np.var(branch))
    return found, x
