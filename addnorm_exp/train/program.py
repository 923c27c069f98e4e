"""The compiled programs of one shape: init, N training steps, evaluation, attention statistics. Runs of one shape share them.

A program trains one run or several side by side, its lanes. With more than one lane, states, parameters and what is measured of them have a
leading axis of lanes, and each function is mapped over it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from addnorm_exp.data.corpus import Corpus
from addnorm_exp.experiment import Hypers, Shape
from addnorm_exp.experiment.hypers import hyper_keys
from addnorm_exp.nn.functional import Parameters
from addnorm_exp.residual import Context
from addnorm_exp.tasks import make_task
from addnorm_exp.train.calibration import calibrated
from addnorm_exp.train.optimisers import make_optimiser
from addnorm_exp.train.pace import Pace
from addnorm_exp.train.platform import keep_memory, pin_generator
from addnorm_exp.train.step import Metrics, TrainState, initial_state, make_chunk, make_step

# Attention statistics need the whole (heads, queries, keys) matrix, which the training step may never hold: so they use few sequences.
ATTENTION_SEQUENCES = 8


@dataclass(frozen=True)
class Held:
    """A corpus on the devices: the training tokens, and the fixed evaluation windows."""

    train: jax.Array
    val: jax.Array
    test: jax.Array


class Call(NamedTuple):
    """A function to compile, once for each shape of the data. Everything else about its arguments is the same in all runs of a program."""

    name: str
    shape: tuple[int, ...]
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
    """Compiled on first use, for one shape, its lanes and one corpus size.

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
        call = Call("calibrate", held.train.shape, self._calibrate, arguments)
        return replace(state, parameters=self._call(call))

    def hold(self, corpus: Corpus) -> Held:
        """Puts a corpus and its fixed evaluation windows on the devices."""
        if corpus.sha256 not in _TOKENS:
            _TOKENS.clear()  # one corpus at a time: a large one may fill the device
            _TOKENS[corpus.sha256] = jax.device_put(corpus.train, self.replicated)
        windows = (self.task.windows(corpus.val), self.task.windows(corpus.test))
        return Held(_TOKENS[corpus.sha256], *(jax.device_put(part, self.replicated) for part in windows))

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
        parameters: Parameters,
        windows: jax.Array,
        step: int,
        *,
        pace: Pace | None = None,
        stop: Callable[[], bool] = never,
        clock: Callable[[], float] = time.perf_counter,
    ) -> np.ndarray | None:
        """Mean loss of each lane, float64 (lanes,), over all evaluation windows after `step` updates, no dropout; None if `stop()` became
        true before the end.

        `pace` sets how many micro-batches a dispatch has (default: all); `stop` is checked before each dispatch.
        """
        _, whole, rest = self._parts(windows.shape[0])
        losses, first = self._no_losses(windows), 0
        while first < whole:
            if stop():
                return None
            count = pace.count(whole - first) if pace else whole
            call = self._evaluation(parameters, windows, step, losses, first, count)
            compiled = self._compiled_for(call)
            begun = clock()
            losses = compiled(*self._placed(call))
            jax.block_until_ready(losses)
            if pace:
                pace.took(count, clock() - begun)
            first += count
        if rest and stop():
            return None
        total = self._call(self._evaluation_end(parameters, windows, step, losses))
        return np.atleast_1d(jax.device_get(total)).astype(np.float64) / windows.shape[0]

    def attention(self, parameters: Parameters, hypers: Hypers, held: Held, step: int) -> dict[str, np.ndarray]:
        """Largest logit and entropy of each attention sublayer, (lanes, sublayers) or (sublayers,) of one, on the first sequences of the
        next batch, no dropout."""
        return jax.device_get(self._call(self._measurement(parameters, hypers, held, step)))

    # The functions to compile, with arguments. If only names and shapes are needed, the arguments may be None.

    def _calls(self, state: Any, hypers: Any, held: Held, *, train: bool, attention: bool) -> Iterator[Call]:
        parameters = state and state.parameters
        if train:
            yield self._training(state, hypers, held, np.zeros(0, np.bool_))
        for windows in (held.val, held.test):
            losses = self._no_losses(windows)
            yield self._evaluation(parameters, windows, 0, losses, 0, 0)
            yield self._evaluation_end(parameters, windows, 0, losses)
        if attention:
            yield self._measurement(parameters, hypers, held, 0)

    def _training(self, state: Any, hypers: Any, held: Held, recorded: np.ndarray) -> Call:
        length, count = self.shape["execution.chunk_steps"], len(recorded)
        padded = np.concatenate([recorded, np.zeros(length - count, np.bool_)])
        arguments = (state, hypers, held.train, np.int32(count), padded)
        chunk = self._mapped(make_chunk(self._step, length), 0, self._axes, None, None, None)
        return Call("train", held.train.shape, chunk, arguments, donate=(0,))

    def _evaluation(self, parameters: Any, windows: jax.Array, step: int, losses: Any, first: int, count: int) -> Call:
        numbers = (np.int32(step), losses, np.int32(first), np.int32(first + count))
        evaluate = self._mapped(self._evaluate, 0, None, None, 0, None, None)
        return Call("evaluate", windows.shape, evaluate, (parameters, windows, *numbers))

    def _evaluation_end(self, parameters: Any, windows: jax.Array, step: int, losses: Any) -> Call:
        arguments = (parameters, windows, np.int32(step), losses)
        return Call("evaluate the rest", windows.shape, self._mapped(self._evaluate_rest, 0, None, None, 0), arguments)

    def _measurement(self, parameters: Any, hypers: Any, held: Held, step: int) -> Call:
        measure = self._mapped(self._attention, 0, self._axes, None, None)
        return Call("attention", held.train.shape, measure, (parameters, hypers, held.train, np.int32(step)))

    @property
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

    def _evaluate(
        self, parameters: Parameters, windows: jax.Array, step: jax.Array, losses: jax.Array, first: Any, end: Any
    ) -> jax.Array:
        """`losses` (whole micro-batches,), each times its sequences, with those of micro-batches `first` to `end` filled in."""
        size, whole, _ = self._parts(windows.shape[0])
        batches = windows[: whole * size].reshape(whole, size, *windows.shape[1:])

        def fill(number: jax.Array, losses: jax.Array) -> jax.Array:
            return losses.at[number].set(self._total(parameters, batches[number], step))

        # Replicated like the input: a compiled program takes its own result again.
        return jax.lax.with_sharding_constraint(jax.lax.fori_loop(first, end, fill, losses), self.replicated)

    def _evaluate_rest(
        self, parameters: Parameters, windows: jax.Array, step: jax.Array, losses: jax.Array
    ) -> jax.Array:
        """The sum of `losses` and of the losses of the windows beyond whole micro-batches."""
        size, whole, rest = self._parts(windows.shape[0])
        summed = jnp.sum(losses)
        return summed + self._total(parameters, windows[whole * size :], step) if rest else summed

    def _total(self, parameters: Parameters, part: jax.Array, step: jax.Array) -> jax.Array:
        probes = jnp.zeros(len(self.task.labels), jnp.float32)
        loss, _ = self.task.loss(parameters, probes, self._shard(self.task.examples(part)), Context(step=step))
        return loss * part.shape[0]

    def _no_losses(self, windows: jax.Array) -> jax.Array:
        count = self._parts(windows.shape[0])[1]
        lanes = () if self.lanes.width == 1 else (self.lanes.width,)
        return jax.device_put(np.zeros((*lanes, count), np.float32), self.replicated)

    def _parts(self, count: int) -> tuple[int, int, int]:
        """For `count` windows: sequences in a micro-batch, whole micro-batches, remaining sequences."""
        size = min(self._micro_batch, count)
        return size, count // size, count % size

    def _attention(self, parameters: Parameters, hypers: Hypers, corpus: jax.Array, step: jax.Array):
        count = min(self._micro_batch, ATTENTION_SEQUENCES)
        batch = self.task.batch(corpus, hypers["data.seed"], step)
        batch = jax.tree.map(lambda x: x[:count], batch)
        probes = jnp.zeros(len(self.task.labels), jnp.float32)
        context = Context(step=step, attention_statistics=True)
        _, stats = self.task.loss(parameters, probes, self._shard(batch), context)
        return {name: stats[name] for name in ("logit_max", "entropy")}

    def _calibrate(self, parameters: Parameters, hypers: Hypers, corpus: jax.Array) -> Parameters:
        batch = self.task.batch(corpus, hypers["data.seed"], jnp.zeros((), jnp.int32))
        batch = jax.tree.map(lambda x: x[: self._micro_batch], batch)
        return calibrated(self.task, parameters, self._shard(batch))

    @property
    def _micro_batch(self) -> int:
        """Sequences in memory at once."""
        return self.shape["batch_size"] // self.shape["optim.accumulate"]


def _planned(plan: Any) -> int:
    return int(
        plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes - plan.alias_size_in_bytes
    )


_PROGRAMS: dict[tuple[Shape, Lanes], Program] = {}
_TOKENS: dict[str, jax.Array] = {}  # training tokens on the devices, by checksum
_KEPT = 16  # each holds up to 150 MB (a sweep over the catalogue); a study trains its runs shape by shape anyway


def program(shape: Shape, lanes: Lanes = ALONE) -> Program:
    """The program of a shape, compiled at most once per process while it is in use."""
    key = shape, lanes
    latest = _PROGRAMS.pop(key) if key in _PROGRAMS else Program(shape, lanes)
    _PROGRAMS[key] = latest  # at the end: the first in the dict is the least recently used
    while len(_PROGRAMS) > _KEPT:
        _PROGRAMS.pop(next(iter(_PROGRAMS)))
    return latest
