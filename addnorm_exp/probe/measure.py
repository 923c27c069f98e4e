"""The quantities of stacks at init, measured block by block.

Blocks of equal structure share one compiled program, whatever the depth of their stack: a stack of 48 costs no more compilation than one
of 6. A stack of many structures, or whose state grows from block to block, is computed operation by operation, each sublayer as one. The
first blocks of a shallower stack that equal those of the deepest one are not run again: their results are reused.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from addnorm_exp.nn.stack import Block
from addnorm_exp.probe import draws
from addnorm_exp.probe.settings import SEQUENCES, Problem
from addnorm_exp.residual import Context
from addnorm_exp.residual.contract import Memo, State

PERTURBATION = 0.01  # of a weight matrix's root mean square
MOST_STRUCTURES = 4  # of blocks in a stack; compiling more takes longer than running operation by operation
W2 = ("feed_forward", "down", "kernel")

Carry = tuple[State, Memo]
# Structure, parameters with a leading axis of seeds, constants of the record.
Module = tuple[nnx.GraphDef, nnx.State, nnx.State]


@dataclass(frozen=True)
class Value:
    """A mean over seeds at block `block` of a stack; 0 is where the embedding enters, the depth is the output."""

    block: int
    quantity: str
    value: float


class Point(NamedTuple):
    """Between two blocks."""

    carry: Carry
    shaken: Carry  # the same, with all earlier blocks perturbed
    similarity: jax.Array  # (seeds,), of tokens at the head's input if the stack ended here


class BlockRun(NamedTuple):
    """A block that has run. `statistics`: quantity → (seeds, sites); `back` maps cotangents of its outputs to those of its inputs
    (`_pull`); if it is compiled, it keeps a copy of the matrices."""

    block: Module
    statistics: dict[str, jax.Array]
    back: Callable


def measure(problems: Iterable[Problem]) -> Iterator[list[Value]]:
    """The values of each stack, one after another. The stacks have the same scheme and setting, and the deepest comes first.

    stream_ms, token_similarity: blocks 0 to depth. grad_stream, grad_w2, attn_entropy: blocks 0 to depth - 1.
    sensitivity: the output.

    stream_ms: second moment of the stream, mean over tokens and width; for a scheme with several streams, of the input of the
      block's first body, and none at the output.
    token_similarity: mean cosine of two tokens of a sequence, at the head's input if the stack ended here.
    grad_stream: Frobenius norm of the loss's gradient with respect to the same array as stream_ms.
    grad_w2: Frobenius norm of the loss's gradient with respect to the feed-forward's output matrix.
    attn_entropy: of the attention weights, in nats, mean over heads and queries.
    sensitivity: ‖y' - y‖² / ‖y‖² of the output y when each matrix W of the blocks becomes W + 0.01 rms(W) ε, ε standard normal by the
      matrix's path. A matrix that is stored as a distance from its start, and has distance 0, is not changed.
    """
    deepest = None
    for problem in problems:
        run = _Run(problem, deepest)
        yield list(run.values())
        deepest = run if deepest is None else deepest
        del run  # before the next run, which may be as large


class _Run:
    """One stack on one batch: forward, forward perturbed, and backward. `points` has one more than `steps`."""

    compiles: bool
    steps: list[BlockRun]
    points: list[Point]

    def __init__(self, problem: Problem, deeper: "_Run | None"):
        self.problem = problem
        self.ends = _module(problem.stack.ends)
        blocks = [_module(block) for block in problem.stack.blocks]
        kinds = {(graph, tuple(map(jnp.shape, jax.tree.leaves(parameters)))) for graph, parameters, _ in blocks}
        self.compiles = len(kinds) <= MOST_STRUCTURES and (deeper is None or deeper.compiles)
        opened: Carry = self._quick(_open)(*self.ends, problem.inputs), {}
        shared = 0 if deeper is None else _shared_blocks(self.ends, opened, blocks, deeper)
        self.steps = deeper.steps[:shared] if deeper else []
        self.points = deeper.points[: shared + 1] if deeper and shared else [self._point(opened, opened)]
        for number in range(shared, len(blocks)):
            self._go_on(number, blocks[number])

    def _go_on(self, number: int, block: Module) -> None:
        graph, parameters, constants = block
        before, shaken, _ = self.points[-1]
        probes = jnp.zeros((self.problem.inputs.shape[0], len(self.problem.stack.labels[number])), jnp.float32)
        run = self._quick(_block)
        after, statistics, back = run((graph, True), parameters, constants, before, probes, self.problem.context)
        # The backward pass is not needed here; if the block is compiled, the existing program includes it.
        static = graph, self.compiles
        shaken, _, _ = run(static, _perturb(parameters, number), constants, shaken, probes, self.problem.context)
        # A growing state has another form for every block, so no compiled program would be used twice.
        self.compiles &= len(jax.tree.leaves(after[0])) == len(jax.tree.leaves(before[0]))
        self.steps.append(BlockRun(block, statistics, back))
        self.points.append(self._point(after, shaken))

    def _point(self, carry: Carry, shaken: Carry) -> Point:
        return Point(carry, shaken, _similarity(self._close(carry[0])))

    def _close(self, state: State) -> jax.Array:
        return self._quick(_close)(*self.ends, state)

    def _quick(self, function: Callable) -> Callable:
        return compiled(function) if self.compiles else function

    def values(self) -> Iterator[Value]:
        """See `measure`."""
        depth, (state, memo) = len(self.steps), self.points[-1].carry
        for block, step in enumerate(self.steps):
            yield _mean(block, "stream_ms", step.statistics["stream_rms"][:, 0] ** 2)
            if "entropy" in step.statistics:
                yield _mean(block, "attn_entropy", step.statistics["entropy"][:, 0])
        if isinstance(state, jax.Array):
            yield _mean(depth, "stream_ms", jnp.mean(jnp.square(state), axis=(1, 2)))
        for block, point in enumerate(self.points):
            yield _mean(block, "token_similarity", point.similarity)

        problem, (graph, *values) = self.problem, self.ends
        of_loss, pull = self._quick(_loss_gradient), self._quick(_pull)
        of_state = of_loss((graph, problem.loss), *values, state, problem.targets)
        cotangents = of_state, jax.tree.map(jnp.zeros_like, memo)
        for block, step in reversed(list(enumerate(self.steps))):
            of_matrix, cotangents, of_taps = pull(None, step.back, cotangents)
            yield _mean(block, "grad_stream", jnp.sqrt(of_taps[:, 0]))
            yield _mean(block, "grad_w2", jnp.sqrt(of_matrix))

        y, other = self._close(state), self._close(self.points[-1].shaken[0])
        yield _mean(depth, "sensitivity", jnp.sum((other - y) ** 2, (1, 2)) / jnp.sum(y**2, (1, 2)))


@functools.cache
def compiled(function: Callable) -> Any:
    """`function(static, *arrays)` as a program. It runs at most a few hundred times: beyond XLA's first level, compilation costs more
    time than it saves (benchmarks/NOTES.md)."""
    return jax.jit(function, static_argnums=0, compiler_options={"xla_backend_optimization_level": 1})


def forget() -> None:
    """Frees the compiled programs of blocks, which no other scheme uses: Linux allows a process 65,530 memory mappings, and a program
    takes about twenty. Programs of ends are kept: many schemes share them."""
    for function in (_block, _pull):
        compiled(function).clear_cache()


def _shared_blocks(ends: Module, opened: Carry, blocks: Sequence[Module], deeper: _Run) -> int:
    """How many first blocks equal those of the deeper stack, in structure, in every value and in their input."""
    if not _same(ends, deeper.ends) or not _equal(opened, deeper.points[0].carry):
        return 0
    equal = (_same(block, step.block) for block, step in zip(blocks, deeper.steps, strict=False))
    return sum(itertools.takewhile(bool, equal))


def _same(one: Module, other: Module) -> bool:
    return one[0] == other[0] and _equal(one[1:], other[1:])


def _equal(one: Any, other: Any) -> bool:
    """Whether two trees of the same structure have equal values."""
    return all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


def _module(module: nnx.Module) -> Module:
    graph, *values = nnx.split(module, nnx.Param, ...)
    parameters, constants = values
    return graph, parameters, constants


def _open(graph, parameters, constants, inputs):
    return jax.vmap(lambda values, x: nnx.merge(graph, values, constants).open(x))(parameters, inputs)


def _close(graph, parameters, constants, state):
    return jax.vmap(lambda values, one: nnx.merge(graph, values, constants).close(one))(parameters, state)


def _loss_gradient(static: tuple[nnx.GraphDef, Callable], parameters, constants, state, targets):
    """The gradient with respect to the state before it is closed. `static`: the ends' structure, and the loss."""
    graph, loss = static

    def value(state, values, wanted):
        return loss(nnx.merge(graph, values, constants).close(state), wanted)

    return jax.vmap(jax.grad(value))(state, parameters, targets)


