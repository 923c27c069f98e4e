"""What a plan will cost, before it runs: parameters, floating-point operations, and a rough time."""

import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from addnorm_exp.config.schema import Config
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.sweep.study import Planned
from addnorm_exp.tasks import least
from addnorm_exp.train.hypers import static
from addnorm_exp.train.memory import fits
from addnorm_exp.train.program import program

# Of matrix-product peak, by a whole training step of a small model on CPU (benchmarks/NOTES.md). A run of the same shape that
# has finished is believed instead.
SHARE_OF_PEAK = 0.4
COMPILE_SECONDS = 6.0  # a shape


@dataclass(frozen=True)
class Cost:
    parameters: int  # at least so many, where the run does not fit into this machine's memory
    flops: float  # of the whole run
    seconds: float  # without compilation


class Estimator:
    """Costs of runs on this machine; shapes are built once, the machine's speed is measured once."""

    def __init__(self, study_folder: Path):
        self.folder = study_folder
        self._shapes: dict[Config, tuple[int, float]] = {}
        self._measured: dict[Config, list[float]] = {}
        self._peak: float | None = None

    def cost(self, run: Planned) -> Cost:
        key = static(run.config)
        if key not in self._shapes:
            if fits(run.config):
                task = program(run.config).task
                self._shapes[key] = (task.model.size, task.flops_per_token)
            else:  # to build it, if only without values, may take minutes
                here = least(run.config)
                self._shapes[key] = (here.parameters, here.flops_per_token)
        size, flops_per_token = self._shapes[key]
        flops = flops_per_token * run.config.batch_size * run.config.seq_len * run.config.steps
        known = self._measured.get(key)
        if known:
            return Cost(size, flops, statistics.median(known) * run.config.steps)
        return Cost(size, flops, flops / (SHARE_OF_PEAK * self._peak_flops()))

    def learn(self, runs: Iterable[Planned]) -> Mapping[str, Mapping[str, Any]]:
        """Reads the summaries of the runs that exist, for their step times; returns them by id."""
        found = {}
        for run in runs:
            summary = RunFolder(self.folder / run.id).summary()
            if summary is not None:
                found[run.id] = summary
                if summary.get("step_time_s"):
                    self._measured.setdefault(static(run.config), []).append(summary["step_time_s"])
        return found

    def shapes(self, runs: Iterable[Planned]) -> int:
        """How many programs have to be compiled."""
        return len({static(run.config) for run in runs})

    def _peak_flops(self) -> float:
        if self._peak is None:
            side = 1024
            matrix = jnp.ones((side, side), jnp.float32)
            multiply = jax.jit(jnp.matmul)
            multiply(matrix, matrix).block_until_ready()
            times = []
            for _ in range(5):
                started = time.perf_counter()
                multiply(matrix, matrix).block_until_ready()
                times.append(time.perf_counter() - started)
            self._peak = 2 * side**3 / statistics.median(times) * jax.local_device_count()
        return self._peak
