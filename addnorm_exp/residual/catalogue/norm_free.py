"""Schemes without a norm, kept trainable by a learned coefficient or by a bounded function in the norm's place; and Pre-LN with a learned
coefficient.

The learned coefficient does not shut a norm out: under `norm.kind` ReZero and SkipInit take one before each sublayer and one before the
head, the form in which language models have been compared under their names.
"""

from dataclasses import replace

from addnorm_exp.residual import norms
from addnorm_exp.residual.catalogue import theory
from addnorm_exp.residual.catalogue.placement import final, pre
from addnorm_exp.residual.contract import Site
from addnorm_exp.residual.ends import NormEnds
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.rule import Learned, Rule
from addnorm_exp.residual.scheme import Scheme


def if_any(norm: NormSpec) -> NormSpec | None:
    return None if norm.kind == "none" else norm


def final_if_any(norm: NormSpec) -> NormEnds:
    return NormEnds(closing=if_any(norm))


def scaled(site: Site, norm: NormSpec, scale: float | Learned) -> tuple[At, ...]:
    """`x ← x + scale F(x)`, and `x ← x + scale F(N(x))` where a norm is asked for."""
    return tuple(At(kind, Rule(pre=if_any(norm), scale=scale)) for kind in site.sublayers)


rezero = Scheme(
    name="rezero",
    title="ReZero",
    family="norm-free",
    equation="x ← x + a F(x),  a = 0 at init, one a per block",
    citation="Bachlechner et al., ReZero is All You Need (2003.04887), eq. 1, and the released code",
    year=2020,
    evidence="code",
    block=lambda site, norm: scaled(site, norm, Learned(0.0, shared="a")),
    ends=final_if_any,
    norm=norms.NONE,
    traps=(
        "The identity at init: in the first step only a, the embedding and the head have a gradient.",
        "No norm at all, not even a final one; norm.kind=layer or rms adds both (ReZero+LN, ReZero+RMSNorm of 2102.11972).",
        "Narang 2021 (2102.11972) found it worse than Pre-LN in T5, and in need of warmup.",
    ),
    predictions=theory.IDENTITY,
)

skipinit = Scheme(
    name="skipinit",
    title="SkipInit",
    family="norm-free",
    equation="x ← x + a F(x),  a = 0 at init, one a per sublayer",
    citation="De & Smith, Batch Normalization Biases Residual Blocks Towards the Identity Function (2002.10444)",
    year=2020,
    evidence="secondary",
    block=lambda site, norm: scaled(site, norm, Learned(0.0)),
    ends=final_if_any,
    norm=norms.NONE,
    predictions=theory.IDENTITY,
    traps=(
        "Proposed for ResNets, where it replaces the norm; the rows of this name in language models put a on Pre-LN (norm.kind=layer).",
        "The code of 2502.05795, whose table 4 has it worse than Pre-LN, starts a at 0.001 and not at 0.",
        "Differs from rezero in the count of a alone: one a sublayer, not one a block.",
    ),
)


def layerscale_init(depth: int) -> float:
    """ε of LayerScale (2103.17239): 0.1 until depth 18, 1e-5 for depth 24, 1e-6 for deeper networks.

    The paper leaves 19 to 23 open; they count as 24.
    """
    return 0.1 if depth <= 18 else 1e-5 if depth <= 24 else 1e-6


layerscale = Scheme(
    name="layerscale",
    title="LayerScale",
    family="learned residual",
    equation="x ← x + λ ⊙ F(N(x)),  y = N(x);  λ = ε at init: 0.1 to 18 blocks, 1e-5 to 24, 1e-6 beyond",
    citation="Touvron et al., Going deeper with Image Transformers (2103.17239)",
    year=2021,
    evidence="secondary",
    block=lambda site, norm: scaled(site, norm, Learned(layerscale_init(site.depth), "vector")),
    ends=final,
    traps=(
        "ε of the released code differs from the paper's: 1e-4 by default, 1e-5 and 1e-6 in its larger models.",
        "λ is not decayed.",
        "In language models worse than Pre-LN in table 4 of 2502.05795 (27.93 against 26.73 perplexity at 130M).",
    ),
)


def scaled_embedding(norm: NormSpec) -> NormEnds:
    return NormEnds(closing=norm, scaled=True)


dyt = Scheme(
    name="dyt",
    title="Dynamic Tanh",
    family="norm-free",
    equation="x ← x + F(N(x)),  y = N(x),  N(x) = g ⊙ tanh(α x) + b,  x0 = a E,  a learned, √width at init",
    citation="Zhu et al., Transformers without Normalization (2503.10622), and the released code for language models",
    year=2025,
    evidence="code",
    block=pre,
    ends=scaled_embedding,
    norm=replace(norms.DYT, alpha=1.0),
    law="normal",
    needs_norm=True,
    traps=(
        "α at init is 1 here (default of the LLaMA code and of 2512.10938's GPT-2 code), 0.5 outside of language models; the paper "
        "tunes it by width and place: attention 0.8, others 0.2 at width 4096; 0.2 and 0.05 at 8192 (norm.alpha sets one for all).",
        "The LLaMA code has no b (norm.affine=gain).",
        "The stream itself is not bounded, and tanh has no scale invariance: where |α x| is large its gradient vanishes.",
        "The learned √width on the embedding belongs to the law N(0, 0.02²), under which tanh would see next to nothing.",
        "0.02 is a deviation for the paper's width: at 4096 the embedding enters at 0.02 √4096 = 1.28, at width 128 at 0.23, and matrices "
        "have the same gain. init.std=0.113 is 1.28 at width 128; at 0.02 short runs saturate every tanh before they learn of tokens.",
    ),
)

derf = Scheme(
    name="derf",
    title="Dynamic erf",
    family="norm-free",
    equation="x ← x + F(N(x)),  y = N(x),  N(x) = g ⊙ erf(α x + s) + b,  x0 = a E,  a learned, √width at init",
    citation="Chen et al., Stronger Normalization-Free Transformers (2512.10938), and the released code for GPT-2",
    year=2025,
    evidence="code",
    block=pre,
    ends=scaled_embedding,
    norm=replace(norms.DERF, alpha=1.0),
    law="normal",
    needs_norm=True,
    traps=(
        "α at init is 1 in the GPT-2 code, 0.5 in the others (norm.alpha).",
        "The traps of dyt hold: the stream is not bounded, and the init scale matters.",
    ),
)

SCHEMES = (rezero, skipinit, layerscale, dyt, derf)
