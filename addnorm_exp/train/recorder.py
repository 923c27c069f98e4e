"""Turns what the compiled program returns into the record on disk: metric lines, per-layer rows, the running summary."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from addnorm_exp.config.schema import Config
from addnorm_exp.runs.columns import COLUMNS, without_ratio_of_zeros
from addnorm_exp.runs.events import Watcher
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.layers import LayersWriter, is_layers_row
from addnorm_exp.tasks.task import Task

SCALARS = ("loss", "grad_norm", "lr")
ROWS = tuple(name for name, of in COLUMNS.items() if of != "attention_sites")  # attention has rows of its own
HEARTBEAT = 5.0  # seconds between two summaries of a running run


@dataclass
class Progress:
    """What a run has to say of itself so far; saved with each checkpoint."""

    train_loss: float | None = None
    train_seconds: float = 0.0
    chunk_ms: list[float] = field(default_factory=list)  # milliseconds a step, one figure a chunk
    validation: dict[str, Any] | None = None
    best: dict[str, Any] | None = None
    calibrated: dict[str, float] = field(
        default_factory=dict
    )  # means of the tensors that the scheme set from data before step 0

    def step_seconds(self) -> float | None:
        """Median over chunks; the first after a start is left out where there are others, for caches are cold in it."""
        timed = self.chunk_ms[1:] or self.chunk_ms
        return float(np.median(timed)) / 1e3 if timed else None


class Recorder:
    """Writes one run's record as it goes, and tells `watch` of each event."""

    def __init__(
        self,
        folder: RunFolder,
        config: Config,
        task: Task,
        base: Mapping[str, Any],
        watch: Watcher,
        progress: Progress,
    ):
        self.folder, self.config, self.task, self.base, self.watch = folder, config, task, base, watch
        self.progress = progress
        self._beat = -math.inf
        self.layers: LayersWriter | None = None
        if config.execution.diagnostics:
            attention_sites = [label for label in task.labels if "attention" in label.split(".")[-1].split("+")]
            index = {"sites": task.labels, "tensors": list(task.model.specs), "attention_sites": attention_sites}
            self.layers = LayersWriter(folder.path / "layers", index)

    def chunk(self, first: int, made: int, diverged: bool, metrics: Mapping[str, jax.Array], seconds: float) -> None:
        """Records a chunk whose first update is number `first`: `made` updates, and the one after them where it diverged."""
        rows = jax.device_get(metrics)
        count = made + diverged
        lines: list[dict[str, Any]] = []
        for number in range(count):
            step = first + number
            scalars = {name: float(rows[name][number]) for name in SCALARS}
            lines.append({"step": step, "split": "train", **self.task.metrics(scalars.pop("loss")), **scalars})
            if self.layers and is_layers_row(step, self.config.execution.layers_every, self.config.steps):
                self.layers.add(step, without_ratio_of_zeros({name: rows[name][number] for name in ROWS}))
        self.folder.append(lines)
        self.progress.train_loss = lines[-1]["loss"]
        self.progress.train_seconds += seconds
        self.progress.chunk_ms.append(1e3 * seconds / count)
        self.watch({"event": "train", **lines[-1]})
        if self.layers:
            self.layers.write_due()
        self._running(first - 1 + made)

    def attention(self, step: int, rows: Mapping[str, np.ndarray]) -> None:
        if self.layers:
            self.layers.add(step, rows, "attention-")

    def validation(self, step: int, loss: float) -> bool:
        """Records a validation; True where it is the best so far."""
        line = {"step": step, **self.task.metrics(loss)}
        self.folder.append([{"step": step, "split": "val", **self.task.metrics(loss)}])
        self.progress.validation = line
        self.watch({"event": "val", **line})
        best = self.progress.best
        if not math.isfinite(loss) or (best is not None and loss >= best["loss"]):
            return False
        self.progress.best = line
        return True

    def test(self, step: int, results: Mapping[str, float]) -> None:
        lines = [
            {"step": step, "split": "test", "weights": weights, **self.task.metrics(loss)}
            for weights, loss in results.items()
        ]
        self.folder.append(lines)

    def validated(self) -> float:
        """The latest validation loss."""
        return self.progress.validation["loss"] if self.progress.validation else math.nan

    def settle(self) -> None:
        """Puts all that was recorded on the disk."""
        if self.layers:
            self.layers.flush()
        self.folder.sync()

    def _running(self, step: int) -> None:
        now = time.monotonic()  # a clock that is set back must not silence the heart
        if now - self._beat > HEARTBEAT:
            self._beat = now
            self.summary("running", step)

    def summary(self, status: str, step: int, **more: Any) -> dict[str, Any]:
        """Replaces summary.json and returns it."""
        progress = self.progress
        tokens = step * self.config.batch_size * self.config.seq_len
        record = {
            **self.base,
            "status": status,
            "reason": None,
            "step": step,
            "heartbeat": time.time(),
            "finished": None if status == "running" else time.time(),
            "val": {"final": None if status == "diverged" else progress.validation, "best": progress.best},
            "test": None,
            "train_loss_final": progress.train_loss,
            "diverged": None,
            "tokens": tokens,
            "train_time_s": progress.train_seconds,
            "step_time_s": progress.step_seconds(),
            **({"calibrated": progress.calibrated} if progress.calibrated else {}),
            **more,
        }
        self.folder.write_summary(record)
        return record
