"""Turns what the compiled program returns into the record on disk: metric lines, per-layer rows, the running summary."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from addnorm_exp.config.schema import Config
from addnorm_exp.nn.attention import attention_columns
from addnorm_exp.runs.columns import COLUMNS, without_ratio_of_zeros
from addnorm_exp.runs.events import Watcher
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.layers import LayersWriter
from addnorm_exp.tasks.metrics import WeightedSum
from addnorm_exp.tasks.task import Statistics, Task
from addnorm_exp.train.peaks import peak_flops

SCALARS = ("grad_norm", "lr")  # of the step itself; the others are its task's
ROWS = tuple(name for name, of in COLUMNS.items() if of != "attention_sites")  # attention has separate rows
HEARTBEAT = 5.0  # seconds between two summaries of a running run


@dataclass
class RunTotals:
    """What the summary of a run sums up so far; saved with each checkpoint."""

    train_loss: float | None = None
    train_seconds: float = 0.0
    chunk_ms: list[float] = field(default_factory=list)  # the device's milliseconds per step, for each timed dispatch
    record_ms: list[float] = field(default_factory=list)  # the host's milliseconds to record a step, for each dispatch
    validation: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    pending: list[str] = field(default_factory=list)  # measurements still due at this step
    # Means of the tensors that the scheme set from data before step 0.
    calibrated: dict[str, float] = field(default_factory=dict)

    def step_seconds(self) -> float | None:
        """The device's time per step: the median over dispatches. The first one counts only if it is alone, because its caches are cold."""
        return _median(self.chunk_ms[1:] or self.chunk_ms)

    def record_seconds(self) -> float | None:
        """The host's time to record a step."""
        return _median(self.record_ms[1:] or self.record_ms)


def _median(milliseconds: list[float]) -> float | None:
    return float(np.median(milliseconds)) / 1e3 if milliseconds else None


@dataclass(frozen=True)
class Dispatch:
    """The `count` updates of one dispatch. The first is update number `first`; with `diverged`, the run ended in the last.

    `recorded`, bool (steps,), says which are rows of the per-layer record. It has an element for each step that the device computed, and
    after a divergence there are more of them than updates. `seconds` is the time from the call to the result; `device_seconds` is the
    device's own time, None if its end was not seen.
    """

    first: int
    count: int
    diverged: bool
    recorded: np.ndarray
    metrics: Mapping[str, np.ndarray]  # on the host, each with a leading axis of at least `count`
    seconds: float
    device_seconds: float | None


