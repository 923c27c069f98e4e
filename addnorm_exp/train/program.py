"""The compiled functions of one shape: init, N training steps, evaluation, attention statistics. Runs of one shape share them.

A program trains one run or several side by side, its lanes. With more than one lane, states, parameters and what is measured of them have a
leading axis of lanes, and each function is mapped over it.
"""

import operator
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from addnorm_exp.data.spec import Data
from addnorm_exp.experiment import Hypers, Shape
from addnorm_exp.experiment.hypers import hyper_keys
from addnorm_exp.experiment.kernels import resolved
from addnorm_exp.nn.functional import Parameters
from addnorm_exp.residual import Context
from addnorm_exp.tasks import make_task
from addnorm_exp.tasks.task import Statistics
from addnorm_exp.train.calibration import calibrated
from addnorm_exp.train.compiler import Call, Compiler, shapes
from addnorm_exp.train.device import device
from addnorm_exp.train.device_data import DeviceData, device_data
from addnorm_exp.train.evaluation import Split, make_evaluate, whole
from addnorm_exp.train.optimisers import make_optimiser
from addnorm_exp.train.pace import Pace
from addnorm_exp.train.platform import keep_memory, pin_generator
from addnorm_exp.train.step import Metrics, ModelWeights, TrainState, apart, initial_state, make_chunk, make_step

