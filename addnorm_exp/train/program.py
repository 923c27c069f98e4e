"""The compiled programs of one shape: init, N training steps, evaluation, attention statistics. Runs of one shape share them.

A program trains one run or several side by side, its lanes. With more than one lane, states, parameters and what is measured of them have a
leading axis of lanes, and each function is mapped over it.
"""

import operator
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from addnorm_exp.data.spec import Data
from addnorm_exp.experiment import Hypers, Shape
from addnorm_exp.experiment.hypers import hyper_keys
from addnorm_exp.nn.functional import Parameters
from addnorm_exp.residual import Context
from addnorm_exp.tasks import make_task
from addnorm_exp.tasks.metrics import WeightedSum
from addnorm_exp.tasks.task import Carried, Statistics
from addnorm_exp.train.calibration import calibrated
from addnorm_exp.train.optimisers import make_optimiser
from addnorm_exp.train.pace import Pace
from addnorm_exp.train.platform import keep_memory, pin_generator
from addnorm_exp.train.step import Metrics, TrainState, initial_state, make_chunk, make_step

# Attention statistics need the whole (heads, queries, keys) matrix, which the training step may never hold: so they use few sequences.
ATTENTION_SEQUENCES = 8

Weights = dict[str, jax.Array]  # `TrainState.weights`


@dataclass(frozen=True)
class Split:
    """The examples of a split on the devices, (micro-batches, examples, …). The last micro-batch is filled up with copies of the last
    example; `count` of them are real."""

    parts: Any
    count: int


@dataclass(frozen=True)
class Held:
    """Data on the devices: what training batches are drawn from, and the examples that are evaluated."""

    train: Any
    val: Split
    test: Split


class Call(NamedTuple):
    """A function to compile, once for each shape of the data. Everything else about its arguments is the same in all runs of a program."""

    name: str
    shape: tuple[tuple[int, ...], ...]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    donate: tuple[int, ...] = ()


def never() -> bool:
    """A `stop` that is never true."""
    return False


@dataclass(frozen=True)
class Lanes:
    """How many runs a program trains side by side, and which of their hypers differ. Those that are equal in all lanes have no axis of
    lanes, so that what depends on them alone is computed once."""

    width: int = 1
    differing: frozenset[str] = frozenset()


ALONE = Lanes()


def lanes_of(hypers: Sequence[Hypers]) -> Lanes:
    """The lanes of these runs."""
    first, *others = hypers
    return Lanes(len(hypers), frozenset(key for key in first if any(each[key] != first[key] for each in others)))