def _block(static: tuple[nnx.GraphDef, bool], parameters, constants, carry: Carry, probes, context: Context):
    """→ (state, memo), statistics: quantity → (seeds, sites), the backward function (`_pull`). `static`: the block's structure, and
    whether the backward function is needed."""
    graph, pulls = static

    def run(values, carry, probes):
        flat = dict(nnx.to_flat_state(values))
        matrix = flat[W2]

        def of(kernel, carry, probes):
            # Only of this matrix: the gradients of all others cost as much again as those of the stream.
            block = nnx.merge(graph, nnx.State.from_flat_path({**flat, W2: matrix.replace(kernel)}), constants)
            return _call(block, carry, context, probes)

        if not pulls:
            return *of(matrix[...], carry, probes), None
        after, back, statistics = jax.vjp(of, matrix[...], carry, probes, has_aux=True)
        return after, statistics, back

    return jax.vmap(run)(parameters, carry, probes)


def _pull(_: None, back: Callable, cotangents: Carry):
    """→ squared gradient norms of the feed-forward's output matrix (seeds,), cotangents of (state, memo) before the block, squared
    gradient norms of the taps (seeds, sites)."""

    def pull(back, cotangents):
        gradient, before, of_taps = back(cotangents)
        return jnp.sum(jnp.square(gradient)), before, of_taps

    return jax.vmap(pull)(back, cotangents)


def _call(block: Block, carry: Carry, context: Context, probes):
    """→ (state, memo), statistics. Each sublayer is one operation: sublayers are equal in all blocks, even if blocks differ."""
    bodies = {kind: functools.partial(_body, *nnx.split(body)) for kind, body in block.bodies.items()}
    state, memo = carry
    state, memo, stats = block(state, memo, context, probes, bodies)
    return (state, memo), stats


@functools.partial(jax.jit, static_argnums=0)
def _body(graph, parameters, h: jax.Array, memo, context: Context):
    return nnx.merge(graph, parameters)(h, memo, context)


def _perturb(parameters: nnx.State, block: int) -> nnx.State:
    """Perturbs matrices only, each by `PERTURBATION` of its own root mean square. Noise depends on the path, as initial values do, so
    schemes that share a matrix perturb it equally."""
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
