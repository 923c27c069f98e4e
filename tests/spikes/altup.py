"""AltUp (Baykal 2023, 2301.13310): K streams, one of them through the whole block in turn.

`x̂ = P x`, `y = Block(x̂_j)`, `x_i ← x̂_i + g_i (y - x̂_j)`, j = l mod K. The state is a tuple of K arrays; the block is a chain inside.
"""

from dataclasses import dataclass

import jax.numpy as jnp

from addnorm_exp.residual import At, Chain, Connection, Rule, Scheme, norms
from addnorm_exp.residual.init import Init, parameter


@dataclass(frozen=True)
class AltUp:
    """P is kept as its distance from the identity, so that its first value is 0."""

    streams: int
    active: int

    def connect(self, site, width, rngs, shared):
        del site, width, shared
        return AltUpConnection(self, rngs)


class AltUpConnection(Connection):
    def __init__(self, record: AltUp, rngs):
        self.active = record.active
        self.predict = parameter((record.streams, record.streams), Init.constant(0.0), "coefficient", rngs)
        self.correct = parameter((record.streams,), Init.constant(1.0), "coefficient", rngs)

    def read(self, state, context):
        mixed = jnp.einsum("ij,j...->i...", jnp.eye(len(state)) + self.predict[...], jnp.stack(state))
        return mixed[self.active], mixed

    def write(self, state, branch, kept, context):
        gained = branch - kept[self.active]
        return tuple(stream + gain * gained for stream, gain in zip(kept, self.correct[...], strict=True))


@dataclass(frozen=True)
class AltUpEnds:
    streams: int
    closing: norms.NormSpec

    def connect(self, width, rngs):
        return AltUpEndsModule(self, width, rngs)


class AltUpEndsModule(Connection):
    def __init__(self, ends: AltUpEnds, width, rngs):
        self.streams, self.closing = ends.streams, norms.make(ends.closing, width, rngs)

    def open(self, x0, context):
        return (x0,) * self.streams

    def close(self, state, context):
        return norms.apply(self.closing, sum(state))


def record(streams: int) -> Scheme:
    def block(site, norm):
        inside = tuple(At(kind, Rule(pre=norm)) for kind in site.sublayers)
        return (At(Chain(inside), AltUp(streams, active=site.block % streams)),)

    return Scheme(
        "altup", "AltUp", "streams", "x_i ← x̂_i + g_i (Block(x̂_j) - x̂_j)", "2301.13310", 2023, "secondary", block,
        lambda norm: AltUpEnds(streams, norm),
    )  # fmt: skip


scheme = record(streams=2)
