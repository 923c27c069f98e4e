"""Normalisers: what each computes, and the axes on which published ones differ.

Statistics are taken in float32 whatever the input, by two passes: the one-pass variance `E[x²] - E[x]²` that libraries default to
loses all its digits when the mean is large against the spread, which is just what a study of norms meets.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from addnorm_exp.residual.init import Init, parameter

KINDS = ("layer", "rms", "l2", "none")


@dataclass(frozen=True)
class NormSpec:
    """One normaliser as data.

    | kind  | N(x)                              | source                                        |
    |-------|-----------------------------------|-----------------------------------------------|
    | layer | g ⊙ (x - mean) / √(var + ε) + b   | Ba 2016, 1607.06450, eq. 4; biased variance   |
    | rms   | g ⊙ x / √(mean(x²) + ε)           | Zhang & Sennrich 2019, 1910.07467, eq. 4      |
    | l2    | x / ‖x‖₂                          | Loshchilov 2024, 2410.01131; no gain, no ε    |
    | none  | x                                 |                                               |

    `eps_place="outside"` divides by `√var + ε` (the RMSNorm authors' torch code, AdaNorm); `inside` is the usual `√(var + ε)`.
    `gain="unit_offset"` multiplies by `1 + w` with w = 0 at first (Gemma): under weight decay the gain then tends to 1, not to 0.
    `gain_init` is the gain's first value (0 makes a block with a branch norm the identity: Swin-V2).
    """

    kind: str = "layer"
    eps: float = 1e-5
    eps_place: str = "inside"
    affine: str = "full"
    gain: str = "plain"
    gain_init: float = 1.0

    def override(
        self,
        kind: str | None = None,
        eps: float | None = None,
        eps_place: str | None = None,
        affine: str | None = None,
        gain: str | None = None,
    ) -> "NormSpec":
        """This norm with some axes set by hand. A change of kind brings that kind's own published ε and affine along."""
        base = self if kind in (None, self.kind) else replace(PUBLISHED[kind], gain_init=self.gain_init)
        given: dict[str, Any] = {"eps": eps, "eps_place": eps_place, "affine": affine, "gain": gain}
        return replace(base, **{key: value for key, value in given.items() if value is not None})


LAYER = NormSpec("layer", eps=1e-5, affine="full")
RMS = NormSpec("rms", eps=1e-6, affine="gain")  # ε of LLaMA 1 and T5
L2 = NormSpec("l2", eps=0.0, affine="none")
NONE = NormSpec("none", eps=0.0, affine="none")
PUBLISHED = {"layer": LAYER, "rms": RMS, "l2": L2, "none": NONE}


class Norm(nnx.Module):
    """N(x) over the last axis; float32 inside, the input's dtype outside."""

    def __init__(self, spec: NormSpec, width: int, *, rngs: nnx.Rngs):
        self.spec = spec
        first = spec.gain_init - 1.0 if spec.gain == "unit_offset" else spec.gain_init
        if spec.affine in ("full", "gain"):
            self.gain = parameter((width,), Init.constant(first), "gain", rngs)
        if spec.affine == "full":
            self.bias = parameter((width,), Init.constant(0.0), "bias", rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        spec, y = self.spec, x.astype(jnp.float32)
        if spec.kind == "l2":
            # The root of a sum of squares has no derivative at 0, and no published ε: a zero vector stays undefined, as in nGPT.
            y = y * jax.lax.rsqrt(jnp.sum(jnp.square(y), -1, keepdims=True))
        elif spec.kind != "none":
            if spec.kind == "layer":
                y = y - jnp.mean(y, -1, keepdims=True)
            mean_square = jnp.mean(jnp.square(y), -1, keepdims=True)
            if spec.kind == "layer":
                # What rounding left of the mean: 1e-3 of the spread where the mean is 1e4 spreads. In exact arithmetic it is 0, and so is
                # its derivative. Corrected two-pass (Chan, Golub & LeVeque 1983), in the pass over y that the squares need anyway.
                rest = jax.lax.stop_gradient(jnp.mean(y, -1, keepdims=True))
                y, mean_square = y - rest, jnp.maximum(mean_square - jnp.square(rest), 0.0)
            y = y * _reciprocal(mean_square, spec)
        if spec.affine in ("full", "gain"):
            y = y * (self.gain[...] + 1.0 if spec.gain == "unit_offset" else self.gain[...])
        if spec.affine == "full":
            y = y + self.bias[...]
        return y.astype(x.dtype)


def _reciprocal(mean_square: jax.Array, spec: NormSpec) -> jax.Array:
    if spec.eps_place == "inside":
        return jax.lax.rsqrt(mean_square + spec.eps)
    # The root has no derivative at 0; a constant row, which has nothing to normalise, gets the derivative 0.
    positive = mean_square > 0
    return 1.0 / (jnp.where(positive, jnp.sqrt(jnp.where(positive, mean_square, 1.0)), 0.0) + spec.eps)


def make(spec: NormSpec | None, width: int, rngs: nnx.Rngs) -> Norm | None:
    """The module of a spec; `None` for no norm and for the kind `none`, which then costs nothing and adds no parameter."""
    return None if spec is None or spec.kind == "none" else Norm(spec, width, rngs=rngs)


def apply(norm: Norm | None, x: jax.Array) -> jax.Array:
    return x if norm is None else norm(x)
