"""The compiled programs of one shape: init, N training steps, evaluation, attention statistics. Runs of one shape share them."""

import time
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from addnorm_exp.config.schema import Config
from addnorm_exp.config.scheme import blocks, resolve
from addnorm_exp.data.corpus import Corpus
from addnorm_exp.errors import UserError
from addnorm_exp.nn.functional import Parameters
from addnorm_exp.residual import Context
from addnorm_exp.tasks import make_task
from addnorm_exp.train.calibration import calibrated
from addnorm_exp.train.hypers import Hypers, hypers, static
from addnorm_exp.train.platform import keep_memory, pin_generator
from addnorm_exp.train.step import Metrics, TrainState, initial_state, make_chunk, make_step
from addnorm_exp.words import counted

# Attention statistics hold the whole (heads, queries, keys) matrix, which the training step may never do: so, few sequences.
ATTENTION_SEQUENCES = 8


@dataclass(frozen=True)
class Held:
    """A corpus on the devices: the training tokens, and the fixed evaluation windows."""

    train: jax.Array
    val: jax.Array
    test: jax.Array


class Program:
    """Compiled on first use, for one static config and one corpus size.

    Data parallelism: a mesh with the axis `data` over all local devices; the state is replicated, each batch split over the devices,
    and XLA adds the reductions. One device is the mesh of one.
    """

    def __init__(self, config: Config):
        keep_memory()
        pin_generator()
        self.config = config
        self.task = make_task(config)
        self.mesh = jax.make_mesh((jax.local_device_count(),), ("data",), axis_types=(AxisType.Auto,))
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self._step = make_step(config, self.task, self._shard)
        self._compiled: dict[Any, Any] = {}
        self.compile_seconds = 0.0

    def hypers(self, config: Config) -> Hypers:
        """The hypers of a run of this shape, on the devices."""
        return jax.device_put(hypers(config), self.replicated)

    def init(self, hypers: Hypers) -> TrainState:
        """The state before step 0."""
        # Not jitted as a whole: each shape's draw is compiled once a process and then serves every scheme. Its constants come from
        # the host, once, so JAX_TRANSFER_GUARD, which looks for transfers in the loop, does not apply.
        with jax.transfer_guard("allow"):
            return jax.device_put(initial_state(self.task, hypers), self.replicated)

    def calibrate(self, state: TrainState, hypers: Hypers, held: Held) -> TrainState:
        """The state before step 0 as the scheme sets it from the first batch; itself where the scheme sets nothing."""
        if self.task.scheme.calibrate is None:
            return state
        arguments = (state.parameters, hypers, held.train)
        parameters = self._call("calibrate", held.train.shape, self._calibrate, arguments)
        return replace(state, parameters=parameters)

    def hold(self, corpus: Corpus) -> Held:
        """Puts a corpus and its fixed evaluation windows on the devices."""
        if corpus.sha256 not in _TOKENS:
            _TOKENS.clear()  # one corpus at a time: a large one may fill the device
            _TOKENS[corpus.sha256] = jax.device_put(corpus.train, self.replicated)
        windows = (self.task.windows(corpus.val, "validation"), self.task.windows(corpus.test, "test"))
        return Held(_TOKENS[corpus.sha256], *(jax.device_put(part, self.replicated) for part in windows))

    def train(self, state: TrainState, hypers: Hypers, held: Held, count: int) -> tuple[TrainState, Metrics]:
        """`count` steps, at most `chunk_steps`; `state` is donated. See `step.make_chunk`."""
        chunk = make_chunk(self._step, self.config.execution.chunk_steps)
        arguments = (state, hypers, held.train, np.int32(count))
        return self._call("train", held.train.shape, chunk, arguments, donate=(0,))

    def evaluate(self, parameters: Parameters, windows: jax.Array, step: int) -> float:
        """Mean loss over all evaluation windows after `step` updates, no dropout."""
        total = self._call("evaluate", windows.shape, self._evaluate, (parameters, windows, np.int32(step)))
        return float(jax.device_get(total)) / windows.shape[0]

    def attention(self, parameters: Parameters, hypers: Hypers, held: Held, step: int) -> dict[str, np.ndarray]:
        """Largest logit and entropy of each attention sublayer, on the first sequences of the next batch, no dropout."""
        arguments = (parameters, hypers, held.train, np.int32(step))
        return jax.device_get(self._call("attention", held.train.shape, self._attention, arguments))

    @property
    def planned_bytes(self) -> int | None:
        """Memory that the compiler planned for the training program: arguments, results and temporaries of one device."""
        plans = [program.memory_analysis() for key, program in self._compiled.items() if key[0] == "train"]
        return max((_planned(plan) for plan in plans if plan is not None), default=None)

    def _call(self, name: str, shape: tuple[int, ...], function, arguments: tuple, donate: tuple[int, ...] = ()):
        """Compiled on first use for this shape of the data; all else about the arguments is the same for every run of this program."""
        # A number from the host is moved explicitly, which JAX_TRANSFER_GUARD=disallow asks for; all else is there.
        arguments = tuple(jax.device_put(x, self.replicated) if isinstance(x, np.generic) else x for x in arguments)
        if jax.config.jax_disable_jit:  # type: ignore[attr-defined]  # each operation runs by itself
            with jax.default_matmul_precision(self.config.model.matmul_precision):
                return function(*arguments)
        if (name, shape) not in self._compiled:
            started = time.perf_counter()
            # Compiled ahead, so that compile time is known and never counts as step time.
            with jax.default_matmul_precision(self.config.model.matmul_precision):
                lowered = jax.jit(function, donate_argnums=donate).lower(*arguments)
            self._compiled[name, shape] = lowered.compile()
            self.compile_seconds += time.perf_counter() - started
        return self._compiled[name, shape](*arguments)

    def _shard(self, batch: Any) -> Any:
        if self.mesh.size == 1:
            return batch
        # Of a batch that does not split evenly XLA pads the last part.
        split = NamedSharding(self.mesh, PartitionSpec("data"))
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, split), batch)

    def _evaluate(self, parameters: Parameters, windows: jax.Array, step: jax.Array) -> jax.Array:
        size = min(self._micro_batch, windows.shape[0])
        whole = windows.shape[0] // size
        probes = jnp.zeros(len(self.task.labels), jnp.float32)
        context = Context(step=step)

        def total(part: jax.Array) -> jax.Array:
            loss, _ = self.task.loss(parameters, probes, self._shard(self.task.examples(part)), context)
            return loss * part.shape[0]

        batches = windows[: whole * size].reshape(whole, size, *windows.shape[1:])
        summed = jnp.sum(jax.lax.map(total, batches))
        rest = windows[whole * size :]
        return summed + total(rest) if rest.shape[0] else summed

    def _attention(self, parameters: Parameters, hypers: Hypers, corpus: jax.Array, step: jax.Array):
        count = min(self._micro_batch, ATTENTION_SEQUENCES)
        batch = self.task.batch(corpus, hypers["data_seed"], step)
        batch = jax.tree.map(lambda x: x[:count], batch)
        probes = jnp.zeros(len(self.task.labels), jnp.float32)
        context = Context(step=step, attention_statistics=True)
        _, stats = self.task.loss(parameters, probes, self._shard(batch), context)
        return {name: stats[name] for name in ("logit_max", "entropy")}

    def _calibrate(self, parameters: Parameters, hypers: Hypers, corpus: jax.Array) -> Parameters:
        batch = self.task.batch(corpus, hypers["data_seed"], jnp.zeros((), jnp.int32))
        batch = jax.tree.map(lambda x: x[: self._micro_batch], batch)
        return calibrated(self.task, parameters, self._shard(batch))

    @property
    def _micro_batch(self) -> int:
        """Sequences that are in memory at once."""
        return self.config.batch_size // self.config.optim.accumulate