class Program:
    """Compiled on first use, for one shape, its lanes and each size of the data.

    Data parallelism: a mesh with the axis `data` over all local devices. The state is replicated, each batch is split over the devices,
    and XLA adds the reductions. One device is a mesh of one.
    """

    def __init__(self, shape: Shape, lanes: Lanes = ALONE):
        keep_memory()
        pin_generator()
        self.shape, self.lanes = shape, lanes
        self.task, self.optimiser = make_task(shape), make_optimiser(shape)
        self.mesh = jax.make_mesh((jax.local_device_count(),), ("data",), axis_types=(AxisType.Auto,))
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self._step = make_step(shape, self.task, self._shard)
        self._compiled: dict[Any, Any] = {}
        self.compile_seconds = 0.0

    def placed(self, hypers: Hypers) -> Hypers:
        """The hypers of one run, on the devices."""
        return jax.device_put(hypers, self.replicated)

    def joined(self, hypers: Sequence[Hypers]) -> Hypers:
        """The hypers of all lanes, on the devices: those that differ are stacked."""
        first, differing = hypers[0], self.lanes.differing
        stacked = {key: np.stack([each[key] for each in hypers]) if key in differing else first[key] for key in first}
        return self.placed(stacked)

    def stacked(self, trees: Sequence[Any]) -> Any:
        """A tree for each lane as one tree."""
        if self.lanes.width == 1:
            return trees[0]
        return jax.device_put(jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees), self.replicated)

    def lane(self, tree: Any, number: int) -> Any:
        """The tree of one lane, of device arrays or of NumPy's."""
        return tree if self.lanes.width == 1 else jax.tree.map(lambda leaf: leaf[number], tree)

    def init(self, hypers: Hypers) -> TrainState:
        """The state of one run before step 0. It does not depend on the lanes."""
        # Not jitted as a whole: each shape's draw is compiled once per process and serves every scheme. Its constants come from the
        # host, once, so JAX_TRANSFER_GUARD, which finds transfers in the loop, does not apply.
        with jax.transfer_guard("allow"):
            return jax.device_put(initial_state(self.task, hypers, self.optimiser), self.replicated)

    def calibrate(self, state: TrainState, hypers: Hypers, held: Held) -> TrainState:
        """The state of one run before step 0 after the scheme has set parameters from the first batch; unchanged if it sets none."""
        if self.task.scheme.calibrate is None:
            return state
        arguments = (state.parameters, hypers, held.train)
        call = Call("calibrate", shapes(held.train), self._calibrate, arguments)
        return replace(state, parameters=self._call(call))

    def hold(self, data: Data) -> Held:
        """Puts data on the devices."""
        train, *splits = self.task.arrays(data)
        key = data.spec.sha256, type(self.task), self.task.encoding
        if key not in _TRAINING:
            _TRAINING.clear()  # one at a time: a large corpus may fill the device
            _TRAINING[key] = jax.device_put(train, self.replicated)
        return Held(_TRAINING[key], *(self._split(examples) for examples in splits))

    def _split(self, examples: Any) -> Split:
        count = len(jax.tree.leaves(examples)[0])
        size = min(self._micro_batch, count)
        missing = -count % size

        def parts(x: np.ndarray) -> np.ndarray:
            filled = np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) if missing else x
            return filled.reshape(-1, size, *x.shape[1:])

        return Split(jax.device_put(jax.tree.map(parts, examples), self.replicated), count)

    def prepare(
        self,
        state: TrainState,
        hypers: Hypers,
        held: Held,
        *,
        train: bool,
        attention: bool,
        stop: Callable[[], bool] = never,
    ) -> None:
        """Compiles what a run needs, so that nothing is compiled while there is progress to lose. It checks `stop` between two
        compilations."""
        for call in self._calls(state, hypers, held, train=train, attention=attention):
            if stop():
                return
            self._compiled_for(call)

    def is_prepared(self, held: Held, *, train: bool, attention: bool) -> bool:
        """Whether everything that `prepare` would compile is compiled."""
        calls = self._calls(None, None, held, train=train, attention=attention)
        return all((call.name, call.shape) in self._compiled for call in calls)

    def train(self, state: TrainState, hypers: Hypers, held: Held, recorded: np.ndarray) -> tuple[TrainState, Metrics]:
        """One step for each element of `recorded`, bool (count,), at most `chunk_steps`; it says which steps are rows of the per-layer
        record. `state` is donated; metrics have a leading axis of `chunk_steps`, behind that of the lanes. See `step.make_chunk`."""
        return self._call(self._training(state, hypers, held, recorded))

    def evaluate(
        self,
        weights: Weights,
        split: Split,
        step: int,
        *,
        pace: Pace | None = None,
        stop: Callable[[], bool] = never,
        clock: Callable[[], float] = time.perf_counter,
    ) -> list[dict[str, float]] | None:
        """The metrics of each lane over a split after `step` updates, no dropout; None if `stop()` became true before the end.

        The task's statistics of each example come to the host, which adds them up in float64. So micro-batches, devices and lanes change a
        metric by the model's own rounding alone. `pace` sets how many micro-batches a dispatch has (default: all); `stop` is checked
        before each dispatch.
        """
        whole, first = len(jax.tree.leaves(split.parts)[0]), 0
        filled: list[tuple[Statistics, slice]] = []
        while first < whole:
            if stop():
                return None
            count = pace.count(whole - first) if pace else whole
            call = self._evaluation(weights, split, step, first, count)
            compiled = self._compiled_for(call)
            begun = clock()
            statistics = jax.device_get(compiled(*self._placed(call)))
            if pace:
                pace.took(count, clock() - begun)
            filled.append((statistics, slice(first, first + count)))
            first += count

        def summarised(number: int) -> dict[str, float]:
            pieces = [jax.tree.map(operator.itemgetter(part), self.lane(each, number)) for each, part in filled]
            return self.task.summarise(_whole(pieces, split.count))

        return [summarised(number) for number in range(self.lanes.width)]

    def attention(self, weights: Weights, hypers: Hypers, held: Held, step: int) -> dict[str, np.ndarray]:
        """Largest logit and entropy of each attention sublayer, (lanes, sublayers) or (sublayers,) of one, on the first sequences of the
        next batch, no dropout."""
        return jax.device_get(self._call(self._measurement(weights, hypers, held, step)))

    # The functions to compile, with arguments. If only names and shapes are needed, the arguments may be None.

    def _calls(self, state: Any, hypers: Any, held: Held, *, train: bool, attention: bool) -> Iterator[Call]:
        weights = state and state.weights
        if train:
            yield self._training(state, hypers, held, np.zeros(0, np.bool_))
        for split in (held.val, held.test):
            yield self._evaluation(weights, split, 0, 0, 0)
        if attention:
            yield self._measurement(weights, hypers, held, 0)

    def _training(self, state: Any, hypers: Any, held: Held, recorded: np.ndarray) -> Call:
        length, count = self.shape["execution.chunk_steps"], len(recorded)
        padded = np.concatenate([recorded, np.zeros(length - count, np.bool_)])
        arguments = (state, hypers, held.train, np.int32(count), padded)
        chunk = self._mapped(make_chunk(self._step, length), 0, self._axes, None, None, None)
        return Call("train", shapes(held.train), chunk, arguments, donate=(0,))

    def _evaluation(self, weights: Any, split: Split, step: int, first: int, count: int) -> Call:
        numbers = np.int32(step), np.int32(first), np.int32(first + count)
        evaluate = self._mapped(self._evaluate, 0, None, None, None, None)
        return Call("evaluate", shapes(split.parts), evaluate, (weights, split.parts, *numbers))

    def _measurement(self, weights: Any, hypers: Any, held: Held, step: int) -> Call:
        measure = self._mapped(self._attention, 0, self._axes, None, None)
        return Call("attention", shapes(held.train), measure, (weights, hypers, held.train, np.int32(step)))

    @cached_property
    def _axes(self) -> dict[str, int | None]:
        """The axis of lanes of each hyper that has one."""
        return {key: 0 if key in self.lanes.differing else None for key in hyper_keys(self.shape)}

    def _mapped(self, function: Callable[..., Any], *axes: Any) -> Callable[..., Any]:
        """The function over lanes; `axes`: of each argument."""
        return function if self.lanes.width == 1 else jax.vmap(function, in_axes=axes)

    @property
    def planned_bytes(self) -> int | None:
        """Memory that the compiler planned for the training program: arguments, results and temporaries of one device."""
        plans = [program.memory_analysis() for key, program in self._compiled.items() if key[0] == "train"]
        return max((_planned(plan) for plan in plans if plan is not None), default=None)

    def _call(self, call: Call) -> Any:
        return self._compiled_for(call)(*self._placed(call))

    def _placed(self, call: Call) -> tuple[Any, ...]:
        """The arguments. What comes from the host is moved explicitly, as JAX_TRANSFER_GUARD=disallow requires."""
        host = (np.generic, np.ndarray)
        return tuple(jax.device_put(x, self.replicated) if isinstance(x, host) else x for x in call.arguments)

    def _compiled_for(self, call: Call) -> Callable[..., Any]:
        """Compiled on first use."""
        if jax.config.jax_disable_jit:  # type: ignore[attr-defined]  # nothing is compiled: each operation runs separately
            return jax.default_matmul_precision(self.shape["model.matmul_precision"])(call.function)
        key = call.name, call.shape
        if key not in self._compiled:
            started = time.perf_counter()
            # Compiled ahead, so that compile time is known and never counts as step time.
            with jax.default_matmul_precision(self.shape["model.matmul_precision"]):
                lowered = jax.jit(call.function, donate_argnums=call.donate).lower(*self._placed(call))
            self._compiled[key] = lowered.compile()
            self.compile_seconds += time.perf_counter() - started
        return self._compiled[key]

    def _shard(self, batch: Any) -> Any:
        if self.mesh.size == 1:
            return batch
        # If a batch does not split evenly, XLA pads the last part.
        split = NamedSharding(self.mesh, PartitionSpec("data"))
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, split), batch)

    def _evaluate(self, weights: Weights, parts: Any, step: jax.Array, first: jax.Array, end: jax.Array) -> Statistics:
        """The statistics of each example, (micro-batches, examples, …), of micro-batches `first` to `end`; the others are 0."""
        parameters, carried = self._apart(weights)

        def evaluated(number: Any) -> Statistics:
            part = self._shard(jax.tree.map(operator.itemgetter(number), parts))
            return self.task.evaluate(parameters, carried, part, Context(step=step))

        def fill(number: jax.Array, filled: Statistics) -> Statistics:
            return jax.tree.map(lambda x, row: x.at[number].set(row), filled, evaluated(number))

        whole = len(jax.tree.leaves(parts)[0])
        rows = jax.eval_shape(evaluated, 0)
        zeros = jax.tree.map(lambda row: jnp.zeros((whole, *row.shape), row.dtype), rows)
        return jax.lax.with_sharding_constraint(jax.lax.fori_loop(first, end, fill, zeros), self.replicated)

    def _attention(self, weights: Weights, hypers: Hypers, train: Any, step: jax.Array):
        count = min(self._micro_batch, ATTENTION_SEQUENCES)
        batch = self.task.batch(train, hypers["data.seed"], step)
        batch = self._shard(jax.tree.map(lambda x: x[:count], batch))
        stats = self.task.diagnostics(*self._apart(weights), batch, Context(step=step, attention_statistics=True))
        return {name: stats[name] for name in ("logit_max", "entropy")}

    def _apart(self, weights: Weights) -> tuple[Parameters, Carried]:
        """Parameters, and what the task carries."""
        specs = self.task.model.specs
        parameters = {path: weights[path] for path in specs}
        return parameters, {path: value for path, value in weights.items() if path not in specs}

    def _calibrate(self, parameters: Parameters, hypers: Hypers, train: Any) -> Parameters:
        batch = self.task.batch(train, hypers["data.seed"], jnp.zeros((), jnp.int32))
        batch = jax.tree.map(lambda x: x[: self._micro_batch], batch)
        return calibrated(self.task, parameters, self._shard(batch))

    @property
    def _micro_batch(self) -> int:
        """Examples in memory at once."""
        return self.shape["batch_size"] // self.shape["optim.accumulate"]


