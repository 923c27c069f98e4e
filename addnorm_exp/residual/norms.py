"""Normalisers: the function of each kind in `norm_kinds.KINDS`, and the module that applies it.

Statistics are taken in float32 whatever the input, by two passes: the one-pass variance `E[x²] - E[x]²` that libraries default to
loses all its digits when the mean is large against the spread, which is just what a study of norms meets.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Float32

from addnorm_exp.residual.broadcast import across
from addnorm_exp.residual.init import Init, parameter
from addnorm_exp.residual.norm_kinds import (
    ADA,
    CRMS,
    DERF,
    DETACH,
    DYT,
    KINDS,
    L2,
    LAYER,
    NONE,
    PRMS,
    RMS,
    SCALE,
    NormKind,
    NormSpec,
)  # fmt: skip

__all__ = [
    "ADA", "CRMS", "DERF", "DETACH", "DYT", "KINDS", "L2", "LAYER", "NONE", "PRMS", "PUBLISHED", "RMS", "SCALE", "Norm",
    "NormKind", "NormSpec", "apply", "make",
]  # fmt: skip

PUBLISHED: Mapping[str, NormSpec] = {name: kind.published for name, kind in KINDS.items()}
ADA_K = 0.1  # AdaNorm's k
Rows = Float32[Array, "*tokens width"]
FIRST = {"alpha": lambda spec: spec.alpha, "shift": lambda spec: 0.0}  # values of a kind's learned scalars

stop = jax.lax.stop_gradient


class Norm(nnx.Module):
    """N(x) over the last axis; float32 inside, the input's dtype outside."""

    alpha: nnx.Param
    shift: nnx.Param

    def __init__(self, spec: NormSpec, width: int, *, rngs: nnx.Rngs):
        self.spec = spec
        # ScaleNorm's gain starts at √d, which its root of a sum, not of a mean, asks for.
        self.unit = width**0.5 if spec.kind == "scale" else 1.0
        first = spec.gain_init * self.unit - (spec.gain == "unit_offset")
        if spec.affine != "none":
            self.gain = parameter(() if spec.affine == "scalar" else (width,), Init.constant(first), "gain", rngs)
        if spec.affine == "full":
            self.bias = parameter((width,), Init.constant(0.0), "bias", rngs)
        for name in KINDS[spec.kind].learned:
            setattr(self, name, parameter((), Init.constant(FIRST[name](spec)), "coefficient", rngs))

    def __call__(self, x: Float[Array, "*tokens width"]) -> Float[Array, "*tokens width"]:
        spec = self.spec
        y = FUNCTIONS[spec.kind](x.astype(jnp.float32), self)
        if spec.affine == "none":
            y = y if self.unit == 1.0 else self.unit * y
        else:
            gain = self.gain[...] + 1.0 if spec.gain == "unit_offset" else self.gain[...]
            y = y * across(gain, y)
        if spec.affine == "full":
            y = y + across(self.bias[...], y)
        return y.astype(x.dtype)


def layer(y: Rows, norm: Norm) -> Rows:
    return _centred(y, _mean(y), norm.spec)


def rms(y: Rows, norm: Norm) -> Rows:
    return y * _reciprocal(_mean(jnp.square(y)), norm.spec)


def prms(y: Rows, norm: Norm) -> Rows:
    counted = y[..., : max(1, int(norm.spec.share * y.shape[-1]))]
    return y * _reciprocal(_mean(jnp.square(counted)), norm.spec)


def crms(y: Rows, norm: Norm) -> Rows:
    width = y.shape[-1]
    square = (width * _mean(jnp.square(y)) + jnp.square(jnp.sum(y, -1, keepdims=True))) / (width + 1)
    return y * _reciprocal(square, norm.spec)


def scale(y: Rows, norm: Norm) -> Rows:
    return y * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(y), -1, keepdims=True), norm.spec.eps**2))


def l2(y: Rows, norm: Norm) -> Rows:
    # The root of a sum of squares has no derivative at 0, and no published ε: a zero vector stays undefined, as in nGPT.
    return y * jax.lax.rsqrt(jnp.sum(jnp.square(y), -1, keepdims=True))


def ada(y: Rows, norm: Norm) -> Rows:
    y = layer(y, norm)
    return norm.spec.scale * (1.0 - stop(ADA_K * y)) * y


def detach(y: Rows, norm: Norm) -> Rows:
    mean, detached = _mean(y), norm.spec.detached
    mean = stop(mean) if detached in ("both", "mean") else mean
    return _centred(y, mean, norm.spec, stopped=detached in ("both", "deviation"))


def dyt(y: Rows, norm: Norm) -> Rows:
    return jnp.tanh(norm.alpha[...] * y)


def derf(y: Rows, norm: Norm) -> Rows:
    return jax.lax.erf(norm.alpha[...] * y + norm.shift[...])


def none(y: Rows, norm: Norm) -> Rows:
    return y


# Kind of a spec → its function of y, float32 (..., width), before the gain and bias that `Norm` applies.
FUNCTIONS: Mapping[str, Callable[[Rows, Norm], Rows]] = {
    function.__name__: function for function in (layer, rms, prms, crms, scale, l2, ada, detach, dyt, derf, none)
}


def _mean(y: jax.Array) -> jax.Array:
    return jnp.mean(y, -1, keepdims=True)


def _centred(y: jax.Array, mean: jax.Array, spec: NormSpec, stopped: bool = False) -> jax.Array:
    """(y - mean) / √var; with `stopped` no gradient passes through the deviation."""
    y = y - mean
    square = _mean(jnp.square(y))
    # What rounding left of the mean: 1e-3 of the spread where the mean is 1e4 spreads. In exact arithmetic it is 0, and so is its
    # derivative. Corrected two-pass (Chan, Golub & LeVeque 1983), in the pass over y that the squares need anyway.
    rest = stop(_mean(y))
    y, square = y - rest, jnp.maximum(square - jnp.square(rest), 0.0)
    reciprocal = _reciprocal(square, spec)
    return y * (stop(reciprocal) if stopped else reciprocal)


def _reciprocal(mean_square: jax.Array, spec: NormSpec) -> jax.Array:
    if spec.eps_place == "inside":
        return jax.lax.rsqrt(mean_square + spec.eps)
    # The root has no derivative at 0; a constant row, which has nothing to normalise, gets the derivative 0.
    positive = mean_square > 0
    return 1.0 / (jnp.where(positive, jnp.sqrt(jnp.where(positive, mean_square, 1.0)), 0.0) + spec.eps)


def make(spec: NormSpec | None, width: int, rngs: nnx.Rngs) -> Norm | None:
    """The module of a spec; `None` for no norm and for the kind `none`, which then costs nothing and adds no parameter."""
    return None if spec is None or spec.kind == "none" else Norm(spec, width, rngs=rngs)


def apply(norm: Norm | None, x: Float[Array, "*tokens width"]) -> Float[Array, "*tokens width"]:
    return x if norm is None else norm(x)