def _planned(plan: Any) -> int:
    return int(
        plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes - plan.alias_size_in_bytes
    )


def check_devices(config: Config) -> None:
    """Raises UserError where a batch does not split over the local devices, or these cannot do what the config asks."""
    kind = jax.local_devices()[0].platform
    if config.execution.attention == "cudnn" and (kind != "gpu" or config.model.compute_dtype != "bfloat16"):
        raise UserError(
            f"execution.attention=cudnn needs a GPU and model.compute_dtype=bfloat16, and this is {kind} with "
            f"{config.model.compute_dtype}; take einsum or xla"
        )
    devices = jax.local_device_count()
    part = config.batch_size // config.optim.accumulate
    if part % devices:
        raise UserError(
            f"batch_size={config.batch_size} in {counted(config.optim.accumulate, 'micro-batch', 'micro-batches')} does not split over "
            f"{devices} devices; take a multiple of {devices * config.optim.accumulate}, or fewer devices"
        )


_PROGRAMS: dict[tuple[Config, str], Program] = {}
_TOKENS: dict[str, jax.Array] = {}  # training tokens on the devices, by checksum
_KEPT = 16  # each holds up to 150 MB (a sweep over the catalogue); a study takes its runs shape by shape anyway


def program(config: Config) -> Program:
    """The program of a config's shape, compiled at most once a process while it is in use."""
    shape = static(config)
    # By the scheme's record too: in a notebook a name may come to mean another one (`catalogue.add`).
    key = (shape, resolve(shape).digest(blocks(shape)))
    found = _PROGRAMS.pop(key) if key in _PROGRAMS else Program(shape)
    _PROGRAMS[key] = found  # at the end: the first in the dict is the one not used for longest
    while len(_PROGRAMS) > _KEPT:
        _PROGRAMS.pop(next(iter(_PROGRAMS)))
    return found