def shapes(tree: Any) -> tuple[tuple[int, ...], ...]:
    """Those of the leaves of a tree of arrays."""
    return tuple(leaf.shape for leaf in jax.tree.leaves(tree))


def _whole(pieces: Sequence[Statistics], count: int) -> Statistics:
    """The statistics of `count` examples from consecutive pieces (micro-batches, examples, …): sums are added up, rows are kept."""

    def joined(*arrays: np.ndarray) -> np.ndarray:
        rows = np.concatenate(arrays)
        return rows.reshape(-1, *rows.shape[2:])[:count]

    def added(value: Any) -> Any:
        if not isinstance(value, WeightedSum):
            return value
        return jax.tree.map(lambda rows: np.sum(rows, axis=0, dtype=np.float64), value)

    examples = jax.tree.map(joined, *pieces)
    return {name: added(value) for name, value in examples.items()}


def _planned(plan: Any) -> int:
    return int(
        plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes - plan.alias_size_in_bytes
    )


_PROGRAMS: dict[tuple[Shape, Lanes], Program] = {}
_TRAINING: dict[Any, Any] = {}  # training arrays on the devices, by checksum, task and encoding
_KEPT = 16  # each holds up to 150 MB (a sweep over the catalogue); a study trains its runs shape by shape anyway


def program(shape: Shape, lanes: Lanes = ALONE) -> Program:
    """The program of a shape, compiled at most once per process while it is in use."""
    key = shape, lanes
    latest = _PROGRAMS.pop(key) if key in _PROGRAMS else Program(shape, lanes)
    _PROGRAMS[key] = latest  # at the end: the first in the dict is the least recently used
    while len(_PROGRAMS) > _KEPT:
        _PROGRAMS.pop(next(iter(_PROGRAMS)))
    return latest