# Attention statistics need the whole (heads, queries, keys) matrix, which the training step may never hold: so they use few sequences.
ATTENTION_SEQUENCES = 8


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
        self.shape, self.lanes = resolved(shape, device()), lanes
        self.task, self.optimiser = make_task(self.shape), make_optimiser(shape)
        self.mesh = jax.make_mesh((jax.local_device_count(),), ("data",), axis_types=(AxisType.Auto,))
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self._step = make_step(shape, self.task, self._shard)
        self.compiler = Compiler(shape["model.matmul_precision"], self.replicated)

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

    def calibrate(self, state: TrainState, hypers: Hypers, data: DeviceData) -> TrainState:
        """The state of one run before step 0 after the scheme has set parameters from the first batch; unchanged if it sets none."""
        if not self.task.scheme.calibrates:
            return state
        arguments = (state.parameters, hypers, data.train)
        call = Call("calibrate", shapes(data.train), self._calibrate, arguments)
        return replace(state, parameters=self.compiler.run(call))

    def put(self, data: Data) -> DeviceData:
        """The data, on the devices."""
        return device_data(self.task, data, self._micro_batch, self.replicated)

    def prepare(
        self,
        state: TrainState,
        hypers: Hypers,
        data: DeviceData,
        *,
        train: bool,
        attention: bool,
        stop: Callable[[], bool] = never,
    ) -> None:
        """Compiles what a run needs, so that nothing is compiled while there is progress to lose. It checks `stop` between two
        compilations."""
        for call in self._calls(state, hypers, data, train=train, attention=attention):
            if stop():
                return
            self.compiler.executable(call)

    def is_prepared(self, data: DeviceData, *, train: bool, attention: bool) -> bool:
        """Whether everything that `prepare` would compile is compiled."""
        calls = self._calls(None, None, data, train=train, attention=attention)
        return all(map(self.compiler.has, calls))

    def train(
        self, state: TrainState, hypers: Hypers, data: DeviceData, recorded: np.ndarray
    ) -> tuple[TrainState, Metrics]:
        """One step for each element of `recorded`, bool (count,), at most `chunk_steps`; it says which steps are rows of the per-layer
        record. `state` is donated; metrics have a leading axis of `chunk_steps`, behind that of the lanes. See `step.make_chunk`."""
        return self.compiler.run(self._training(state, hypers, data, recorded))

    def evaluate(
        self,
        weights: ModelWeights,
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
        end, first = split.micro_batches, 0
        filled: list[tuple[Statistics, slice]] = []
        while first < end:
            if stop():
                return None
            count = pace.count(end - first) if pace else end
            call = self._evaluation(weights, split, step, first, count)
            executable = self.compiler.executable(call)  # compiling is no part of the dispatch
            begun = clock()
            statistics = jax.device_get(executable(*self.compiler.placed(call.arguments)))
            if pace:
                pace.took(count, clock() - begun)
            filled.append((statistics, slice(first, first + count)))
            first += count

        def summarised(number: int) -> dict[str, float]:
            pieces = [jax.tree.map(operator.itemgetter(part), self.lane(each, number)) for each, part in filled]
            return self.task.summarise(whole(pieces, split.count))

        return [summarised(number) for number in range(self.lanes.width)]

    def attention(self, weights: ModelWeights, hypers: Hypers, data: DeviceData, step: int) -> dict[str, np.ndarray]:
        """Largest logit and entropy of each attention sublayer, (lanes, sublayers) or (sublayers,) of one, on the first sequences of the
        next batch, no dropout."""
        return jax.device_get(self.compiler.run(self._measurement(weights, hypers, data, step)))

    # The functions to compile, with arguments. If only names and shapes are needed, the arguments may be None.

    def _calls(self, state: Any, hypers: Any, data: DeviceData, *, train: bool, attention: bool) -> Iterator[Call]:
        weights = state and state.weights
        if train:
            yield self._training(state, hypers, data, np.zeros(0, np.bool_))
        for split in (data.val, data.test):
            yield self._evaluation(weights, split, 0, 0, 0)
        if attention:
            yield self._measurement(weights, hypers, data, 0)

    def _training(self, state: Any, hypers: Any, data: DeviceData, recorded: np.ndarray) -> Call:
        length, count = self.shape["execution.chunk_steps"], len(recorded)
        padded = np.concatenate([recorded, np.zeros(length - count, np.bool_)])
        arguments = (state, hypers, data.train, np.int32(count), padded)
        # The step is mapped, not the chunk: a loop that is mapped is traced once more for each guess at which of its values have lanes.
        chunk = make_chunk(self._mapped(self._step, 0, self._axes, None, None), length)
        return Call("train", shapes(data.train), self._lanes_first(chunk), arguments, donate=(0,))

    def _lanes_first(
        self, chunk: Callable[..., tuple[TrainState, Metrics]]
    ) -> Callable[..., tuple[TrainState, Metrics]]:
        """A chunk whose metrics have the axis of lanes before that of steps."""

        def moved(*arguments: Any) -> tuple[TrainState, Metrics]:
            state, metrics = chunk(*arguments)
            return state, jax.tree.map(lambda rows: jnp.swapaxes(rows, 0, 1), metrics)

        return chunk if self.lanes.width == 1 else moved

    def _evaluation(self, weights: Any, split: Split, step: int, first: int, count: int) -> Call:
        numbers = np.int32(step), np.int32(first), np.int32(first + count)
        evaluate = make_evaluate(self.task, self._shard, self.replicated)
        evaluate = self._mapped(evaluate, 0, None, None, None, None)
        return Call("evaluate", shapes(split.parts), evaluate, (weights, split.parts, *numbers))

    def _measurement(self, weights: Any, hypers: Any, data: DeviceData, step: int) -> Call:
        measure = self._mapped(self._attention, 0, self._axes, None, None)
        return Call("attention", shapes(data.train), measure, (weights, hypers, data.train, np.int32(step)))

    @cached_property
    def _axes(self) -> dict[str, int | None]:
        """The axis of lanes of each hyper that has one."""
        return {key: 0 if key in self.lanes.differing else None for key in hyper_keys(self.shape)}

    def _mapped(self, function: Callable[..., Any], *axes: Any) -> Callable[..., Any]:
        """The function over lanes; `axes`: of each argument."""
        return function if self.lanes.width == 1 else jax.vmap(function, in_axes=axes)

    @property
    def compile_seconds(self) -> float:
        return self.compiler.seconds

    @property
    def planned_bytes(self) -> int | None:
        """Memory that the compiler planned for the training program, of one device."""
        return self.compiler.planned_bytes("train")

    def _shard(self, batch: Any) -> Any:
        if self.mesh.size == 1:
            return batch
        # If a batch does not split evenly, XLA pads the last part.
        split = NamedSharding(self.mesh, PartitionSpec("data"))
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, split), batch)

    def _attention(self, weights: ModelWeights, hypers: Hypers, train: Any, step: jax.Array):
        count = min(self._micro_batch, ATTENTION_SEQUENCES)
        batch = self.task.batch(train, hypers["data.seed"], step)
        batch = self._shard(jax.tree.map(lambda x: x[:count], batch))
        stats = self.task.diagnostics(
            *apart(weights, self.task.model.specs), batch, Context(step=step, attention_statistics=True)
        )
        return {name: stats[name] for name in ("logit_max", "entropy")}

    def _calibrate(self, parameters: Parameters, hypers: Hypers, train: Any) -> Parameters:
        batch = self.task.batch(train, hypers["data.seed"], jnp.zeros((), jnp.int32))
        batch = jax.tree.map(lambda x: x[: self._micro_batch], batch)
        return calibrated(self.task, parameters, self._shard(batch))

    @property
    def _micro_batch(self) -> int:
        """Examples in memory at once."""
        return self.shape["batch_size"] // self.shape["optim.accumulate"]
