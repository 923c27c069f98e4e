"""Schemes that differ in where the norm stands, and in constants of depth that go with the place."""

from addnorm_exp.residual import norms
from addnorm_exp.residual.contract import Site
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.rule import Rule
from addnorm_exp.residual.scheme import NormEnds, Scheme


def post(site: Site, norm: NormSpec) -> tuple[At, ...]:
    return tuple(At(kind, Rule(post=norm)) for kind in site.sublayers)


def pre(site: Site, norm: NormSpec) -> tuple[At, ...]:
    return tuple(At(kind, Rule(pre=norm)) for kind in site.sublayers)


def no_ends(norm: NormSpec) -> NormEnds:
    del norm
    return NormEnds()


def final(norm: NormSpec) -> NormEnds:
    return NormEnds(closing=norm)


post_ln = Scheme(
    name="post_ln",
    title="Post-LN",
    family="placement",
    equation="x ← N(x + F(x))",
    citation="Vaswani et al., Attention Is All You Need (1706.03762), 3.1",
    year=2017,
    evidence="paper",
    block=post,
    ends=no_ends,
    traps=(
        "Needs warmup at the learning rates that Pre-LN takes without.",
        "Has no final norm: the last sublayer's own norm stands before the head.",
    ),
)

pre_ln = Scheme(
    name="pre_ln",
    title="Pre-LN",
    family="placement",
    equation="x ← x + F(N(x)),  y = N(x)",
    citation="Baevski & Auli 2018 (1809.10853); Xiong et al. 2020 (2002.04745), fig. 1b",
    year=2018,
    evidence="paper",
    block=pre,
    ends=final,
    traps=(
        "The final norm is part of the scheme.",
        "The stream's second moment grows about linearly with depth at init.",
    ),
)

post_rms = Scheme(
    name="post_rms",
    title="Post-RMSNorm",
    family="placement",
    equation="x ← N(x + F(x)),  N = RMSNorm",
    citation="Zhang & Sennrich, Root Mean Square Layer Normalization (1910.07467), in the place of Vaswani 2017",
    year=2019,
    evidence="paper",
    block=post,
    ends=no_ends,
    norm=norms.RMS,
    traps=(
        "ε is 1e-6 inside the root here; the authors' torch code adds 1e-8 outside of it (norm.eps_place=outside).",
    ),
)

pre_rms = Scheme(
    name="pre_rms",
    title="Pre-RMSNorm",
    family="placement",
    equation="x ← x + F(N(x)),  y = N(x),  N = RMSNorm",
    citation="Zhang & Sennrich 2019 (1910.07467); in this place Touvron et al., LLaMA (2302.13971), 2.2",
    year=2019,
    evidence="paper",
    block=pre,
    ends=final,
    norm=norms.RMS,
    traps=(
        "ε differs between published codes: 1e-5 and 1e-6 inside the root (LLaMA, T5), 1e-8 outside (the authors).",
    ),
)

no_norm = Scheme(
    name="no_norm",
    title="No norm",
    family="placement",
    equation="x ← x + F(x)",
    citation="control; He et al., Deep Residual Learning (1512.03385), eq. 1, without normalisation",
    year=2015,
    evidence="paper",
    block=lambda site, norm: tuple(At(kind, Rule()) for kind in site.sublayers),
    ends=no_ends,
    norm=norms.NONE,
    traps=("A control: nothing bounds the stream, so the scale of the init decides how deep it trains.",),
)

sandwich_ln = Scheme(
    name="sandwich_ln",
    title="Sandwich-LN",
    family="placement",
    equation="x ← x + N_out(F(N_pre(x))),  y = N(x)",
    citation="Ding et al., CogView (2105.13290), 2.4 and the released code",
    year=2021,
    evidence="code",
    block=lambda site, norm: tuple(At(kind, Rule(pre=norm, branch=norm)) for kind in site.sublayers),
    ends=final,
    law="normal",
    # CogView's code: output projections σ/√(2L). The branch's norm takes the scale out of the forward pass again; what is left
    # of it is a larger relative step of those two matrices.
    init=lambda site, role: (2 * site.depth) ** -0.5 if role in ("out", "down") else 1.0,
    traps=(
        "CogView's norm first divides its input by max|x|/8 against float16 overflow; that changes N only through ε and is left out.",
        "The branch's RMS is its norm's gain, whatever the weights: depth-scaled init has no effect on the forward pass.",
    ),
)


def deepnorm_alpha(site: Site) -> float:
    """α of DeepNorm (2203.00555, fig. 2), by stack; N encoder and M decoder blocks."""
    n, m = site.depths.encoder, site.depths.decoder
    if n and m:
        return 0.81 * (n**4 * m) ** (1 / 16) if site.stack == "encoder" else (3 * m) ** 0.25
    return (2 * site.depth) ** 0.25


def deepnorm_beta(site: Site, role: str) -> float:
    """β of DeepNorm (2203.00555, fig. 2) on value, output and feed-forward matrices; query and key stay as they are.

    A gated feed-forward, which the paper has not, keeps its gate unscaled, so that the branch scales with β² as in the paper.
    """
    if role not in ("value", "out", "up", "down"):
        return 1.0
    n, m = site.depths.encoder, site.depths.decoder
    if n and m:
        return 0.87 * (n**4 * m) ** (-1 / 16) if site.stack == "encoder" else (12 * m) ** -0.25
    return (8 * site.depth) ** -0.25


deepnorm = Scheme(
    name="deepnorm",
    title="DeepNorm",
    family="placement",
    equation="x ← N(α x + F(x));  W_v, W_o, W_1, W_2 × β at init;  decoder-only: α = (2L)^¼, β = (8L)^-¼",
    citation="Wang et al., DeepNet: Scaling Transformers to 1,000 Layers (2203.00555), fig. 2 and eq. 1",
    year=2022,
    evidence="code",
    block=lambda site, norm: tuple(At(kind, Rule(skip=deepnorm_alpha(site), post=norm)) for kind in site.sublayers),
    ends=no_ends,
    init=deepnorm_beta,
    needs_norm=True,
    traps=(
        "α and β go together; baselines in later repositories have a fixed α or an inverted β and are not DeepNorm.",
        "torchscale gives q, k and v an Xavier gain of 1/√2 before β; here v starts at β times the plain law.",
    ),
)

SCHEMES = (post_ln, pre_ln, post_rms, pre_rms, no_norm, sandwich_ln, deepnorm)
