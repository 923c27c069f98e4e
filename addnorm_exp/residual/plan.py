"""From a scheme's plan of a block to modules that carry it out.

A plan is a tuple of `At`s, run in order. `At(body, rule)` puts one connection around a body, and a body is
the name of a sublayer, a `Sum` of sublayers that read the same input (the parallel block), or a `Chain` of further `At`s (a block
inside a connection). Sublayers themselves are not owned here but handed in by name, so that their parameters have the same paths, and
hence the same initial values, under every scheme.
"""

import functools
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from addnorm_exp.residual.contract import Body, ConnectionRecord, Context, Memo, Site, State, Stats
from addnorm_exp.residual.dropout import drop_path, dropout
from addnorm_exp.residual.rule import Learned, learned, times
from addnorm_exp.residual.taps import tap
from addnorm_exp.residual.variables import Constant


@dataclass(frozen=True)
class Sum:
    """Sublayers that see the same h and whose outputs are added: `F_a(h) + F_f(h)`, each times its learned scale where these are given."""

    names: tuple[str, ...]
    scales: tuple[Learned, ...] = ()


@dataclass(frozen=True)
class Chain:
    """A body made of connections: the inner stream starts at h, and what it has become is b."""

    parts: "tuple[At, ...]"


@dataclass(frozen=True)
class Ramp:
    """A factor that rises with training: min(1, t / steps) after t updates; 1 where no step is known."""

    steps: float


@dataclass(frozen=True)
class At:
    """One connection of a block: what stands around which body.

    `fade` multiplies what enters the sum, whatever the connection. Its length may depend on the site.
    """

    body: str | Sum | Chain
    rule: ConnectionRecord
    fade: Ramp | None = None

    @property
    def label(self) -> str:
        """The site's name inside its block: `attention`, `attention+feed_forward`, `block`."""
        if isinstance(self.body, str):
            return self.body
        return "+".join(self.body.names) if isinstance(self.body, Sum) else "block"

    def walk(self) -> "Iterator[At]":
        """This site and those inside it, outer before inner: the order of taps, labels and statistics."""
        yield self
        if isinstance(self.body, Chain):
            for part in self.body.parts:
                yield from part.walk()


class Node(nnx.Module):
    """One connection with its body."""

    def __init__(self, at: At, site: Site, width: int, rngs: nnx.Rngs, shared: dict[str, nnx.Param]):
        self.connection = at.rule.connect(width, rngs, shared)
        self.fade = None if at.fade is None else Constant(np.asarray(at.fade.steps, np.float32))
        names = (at.body,) if isinstance(at.body, str) else at.body.names if isinstance(at.body, Sum) else ()
        self.sublayers = tuple((name, site.sublayers.index(name)) for name in names)
        scales = zip(names, at.body.scales, strict=False) if isinstance(at.body, Sum) else ()
        self.scales = nnx.Dict({name: learned(scale, width, rngs, shared) for name, scale in scales})
        parts = at.body.parts if isinstance(at.body, Chain) else ()
        self.inside = nnx.Dict({part.label: Node(part, site, width, rngs, shared) for part in parts})
        self.order = tuple(part.label for part in parts)

    def __call__(
        self, state: State, memo: Memo, context: Context, bodies: Mapping[str, Body], probes: Iterator[jax.Array]
    ) -> tuple[State, Memo, Stats]:
        # A scheme of one stream is tapped at the stream, which the skip sees too; one of several at what this site reads of them.
        single = isinstance(state, jax.Array)
        if context.diagnostics and single:
            state = tap(state, next(probes))
        stream, kept = self.connection.read(state)
        if context.diagnostics and not single:
            stream = tap(stream, next(probes))
        h = self.connection.enter(stream)
        stats: Stats = {}
        if self.order:
            branch = h
            for label in self.order:
                branch, memo, inner = self.inside[label](branch, memo, context, bodies, probes)
                stats = merge(stats, inner)
        else:
            left = []
            for name, number in self.sublayers:
                b, memo, inner = bodies[name](h, memo, context.fold(number))
                # Here and nowhere else, so that place and count of dropout are the same under every scheme.
                b = dropout(b, context.fold(number))
                left.append(times(self.scales[name], b) if name in self.scales else b)
                stats = merge(stats, inner)
            branch = functools.reduce(operator.add, left)
        branch = self._faded(self.connection.leave(branch), context.step)
        if self.sublayers:  # the last thing before the sum, behind norm and coefficient of the branch
            branch = drop_path(branch, context.fold(self.sublayers[0][1]))
        if context.diagnostics:
            valid = valid_rows(context.mask, branch)
            stats = merge(_site_statistics(state if single else stream, branch, valid), stats)
        if context.variances:
            stats = merge(_variances(state if single else stream, branch), stats)
        return self.connection.write(state, branch, kept), memo, stats

    def _faded(self, branch: jax.Array, step: jax.Array | None) -> jax.Array:
        if self.fade is None or step is None:
            return branch
        factor = jnp.minimum(step.astype(jnp.float32) / self.fade.fixed, 1.0)
        return factor.astype(branch.dtype) * branch


class BlockConnections(nnx.Module):
    """All connections of one block, run around the bodies that are handed in by sublayer name."""

    def __init__(self, plan: tuple[At, ...], site: Site, width: int, *, rngs: nnx.Rngs):
        """`plan` is what `Scheme.plan(site)` gives; `site.kind` is `block`."""
        shared: dict[str, nnx.Param] = {}
        self.nodes = nnx.Dict({at.label: Node(at, site, width, rngs, shared) for at in plan})
        self.order = tuple(at.label for at in plan)

    def __call__(
        self,
        state: State,
        memo: Memo,
        context: Context,
        bodies: Mapping[str, Body],
        probes: jax.Array | None = None,
    ) -> tuple[State, Memo, Stats]:
        """`probes`: float32 (sites in the block,), needed where `context.diagnostics`; see taps.py."""
        waiting = iter(probes) if probes is not None else iter(())
        stats: Stats = {}
        for label in self.order:
            state, memo, more = self.nodes[label](state, memo, context, bodies, waiting)
            stats = merge(stats, more)
        return state, memo, stats


def merge(first: Stats, second: Stats) -> Stats:
    return {key: first.get(key, []) + second.get(key, []) for key in {**first, **second}}


def valid_rows(mask: jax.Array | None, x: jax.Array) -> jax.Array | None:
    """True at the valid tokens of x (..., width), broadcastable to it, by `Context.mask`; None where all are."""
    return None if mask is None else mask.reshape(*x.shape[:-1], 1)


def _site_statistics(stream: jax.Array, branch: jax.Array, valid: jax.Array | None) -> Stats:
    stream_rms, branch_rms = rms(stream, valid), rms(branch, valid)
    return {"stream_rms": [stream_rms], "branch_ratio": [branch_rms / stream_rms]}


def _variances(stream: jax.Array, branch: jax.Array) -> Stats:
    """Over all elements, those of padded tokens too (as Admin's released code has it), in float32."""
    return {
        f"{name}_variance": [jnp.var(x.astype(jnp.float32))] for name, x in (("stream", stream), ("branch", branch))
    }


def rms(x: jax.Array, valid: jax.Array | None = None) -> jax.Array:
    """√(mean(x²)) over all axes, where `valid`, in float32."""
    return jnp.sqrt(jnp.mean(jnp.square(x.astype(jnp.float32)), where=valid))
