"""Schemes whose blocks or sublayers differ in their place of the norm, or whose skips span more than one sublayer."""

import math
from dataclasses import replace

from addnorm_exp.residual import norms
from addnorm_exp.residual.catalogue.parts import final, no_ends, pre, scaled_outputs
from addnorm_exp.residual.contract import Site
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At, Chain, Sum
from addnorm_exp.residual.rule import Rule
from addnorm_exp.residual.scheme import Scheme
from addnorm_exp.residual.vocabulary import ROLES

POST_SHARE = 0.25  # of Mix-LN's blocks


def mixed(site: Site, norm: NormSpec) -> tuple[At, ...]:
    rule = Rule(post=norm) if site.block < math.floor(POST_SHARE * site.depth) else Rule(pre=norm)
    return tuple(At(kind, rule) for kind in site.sublayers)


mix_ln = Scheme(
    name="mix_ln",
    title="Mix-LN",
    family="mixed",
    equation="x ← N(x + F(x)) in the first ⌊L/4⌋ blocks,  x ← x + F(N(x)) after,  y = N(x)",
    citation="Li et al., Mix-LN (2412.13795), eq. 7, and the released code",
    year=2024,
    evidence="code",
    block=mixed,
    ends=final,
    norm=norms.RMS,
    law="normal",
    traps=(
        "Below four blocks it is Pre-LN. The share 1/4 is the paper's to 1B parameters; larger models take less.",
        "The repository draws the embedding with a deviation of √(2/5) = 0.63, all else with 0.02 as here.",
        "The repository compares it with Pre-LN under another gradient clip (0 against 1).",
    ),
)


def hybrid(site: Site, norm: NormSpec) -> tuple[At, ...]:
    *inner, last = site.sublayers
    return (*(At(kind, Rule()) for kind in inner), At(last, Rule(stream=norm)))


def hybrid_star(site: Site, norm: NormSpec) -> tuple[At, ...]:
    return pre(site, norm) if site.block == 0 else hybrid(site, norm)


def qkv_norm(site: Site, norm: NormSpec) -> dict[str, str]:
    del norm
    return {"qk_norm": "head", "v_norm": "head"} if "attention" in site.kind else {}


HYBRID = replace(norms.RMS, eps=1e-5)  # ε of the released configs


hybrid_norm = Scheme(
    name="hybrid_norm",
    title="HybridNorm",
    family="mixed",
    equation="y = x + F_a(x) with RMSNorm on q, k and v,  z = N(y),  x ← z + F_f(z);  y = N(x) at the end",
    citation="Zhuo et al., HybridNorm (2503.04598), and the released code",
    year=2025,
    evidence="code",
    block=hybrid,
    ends=final,
    norm=HYBRID,
    law="normal",
    init=scaled_outputs,
    multipliers="recipe",
    options=qkv_norm,
    traps=(
        "The norms of q, k and v are by head and before rotary positions.",
        "The feed-forward's skip starts after its norm.",
        "The released configs draw weights with a deviation of 0.01398, which is √(2/(5 width)) at their width of 2048: init.std=0.0559 "
        "at width 128. They decay the norms too.",
        "ε is 1e-5 there, in the norms of q, k and v as well, which have 1e-6 here.",
    ),
)


hybrid_norm_star = Scheme(
    name="hybrid_norm_star",
    title="HybridNorm*",
    family="mixed",
    equation="HybridNorm, but in the first block x ← x + F(N(x)) for both sublayers",
    citation="Zhuo et al., HybridNorm (2503.04598), and the released code",
    year=2025,
    evidence="code",
    block=hybrid_star,
    ends=final,
    norm=HYBRID,
    law="normal",
    init=scaled_outputs,
    multipliers="recipe",
    options=qkv_norm,
    traps=("The first block keeps the norms of q, k and v beside its pre-norm.",),
)


def bottom_to_top(site: Site, norm: NormSpec) -> tuple[At, ...]:
    """The skip from the block's input is a connection around the block; inside, all norms but the last."""
    *inner, last = site.sublayers
    chain = (*(At(kind, Rule(post=norm)) for kind in inner), At(last, Rule()))
    return (At(Chain(chain), Rule(post=norm)),)


b2t = Scheme(
    name="b2t",
    title="B2T connection",
    family="mixed",
    equation="h = N(x + F_a(x)),  x ← N(x + h + F_f(h));  every matrix of a block × L^-½ at init",
    citation="Takase et al., B2T Connection (2206.00330), eq. 11, and the released code",
    year=2022,
    evidence="code",
    block=bottom_to_top,
    ends=no_ends,
    init=lambda site, role: site.depth**-0.5 if role in ROLES else 1.0,
    multipliers="recipe",
    traps=(
        "Of the Post-LN family: no final norm.",
        "With cross-attention the extra skip passes by its norm too.",
        "The released code draws q, k and v by Xavier with gain 1/√2, and W_1 and W_2 by PyTorch's U(±1/√fan_in), before the factor; here "
        "all have Xavier's law.",
        "Every weight matrix of a block starts at 1/√L of its law, L the blocks of its stack, as in the released code; no text of the "
        "paper was reached that says so.",
    ),
)


def span(site: Site, norm: NormSpec) -> tuple[At, ...]:
    """Inside, the first norms; the last sublayer drops its own skip, for which the block's stands."""
    *inner, last = site.sublayers
    first = [At(kind, Rule(pre=norm if site.block == 0 and kind == inner[0] else None, post=norm)) for kind in inner]
    return (At(Chain((*first, At(last, Rule(skip=0.0)))), Rule(post=norm)),)


span_norm = Scheme(
    name="span_norm",
    title="SpanNorm",
    family="mixed",
    equation="h = N(x + F_a(x)),  x ← N(x + F_f(h));  in the first block F_a(N(x))",
    citation="Wang et al., SpanNorm (2601.22580)",
    year=2026,
    evidence="secondary",
    block=span,
    ends=no_ends,
    traps=(
        "The feed-forward's skip starts at the block's input, so one skip runs through the whole stack.",
        "The abstract mentions a scaling of weights; no source that was reached describes it, so it is left out.",
    ),
)


parallel = Scheme(
    name="parallel",
    title="Parallel block",
    family="mixed",
    equation="x ← x + F_a(N(x)) + F_f(N(x)),  one N for both,  y = N(x)",
    citation="Wang & Komatsuzaki, GPT-J (2021); Chowdhery et al., PaLM (2204.02311), §2, and the code of GPT-J and Cohere",
    year=2021,
    evidence="code",
    block=lambda site, norm: (At(Sum(site.sublayers), Rule(pre=norm)),),
    ends=final,
    traps=(
        "One sum per block: constants of depth count L sums, not 2L.",
        "GPT-NeoX gives each sublayer its own norm.",
    ),
)

SCHEMES = (
    mix_ln,
    hybrid_norm,
    hybrid_norm_star,
    b2t,
    span_norm,
    parallel,
)
