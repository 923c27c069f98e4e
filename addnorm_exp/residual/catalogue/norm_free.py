"""Schemes without a norm, kept trainable by a learned coefficient, by their initial values, or by a bounded function in the norm's place.

The learned coefficient does not shut a norm out: under `norm.kind` ReZero and SkipInit take one before each sublayer and one before the
head, the form in which language models have been compared under their names.
"""

from dataclasses import replace

import jax
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.around import Around
from addnorm_exp.residual.catalogue import theory
from addnorm_exp.residual.catalogue.parts import final, no_ends, plain, pre, scaled_outputs
from addnorm_exp.residual.contract import Site
from addnorm_exp.residual.ends import Ends, EndsModule
from addnorm_exp.residual.init import Init, parameter
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.rule import Learned, Rule
from addnorm_exp.residual.scheme import Scheme
from addnorm_exp.residual.vocabulary import BRANCH_ROLES, OUTPUT_ROLES


def if_any(norm: NormSpec) -> NormSpec | None:
    return None if norm.kind == "none" else norm


def final_if_any(norm: NormSpec) -> Ends:
    return Ends(if_any(norm))


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
        "Narang 2021 (2102.11972) found that in T5 it is worse than Pre-LN and needs warmup.",
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
        "Differs from rezero only in the number of coefficients a: one per sublayer, not one per block.",
    ),
)