class Recorder:
    """Writes the record of a run while it trains, and passes each event to `watch`."""

    def __init__(
        self,
        folder: RunFolder,
        config: Config,
        task: Task,
        base: Mapping[str, Any],
        watch: Watcher,
        totals: RunTotals,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.folder, self.config, self.task, self.base, self.watch = folder, config, task, base, watch
        self.totals, self.clock = totals, clock
        (self.objective,) = task.objectives
        self._peak = peak_flops()
        self._beat = -math.inf
        self.layers: LayersWriter | None = None
        if config.execution.diagnostics:
            index = {
                "sites": task.labels,
                "tensors": list(task.model.specs),
                "attention_sites": attention_columns(task.labels),
            }
            self.layers = LayersWriter(folder.path / "layers", index)

    def chunk(self, dispatch: Dispatch) -> None:
        """Records the steps of a dispatch."""
        begun = self.clock()
        rows = dispatch.metrics
        lines: list[dict[str, Any]] = []
        for number in range(dispatch.count):
            step = dispatch.first + number
            values = self.task.summarise(_statistics(rows, number))
            scalars = {name: float(rows[name][number]) for name in SCALARS}
            lines.append({"step": step, "split": "train", **values, **scalars})
            if self.layers and dispatch.recorded[number]:
                self.layers.add(step, without_ratio_of_zeros({name: rows[name][number] for name in ROWS}))
        self.folder.append(lines)
        totals = self.totals
        totals.train_loss = lines[-1][self.objective.name]
        totals.train_seconds += dispatch.seconds
        if dispatch.device_seconds is not None:
            totals.chunk_ms.append(1e3 * dispatch.device_seconds / len(dispatch.recorded))
        self.watch({"event": "train", **lines[-1], **self._speed(dispatch)})
        if self.layers:
            self.layers.write_due()
        self._running(dispatch.first - 1 + dispatch.count - dispatch.diverged)
        totals.record_ms.append(1e3 * (self.clock() - begun) / dispatch.count)

    def _speed(self, dispatch: Dispatch) -> dict[str, float]:
        """Tokens per second and, if the device's peak is known, the share of it that the model's products take (MFU)."""
        if dispatch.seconds <= 0:
            return {}
        cost = self.task.cost
        tokens = dispatch.count * self.config.batch_size * cost.tokens / dispatch.seconds
        utilisation = {"mfu": tokens * cost.flops_per_token / self._peak} if self._peak else {}
        return {"tokens_per_second": tokens, **utilisation}

    def attention(self, step: int, rows: Mapping[str, np.ndarray]) -> None:
        if self.layers:
            self.layers.add(step, rows, "attention-")

    def validation(self, step: int, values: Mapping[str, float]) -> bool:
        """Records a validation; True if it is the best so far by the primary metric. Of equal ones the first counts."""
        line = {"step": step, **values}
        self.folder.append([{"step": step, "split": "val", **values}])
        self.totals.validation = line
        self.watch({"event": "val", **line})
        best, primary = self.totals.best, self.task.metrics[0]
        if self.broken(values) is not None:
            return False
        if best is not None and not primary.improves(values[primary.name], best[primary.name]):
            return False
        self.totals.best = line
        return True

    def broken(self, values: Mapping[str, float]) -> str | None:
        """The name of a metric that is not finite, None if there is none; the objective counts first."""
        names = (self.objective.name, *(metric.name for metric in self.task.metrics))
        return next((name for name in names if not math.isfinite(values.get(name, 0.0))), None)

    def test(self, step: int, results: Mapping[str, Mapping[str, float]]) -> None:
        lines = [{"step": step, "split": "test", "weights": weights, **values} for weights, values in results.items()]
        self.folder.append(lines)

    def settle(self) -> None:
        """Syncs the whole record to disk."""
        if self.layers:
            self.layers.flush()
        self.folder.sync()

    def _running(self, step: int) -> None:
        now = time.monotonic()  # a clock that is set back must not stop the heartbeat
        if now - self._beat > HEARTBEAT:
            self._beat = now
            self.summary("running", step)

    def summary(self, status: str, step: int, **more: Any) -> dict[str, Any]:
        """Replaces summary.json and returns it."""
        totals = self.totals
        tokens = step * self.config.batch_size * self.task.cost.tokens
        record = {
            **self.base,
            "status": status,
            "reason": None,
            "step": step,
            "heartbeat": time.time(),
            "finished": None if status == "running" else time.time(),
            "val": {"final": None if status == "diverged" else totals.validation, "best": totals.best},
            "test": None,
            "train_loss_final": totals.train_loss,
            "diverged": None,
            "tokens": tokens,
            "train_time_s": totals.train_seconds,
            "step_time_s": totals.step_seconds(),
            "record_time_s": totals.record_seconds(),
            **({"calibrated": totals.calibrated} if totals.calibrated else {}),
            **more,
        }
        self.folder.write_summary(record)
        return record


def _statistics(rows: Mapping[str, Any], number: int) -> Statistics:
    """The sums of one training step, in float64."""

    def of_step(value: Any) -> WeightedSum:
        if isinstance(value, WeightedSum):
            return WeightedSum(np.float64(value.value[number]), np.float64(value.weight[number]))
        return WeightedSum(np.float64(value[number]), np.float64(1.0))

    return {name: of_step(value) for name, value in rows.items() if name not in (*SCALARS, *ROWS)}
