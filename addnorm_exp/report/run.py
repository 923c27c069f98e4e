"""One run's folder, read: config, summary, metrics and per-layer arrays.

Reading accepts what a killed run leaves behind (a torn last line, a missing summary, steps logged twice by a resume). Content that no
run of ours writes is refused (runs/reading.py).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from addnorm_exp.errors import UserError
from addnorm_exp.runs import layers
from addnorm_exp.runs.folder import FINISHED, RunFolder
from addnorm_exp.runs.layers import Layers
from addnorm_exp.runs.reading import AGAIN, read_lines
from addnorm_exp.runs.reading import dotted as flatten
from addnorm_exp.runs.records import Summary

UNWRITTEN = Summary(status="running")  # of a run that has written no summary


@dataclass(frozen=True)
class Run:
    """A run of a study. `flat` is the science config with dotted keys; `status` is done, diverged, failed, running or missing."""

    id: str
    path: Path
    scheme: str
    flat: Mapping[str, Any]
    status: str
    reason: str | None = None
    semantics: int = 1
    data: Mapping[str, Any] = field(default_factory=dict)
    summary: Summary = UNWRITTEN
    # What its scheme brings besides its method; empty: unknown.
    resolved: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""  # of its scheme
    recorded: bool = True  # has a config.json; else `flat` is the plan's, and `semantics` and `data` are unknown

    @property
    def seed(self) -> int:
        return int(self.flat.get("seed") or 0)

    @property
    def finished(self) -> bool:
        """Whether it is done or diverged: it counts as a result."""
        return self.status in FINISHED

    def number(self, *path: str) -> float | None:
        """A finite number of the summary, e.g. `number("val", "final", "loss")`; None if it is absent or null."""
        return self.summary.number(*path)


def read_run(folder: Path) -> Run:
    """The run in `folder`, which contains a config.json. Without a summary.json it is before its first step (perhaps compiling). A failed
    run counts as running if a process holds it."""
    config = RunFolder(folder).config()
    if config is None:  # removed since it was listed, or a broken symbolic link
        raise UserError(f"{folder / 'config.json'}: cannot be found; {AGAIN}")
    summary = RunFolder(folder).summary() or UNWRITTEN
    status, reason = str(summary.status), summary.reason
    if status == "failed" and RunFolder(folder).is_locked():
        status = "running"
    if status == "running":
        reason = f"unfinished, {progress(summary)}"
    elif summary.diverged:
        reason = f"at step {summary.diverged.step}: {summary.diverged.cause}"
    return Run(
        id=config.id,
        path=folder,
        scheme=config.scheme,
        flat=flatten(config.science),
        status=status,
        reason=reason,
        semantics=config.semantics,
        data=config.data.plain(),
        summary=summary,
        resolved=config.resolved.plain() if config.resolved else {},
        digest=config.scheme_digest or "",
    )


def progress(summary: Summary) -> str:
    """The progress of a run that has not ended."""
    step, steps = summary.step, summary.steps
    return "before its first step" if step is None else f"at step {step} of {'?' if steps is None else steps}"


def read_metrics(run: Run, split: str) -> dict[str, np.ndarray]:
    """One split of `read_splits`; empty if it does not exist."""
    return read_splits(run).get(split, {})


def read_splits(run: Run) -> dict[str, dict[str, np.ndarray]]:
    """By split, columns of the run's scalars by rising step: `step` (n,) int64 and every number as (n,) float64, null as NaN.

    If a step was logged twice (a resume goes back to its checkpoint), the later line counts. Empty without metrics.
    """
    path = run.path / "metrics.jsonl"
    lines, damaged = read_lines(path)
    if damaged:
        raise UserError(f"{path}:{damaged}: is not a metrics line; {AGAIN}")
    splits: dict[str, dict[int, Mapping[str, float | None]]] = {}
    for line in lines:
        splits.setdefault(line.split, {})[line.step] = line.numbers
    trained, steps = splits.get("train", {}), run.summary.step or 0
    if trained and run.status == "done" and len(trained) < steps:
        raise UserError(f"{path}: has {len(trained)} of the run's {steps} steps; {AGAIN}")
    return {split: _columns(rows) for split, rows in splits.items()}


def _columns(rows: Mapping[int, Mapping[str, float | None]]) -> dict[str, np.ndarray]:
    ordered = [row for _, row in sorted(rows.items())]
    columns = {
        name: np.asarray([math.nan if (v := row.get(name)) is None else v for row in ordered], np.float64)
        for name in sorted({name for row in ordered for name in row})
    }
    return {"step": np.asarray(sorted(rows), np.int64), **columns}


def read_layers(run: Run, kind: str = "") -> Layers | None:
    """The run's per-layer record, or None. `kind`: empty, or `attention-`, which is measured more rarely."""
    return layers.read_layers(run.path / "layers", kind)