dyt = Scheme(
    name="dyt",
    title="Dynamic Tanh",
    family="norm-free",
    equation="x ← x + F(N(x)),  y = N(x),  N(x) = g ⊙ tanh(α x) + b,  x0 = a E,  a learned, √width at init",
    citation="Zhu et al., Transformers without Normalization (2503.10622), and the released code for language models",
    year=2025,
    evidence="code",
    block=pre,
    ends=final,
    norm=replace(norms.DYT, alpha=1.0),
    law="normal",
    around=Around(embedding_scale="learned"),
    needs_norm=True,
    traps=(
        "α at init is 1 here (default of the LLaMA code and of 2512.10938's GPT-2 code), 0.5 outside of language models; the paper "
        "tunes it by width and place: attention 0.8, others 0.2 at width 4096; 0.2 and 0.05 at 8192 (norm.alpha sets one for all).",
        "The LLaMA code has no b (norm.affine=gain).",
        "The stream itself is not bounded, and tanh is not scale invariant: where |α x| is large, its gradient vanishes.",
        "The learned √width on the embedding belongs to the law N(0, 0.02²), under which tanh would see almost nothing.",
        "0.02 is a deviation for the paper's width: at 4096 the embedding enters at 0.02 √4096 = 1.28, at width 128 at 0.23, and matrices "
        "have the same gain. init.std=0.113 is 1.28 at width 128; at 0.02 short runs saturate every tanh before they learn any token.",
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
    ends=final,
    norm=replace(norms.DERF, alpha=1.0),
    law="normal",
    init=scaled_outputs,
    multipliers="recipe",
    around=Around(embedding_scale="learned"),
    needs_norm=True,
    traps=(
        "The GPT-2 code has depth-scaled output projections, W_o and W_2 × 1/√(2L) at init, under LayerNorm and Derf alike.",
        "α at init is 1 in the GPT-2 code, 0.5 in the others (norm.alpha).",
        "The traps of dyt hold: the stream is not bounded, and the init scale matters.",
    ),
)


def fixup_branches(site: Site) -> int:
    """S, the residual branches of the whole model: 2 in a block, 3 in one with cross-attention."""
    n, m = site.depths["encoder"], site.depths["decoder"]
    return 2 * n + 3 * m if n and m else len(site.sublayers) * site.depth


def fixup_init(site: Site, role: str) -> float:
    """Rules 1 and 2 of Fixup (1901.09321, 3) as in its Transformer's code: the last matrix of a branch and the head start at 0, the other
    m - 1 of its m matrices at S^(-1/(2m-2)), where attention counts as m = 4.

    A gated feed-forward, which the paper has not, keeps its gate unscaled, so that the branch scales as in the paper.
    """
    if role in (*OUTPUT_ROLES, "head"):
        return 0.0
    if role in ("query", "key", "value"):
        return fixup_branches(site) ** (-1 / 6)
    return fixup_branches(site) ** -0.5 if role == "up" else 1.0


class ShiftedEnd(EndsModule):
    """`close(x) = x + b`, b a learned scalar, 0 at first."""

    def __init__(self, width: int, rngs: nnx.Rngs, *, closing: None = None):
        super().__init__(width, rngs)
        self.shift = parameter((), Init.constant(0.0), "coefficient", rngs)

    def close(self, state: jax.Array) -> jax.Array:
        return state + self.shift[...].astype(state.dtype)


fixup = Scheme(
    name="fixup",
    title="Fixup",
    family="norm-free",
    equation="x ← x + a F(x + b),  a = 1, b = 0 at init;  W_o = W_2 = head = 0,  W_q, W_k, W_v × S^(-1/6),  W_1 × S^(-1/2);  y = x + b",
    citation="Zhang et al., Fixup Initialization: Residual Learning Without Normalization (1901.09321), §3, and the released code",
    year=2019,
    evidence="code",
    block=lambda site, norm: tuple(At(kind, Rule(scale=Learned(1.0), shift=Learned(0.0))) for kind in site.sublayers),
    ends=lambda norm: Ends(None, ShiftedEnd),
    norm=norms.NONE,
    init=fixup_init,
    multipliers="method",
    options=lambda site, norm: {"shifts": True} if site.kind == "feed_forward" else {},
    predictions=theory.IDENTITY[:1],
    traps=(
        "In the first step only the head has a gradient, in the second also the last matrix of each branch.",
        "The authors' Transformer has no biases but the scalar ones (model.bias=False); its cross-attention counts 12 branches always.",
        "Their ResNets train the scalars at a tenth of the learning rate, their Transformer does not.",
        "The code draws q, k and v as one matrix of 3 × width outputs: by Xavier 1/√2 of the law here.",
        "A tied head is the embedding and does not start at 0.",
        "In the authors' Transformer an encoder ends in a (x + b), a a learned scalar and 1 first, a decoder in x + b, as both do here.",
    ),
)


def t_fixup_init(site: Site, role: str) -> float:
    """T-Fixup, as its code has it: of an encoder of N blocks the embedding × (9N)^-¼ and W_v, W_o, W_1, W_2 × 0.67 N^-¼, of a decoder of M
    blocks beside one all of these × (9M)^-¼. A gate keeps its law, as in DeepNorm.

    The paper has no decoder by itself. It counts as an encoder, whose blocks have the same two sublayers: an ansatz of ours.
    """
    beside = site.stack == "decoder" and site.depths["encoder"] > 0
    if role == "embedding" or (beside and role in BRANCH_ROLES):
        return (9 * site.depth) ** -0.25
    return 0.67 * site.depth**-0.25 if role in BRANCH_ROLES else 1.0


t_fixup = Scheme(
    name="t_fixup",
    title="T-Fixup",
    family="norm-free",
    equation="x ← x + F(x);  W_v, W_o, W_1, W_2 × 0.67 L^-¼ and the embedding × (9L)^-¼ at init",
    citation="Huang et al., Improving Transformer Optimization Through Better Initialization (ICML 2020), and the released code",
    year=2020,
    evidence="code",
    block=plain,
    ends=no_ends,
    norm=norms.NONE,
    init=t_fixup_init,
    multipliers="method",
    traps=(
        "The theory is of encoder and decoder together; a decoder alone takes the encoder's constants here, which is an ansatz.",
        "Intended to train without warmup (optim.warmup=0), with Adam.",
        "Learned positions, which the paper does not use, are scaled with the embedding of tokens.",
        "fairseq draws query, key and value with gain 1/√2. The code undoes it for the value matrices by a factor √2, not for query and "
        "key, which therefore start at 1/√2 of the law here.",
    ),
)

SCHEMES = (
    rezero,
    skipinit,
    dyt,
    derf,
    fixup,
    t_fixup,
)
