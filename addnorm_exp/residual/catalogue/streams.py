"""Schemes with two streams, or with several that take turns; streams that are mixed are in hyper_connections.py."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.catalogue import theory
from addnorm_exp.residual.catalogue.mixing import ZERO, Streams, copies, weighted
from addnorm_exp.residual.catalogue.parts import pre
from addnorm_exp.residual.contract import Connection, Site, Topology
from addnorm_exp.residual.ends import Ends, EndsModule
from addnorm_exp.residual.init import Init, parameter
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At, Chain
from addnorm_exp.residual.rule import constant, times
from addnorm_exp.residual.scheme import Scheme

Pair = tuple[jax.Array, jax.Array]


class DualConnection(Connection):
    """ResiDual's: a Post-LN stream, and beside it the plain sum of all that the sublayers say. The state is (x, r)."""

    reads, writes = "x", "x ← N(x + F),  r ← r + F"

    def __init__(self, width: int, rngs: nnx.Rngs, *, norm: NormSpec):
        self.post = norms.make(norm, width, rngs)

    def read(self, state: Pair) -> tuple[jax.Array, None]:
        return state[0], None

    def write(self, state: Pair, branch: jax.Array, kept: None) -> Pair:
        x, r = state
        return norms.apply(self.post, x + branch), r + branch


class DualEnds(EndsModule):
    """Both streams start as the embedding; `y = x + N(r)`."""

    def open(self, x0: jax.Array) -> Pair:
        return x0, x0

    def close(self, state: Pair) -> jax.Array:
        x, r = state
        return x + norms.apply(self.closing, r)


residual_dual = Scheme(
    name="residual_dual",
    title="ResiDual",
    family="streams",
    equation="x ← N(x + F(x)),  r ← r + F(x),  y = x + N(r);  x = r = x_0 at first",
    citation="Xie et al., ResiDual: Transformer with Dual Residual Connections (2304.14802), and the released code",
    year=2023,
    evidence="code",
    block=lambda site, norm: tuple(At(kind, Topology(DualConnection, norm=norm)) for kind in site.sublayers),
    ends=lambda norm: Ends(norm, DualEnds),
    traps=(
        "The two streams are added before the head, not concatenated; at init the sum's RMS is about √2.",
        "The released code's final norm has ε 1e-7, its others the usual 1e-5; here all have one ε.",
        "The released code can scale what enters r against float16 overflow; the factor is 1 by default, and is left out.",
    ),
)


class SiameseConnection(Connection):
    """SiameseNorm's: sublayers shared by a Post-LN stream p and a Pre-LN stream u; `scale` is of p's branch. The state is (p, u)."""

    reads, writes = "p ← N_p(p),  h = N_in(p + N_u(u))", "p ← p + F/√(2l),  u ← u + F"

    def __init__(self, width: int, rngs: nnx.Rngs, *, norm: NormSpec, scale: float):
        self.scale = constant(scale)
        self.post = norms.make(norm, width, rngs)
        self.pre = norms.make(norm, width, rngs)
        self.entry = norms.make(norm, width, rngs)

    def read(self, state: Pair) -> tuple[jax.Array, jax.Array]:
        p, u = norms.apply(self.post, state[0]), state[1]
        return p + norms.apply(self.pre, u), p

    def enter(self, stream: jax.Array) -> jax.Array:
        return norms.apply(self.entry, stream)

    def write(self, state: Pair, branch: jax.Array, kept: jax.Array) -> Pair:
        return kept + times(self.scale, branch), state[1] + branch


class SiameseEnds(EndsModule):
    """Both streams start as the embedding; `y = N(N(p) + N(u))`."""

    def __init__(self, width: int, rngs: nnx.Rngs, *, closing: NormSpec):
        super().__init__(width, rngs, closing=closing)
        self.post = norms.make(closing, width, rngs)
        self.pre = norms.make(closing, width, rngs)

    def open(self, x0: jax.Array) -> Pair:
        return x0, x0

    def close(self, state: Pair) -> jax.Array:
        p, u = state
        return norms.apply(self.closing, norms.apply(self.post, p) + norms.apply(self.pre, u))


