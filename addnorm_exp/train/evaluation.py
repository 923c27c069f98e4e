"""The evaluation of a split: its examples in micro-batches, the statistics of each example, and their sums over the split."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from addnorm_exp.residual import Context
from addnorm_exp.tasks.metrics import WeightedSum
from addnorm_exp.tasks.task import Statistics, Task
from addnorm_exp.train.step import ModelWeights, apart, traced_once


@dataclass(frozen=True)
class Split:
    """The examples of a split, (micro-batches, examples, …). The last micro-batch is filled up with copies of the last example; `count`
    of them are real."""

    parts: Any
    count: int

    @property
    def micro_batches(self) -> int:
        return len(jax.tree.leaves(self.parts)[0])


def split_of(examples: Any, micro_batch: int) -> Split:
    """A split on the host. `examples`: (examples, …); `micro_batch`: how many are in memory at once."""
    count = len(jax.tree.leaves(examples)[0])
    size = min(micro_batch, count)
    missing = -count % size

    def parts(x: np.ndarray) -> np.ndarray:
        filled = np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) if missing else x
        return filled.reshape(-1, size, *x.shape[1:])

    return Split(jax.tree.map(parts, examples), count)


def make_evaluate(task: Task, shard: Callable[[Any], Any], replicated: Any) -> Callable[..., Statistics]:
    """`evaluate(weights, parts, step, first, end) → statistics` of each example, (micro-batches, examples, …), after `step` updates and
    without dropout; those outside of the micro-batches `first` to `end` are 0."""

    def evaluate(weights: ModelWeights, parts: Any, step: jax.Array, first: jax.Array, end: jax.Array) -> Statistics:
        parameters, carried = apart(weights, task.model.specs)

        @traced_once
        def evaluated(number: jax.Array) -> Statistics:
            part = shard(jax.tree.map(operator.itemgetter(number), parts))
            return task.evaluate(parameters, carried, part, Context(step=step))

        def fill(number: jax.Array, filled: Statistics) -> Statistics:
            return jax.tree.map(lambda x, row: x.at[number].set(row), filled, evaluated(number))

        count = len(jax.tree.leaves(parts)[0])
        rows = jax.eval_shape(evaluated, first)
        zeros = jax.tree.map(lambda row: jnp.zeros((count, *row.shape), row.dtype), rows)
        return jax.lax.with_sharding_constraint(jax.lax.fori_loop(first, end, fill, zeros), replicated)

    return evaluate


def whole(pieces: Sequence[Statistics], count: int) -> Statistics:
    """The statistics of `count` examples from consecutive pieces (micro-batches, examples, …): sums are added up in float64, rows are
    kept."""

    def joined(*arrays: np.ndarray) -> np.ndarray:
        rows = np.concatenate(arrays)
        return rows.reshape(-1, *rows.shape[2:])[:count]

    def added(value: Any) -> Any:
        if not isinstance(value, WeightedSum):
            return value
        return jax.tree.map(lambda rows: np.sum(rows, axis=0, dtype=np.float64), value)

    examples = jax.tree.map(joined, *pieces)
    return {name: added(value) for name, value in examples.items()}
