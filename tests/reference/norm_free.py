"""Schemes without a norm and schemes with a learned coefficient on the branch, each written out from its equation.

Notation and arguments as in `schemes`. Where `norm` may be left out (`None`), the scheme has none: neither before a sublayer nor at the
end.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from .norms import Array, Norm, f64, layer_norm, rms_norm
from .schemes import Bodies, sublayers


def _read(x: Array, p: Mapping[str, Any], norm: Norm | None) -> Array:
    return x if norm is None else norm(x, p["pre"])


def _close(x: Array, p: Mapping[str, Any], norm: Norm | None) -> Array:
    return x if norm is None else norm(x, p["final"])


def rezero(x0, F: Bodies, p: Mapping[str, Any], norm: Norm | None = None, memory=None) -> Array:
    """ReZero (Bachlechner et al. 2020): x <- x + a_l F(x), one scalar a_l a block, shared by its sublayers; no norms.

    Not even a final one. With a norm (Narang et al. 2021): x <- x + a_l F(N(x)), output N_f(x).
    p["blocks"][l]["a"] = scalar (0 at init); with a norm also p["blocks"][l][kind]["pre"], p["final"]
    """
    x = f64(x0)
    for l, block in enumerate(F):
        q = p["blocks"][l]
        for kind, body in sublayers(block, memory):
            x = x + float(q["a"]) * body(_read(x, q.get(kind, {}), norm))
    return _close(x, p, norm)


def skipinit(x0, F: Bodies, p: Mapping[str, Any], norm: Norm | None = None, memory=None) -> Array:
    """SkipInit (De & Smith 2020): x <- x + a_s F(x), one scalar a_s a sublayer; no norms. With one: a_s F(N(x)), output N_f(x).

    p["blocks"][l][kind]["scale"] = scalar (0 at init); with a norm also p["blocks"][l][kind]["pre"], p["final"]
    """
    x = f64(x0)
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            q = p["blocks"][l][kind]
            x = x + float(q["scale"]) * body(_read(x, q, norm))
    return _close(x, p, norm)


def layerscale(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None) -> Array:
    """LayerScale (Touvron et al. 2021): x <- x + diag(λ_s) F(N(x)); output N_f(x).

    p["blocks"][l][kind]["scale"] = λ_s: [D], p["blocks"][l][kind]["pre"], p["final"] = {gain: [D], bias: [D]}
    """
    x = f64(x0)
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            q = p["blocks"][l][kind]
            x = x + f64(q["scale"]) * body(norm(x, q["pre"]))
    return norm(x, p["final"])


def fixup(x0, F: Bodies, p: Mapping[str, Any], memory=None) -> Array:
    """Fixup (Zhang et al. 2019): x <- x + a_s F(x + b_s), scalars a_s and b_s a sublayer; output x + b. No norms.

    The scalar biases inside the feed-forward sublayer (before the activation and before its last matrix) are its body's.
    p["blocks"][l][kind]["scale"] = a_s (1 at init), ["shift"] = b_s (0 at init), p["ends"]["shift"] = b (0 at init)
    """
    x = f64(x0)
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            q = p["blocks"][l][kind]
            x = x + float(q["scale"]) * body(x + float(q["shift"]))
    return x + float(p["ends"]["shift"])


def fixup_multipliers(branches: int) -> dict[str, float]:
    """What Fixup puts on the Xavier law of each matrix, `branches` = S, the number of residual branches of the model.

    The m matrices of a branch: the last 0, the others S^(-1/(2m - 2)); m = 2 in the feed-forward, m = 4 in attention.
    """
    attention = dict.fromkeys(("query", "key", "value"), branches ** (-1 / (2 * 4 - 2)))
    return {**attention, "up": branches ** (-1 / (2 * 2 - 2)), "out": 0.0, "down": 0.0, "head": 0.0}


def scaled_branch(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None, *, a: float) -> Array:
    """Depth-muP (a = 1/2) and CompleteP (a = 1): x <- x + m^-a F(N(x)), m = L/2; output N_f(x) (Dey et al. 2025, table 1).

    p["blocks"][l][kind]["pre"], p["final"] = {gain: [D], bias: [D]}
    """
    x, m = f64(x0), len(F) / 2
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            x = x + body(norm(x, p["blocks"][l][kind]["pre"])) / m**a
    return norm(x, p["final"])


depth_mup = partial(scaled_branch, a=0.5)
completep = partial(scaled_branch, a=1.0)


def _sigmoid(x) -> Array:
    return 1.0 / (1.0 + np.exp(-f64(x)))


def gtrxl(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None) -> Array:
    """GTrXL (Parisotto et al. 2019), GRU gating: y = ReLU(F(N(x))), x <- g(x, y); no final norm.

    r = σ(W_r y + U_r x), z = σ(W_z y + U_z x - b), h = tanh(W_g y + U_g (r ⊙ x)), g = (1 - z) ⊙ x + z ⊙ h
    q = p["blocks"][l][kind]: q["norm"] = {gain, bias: [D]}, q["branch"] = W and q["stream"] = U = {reset, update, candidate: [D, D]},
    which act as y @ W, q["bias"] = b: [D] (2 at init)
    """
    x = f64(x0)
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            q = p["blocks"][l][kind]
            y = np.maximum(body(norm(x, q["norm"])), 0.0)
            r = _sigmoid(y @ f64(q["branch"]["reset"]) + x @ f64(q["stream"]["reset"]))
            z = _sigmoid(y @ f64(q["branch"]["update"]) + x @ f64(q["stream"]["update"]) - f64(q["bias"]))
            h = np.tanh(y @ f64(q["branch"]["candidate"]) + (r * x) @ f64(q["stream"]["candidate"]))
            x = x + z * (h - x)
    return x


def highway(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None) -> Array:
    """Highway gate (Srivastava et al. 2015) on a Pre-LN branch: t = σ(W x + b), x <- t ⊙ F(N(x)) + (1 - t) ⊙ x; output N_f(x).

    p["blocks"][l][kind] = {norm: {gain, bias}, kernel: [D, D] (acts as x @ W), bias: [D] (-2 at init)}, p["final"]
    """
    x = f64(x0)
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            q = p["blocks"][l][kind]
            t = _sigmoid(x @ f64(q["kernel"]) + f64(q["bias"]))
            x = t * body(norm(x, q["norm"])) + (1 - t) * x
    return norm(x, p["final"])


def branch_norm(
    x0, F: Bodies, p: Mapping[str, Any], norm: Norm = layer_norm, memory=None, *, alpha: float = 1.0
) -> Array:
    """BranchNorm (Liu et al. 2023): x <- N(x + α F(x)), α the same for all sublayers; no final norm.

    p["blocks"][l][kind]["post"] = {gain: [D], bias: [D]}
    """
    x = f64(x0)
    for l, block in enumerate(F):
        for kind, body in sublayers(block, memory):
            x = norm(x + alpha * body(x), p["blocks"][l][kind]["post"])
    return x


rms_outside = partial(rms_norm, eps=1e-5, place="outside")  # of the authors' code of the two below


def simplified(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = rms_outside) -> Array:
    """SAS-P (He & Hofmann 2023): x <- β_a F_a(N(x)) + β_f F_f(N(x)), no skip; output N_f(x). The shaping of attention is its body's.

    q = p["blocks"][l]["attention+feed_forward"]: q["pre"] = {gain: [D]}, q["scales"] = {attention: β_a, feed_forward: β_f}; p["final"]
    """
    x = f64(x0)
    for l, block in enumerate(F):
        q = p["blocks"][l]["attention+feed_forward"]
        h = norm(x, q["pre"])
        x = sum(float(q["scales"][kind]) * body(h) for kind, body in sublayers(block))
    return norm(x, p["final"])


def value_skipinit(x0, F: Bodies, p: Mapping[str, Any], norm: Norm = rms_outside) -> Array:
    """Value-SkipInit (He et al. 2023) in the block of He & Hofmann 2023: x <- β F_a(N(x)); x <- γ x + β_f F_f(N(x)); output N_f(x).

    q = p["blocks"][l]: q["attention"] = {pre: {gain}, scale: β}, q["feed_forward"] = {pre: {gain}, scale: β_f, skip: γ}; p["final"]
    """
    x = f64(x0)
    for l, block in enumerate(F):
        a, f = p["blocks"][l]["attention"], p["blocks"][l]["feed_forward"]
        x = float(a["scale"]) * block["attention"](norm(x, a["pre"]))
        x = float(f["skip"]) * x + float(f["scale"]) * block["feed_forward"](norm(x, f["pre"]))
    return norm(x, p["final"])
