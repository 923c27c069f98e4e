"""Schemes for deep stacks: coefficients or initial values that are functions of depth, and one that fades the branch in by time."""

import math

from addnorm_exp.residual import norms
from addnorm_exp.residual.catalogue import theory
from addnorm_exp.residual.catalogue.parts import final, no_ends, post, pre, scaled_outputs, sublayers
from addnorm_exp.residual.contract import Site
from addnorm_exp.residual.plan import At, Ramp
from addnorm_exp.residual.rule import Rule
from addnorm_exp.residual.scheme import Scheme
from addnorm_exp.residual.vocabulary import BRANCH_ROLES, ROLES


def deepnorm_alpha(site: Site) -> float:
    """α of DeepNorm (2203.00555, fig. 2), by stack; N encoder and M decoder blocks."""
    n, m = site.depths["encoder"], site.depths["decoder"]
    if n and m:
        return 0.81 * (n**4 * m) ** (1 / 16) if site.stack == "encoder" else (3 * m) ** 0.25
    return (2 * site.depth) ** 0.25


def deepnorm_beta(site: Site, role: str) -> float:
    """β of DeepNorm (2203.00555, fig. 2) on value, output and feed-forward matrices; query and key stay as they are.

    A gated feed-forward, which the paper has not, keeps its gate unscaled, so that the branch scales with β² as in the paper.
    """
    if role not in BRANCH_ROLES:
        return 1.0
    n, m = site.depths["encoder"], site.depths["decoder"]
    if n and m:
        return 0.87 * (n**4 * m) ** (-1 / 16) if site.stack == "encoder" else (12 * m) ** -0.25
    return (8 * site.depth) ** -0.25


deepnorm = Scheme(
    name="deepnorm",
    title="DeepNorm",
    family="depth-scaled",
    equation="x ← N(α x + F(x));  W_v, W_o, W_1, W_2 × β at init;  decoder-only: α = (2L)^¼, β = (8L)^-¼",
    citation="Wang et al., DeepNet: Scaling Transformers to 1,000 Layers (2203.00555), fig. 2 and eq. 1",
    year=2022,
    evidence="code",
    block=lambda site, norm: tuple(At(kind, Rule(skip=deepnorm_alpha(site), post=norm)) for kind in site.sublayers),
    ends=no_ends,
    init=deepnorm_beta,
    multipliers="method",
    needs_norm=True,
    traps=(
        "The bound on the update holds for weight matrices: gains and biases of norms, updated at the same rate, move it by O(L).",
        "α and β go together; baselines in later repositories have a fixed α or an inverted β and are not DeepNorm.",
        "The law is Xavier's times β, as in the paper. torchscale's `reset_parameters`, which would draw q, k and v by Xavier with gain "
        "1/√2, is never called: there the base is PyTorch's U(±1/√fan_in), so that q, k, v and o start at 1/√3 of the bound here, "
        "W_1 at 0.91 and W_2 at 0.46 of it (hidden units 4 × width).",
        "Beside a decoder, torchscale's encoder has β = 1.15 (N⁴M)^-1/16, the inverse of the paper's 0.87, which stands here.",
    ),
    predictions=theory.DEEPNORM,
)


def sub_ln_gamma(site: Site, role: str) -> float:
    """γ of Sub-LN (2210.06423, fig. 2) on value, output and feed-forward matrices, by stack; N encoder and M decoder blocks.

    Cross-attention stays as it is, as in the authors' code. A gated feed-forward keeps its gate unscaled.
    """
    if role not in BRANCH_ROLES or site.kind == "cross_attention":
        return 1.0
    n, m = site.depths["encoder"], site.depths["decoder"]
    if not (n and m):
        return math.sqrt(math.log(2 * site.depth))
    return math.sqrt(math.log(3 * m) * (math.log(2 * n) / 3 if site.stack == "encoder" else 1.0))


sub_ln = Scheme(
    name="sub_ln",
    title="Sub-LN (Magneto)",
    family="depth-scaled",
    equation="x ← x + W_o N(heads(N(x))),  x ← x + W_2 N(act(W_1 N(x))),  y = N(x);  W_v, W_o, W_1, W_2 × γ at init, γ = √ln(2L)",
    citation="Wang et al., Foundation Transformers (2210.06423), fig. 2, and the released code",
    year=2022,
    evidence="code",
    block=pre,
    ends=final,
    init=sub_ln_gamma,
    multipliers="method",
    options=lambda site, norm: {"attention": {"out_norm": norm}, "feed_forward": {"hidden_norm": norm}}.get(
        site.kind, {}
    ),
    needs_norm=True,
    traps=(
        "The norm inside attention is over the whole width, not by head.",
        "The law is Xavier's times γ, as in the paper. torchscale's `reset_parameters`, which would draw q, k and v by Xavier with gain "
        "1/√2, is never called: there the base is PyTorch's U(±1/√fan_in), so that q, k, v and o start at 1/√3 of the bound here, "
        "W_1 at 0.91 and W_2 at 0.46 of it (hidden units 4 × width).",
        "Cross-attention has no inner norm and no γ, as in the released code.",
        "Encoder–decoder: γ = √(ln(3M) ln(2N) / 3) in the encoder, √ln(3M) in the decoder.",
    ),
)


