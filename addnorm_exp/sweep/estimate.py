"""The cost of a plan before it runs: parameters, floating-point operations, and a rough time with its parts."""

import functools
import math
import statistics
import timeit
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from addnorm_exp.config.schema import Config
from addnorm_exp.experiment import Shape
from addnorm_exp.nn.footprint import ExampleCost
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.records import Summary
from addnorm_exp.sweep.study import Planned
from addnorm_exp.tasks import evaluated, minimum_footprint
from addnorm_exp.train.memory import fits
from addnorm_exp.train.optimisers import make_optimiser
from addnorm_exp.train.optimisers.optimiser import state_bytes
from addnorm_exp.train.programs import program
from addnorm_exp.words import counted, duration

# Measured with the quickstart on two cores of an Intel Xeon (24 runs, 155 s, of which 95 s in training steps). The times of
# finished runs of the study replace these.
SHARE_OF_PEAK = (
    0.4  # of a matrix product's speed, by a whole training step of a small model on CPU (benchmarks/NOTES.md)
)
STEP_SECONDS = 1e-3  # at least, for the parts of a step other than its products
START_SECONDS = 7.0  # the process: imports, data, and the first use of each library
COMPILE_SECONDS = 6.5  # a shape: the programs that train, validate and draw initial values
RUN_SECONDS = 0.2  # the beginning and the end of a run
SAVE_SECONDS = 0.3  # a checkpoint, without writing its bytes
BYTES_A_SECOND = 200e6
BYTES_A_PARAMETER = 4 * 2  # of a checkpoint, beside the optimiser's state: the value, and the best value so far
FORWARD = 1 / 3  # of the operations of a training step, which are those of `flops_per_token`


@dataclass(frozen=True)
class Cost:
    """The cost of one run. `training`: seconds in optimiser steps; `other`: seconds to evaluate, to save, to begin and to end.
    Compilation is separate, because runs share it."""

    parameters: int  # a lower bound if the run does not fit in this machine's memory
    flops: float  # of the training steps
    training: float
    other: float

    @property
    def seconds(self) -> float:
        return self.training + self.other


