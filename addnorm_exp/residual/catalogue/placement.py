"""Schemes that differ in where the norm stands, in every block alike."""

from dataclasses import replace

from addnorm_exp.residual import norms
from addnorm_exp.residual.catalogue import theory
from addnorm_exp.residual.catalogue.parts import final, no_ends, plain, post, pre, scaled_outputs
from addnorm_exp.residual.contract import Site
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.rule import Learned, Rule
from addnorm_exp.residual.scheme import Scheme

# Of schemes whose branches end in a norm, under the law `normal`.
SMALL_EMBEDDING = (
    "Each branch adds an RMS of 1 to an embedding of deviation 0.02 (init.std), at any width: until the embedding has grown, the head "
    "sees little of the token itself, and short runs lag behind. init.law=xavier starts it at 1, as Peri-LN here."
)


post_ln = Scheme(
    name="post_ln",
    title="Post-LN",
    family="placement",
    equation="x ← N(x + F(x))",
    citation="Vaswani et al., Attention Is All You Need (1706.03762), §3.1",
    year=2017,
    evidence="paper",
    block=post,
    ends=no_ends,
    traps=(
        "Needs warmup at learning rates where Pre-LN does not.",
        "Has no final norm: the last sublayer's own norm stands before the head.",
    ),
    predictions=theory.POST_LN,
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
    predictions=theory.PRE_LN,
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
    citation="Zhang & Sennrich 2019 (1910.07467); in this place Touvron et al., LLaMA (2302.13971), §2.2",
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
    block=plain,
    ends=no_ends,
    norm=norms.NONE,
    traps=("A control: nothing bounds the stream, so the scale of the init decides how deep it trains.",),
)


sandwich_ln = Scheme(
    name="sandwich_ln",
    title="Sandwich-LN",
    family="placement",
    equation="x ← x + N_out(F(N_pre(x))),  y = N(x)",
    citation="Ding et al., CogView (2105.13290), §2.4 and the released code",
    year=2021,
    evidence="code",
    block=lambda site, norm: tuple(At(kind, Rule(pre=norm, branch=norm)) for kind in site.sublayers),
    ends=final,
    law="normal",
    # The branch's norm removes the scale from the forward pass again; what is left of it is a larger relative step of those matrices.
    init=scaled_outputs,
    multipliers="recipe",
    traps=(
        "CogView's code draws output projections with σ/√(2L), as GPT-2 does.",
        "CogView's norm first divides its input by max|x|/8 against float16 overflow; that changes N only through ε and is left out.",
        SMALL_EMBEDDING,
        "The branch's RMS is its norm's gain, whatever the weights: depth-scaled init has no effect on the forward pass.",
    ),
    predictions=theory.PERI_LN,
)


peri_ln = Scheme(
    name="peri_ln",
    title="Peri-LN",
    family="placement",
    equation="x ← x + N_out(F(N_pre(x))),  y = N(x)",
    citation="Kim et al., Peri-LN (2502.02732); in this form Gemma 2 and 3, GLM-4, HyperCLOVA-X",
    year=2025,
    evidence="secondary",
    block=lambda site, norm: tuple(At(kind, Rule(pre=norm, branch=norm)) for kind in site.sublayers),
    ends=final,
    norm=norms.RMS,
    traps=(
        "The paper's optional norm of the embedding is the axis embedding.norm.",
        "The gain of the outer norm must be learned: a frozen one is worse (fig. 8).",
        "The branch's RMS is its norm's gain, whatever the weights: depth-scaled init has no effect on the forward pass.",
        "Differs from sandwich_ln only in the norm's kind and the init.",
        "A widely read blog draws the outer norm after the sum; it stands before the sum.",
    ),
    predictions=theory.PERI_LN,
)


res_post_norm = Scheme(
    name="res_post_norm",
    title="Res-post-norm (OLMo 2)",
    family="placement",
    equation="x ← x + N(F(x)),  y = N(x);  QK-norm over the whole width",
    citation="OLMo team, 2 OLMo 2 Furious (2501.00656), §3, and the released code; the place as in Liu et al. 2021 (2111.09883)",
    year=2025,
    evidence="code",
    block=lambda site, norm: tuple(At(kind, Rule(branch=norm)) for kind in site.sublayers),
    ends=final,
    norm=norms.RMS,
    law="normal",
    options=lambda site, norm: {"qk_norm": "full"} if "attention" in site.kind else {},
    traps=(
        "The stream enters the sublayers without a norm: without QK-norm its size is that of the logits, and deep stacks do not train.",
        "OLMo 2 trains with a z-loss of 1e-5 besides (logits.z_loss=1e-5).",
        SMALL_EMBEDDING,
    ),
)


swin_v2 = Scheme(
    name="swin_v2",
    title="Swin-V2",
    family="placement",
    equation="x ← x + N(F(x)),  y = N(x);  gain and bias of N 0 at init;  cosine attention",
    citation="Liu et al., Swin Transformer V2 (2111.09883), §3.2 and §3.3, and the released code",
    year=2021,
    evidence="code",
    block=lambda site, norm: tuple(At(kind, Rule(branch=replace(norm, gain_init=0.0))) for kind in site.sublayers),
    ends=final,
    options=lambda site, norm: {"qk_norm": "cosine"} if "attention" in site.kind else {},
    law="normal",
    needs_norm=True,
    traps=(
        "The identity at init: in the first step only the branch norms, the final norm, the embedding and the head have a gradient.",
        "The zero gain is in the code but not in the paper.",
        "Trained with stochastic depth after the norm (model.drop_path), without a bias on the keys, and with a continuous relative "
        "position bias; the last two are left out. Its giant models have one more norm on the stream every 6 blocks.",
    ),
    predictions=theory.SWIN_V2,
)


def normformer_rule(site: Site, kind: str, norm: NormSpec) -> Rule:
    """The feed-forward, last in its block, has the learned skip; the others a norm on their output."""
    if kind == site.sublayers[-1]:
        return Rule(pre=norm, skip=Learned(1.0, "vector"))
    return Rule(pre=norm, branch=norm)


normformer = Scheme(
    name="normformer",
    title="NormFormer",
    family="placement",
    equation="x ← x + N(γ · MHA(N(x))),  x ← r ⊙ x + W_2 N(act(W_1 N(x))),  y = N(x);  γ per head, r per channel, 1 at init",
    citation="Shleifer et al., NormFormer (2110.09456), §2 and eqs. 1–3, as in a re-implementation",
    year=2021,
    evidence="secondary",
    block=lambda site, norm: tuple(At(kind, normformer_rule(site, kind, norm)) for kind in site.sublayers),
    ends=final,
    options=lambda site, norm: {"hidden_norm": norm} if site.kind == "feed_forward" else {"head_scale": True},
    traps=(
        "Head scales stand before W_o, as in the paper; the released code multiplies the output channels after it, another function.",
        "The learned skip r is recommended only for small models.",
        "Its published learning rates are higher than Pre-LN's: 3e-3 at 125M.",
    ),
)

SCHEMES = (
    post_ln,
    pre_ln,
    post_rms,
    pre_rms,
    no_norm,
    sandwich_ln,
    peri_ln,
    res_post_norm,
    swin_v2,
    normformer,
)