gpt2 = Scheme(
    name="gpt2",
    title="GPT-2",
    family="depth-scaled",
    equation="x ← x + F(N(x)),  y = N(x);  weights N(0, 0.02²), W_o and W_2 × 1/√(2L) at init",
    citation="Radford et al., Language Models are Unsupervised Multitask Learners (2019), §2.3; constants as in later open code",
    year=2019,
    evidence="secondary",
    block=pre,
    ends=final,
    law="normal",
    init=scaled_outputs,
    multipliers="recipe",
    traps=(
        "The stream's growth at init does not depend on the depth, so Pre-LN's law of gradients (1/√L at the last block) is gone.",
        "The paper gives the factor on the weights of residual layers; only code says which matrices these are.",
    ),
    predictions=theory.GPT2,
)


lns = Scheme(
    name="lns",
    title="LayerNorm Scaling",
    family="depth-scaled",
    equation="x ← x + F(N(x) / √l),  y = N(x);  l counts blocks from 1",
    citation="Sun et al., The Curse of Depth in Large Language Models (2502.05795), eq. 8",
    year=2025,
    evidence="code",
    block=lambda site, norm: tuple(
        At(kind, Rule(pre=norm, pre_scale=1 / math.sqrt(site.block + 1))) for kind in site.sublayers
    ),
    ends=final,
    norm=norms.RMS,
    law="normal",
    traps=(
        "The amplitude falls by 1/√l and the variance by 1/l, contrary to the abstract. The final norm is not scaled.",
        "Do not combine it with depth-scaled init (the authors: 20.35 to 20.79 perplexity at 250M).",
        "In the repository the branch of this name is never executed; the formula is taken from it. Norm, ε and init law are that code's.",
    ),
    predictions=theory.LNS,
)


keel = Scheme(
    name="keel",
    title="KEEL",
    family="depth-scaled",
    equation="x ← N(α x + F(N_in(x))),  α = 2L;  first block x ← x + F(N_in(x))",
    citation="Chen & Wei, Post-LayerNorm Is Back (2601.19895)",
    year=2026,
    evidence="secondary",
    block=lambda site, norm: tuple(
        At(kind, Rule(pre=norm) if site.block == 0 else Rule(pre=norm, skip=float(sublayers(site)), post=norm))
        for kind in site.sublayers
    ),
    ends=no_ends,
    needs_norm=True,
    plain_init=True,
    traps=(
        "α is the number of sublayers and constant; a learned one is an extension by others.",
        "The last block's gradient shrinks with depth and the first one's does not: Adam hides that, SGD and global clipping do not.",
    ),
    predictions=theory.KEEL,
)


ds_init = Scheme(
    name="ds_init",
    title="DS-Init",
    family="depth-scaled",
    equation="x ← N(x + F(x));  every matrix of block l × l^-½ at init",
    citation="Zhang, Titov & Sennrich, Improving Deep Transformer with Depth-Scaled Initialization (1908.11365)",
    year=2019,
    evidence="secondary",
    block=post,
    ends=no_ends,
    init=lambda site, role: (site.block + 1) ** -0.5 if role in ROLES else 1.0,
    multipliers="method",
    traps=(
        "The authors' code scales the variance by l^-½, not the bound, so that its matrices shrink as l^-¼ only.",
        "The paper pairs it with merged attention, which is another change and not part of this record.",
    ),
)


branch_norm = Scheme(
    name="branch_norm",
    title="BranchNorm",
    family="depth-scaled",
    equation="x ← N(x + α_t F(x));  α_t = min(1, t/T) after t updates, T = 4000",
    citation="Liu et al., BranchNorm: Robustly Scaling Extremely Deep Transformers (2305.02790)",
    year=2023,
    evidence="memory",
    block=lambda site, norm: tuple(At(kind, Rule(post=norm), fade=Ramp(4000)) for kind in site.sublayers),
    ends=no_ends,
    needs_norm=True,
    traps=(
        "Of the source only the abstract was reached (the branch is rescaled by the training period); the linear ramp and its length T are "
        "from memory.",
        "T counts updates: a run shorter than T ends, and is evaluated, with its branches still scaled down.",
        "After T it is Post-LN.",
    ),
)

SCHEMES = (
    deepnorm,
    sub_ln,
    gpt2,
    lns,
    keel,
    ds_init,
    branch_norm,
)
