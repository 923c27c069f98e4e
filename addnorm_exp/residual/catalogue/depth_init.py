"""Schemes that are made by how they start: by their initial values, with a norm (DS-Init) or in its place (Fixup, T-Fixup), or by a branch
that fades in (BranchNorm)."""

from dataclasses import dataclass

import jax
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.catalogue import theory
from addnorm_exp.residual.catalogue.placement import no_ends, post
from addnorm_exp.residual.contract import Context, Site
from addnorm_exp.residual.init import Init, parameter
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.rule import Learned, Ramp, Rule
from addnorm_exp.residual.scheme import ROLES, Scheme


def fixup_branches(site: Site) -> int:
    """S, the residual branches of the whole model: 2 in a block, 3 in one with cross-attention."""
    n, m = site.depths.encoder, site.depths.decoder
    return 2 * n + 3 * m if n and m else len(site.sublayers) * site.depth


def fixup_init(site: Site, role: str) -> float:
    """Rules 1 and 2 of Fixup (1901.09321, 3) as in its Transformer's code: the last matrix of a branch and the head start at 0, the other
    m - 1 of its m matrices at S^(-1/(2m-2)), where attention counts as m = 4.

    A gated feed-forward, which the paper has not, keeps its gate unscaled, so that the branch scales as in the paper.
    """
    if role in ("out", "down", "head"):
        return 0.0
    if role in ("query", "key", "value"):
        return fixup_branches(site) ** (-1 / 6)
    return fixup_branches(site) ** -0.5 if role == "up" else 1.0


@dataclass(frozen=True)
class ShiftedEnd:
    """`close(x) = x + b`, b a learned scalar."""

    shift: Learned
    closing: NormSpec | None = None

    def connect(self, width: int, rngs: nnx.Rngs) -> "ShiftedEndModule":
        del width
        return ShiftedEndModule(self, rngs)


class ShiftedEndModule(nnx.Module):
    def __init__(self, ends: ShiftedEnd, rngs: nnx.Rngs):
        self.shift = parameter((), Init.constant(ends.shift.init), "coefficient", rngs)

    def open(self, x0: jax.Array, context: Context) -> jax.Array:
        del context
        return x0

    def close(self, state: jax.Array, context: Context) -> jax.Array:
        del context
        return state + self.shift[...].astype(state.dtype)


fixup = Scheme(
    name="fixup",
    title="Fixup",
    family="norm-free",
    equation="x ← x + a F(x + b),  a = 1, b = 0 at init;  W_o = W_2 = head = 0,  W_q, W_k, W_v × S^(-1/6),  W_1 × S^(-1/2);  y = x + b",
    citation="Zhang et al., Fixup Initialization: Residual Learning Without Normalization (1901.09321), 3, and the released code",
    year=2019,
    evidence="code",
    block=lambda site, norm: tuple(At(kind, Rule(scale=Learned(1.0), shift=Learned(0.0))) for kind in site.sublayers),
    ends=lambda norm: ShiftedEnd(Learned(0.0)),
    norm=norms.NONE,
    init=fixup_init,
    options=lambda site, norm: {"shifts": True} if site.kind == "feed_forward" else {},
    predictions=theory.IDENTITY[:1],
    traps=(
        "In the first step only the head has a gradient, in the second also the last matrix of each branch.",
        "The authors' Transformer has no biases but the scalar ones (model.bias=False); its cross-attention counts 12 branches always.",
        "Their ResNets train the scalars at a tenth of the learning rate, their Transformer does not.",
        "A tied head is the embedding and does not start at 0.",
        "In another Transformer's code (bzhangGo/zero) an encoder ends in a (x + b), a a learned scalar and 1 first; here in x + b as a "
        "decoder does.",
    ),
)


def t_fixup_init(site: Site, role: str) -> float:
    """T-Fixup, as its code has it: of an encoder of N blocks the embedding × (9N)^-¼ and W_v, W_o, W_1, W_2 × 0.67 N^-¼, of a decoder of M
    blocks beside one all of these × (9M)^-¼. A gate keeps its law, as in DeepNorm.

    The paper has no decoder by itself. It counts as an encoder, whose blocks have the same two sublayers: an ansatz of ours.
    """
    beside = site.stack == "decoder" and site.depths.encoder > 0
    if role == "embedding" or (beside and role in ("value", "out", "up", "down")):
        return (9 * site.depth) ** -0.25
    return 0.67 * site.depth**-0.25 if role in ("value", "out", "up", "down") else 1.0


t_fixup = Scheme(
    name="t_fixup",
    title="T-Fixup",
    family="norm-free",
    equation="x ← x + F(x);  W_v, W_o, W_1, W_2 × 0.67 L^-¼ and the embedding × (9L)^-¼ at init",
    citation="Huang et al., Improving Transformer Optimization Through Better Initialization (ICML 2020), and the released code",
    year=2020,
    evidence="code",
    block=lambda site, norm: tuple(At(kind, Rule()) for kind in site.sublayers),
    ends=no_ends,
    norm=norms.NONE,
    init=t_fixup_init,
    traps=(
        "The theory is of encoder and decoder together; a decoder alone takes the encoder's constants here, which is an ansatz.",
        "Meant to train without warmup (optim.warmup=0), with Adam.",
        "Learned positions, which the paper has not, are scaled with the embedding of tokens.",
        "The code's value matrices have a factor √2 that undoes the gain 1/√2 that fairseq gives query, key and value.",
    ),
)

ds_init = Scheme(
    name="ds_init",
    title="DS-Init",
    family="init",
    equation="x ← N(x + F(x));  every matrix of block l × l^-½ at init",
    citation="Zhang, Titov & Sennrich, Improving Deep Transformer with Depth-Scaled Initialization (1908.11365)",
    year=2019,
    evidence="secondary",
    block=post,
    ends=no_ends,
    init=lambda site, role: (site.block + 1) ** -0.5 if role in ROLES else 1.0,
    traps=(
        "The authors' code scales the variance by l^-½, not the bound, so that its matrices shrink as l^-¼ only.",
        "The paper pairs it with merged attention, which is another change and not part of this record.",
    ),
)

branch_norm = Scheme(
    name="branch_norm",
    title="BranchNorm",
    family="placement",
    equation="x ← N(x + α_t F(x));  α_t = min(1, t/T) after t updates, T = 4000",
    citation="Liu et al., BranchNorm: Robustly Scaling Extremely Deep Transformers (2305.02790)",
    year=2023,
    evidence="memory",
    block=lambda site, norm: tuple(At(kind, Rule(scale=Ramp(4000), post=norm)) for kind in site.sublayers),
    ends=no_ends,
    needs_norm=True,
    traps=(
        "Of the source only the abstract was reached (the branch is rescaled by the training period); the linear ramp and its length T are "
        "from memory.",
        "T counts updates: a run shorter than T ends, and is evaluated, with its branches still scaled down.",
        "After T it is Post-LN.",
    ),
)

SCHEMES = (fixup, t_fixup, ds_init, branch_norm)
