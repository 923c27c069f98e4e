"""Schemes in which a sublayer, or a block, sees what was written long before it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.catalogue import theory
from addnorm_exp.residual.catalogue.mixing import ZERO, weighted
from addnorm_exp.residual.catalogue.parts import before, final, pre
from addnorm_exp.residual.contract import Connection, PreNormed, Site, Topology
from addnorm_exp.residual.ends import Ends, EndsModule
from addnorm_exp.residual.init import parameter
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At, Chain
from addnorm_exp.residual.scheme import Scheme

History = tuple[jax.Array, ...]
GROUP = 8  # arrays of a history that one operation takes


def first_values(site: Site, norm: NormSpec) -> dict[str, Any]:
    """Options of attention: the first block's values are kept, and each later block's mixed with them."""
    del norm
    if site.kind != "attention":
        return {}
    return {"value_mix": "keep" if site.block == 0 else (0.5, 0.5)}


value_residual = Scheme(
    name="value_residual",
    title="Value residual (ResFormer)",
    family="history",
    equation="V_l ← ½ V_1 + ½ V_l in attention, l ≥ 2, on values as projected;  x ← x + F(N(x)),  y = N(x)",
    citation="Zhou et al., Value Residual Learning (2410.17897), and the released code",
    year=2024,
    evidence="code",
    block=pre,
    ends=final,
    norm=norms.RMS,
    law="normal",
    options=first_values,
    traps=(
        "The two weights are constants of ½ in the released code; the paper also has learned and sparse ones.",
        "V_1 is what the first block projected: it is never mixed itself, and gradients reach it from all blocks.",
        "The value of the first token, which often is a sink, reaches all depths this way.",
    ),
)


class DepthAverageConnection(Connection):
    """DenseFormer's weighted average of the embedding and the outputs of all blocks so far, after each block. `block` counts from 0.

    The state is (x, X_0, …, X_l): the average, and what it is of. Weights are kept as their distance from (0, …, 0, 1).
    """

    reads, writes = "x", "X_l = F,  x ← Σ_(j ≤ l) a_j X_j"

    def __init__(self, width: int, rngs: nnx.Rngs, *, block: int):
        del width
        self.weights = parameter((block + 2,), ZERO, "coefficient", rngs)

    def read(self, state: History) -> tuple[jax.Array, None]:
        return state[0], None

    def write(self, state: History, branch: jax.Array, kept: None) -> History:
        outputs = (*state[1:], branch)
        # In lengths of 64: each of its own would be a program of its own where operations run one by one (the probe).
        weights = jnp.pad(self.weights[...], (0, -len(outputs) % 64))
        total, first = branch.astype(jnp.float32), 0
        for group in grouped(outputs):
            total = _add_weighted(total, weights, first, group)
            first += len(group)
        return (total.astype(branch.dtype), *outputs)


def grouped(history: History) -> list[History]:
    """By `GROUP`, and the newest, which make no group, one by one.

    What is done with a history is done group by group, and a group's is one operation. Where blocks are computed operation by operation
    (the probe), two programs serve histories of every length, and a long one takes few operations.
    """
    whole = len(history) // GROUP * GROUP
    return [history[at : at + GROUP] for at in range(0, whole, GROUP)] + [(one,) for one in history[whole:]]


@jax.jit
def _add_weighted(total: jax.Array, weights: jax.Array, first: int, group: History) -> jax.Array:
    """`total`, float32, and the outputs of a group, `weights[first]` times the first of it and so on."""
    each = jax.lax.dynamic_slice_in_dim(weights, first, len(group))
    return total + weighted(tuple(each), [output.astype(jnp.float32) for output in group])


class DepthAverageEnds(EndsModule):
    """`y = N(x)` of the last average."""

    def open(self, x0: jax.Array) -> History:
        return x0, x0

    def close(self, state: History) -> jax.Array:
        return norms.apply(self.closing, state[0])


denseformer = Scheme(
    name="denseformer",
    title="DenseFormer",
    family="history",
    equation="X_l = Block_l(x_l-1),  x_l = Σ_(j ≤ l) a_lj X_j,  y = N(x_L);  a_l = (0, …, 0, 1) at init;  Pre-LN blocks",
    citation="Pagliardini et al., DenseFormer (2402.02622), and the released code",
    year=2024,
    evidence="code",
    block=lambda site, norm: (At(Chain(pre(site, norm)), Topology(DepthAverageConnection, block=site.block)),),
    ends=lambda norm: Ends(norm, DepthAverageEnds),
    traps=(
        "Dilation and period are 1: every average is taken, over all outputs. The paper's larger models have 4 and 5.",
        "A later test at equal recipe (2603.15031, table 4) found no gain: loss 1.767 against 1.766.",
        "The averages' weights are not decayed here. The released code decays them by 1e-3 with all linear maps, towards 0, the present "
        "block's 1 included.",
        "The averages keep L + 1 activations, and layers are not scanned.",
    ),
    predictions=theory.DENSEFORMER,
)


class Sources(nnx.Module):
    """`Σ_i a_i v_i`, `a = softmax_i(wᵀ RMSNorm(v_i))` for each token, without 1/√width; w = 0 at first, hence the mean."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.query = parameter((width,), ZERO, "coefficient", rngs)
        self.key_norm = norms.Norm(norms.RMS, width, rngs=rngs)

    def __call__(self, sources: History) -> jax.Array:
        graph, parameters = nnx.split(self)
        groups = grouped(sources)
        logits, of_groups = zip(*(_logits(graph, parameters, group) for group in groups), strict=True)
        highest = functools.reduce(jnp.maximum, of_groups)
        total = jnp.zeros(highest.shape, jnp.float32), jnp.zeros(sources[0].shape, jnp.float32)
        for of_group, group in zip(logits, groups, strict=True):
            total = _add(total, of_group, highest, group)
        weights, weighted_sum = total
        return (weighted_sum / weights[..., None]).astype(sources[0].dtype)


