"""Normalisers in float64. All share the signature `norm(x, p)`; bind the other arguments with `functools.partial`.

`p` may hold `gain: [D]` and `bias: [D]`; what is absent is not applied, so `{}` is the norm without affine.
All statistics are over the last axis. `place` says where ε stands: "inside" the root, sqrt(v + ε), or "outside",
sqrt(v) + ε.
"""

from collections.abc import Callable, Mapping

import numpy as np

Array = np.ndarray
Params = Mapping[str, Array]
Norm = Callable[[Array, Params], Array]


def f64(x) -> Array:
    return np.asarray(x, dtype=np.float64)


def _root(second_moment: Array, eps: float, place: str) -> Array:
    if place == "inside":
        return np.sqrt(second_moment + eps)
    if place == "outside":
        return np.sqrt(second_moment) + eps
    raise ValueError(f"place must be 'inside' or 'outside', got {place!r}")


def _affine(y: Array, p: Params, unit_offset: bool) -> Array:
    if "gain" in p:
        y = y * (f64(p["gain"]) + (1.0 if unit_offset else 0.0))
    if "bias" in p:
        y = y + f64(p["bias"])
    return y


def layer_norm(x, p: Params, eps: float = 1e-5, place: str = "inside", unit_offset: bool = False) -> Array:
    """LayerNorm (Ba et al. 2016): gain ⊙ (x - mean) / sqrt(var + ε) + bias; biased variance (over D, not D - 1)."""
    x = f64(x)
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return _affine(centred / _root(variance, eps, place), p, unit_offset)


def rms_norm(x, p: Params, eps: float = 1e-6, place: str = "inside", unit_offset: bool = False) -> Array:
    """RMSNorm (Zhang & Sennrich 2019): gain ⊙ x / sqrt(mean(x²) + ε); with `unit_offset` the factor is 1 + gain."""
    x = f64(x)
    return _affine(x / _root((x**2).mean(axis=-1, keepdims=True), eps, place), p, unit_offset)


def l2_norm(x, p: Params | None = None, axis: int = -1) -> Array:
    """x / ‖x‖₂, no gain and no ε (nGPT's Norm); a zero vector has no direction and raises."""
    x = f64(x)
    length = np.sqrt((x**2).sum(axis=axis, keepdims=True))
    if not np.all(length > 0):
        raise ZeroDivisionError("l2_norm of a zero vector")
    return x / length


def no_norm(x, p: Params | None = None) -> Array:
    """The identity."""
    return f64(x)
