"""The quantities of a stack at init, measured block by block.

Blocks of equal structure share one compiled program, whatever the depth of their stack: a stack of 48 costs no more compilation than one
of 6. Blocks of a structure of their own are computed operation by operation, each sublayer as one. The backward pass computes each block
once more from what came into it.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from addnorm_exp.nn.stack import Block
from addnorm_exp.probe import draws
from addnorm_exp.probe.programs import Programs
from addnorm_exp.probe.settings import SEQUENCES, Problem
from addnorm_exp.residual import Context

PERTURBATION = 0.01  # of a weight matrix's root mean square
W2 = ("feed_forward", "down", "kernel")


@dataclass(frozen=True)
class Value:
    """A mean over seeds at block `block` of a stack; 0 is where the embedding enters, the depth is the output."""

    block: int
    quantity: str
    value: float


def measure(problem: Problem) -> Iterator[Value]:
    """stream_ms, token_similarity: blocks 0 to depth. grad_stream, grad_w2, attn_entropy: blocks 0 to depth - 1.
    sensitivity: the output.

    stream_ms: second moment of the stream, mean over tokens and width; of a scheme of several streams, of what the first body of the
      block reads, and none at the output.
    token_similarity: mean cosine of two tokens of a sequence, of what the head would see if the stack ended here.
    grad_stream: Frobenius norm of the loss's gradient with respect to the same array as stream_ms.
    grad_w2: Frobenius norm of the loss's gradient with respect to the feed-forward's output matrix.
    attn_entropy: of the attention weights, in nats, mean over heads and queries.
    sensitivity: ‖y' - y‖² / ‖y‖² of the output y when each matrix W of the blocks becomes W + 0.01 rms(W) ε, ε standard normal by the
      matrix' path. One that is kept as a distance from its start, and has distance 0, stays as it is.
    """
    seeds = problem.inputs.shape[0]
    programs = Programs()
    blocks = [nnx.split(block) for block in problem.stack.blocks]
    ends = nnx.split(problem.stack.ends)
    counts = [len(labels) for labels in problem.stack.labels]
    carries, stats, y = _forward(programs, problem, ends, blocks, counts)

    for block, (state, _) in enumerate(carries):
        if block < len(blocks):
            yield _mean(block, "stream_ms", stats[block]["stream_rms"][:, 0] ** 2)
        elif isinstance(state, jax.Array):
            yield _mean(block, "stream_ms", jnp.mean(jnp.square(state), axis=(1, 2)))
        yield _mean(block, "token_similarity", _similarity(programs(_close, ends[0], ends[1], state, problem.context)))
    for block, row in enumerate(stats):
        if "entropy" in row:
            yield _mean(block, "attn_entropy", row["entropy"][:, 0])

    state, memo = carries[-1]
    cotangent = programs(_loss_gradient, (ends[0], problem.loss), ends[1], state, problem.targets, problem.context)
    cotangents = cotangent, jax.tree.map(jnp.zeros_like, memo)
    for block in reversed(range(len(blocks))):
        graph, parameters = blocks[block]
        of_matrix, of_taps, cotangents = programs(
            _block_gradient,
            graph,
            parameters,
            carries[block],
            jnp.zeros((seeds, counts[block])),
            problem.context,
            cotangents,
        )
        yield _mean(block, "grad_stream", jnp.sqrt(of_taps[:, 0]))
        yield _mean(block, "grad_w2", jnp.sqrt(of_matrix))

    shaken = [(graph, _perturb(parameters, block)) for block, (graph, parameters) in enumerate(blocks)]
    _, _, other = _forward(programs, problem, ends, shaken, counts)
    yield _mean(len(blocks), "sensitivity", jnp.sum((other - y) ** 2, (1, 2)) / jnp.sum(y**2, (1, 2)))


def _forward(programs: Programs, problem: Problem, ends, blocks, counts):
    """→ state and memo before each block and at the end, statistics of each block, output (seeds, tokens, width)."""
    seeds = problem.inputs.shape[0]
    carry: tuple[Any, dict[str, jax.Array]] = (programs(_open, ends[0], ends[1], problem.inputs, problem.context), {})
    carries, stats = [carry], []
    for (graph, parameters), count in zip(blocks, counts, strict=True):
        carry, row = programs(_block, graph, parameters, carry, jnp.zeros((seeds, count)), problem.context)
        carries.append(carry)
        stats.append(row)
    return carries, stats, programs(_close, ends[0], ends[1], carry[0], problem.context)


def _open(graph, parameters, inputs, context: Context):
    return jax.vmap(lambda values, x: nnx.merge(graph, values).open(x, context))(parameters, inputs)


def _close(graph, parameters, state, context: Context):
    return jax.vmap(lambda values, one: nnx.merge(graph, values).close(one, context))(parameters, state)


def _loss_gradient(static: tuple[nnx.GraphDef, Callable], parameters, state, targets, context: Context):
    """With respect to the state before it is closed. `static`: the ends' structure, and the loss."""
    graph, loss = static

    def value(state, values, wanted):
        return loss(nnx.merge(graph, values).close(state, context), wanted)

    return jax.vmap(jax.grad(value))(state, parameters, targets)