@functools.partial(jax.jit, static_argnums=0)
def _logits(graph: nnx.GraphDef, parameters: nnx.State, group: History) -> tuple[jax.Array, jax.Array]:
    """(sources of the group, ...), and the highest of each token, a constant to derivatives: the softmax is the same for any."""
    sources = nnx.merge(graph, parameters)
    logits = jnp.stack([sources.key_norm(source.astype(jnp.float32)) @ sources.query[...] for source in group])
    return logits, jax.lax.stop_gradient(jnp.max(logits, axis=0))


@jax.jit
def _add(
    total: tuple[jax.Array, jax.Array], logits: jax.Array, highest: jax.Array, group: History
) -> tuple[jax.Array, jax.Array]:
    """Sums of e^(logit - highest) and of that times the source, in float32, with a group more."""
    each = jnp.exp(logits - highest[None])
    weights, weighted_sum = total
    more = weighted([weight[..., None] for weight in each], [source.astype(jnp.float32) for source in group])
    return weights + jnp.sum(each, axis=0), weighted_sum + more


class DepthAttentionConnection(PreNormed):
    """Softmax attention over what was written so far. `first`: this is the stack's first sublayer. `fresh`: what it writes is a source of
    its own, and not added to the newest one.

    The state is the sources v_0, v_1, …; the first sublayer has v_0 alone, to which no query makes a difference.
    """

    reads = "h = N(Σ_i a_i v_i),  a = softmax_i(wᵀ RMSNorm(v_i))"

    @staticmethod
    def writes(fresh: bool, **_: Any) -> str:
        return "v_new = F" if fresh else "v_last ← v_last + F"

    def __init__(self, width: int, rngs: nnx.Rngs, *, norm: NormSpec, first: bool = False, fresh: bool = True):
        self.fresh = fresh
        self.sources = None if first else Sources(width, rngs)
        self.pre = norms.make(norm, width, rngs)

    def read(self, state: History) -> tuple[jax.Array, None]:
        return state[0] if self.sources is None else self.sources(state), None

    def write(self, state: History, branch: jax.Array, kept: None) -> History:
        return (*state, branch) if self.fresh else (*state[:-1], state[-1] + branch)


