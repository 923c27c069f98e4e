"""Kinds of norms as data: what each computes, its published axes and its name in papers. Needs no JAX, so that config and report read
it too; the function of each kind is in norms.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class NormSpec:
    """One normaliser: its kind (a key of `KINDS`) and the axes on which published ones differ.

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
        return KINDS[self.kind].axes

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
        base = self if kind in (None, self.kind) else replace(KINDS[kind].published, gain_init=self.gain_init)
        given: dict[str, Any] = {"eps": eps, "eps_place": eps_place, "affine": affine, "gain": gain, "alpha": alpha}
        return replace(base, **{key: value for key, value in given.items() if value is not None})


@dataclass(frozen=True)
class NormKind:
    """What is known of a kind. `published` are its axes where a config names the kind; `axes` are those of a config that mean something
    for it, `learned` its parameters beside gain and bias."""

    title: str
    equation: str
    source: str
    published: NormSpec
    axes: tuple[str, ...] = ("eps", "eps_place", "affine", "gain")
    learned: tuple[str, ...] = ()


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

# The names are the choices of `norm.kind`. `layer_no_affine` and `gemma_rms` name published choices of axes; the kind of their specs is
# `layer` and `rms`. AdaNorm's and DetachNorm's code divide by the unbiased deviation, √(d/(d-1)) times the paper's, which is the one here.
KINDS: Mapping[str, NormKind] = {
    "layer": NormKind(
        "LayerNorm", "g ⊙ (x - mean) / √(var + ε) + b", "Ba 2016, 1607.06450, eq. 4; biased variance", LAYER
    ),
    "layer_no_affine": NormKind(
        "LayerNorm without affine",
        "(x - mean) / √(var + ε)",
        "LayerNorm-simple of Xu 2019, 1911.07013",
        replace(LAYER, affine="none"),
    ),
    "rms": NormKind("RMSNorm", "g ⊙ x / √(mean(x²) + ε)", "Zhang & Sennrich 2019, 1910.07467, eq. 4", RMS),
    "prms": NormKind(
        "pRMSNorm",
        "g ⊙ x / √(mean(x²) + ε), the mean over the first p d; p = `share`",
        "Zhang & Sennrich 2019, 1910.07467, 4",
        PRMS,
    ),
    "gemma_rms": NormKind(
        "Gemma RMSNorm", "(1 + w) ⊙ x / √(mean(x²) + ε)", "the released code of Gemma", replace(RMS, gain="unit_offset")
    ),
    "crms": NormKind(
        "CRMSNorm",
        "g ⊙ x / √((Σx² + (Σx)²)/(d+1) + ε)",
        "Jiang 2023, 2305.14858: x the first d of d+1 that sum to 0",
        CRMS,
    ),
    "scale": NormKind(
        "ScaleNorm",
        "g x / max(‖x‖₂, ε)",
        "Nguyen & Salazar 2019, 1910.05895; one g, √d at first",
        SCALE,
        axes=("eps", "affine", "gain"),
    ),
    "l2": NormKind(
        "L2 norm",
        "x / ‖x‖₂",
        "Loshchilov 2024, 2410.01131; no gain, no ε",
        L2,
        axes=(),
    ),
    "ada": NormKind(
        "AdaNorm",
        "C (1 - sg(y/10)) ⊙ y, y = (x - mean)/(√var + ε); C = `scale`",
        "Xu 2019, 1911.07013",
        ADA,
    ),
    "detach": NormKind(
        "DetachNorm",
        "(x - sg(mean)) / sg(√var + ε); sg stops the gradient, `detached` says which",
        "Xu 2019, 1911.07013, 3",
        DETACH,
    ),
    "dyt": NormKind(
        "DyT",
        "g ⊙ tanh(α x) + b, α a learned scalar",
        "Zhu 2025, 2503.10622",
        DYT,
        axes=("affine", "gain", "alpha"),
        learned=("alpha",),
    ),
    "derf": NormKind(
        "Derf",
        "g ⊙ erf(α x + s) + b, α and s learned",
        "Chen 2025, 2512.10938",
        DERF,
        axes=("affine", "gain", "alpha"),
        learned=("alpha", "shift"),
    ),
    "none": NormKind("no norm", "x", "", NONE, axes=()),
}