siamese = Scheme(
    name="siamese",
    title="SiameseNorm",
    family="streams",
    equation="p ← N_p(p),  f = F(N_in(p + N_u(u))),  p ← p + f/√(2l),  u ← u + f;  y = N(N_p(p) + N_u(u))",
    citation="Li et al., SiameseNorm (2602.08064), and the released code for DeiT",
    year=2026,
    evidence="code",
    block=lambda site, norm: tuple(
        At(kind, Topology(SiameseConnection, norm=norm, scale=1 / math.sqrt(2 * (site.block + 1))))
        for kind in site.sublayers
    ),
    ends=lambda norm: Ends(norm, SiameseEnds),
    traps=(
        "l counts blocks from 1 and is the same for both sublayers of a block.",
        "The code applies N_p where the next sublayer starts, so the embedding is normalised once too; the paper writes it after the sum.",
        "Three norms per sublayer and three at the end: four norms more per block than Pre-LN.",
    ),
)


class AltUpConnection(Connection):
    """One of K streams goes through a block; the others are predicted, and corrected by what the block found. The state is K arrays. P is
    kept as its distance from the identity, which is 0 at first."""

    writes = "x_i ← x̂_i + g_i (F − x̂_j)"

    @staticmethod
    def reads(active: int, **_: Any) -> str:
        return f"x̂ = P x,  h = x̂_j,  j = {active + 1}"

    def __init__(self, width: int, rngs: nnx.Rngs, *, streams: int, active: int):
        del width
        self.active = active
        self.predict = parameter((streams, streams), ZERO, "coefficient", rngs)
        self.correct = parameter((streams,), Init.constant(1.0), "coefficient", rngs)

    def read(self, state: Streams) -> tuple[jax.Array, Streams]:
        predicted = tuple(weighted(row, state) for row in self.predict[...] + jnp.eye(len(state), dtype=jnp.float32))
        return predicted[self.active], predicted

    def write(self, state: Streams, branch: jax.Array, kept: Streams) -> Streams:
        correction = branch - kept[self.active]
        pairs = zip(self.correct[...], kept, strict=True)
        return tuple(weighted((jnp.ones((), jnp.float32), gain), (stream, correction)) for gain, stream in pairs)


def altup_block(streams: int):
    def block(site: Site, norm: NormSpec) -> tuple[At, ...]:
        return (At(Chain(pre(site, norm)), Topology(AltUpConnection, streams=streams, active=site.block % streams)),)

    return block


ALTERNATING = 2  # of the paper's main results


altup = Scheme(
    name="altup",
    title="AltUp",
    family="streams",
    equation="x̂ = P x,  b = Block(x̂_j),  x_i ← x̂_i + g_i (b − x̂_j),  j = l mod K;  y = N(Σ_i x_i);  K = 2;  P = I, g = 1 at init",
    citation="Baykal et al., Alternating Updates for Efficient Transformers (2301.13310), alg. 1",
    year=2023,
    evidence="secondary",
    block=altup_block(ALTERNATING),
    ends=lambda norm: copies(norm, ALTERNATING),
    traps=(
        "The init of P and g is from memory of the paper, and not verified.",
        "P and g are not decayed, P being a matrix too; no source says.",
        "Blocks are Pre-LN's. Streams start as copies and the head has their sum, which the paper calls Recycled-AltUp (by third parties' "
        "notes); its other models have a wider embedding and head.",
        "Gemma 3n's form has a fixed active stream, P by token, and coefficients that are clipped: do not cite it as the paper's.",
    ),
    predictions=theory.ALTUP,
)

SCHEMES = (
    residual_dual,
    siamese,
    altup,
)
