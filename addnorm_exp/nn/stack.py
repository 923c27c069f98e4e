"""A stack of blocks around the residual contract: unrolled, or scanned over segments of structurally equal blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from addnorm_exp.nn.attention import Attention, Implementation
from addnorm_exp.nn.feed_forward import FeedForward
from addnorm_exp.residual import BlockConnections, Body, Context, Memo, Scheme, Site, State
from addnorm_exp.residual.init import Init
from addnorm_exp.residual.variables import Running

# Below this depth the unrolled stack is the faster on CPU and its compilation still short (benchmarks/NOTES.md).
UNROLL_BELOW = 16


@dataclass(frozen=True)
class Architecture:
    """What is fixed about a Transformer besides its scheme. Widths in units, `law` one of `residual.init.LAWS`."""

    depth: int
    width: int
    num_heads: int
    hidden: int
    activation: str = "gelu"
    rotary: bool = False
    bias: bool = True
    law: str = "xavier"
    depth_scaled: bool = False
    attention: Implementation = "einsum"
    scan_layers: str = "auto"
    cache: tuple[int, int] | None = (
        None  # sequences and tokens whose keys and values attention keeps, to decode by steps
    )


class Block(nnx.Module):
    """The sublayers of one block, and the connections that the scheme puts around them."""

    def __init__(self, scheme: Scheme, site: Site, arch: Architecture, *, causal: bool, rngs: nnx.Rngs):
        def attention(kind: str) -> Attention:
            return Attention(
                arch.width,
                arch.num_heads,
                _inits(scheme, site.at(kind), arch),
                causal=causal,
                rotary=arch.rotary,
                bias=arch.bias,
                implementation=arch.attention,
                rngs=rngs,
                cross=kind == "cross_attention",
                cache=arch.cache,
                **scheme.sublayer_options(site.at(kind)),
            )

        self.attention = attention("attention")
        self.cross_attention = attention("cross_attention") if "cross_attention" in site.sublayers else None
        self.feed_forward = FeedForward(
            arch.width,
            arch.hidden,
            arch.activation,
            _inits(scheme, site.at("feed_forward"), arch),
            bias=arch.bias,
            rngs=rngs,
            **scheme.sublayer_options(site.at("feed_forward")),
        )
        self.connections = BlockConnections(scheme.plan(site), site, arch.width, rngs=rngs)
        self.kinds = site.sublayers
        scheme.mark(self.connections, site, "connection")
        for kind in self.kinds:
            scheme.mark(getattr(self, kind), site.at(kind), "sublayer")

    @property
    def bodies(self) -> dict[str, Body]:
        return {kind: getattr(self, kind) for kind in self.kinds}

    def __call__(
        self,
        state: State,
        memo: Memo,
        context: Context,
        probes: Float[Array, "sites ..."] | None,
        bodies: Mapping[str, Body] | None = None,
    ) -> tuple[State, Memo, dict[str, jax.Array]]:
        """The state and memo after the block; statistics: quantity → float32 (sites of the block,). `bodies`: called in the place of its
        own."""
        state, memo, stats = self.connections(state, memo, context, bodies or self.bodies, probes)
        return state, memo, {name: jnp.stack(values) for name, values in stats.items()}


def _inits(scheme: Scheme, site: Site, arch: Architecture):
    def inits(role: str, fan_in: int, fan_out: int) -> Init:
        return scheme.matrix_law(site, role, arch.law, fan_in, fan_out, arch.depth_scaled)

    return inits


class Stack(nnx.Module):
    """open → blocks → close."""

    def __init__(self, scheme: Scheme, sites: Sequence[Site], arch: Architecture, *, causal: bool, rngs: nnx.Rngs):
        self.blocks = nnx.List([Block(scheme, site, arch, causal=causal, rngs=rngs) for site in sites])
        self.ends = scheme.connect_ends(arch.width, rngs=rngs)
        scheme.mark(self.ends, sites[0].at("ends"), "ends")
        self.scan = arch.scan_layers == "on" or (arch.scan_layers == "auto" and len(sites) >= UNROLL_BELOW)
        self.labels = tuple(scheme.labels(site) for site in sites)

    def __call__(
        self,
        x: Float[Array, "tokens width"],
        context: Context,
        probes: Float[Array, "sites ..."] | None = None,
        memo: Memo | None = None,
    ) -> tuple[Float[Array, "tokens width"], dict[str, jax.Array]]:
        """The closed stream, and statistics: quantity → float32 (sites,).

        `probes`: zeros of shape (sites,), needed where `context.diagnostics` (residual/taps.py). `memo`: what the sublayers find
        there from the start, as the memory of cross-attention.
        """
        state: State = self.ends.open(x)
        memo = memo or {}
        alike = self._alike()
        rows, start, site = [], 0, 0
        while start < len(self.blocks):
            length = alike[start]
            if length > 1 and not _steady(self.blocks[start], state, memo, context):
                length = 1
            segment = list(self.blocks)[start : start + length]
            count = sum(len(labels) for labels in self.labels[start : start + length])
            part = None if probes is None else probes[site : site + count]
            if length > 1:
                state, memo, stats = _scan(segment, state, memo, context, part, start, len(self.blocks))
            else:
                state, memo, stats = segment[0](state, memo, context.into(start, len(self.blocks)), part)
            rows.append(stats)
            start, site = start + length, site + count
        gathered = {name: jnp.concatenate([row[name] for row in rows if name in row]) for name in _union(rows)}
        return self.ends.close(state), gathered

    def _alike(self) -> list[int]:
        """For each block, how many from it on differ in parameters and constants alone: what one scan could do."""
        if not self.scan:
            return [1] * len(self.blocks)
        runs = [len(list(group)) for _, group in groupby(_structure(block) for block in self.blocks)]
        return [left for run in runs for left in range(run, 0, -1)]


def _structure(block: Block):
    graph, state = nnx.split(block)
    return graph, tuple((path, leaf.shape) for path, leaf in nnx.to_flat_state(state))


def _steady(block: Block, state: State, memo: Memo, context: Context) -> bool:
    """Whether a block leaves state and memo in the form it found them. A history grows, and no scan can carry it."""
    quiet = replace(context, diagnostics=False)

    graph, variables = nnx.split(block)

    def after(variables: nnx.State, state: State, memo: Memo) -> tuple[State, Memo]:
        state, memo, _ = nnx.merge(graph, variables)(state, memo, quiet, None)
        return state, memo

    return jax.eval_shape(after, variables, state, memo) == jax.eval_shape(lambda *carry: carry, state, memo)


def _union(rows):
    return list(dict.fromkeys(name for row in rows for name in row))


def _scan(
    blocks: list[Block],
    state: State,
    memo: Memo,
    context: Context,
    probes: jax.Array | None,
    start: int,
    depth: int,
):
    """The same as calling the blocks in turn, compiled once. Parameters stay separate outside, so that a checkpoint does not know
    whether layers were scanned."""
    graph, _ = nnx.split(blocks[0])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(nnx.split(block)[1] for block in blocks))
    rows = None if probes is None else probes.reshape(len(blocks), -1)

    def step(carry, inputs):
        (state, memo), (parameters, probe, number) = carry, inputs
        block: Block = nnx.merge(graph, parameters)
        state, memo, stats = block(state, memo, context.into(number, depth), probe)
        return (state, memo), (stats, nnx.state(block, Running))

    numbers = jnp.arange(start, start + len(blocks), dtype=jnp.int32)
    (state, memo), (stats, changed) = jax.lax.scan(step, (state, memo), (stacked, rows, numbers))
    for index, block in enumerate(blocks if jax.tree.leaves(changed) else ()):
        nnx.update(block, jax.tree.map(lambda leaf, index=index: leaf[index], changed))
    return state, memo, {name: values.reshape(-1) for name, values in stats.items()}
