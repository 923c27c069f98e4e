"""Attention without a skip around it: the identity lives in the attention weights."""

from addnorm_exp.residual.catalogue.parts import final
from addnorm_exp.residual.contract import Site
from addnorm_exp.residual.init import Init
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At, Sum
from addnorm_exp.residual.rule import Learned, Rule
from addnorm_exp.residual.scheme import Scheme

# The authors' RMSNorm divides by rms + ε; ε is GPT-2's.
RMS_OUTSIDE = NormSpec("rms", eps=1e-5, eps_place="outside", affine="gain")


BETA = 0.1  # on the feed-forward sublayer; the paper has O(1/√L), its code this at 18 blocks


def _parallel(site: Site, norm: NormSpec) -> tuple[At, ...]:
    scales = tuple(Learned(BETA if kind == "feed_forward" else 1.0) for kind in site.sublayers)
    return (At(Sum(site.sublayers, scales), Rule(pre=norm, skip=0.0)),)


def _shaped(site: Site, norm: NormSpec) -> dict[str, object]:
    del norm
    if site.kind != "attention":
        return {}
    value_map = "residual" if site.block == 0 else "dropped"
    return {"shaping": (1.0, 1.0, 1.0), "value_map": value_map, "out_map": "dropped"}


simplified = Scheme(
    name="simplified",
    title="Simplified block, parallel (SAS-P)",
    family="skipless",
    equation="x ← β_a F_a(N(x)) + β_f F_f(N(x)),  y = N(x);  F_a(h) = A h,  A = a I + b softmax(QKᵀ/√h) - c C;  "
    "a = b = c = β_a = 1,  β_f = 0.1,  W_q = 0 at init",
    citation="He & Hofmann, Simplifying Transformer Blocks (2311.01906), §4, and the released code",
    year=2023,
    evidence="code",
    block=_parallel,
    ends=final,
    norm=RMS_OUTSIDE,
    law="normal",
    init=lambda site, role: 0.0 if role in ("query", "value") else 1.0,
    multipliers="method",
    options=_shaped,
    traps=(
        "There is no skip: with W_q = 0 the softmax is the uniform C, so that A = I at init and carries the stream.",
        "No W_v and W_o, and nothing in their place but in the first block: s h + r h W_v there, s = r = 1 and W_v = 0 at init.",
        "β_f = 0.1 at init is the code's value for 18 blocks; O(1/√L) by the paper.",
        "The code keeps GPT-2's LayerNorm before the head and, without norms, one before the first block; its feed-forward has no biases.",
        "The block is not Pre-LN at init; it loses to Pre-LN where its norm is left out as well (1.245 against 1.155, README).",
    ),
)


def _without_attention_skip(site: Site, norm: NormSpec) -> tuple[At, ...]:
    rules = {
        "attention": Rule(pre=norm, skip=0.0, scale=Learned(1.0)),
        "feed_forward": Rule(pre=norm, skip=Learned(1.0), scale=Learned(BETA)),
    }
    return tuple(At(kind, rules.get(kind, Rule(pre=norm))) for kind in site.sublayers)


value_skipinit = Scheme(
    name="value_skipinit",
    title="Value-SkipInit",
    family="skipless",
    equation="x ← β F_a(N(x)),  x ← γ x + β_f F_f(N(x)),  y = N(x);  A = a I + b softmax(QKᵀ/√h);  "
    "a = β = γ = 1,  b = 0,  β_f = 0.1,  W_v, W_o orthogonal at init",
    citation="He et al., Deep Transformers without Shortcuts (2302.10322), in the block of He & Hofmann 2023 (2311.01906) and its code",
    year=2023,
    evidence="secondary",
    block=_without_attention_skip,
    ends=final,
    norm=RMS_OUTSIDE,
    law="normal",
    init=lambda site, role: (
        Init("orthogonal", 1.0, ("gain",)) if site.kind == "attention" and role in ("value", "out") else 1.0
    ),
    multipliers="method",
    options=lambda site, norm: {"shaping": (1.0, 0.0)} if site.kind == "attention" else {},
    traps=(
        "The paper of 2023 has neither skips nor norms, and activations tailored to depth (TAT) that let it go without; here, as in the "
        "later paper's comparison, only attention has no skip.",
        "In the first step query and key have no gradient: b = 0 disables them. b starts at 0 and is learned like any scalar, so in short "
        "runs tokens hardly see each other.",
        "a = 1 and b = 0 are the paper's of 2302.10322. The command that the later code gives for this name has the shaped attention of "
        "`simplified` instead: a = b = c = 1 and W_q = 0.",
    ),
)

SCHEMES = (
    simplified,
    value_skipinit,
)