class Estimator:
    """Costs of runs on this machine. Each shape is built once; the machine's speed is measured once."""

    def __init__(self, study_folder: Path):
        self.folder = study_folder
        self._shapes: dict[Shape, tuple[int, ExampleCost, int]] = {}  # parameters, an example, bytes of a checkpoint
        self._steps: dict[Shape, list[float]] = {}  # measured, by shape
        self._others: dict[Shape, list[float]] = {}
        self._compilations: list[float] = []
        self._evaluated: dict[Hashable, Mapping[str, int]] = {}  # examples of an evaluation, by split

    def cost(self, run: Planned) -> Cost:
        key, config = run.experiment.shape, run.config
        if key not in self._shapes:
            optimiser = make_optimiser(key)
            if fits(key):
                task = program(key).task
                size, example = task.model.size, task.cost
                state = state_bytes(optimiser, task.model.specs)
            else:  # building it may take minutes, even without values
                footprint = minimum_footprint(key)
                size, example = footprint.parameters, footprint.cost
                state = footprint.minimum(lambda specs: state_bytes(optimiser, specs))
            self._shapes[key] = size, example, BYTES_A_PARAMETER * size + state
        size, example, saved = self._shapes[key]
        operations = example.flops_per_token * example.tokens * config.batch_size
        if key in self._steps:
            step = statistics.median(self._steps[key])
        else:
            step = max(STEP_SECONDS, operations / (SHARE_OF_PEAK * self._peak_flops))
        if key in self._others:
            other = statistics.median(self._others[key])
        else:
            if (key, config.data) not in self._evaluated:
                self._evaluated[key, config.data] = evaluated(config)
            passes = forwards(config, self._evaluated[key, config.data])
            other = RUN_SECONDS + passes * FORWARD * step / config.batch_size + _saving(config, saved)
        return Cost(size, operations * config.steps, step * config.steps, other)

    def learn(self, runs: Iterable[Planned]) -> Mapping[str, Summary]:
        """Reads the summaries of the runs that exist, for their times; returns them by id."""
        summaries = {}
        for run in runs:
            if summary := RunFolder(self.folder / run.id).summary():
                summaries[run.id] = summary
                self._learn(run.experiment.shape, summary)
        return summaries

    def _learn(self, key: Shape, summary: Summary) -> None:
        if summary.step_time_s:
            self._steps.setdefault(key, []).append(summary.step_time_s)
        named = (summary.started, summary.finished, summary.train_time_s, summary.compile_time_s)
        times = [value for value in named if value is not None]
        whole = summary.status == "done" and len(summary.attempts or ()) == 1
        if whole and len(times) == 4:
            started, finished, training, compiling = times
            if compiling:
                self._compilations.append(compiling)
            else:  # the first run of a shape takes longer by more than the compilation that it records
                self._others.setdefault(key, []).append(max(0.0, finished - started - training))

    def total(self, runs: Iterable[Planned]) -> "Total":
        runs = tuple(runs)
        costs = [self.cost(run) for run in runs]
        shapes = len({run.experiment.shape for run in runs})
        compile_seconds = statistics.median(self._compilations) if self._compilations else COMPILE_SECONDS
        return Total(
            runs=len(runs),
            flops=sum(cost.flops for cost in costs),
            training=sum(cost.training for cost in costs),
            other=sum(cost.other for cost in costs),
            shapes=shapes,
            start=START_SECONDS + shapes * compile_seconds if runs else 0.0,
            measured=sum(run.experiment.shape in self._steps for run in runs),
        )

    @functools.cached_property
    def _peak_flops(self) -> float:
        side = 1024
        matrix = jnp.ones((side, side), jnp.float32)
        multiply = jax.jit(jnp.matmul)
        multiply(matrix, matrix).block_until_ready()
        times = timeit.repeat(lambda: multiply(matrix, matrix).block_until_ready(), number=1, repeat=9)
        return 2 * side**3 / min(times) * jax.local_device_count()


@dataclass(frozen=True)
class Total:
    """The cost of the runs to do. `start`: seconds for the process and for compilation; `measured`: the number of runs whose step times
    come from finished runs of the same shape."""

    runs: int
    flops: float
    training: float
    other: float
    shapes: int
    start: float
    measured: int

    @property
    def seconds(self) -> float:
        return self.start + self.training + self.other

    def parts(self) -> str:
        """The parts of the time."""
        return (
            f"training {duration(self.training)}, evaluation and saving {duration(self.other)}, "
            f"start and {counted(self.shapes, 'compilation')} {duration(self.start)}"
        )

    def basis(self) -> str:
        """Where the time comes from."""
        if self.measured == self.runs:
            return "from finished runs of the same shapes"
        guess = "from a short matrix product on this machine"
        return f"from finished runs for {counted(self.measured, 'run')}, else {guess}" if self.measured else guess


def forwards(config: Config, evaluated: Mapping[str, int]) -> float:
    """Examples that pass through the model outside of training steps: validations, the two final tests, attention measurements.
    `evaluated`: those of one evaluation, by split (`tasks.evaluated`)."""
    steps, execution = config.steps, config.execution
    validations = 1 + math.ceil(steps / config.eval.every)
    attention = execution.attention_every if execution.diagnostics else 0
    measurements = 1 + math.ceil(steps / attention) if attention else 0
    return validations * evaluated["val"] + 2 * evaluated["test"] + measurements * config.batch_size


def _saving(config: Config, size: int) -> float:
    """Seconds for the checkpoints of a run, of `size` bytes each."""
    every = config.execution.checkpoint_every
    saves = math.ceil(config.steps / every) if every else 1
    return saves * (SAVE_SECONDS + size / BYTES_A_SECOND)
