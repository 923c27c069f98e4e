"""Normalisers in float64. All share the signature `norm(x, p)`; bind the other arguments with `functools.partial`.

`p` may hold `gain: [D]` and `bias: [D]`; what is absent is not applied, so `{}` is the norm without affine.
All statistics are over the last axis. `place` says where ε stands: "inside" the root, sqrt(v + ε), or "outside",
sqrt(v) + ε.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy.special import erf

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


def dyt(x, p: Params) -> Array:
    """Dynamic Tanh (Zhu et al. 2025): gain ⊙ tanh(αx) + bias, α = p["alpha"] a scalar."""
    return _affine(np.tanh(f64(p["alpha"]) * f64(x)), p, False)


def derf(x, p: Params) -> Array:
    """Dynamic erf (Chen et al. 2025): gain ⊙ erf(αx + s) + bias, α = p["alpha"] and s = p["shift"] scalars."""
    return _affine(erf(f64(p["alpha"]) * f64(x) + f64(p["shift"])), p, False)


def p_rms_norm(x, p: Params, share: float = 0.0625, eps: float = 1e-8, place: str = "outside") -> Array:
    """pRMSNorm (Zhang & Sennrich 2019, sec. 4): RMSNorm whose mean of squares is over the first int(share · D) coordinates."""
    x = f64(x)
    first = x[..., : max(1, int(share * x.shape[-1]))]
    return _affine(x / _root((first**2).mean(axis=-1, keepdims=True), eps, place), p, False)


def crms_norm(x, p: Params, eps: float = 1e-6, place: str = "inside") -> Array:
    """CRMSNorm (Jiang et al. 2023): x holds all but the last of the coordinates of a vector whose sum is 0, and is divided by
    that vector's root mean square."""
    x = f64(x)
    whole = np.concatenate([x, -x.sum(axis=-1, keepdims=True)], axis=-1)
    return _affine(x / _root((whole**2).mean(axis=-1, keepdims=True), eps, place), p, False)


def scale_norm(x, p: Params, eps: float = 1e-5) -> Array:
    """ScaleNorm (Nguyen & Salazar 2019): g x / max(‖x‖, ε); p["gain"] = g, a scalar (√D at first)."""
    x = f64(x)
    return _affine(x / np.maximum(np.sqrt((x**2).sum(axis=-1, keepdims=True)), eps), p, False)


def ada_norm(x, p: Params, C: float = 1.0, eps: float = 1e-5, place: str = "outside", frozen=None) -> Array:
    """AdaNorm (Xu et al. 2019): C (1 - k y) ⊙ y, k = 1/10, y = (x - mean) / (std + ε).

    The factor 1 - k y is a constant for the gradient: `frozen` = the x that it is taken from, x itself where not given.
    """
    y = layer_norm(x, {}, eps, place)
    factor = y if frozen is None else layer_norm(frozen, {}, eps, place)
    return _affine(C * (1.0 - factor / 10.0) * y, p, False)


def detach_norm(x, p: Params, parts: str = "both", eps: float = 1e-5, place: str = "outside", frozen=None) -> Array:
    """DetachNorm (Xu et al. 2019): (x - mean) / (std + ε) where mean, std ("deviation") or both are constants for the gradient,
    taken from `frozen` (x itself where not given)."""
    x = f64(x)
    constant = x if frozen is None else f64(frozen)
    of_mean = constant if parts in ("both", "mean") else x
    of_std = constant if parts in ("both", "deviation") else x
    mean = of_mean.mean(axis=-1, keepdims=True)
    return _affine((x - mean) / _root(of_std.var(axis=-1, keepdims=True), eps, place), p, False)


def no_norm(x, p: Params | None = None) -> Array:
    """The identity."""
    return f64(x)