def _block(graph, parameters, carry, probes, context: Context):
    """→ (state, memo), statistics: quantity → (seeds, sites)."""

    def run(values, carry, probes):
        return _run(nnx.merge(graph, values), carry, context, probes)

    return jax.vmap(run)(parameters, carry, probes)


def _run(block: Block, carry, context: Context, probes):
    """→ (state, memo), statistics. Each sublayer is one operation: they are alike in all blocks, also where what is around them is not."""
    bodies = {kind: functools.partial(_body, *nnx.split(body)) for kind, body in block.bodies.items()}
    state, memo = carry
    state, memo, stats = block(state, memo, context, probes, bodies)
    return (state, memo), stats


@functools.partial(jax.jit, static_argnums=0)
def _body(graph, parameters, h: jax.Array, memo, context: Context):
    return nnx.merge(graph, parameters)(h, memo, context)


def _block_gradient(graph, parameters, carry, probes, context: Context, cotangents):
    """→ squared gradient norms of the feed-forward's output matrix (seeds,) and of the taps (seeds, sites), cotangents of (state, memo)."""

    def pull(values, carry, probes, cotangents):
        flat = dict(nnx.to_flat_state(values))
        matrix = flat[W2]

        def run(kernel, carry, probes):
            # Of this matrix alone: the gradients of all others are as much work again as those of the stream.
            block = nnx.merge(graph, nnx.State.from_flat_path({**flat, W2: matrix.replace(kernel)}))
            return _run(block, carry, context, probes)[0]

        _, back = jax.vjp(run, matrix[...], carry, probes)
        gradient, before, of_taps = back(cotangents)
        return jnp.sum(jnp.square(gradient)), of_taps, before

    return jax.vmap(pull)(parameters, carry, probes, cotangents)


def _perturb(parameters: nnx.State, block: int) -> nnx.State:
    """Matrices only, each by `PERTURBATION` of its own root mean square; noise goes by path, as initial values do: the schemes that have a
    matrix in common have it perturbed alike."""
    moved = {}
    for path, variable in nnx.to_flat_state(parameters):
        name = "/".join(map(str, ("noise", block, *path)))
        leaf = variable[...]
        moved[path] = variable.replace(_shake(leaf, draws.noise(leaf.shape, name))) if leaf.ndim == 3 else variable
    return nnx.State.from_flat_path(moved)


@jax.jit
def _shake(leaf: jax.Array, noise: jax.Array) -> jax.Array:
    """Both (seeds, in, out)."""
    size = PERTURBATION * jnp.sqrt(jnp.mean(jnp.square(leaf), (1, 2), keepdims=True))
    return leaf + size * noise


@jax.jit
def _similarity(y: jax.Array) -> jax.Array:
    """(seeds, tokens, width) → (seeds,)."""
    seeds, tokens, width = y.shape
    y = y.reshape(seeds, SEQUENCES, tokens // SEQUENCES, width).astype(jnp.float32)
    y = y / jnp.linalg.norm(y, axis=-1, keepdims=True)
    count = y.shape[2]
    # The sum over all pairs is the square of the sum; a token's cosine with itself is 1.
    pairs = jnp.sum(jnp.square(jnp.sum(y, axis=2)), axis=-1) - count
    return jnp.mean(pairs / (count * (count - 1)), axis=1)


def _mean(block: int, quantity: str, values: jax.Array) -> Value:
    return Value(block, quantity, float(np.mean(np.asarray(values, np.float64))))
