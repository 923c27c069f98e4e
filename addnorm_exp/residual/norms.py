"""Normalisers: what each computes, and the axes on which published ones differ.

Statistics are taken in float32 whatever the input, by two passes: the one-pass variance `E[x²] - E[x]²` that libraries default to
loses all its digits when the mean is large against the spread, which is just what a study of norms meets.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from addnorm_exp.residual.broadcast import across
from addnorm_exp.residual.init import Init, parameter

ELEMENTWISE = {"dyt": jnp.tanh, "derf": jax.lax.erf}
CENTRED = ("layer", "ada", "detach")
ADA_K = 0.1  # AdaNorm's k


@dataclass(frozen=True)
class NormSpec:
    """One normaliser as data.

    | kind   | N(x)                              | source                                                     |
    |--------|-----------------------------------|------------------------------------------------------------|
    | layer  | g ⊙ (x - mean) / √(var + ε) + b   | Ba 2016, 1607.06450, eq. 4; biased variance                |
    | rms    | g ⊙ x / √(mean(x²) + ε)           | Zhang & Sennrich 2019, 1910.07467, eq. 4                   |
    | prms   | the same, mean over the first p d | the same, 4; p = `share`                                   |
    | crms   | g ⊙ x / √((Σx² + (Σx)²)/(d+1) + ε)| Jiang 2023, 2305.14858: x the first d of d+1 that sum to 0 |
    | scale  | g x / max(‖x‖₂, ε)                | Nguyen & Salazar 2019, 1910.05895; one g, √d at first      |
    | l2     | x / ‖x‖₂                          | Loshchilov 2024, 2410.01131; no gain, no ε                 |
    | ada    | C (1 - sg(y/10)) ⊙ y              | Xu 2019, 1911.07013, y = (x - mean)/(√var + ε); C = `scale`|
    | detach | (x - sg(mean)) / sg(√var + ε)     | the same, 3; sg stops the gradient, `detached` says which  |
    | dyt    | g ⊙ tanh(α x) + b                 | Zhu 2025, 2503.10622; α a learned scalar                   |
    | derf   | g ⊙ erf(α x + s) + b              | Chen 2025, 2512.10938; α and s learned                     |
    | none   | x                                 |                                                            |

    `layer_no_affine` (LayerNorm-simple of Xu 2019) and `gemma_rms` are names of published choices of axes. AdaNorm's and
    DetachNorm's code divide by the unbiased deviation, √(d/(d-1)) times the paper's, which is the one here.

    `eps_place="outside"` divides by `√var + ε` (the RMSNorm authors' torch code, AdaNorm); `inside` is the usual `√(var + ε)`.
    `gain="unit_offset"` multiplies by `1 + w` with w = 0 at first (Gemma): under weight decay the gain then tends to 1, not to 0.
    `gain_init` is the gain's first value (0 makes a block with a branch norm the identity: Swin-V2). α starts at `alpha`, s at 0.
    """

    kind: str = "layer"
    eps: float = 1e-5
    eps_place: str = "inside"
    affine: str = "full"
    gain: str = "plain"
    gain_init: float = 1.0
    alpha: float = 0.5
    share: float = 0.0625
    scale: float = 1.0
    detached: str = "both"  # both | mean | deviation

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes of a config that mean something for this kind."""
        if self.kind in ELEMENTWISE:
            return ("affine", "gain", "alpha")
        if self.kind in ("l2", "none"):
            return ()
        return ("eps", "affine", "gain") if self.kind == "scale" else ("eps", "eps_place", "affine", "gain")

    def override(
        self,
        kind: str | None = None,
        eps: float | None = None,
        eps_place: str | None = None,
        affine: str | None = None,
        gain: str | None = None,
        alpha: float | None = None,
    ) -> "NormSpec":
        """This norm with some axes set by hand. A change of kind brings that kind's own published ε and affine along."""
        base = self if kind in (None, self.kind) else replace(PUBLISHED[kind], gain_init=self.gain_init)
        given: dict[str, Any] = {"eps": eps, "eps_place": eps_place, "affine": affine, "gain": gain, "alpha": alpha}
        return replace(base, **{key: value for key, value in given.items() if value is not None})


LAYER = NormSpec("layer", eps=1e-5, affine="full")
RMS = NormSpec("rms", eps=1e-6, affine="gain")  # ε of LLaMA 1 and T5
L2 = NormSpec("l2", eps=0.0, affine="none")
DYT = NormSpec("dyt", eps=0.0)  # α = 0.5 outside of language models
DERF = NormSpec("derf", eps=0.0)
PRMS = NormSpec("prms", eps=1e-8, eps_place="outside", affine="gain")  # as in the authors' code
CRMS = NormSpec("crms", eps=1e-6, affine="gain")
SCALE = NormSpec("scale", eps=1e-5, affine="scalar")
ADA = NormSpec("ada", eps=1e-5, eps_place="outside", affine="none")
DETACH = NormSpec("detach", eps=1e-5, eps_place="outside", affine="none")
NONE = NormSpec("none", eps=0.0, affine="none")
PUBLISHED = {
    "layer": LAYER,
    "layer_no_affine": replace(LAYER, affine="none"),
    "rms": RMS,
    "prms": PRMS,
    "gemma_rms": replace(RMS, gain="unit_offset"),
    "crms": CRMS,
    "scale": SCALE,
    "l2": L2,
    "ada": ADA,
    "detach": DETACH,
    "dyt": DYT,
    "derf": DERF,
    "none": NONE,
}


class Norm(nnx.Module):
    """N(x) over the last axis; float32 inside, the input's dtype outside."""

    def __init__(self, spec: NormSpec, width: int, *, rngs: nnx.Rngs):
        self.spec = spec
        # ScaleNorm's gain starts at √d, which its root of a sum, not of a mean, asks for.
        self.unit = width**0.5 if spec.kind == "scale" else 1.0
        first = spec.gain_init * self.unit - (spec.gain == "unit_offset")
        if spec.affine != "none":
            self.gain = parameter(() if spec.affine == "scalar" else (width,), Init.constant(first), "gain", rngs)
        if spec.affine == "full":
            self.bias = parameter((width,), Init.constant(0.0), "bias", rngs)
        if spec.kind in ELEMENTWISE:
            self.alpha = parameter((), Init.constant(spec.alpha), "coefficient", rngs)
        if spec.kind == "derf":
            self.shift = parameter((), Init.constant(0.0), "coefficient", rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        spec, y = self.spec, x.astype(jnp.float32)
        if spec.kind == "l2":
            # The root of a sum of squares has no derivative at 0, and no published ε: a zero vector stays undefined, as in nGPT.
            y = y * jax.lax.rsqrt(jnp.sum(jnp.square(y), -1, keepdims=True))
        elif spec.kind in ELEMENTWISE:
            y = self.alpha[...] * y if spec.kind == "dyt" else self.alpha[...] * y + self.shift[...]
            y = ELEMENTWISE[spec.kind](y)
        elif spec.kind == "scale":
            y = y * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(y), -1, keepdims=True), spec.eps**2))
        elif spec.kind != "none":
            y = self._normalised(y)
        if spec.affine == "none":
            y = y if self.unit == 1.0 else self.unit * y
        else:
            gain = self.gain[...] + 1.0 if spec.gain == "unit_offset" else self.gain[...]
            y = y * across(gain, y)
        if spec.affine == "full":
            y = y + across(self.bias[...], y)
        return y.astype(x.dtype)

    def _normalised(self, y: jax.Array) -> jax.Array:
        """Divided by the root of a second moment, of the centred y where the kind centres."""
        spec = self.spec
        stop = jax.lax.stop_gradient
        detached = spec.detached if spec.kind == "detach" else ""
        if spec.kind in CENTRED:
            mean = jnp.mean(y, -1, keepdims=True)
            y = y - (stop(mean) if detached in ("both", "mean") else mean)
        counted = y[..., : max(1, int(spec.share * y.shape[-1]))] if spec.kind == "prms" else y
        mean_square = jnp.mean(jnp.square(counted), -1, keepdims=True)
        if spec.kind == "crms":
            width = y.shape[-1]
            mean_square = (width * mean_square + jnp.square(jnp.sum(y, -1, keepdims=True))) / (width + 1)
        if spec.kind in CENTRED:
            # What rounding left of the mean: 1e-3 of the spread where the mean is 1e4 spreads. In exact arithmetic it is 0, and so is
            # its derivative. Corrected two-pass (Chan, Golub & LeVeque 1983), in the pass over y that the squares need anyway.
            rest = stop(jnp.mean(y, -1, keepdims=True))
            y, mean_square = y - rest, jnp.maximum(mean_square - jnp.square(rest), 0.0)
        reciprocal = _reciprocal(mean_square, spec)
        y = y * (stop(reciprocal) if detached in ("both", "deviation") else reciprocal)
        return spec.scale * (1.0 - stop(ADA_K * y)) * y if spec.kind == "ada" else y


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