class DepthAttentionEnds(EndsModule):
    """The embedding is the first source; one more query reads all sources for the head, `y = N(Σ_i a_i v_i)`."""

    def __init__(self, width: int, rngs: nnx.Rngs, *, closing: NormSpec | None):
        super().__init__(width, rngs, closing=closing)
        self.sources = Sources(width, rngs)

    def open(self, x0: jax.Array) -> History:
        return (x0,)

    def close(self, state: History) -> jax.Array:
        return norms.apply(self.closing, self.sources(state))


def depth_attention(site: Site, kind: str, norm: NormSpec, fresh: bool = True) -> At:
    first = before(site, kind) == 0
    return At(kind, Topology(DepthAttentionConnection, norm=norm, first=first, fresh=fresh))


attn_res = Scheme(
    name="attn_res",
    title="Attention residuals",
    family="history",
    equation="h_s = Σ_(i < s) a_i v_i,  a = softmax_i(w_sᵀ RMSNorm(v_i)),  v_s = F_s(N(h_s)),  v_0 = x_0;  y = N(Σ a_i v_i);  w = 0 first",
    citation="Kimi Team, Attention Residuals (2603.15031), the full form",
    year=2026,
    evidence="paper",
    block=lambda site, norm: tuple(depth_attention(site, kind, norm) for kind in site.sublayers),
    ends=lambda norm: Ends(norm, DepthAttentionEnds),
    norm=norms.RMS,
    traps=(
        "Replaces the stream: nothing is summed. At init the sources' mean has the direction of Pre-LN's stream: under a norm that sees no "
        "scale it is Pre-LN's function, with other gradients.",
        "The logits are not divided by √width, and w starts at 0: several re-implementations depart from both.",
        "The first sublayer has one source, hence no query here; with one, it would never have a gradient.",
        "Keeps all 2L + 1 outputs, and layers are not scanned.",
    ),
    predictions=theory.ATTN_RES,
)


BLOCKS = 8  # what the paper finds enough


def starts_block(site: Site, kind: str, blocks: int) -> bool:
    """Whether a sublayer is the first of one of `blocks` parts of its stack, as even as they can be; of short stacks each is."""
    total, earlier = site.depth * len(site.sublayers), before(site, kind)
    return earlier == 0 or earlier * blocks // total > (earlier - 1) * blocks // total


def depth_attention_in_blocks(blocks: int):
    def block(site: Site, norm: NormSpec) -> tuple[At, ...]:
        return tuple(depth_attention(site, kind, norm, starts_block(site, kind, blocks)) for kind in site.sublayers)

    return block


attn_res_block = Scheme(
    name="attn_res_block",
    title="Attention residuals over blocks",
    family="history",
    equation="as attn_res over x_0 and the sum of the sublayers' outputs in each of 8 parts of the stack, the present one so far included",
    citation="Kimi Team, Attention Residuals (2603.15031), the block form",
    year=2026,
    evidence="paper",
    block=depth_attention_in_blocks(BLOCKS),
    ends=lambda norm: Ends(norm, DepthAttentionEnds),
    norm=norms.RMS,
    traps=(
        "With at most 4 Transformer blocks every sublayer is its own part, and this is attn_res.",
        "The embedding remains a separate source; it is in none of the sums.",
        "Where 8 does not divide the sublayers, the parts are as even as they can be; the paper's sizes all divide.",
    ),
    predictions=theory.ATTN_RES_BLOCK,
)

SCHEMES = (
    value_residual,
    denseformer,
    attn_res,
    attn_res_block,
)
