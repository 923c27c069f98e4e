"""One run's folder, read: config, summary, metrics and per-layer arrays.

Reading forgives what a killed run leaves behind (a torn last line, a missing summary, steps logged twice by a resume) and refuses, by
a `UserError`, what no run of ours writes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from addnorm_exp.errors import UserError
from addnorm_exp.runs import layers
from addnorm_exp.runs.folder import FINISHED, FORMAT, RunFolder, read_json, read_lines
from addnorm_exp.runs.layers import Layers


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
    summary: Mapping[str, Any] = field(default_factory=dict)
    recorded: bool = True  # has a config.json; else `flat` is the plan's, and `semantics` and `data` say nothing

    @property
    def seed(self) -> int:
        return int(self.flat.get("seed") or 0)

    @property
    def finished(self) -> bool:
        """Whether it ended by itself, well or badly: it counts as a result."""
        return self.status in FINISHED

    def number(self, *path: str) -> float | None:
        """A finite number of the summary, e.g. `number("val", "final", "loss")`; None where it is absent or null."""
        value: Any = self.summary
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return float(value)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}; lists become tuples, so that values can be compared and hashed."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = tuple(value) if isinstance(value, list) else value
    return flat


def read_record(path: Path) -> dict[str, Any]:
    """A JSON object of our format version; anything else is a `UserError`."""
    try:
        value = read_json(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if value is None:
        raise UserError(f"{path}: is not a readable JSON object; delete its folder and run the study again")
    if value.get("format", FORMAT) != FORMAT:
        raise UserError(
            f"{path}: has format {value['format']!r}, this version reads format {FORMAT}; use the version that wrote it"
        )
    return value


def read_run(folder: Path) -> Run:
    """The run in `folder`, which holds a config.json. Without a readable summary.json it counts as failed."""
    config = read_record(folder / "config.json")
    science = config.get("science")
    if not isinstance(science, dict):
        raise UserError(f"{folder / 'config.json'}: has no 'science' part; delete the folder and run the study again")
    summary = RunFolder(folder).summary() or {}
    status, reason = summary.get("status", "failed"), summary.get("reason") if summary else "no summary"
    if status == "running":
        reason = f"unfinished, at step {summary.get('step', '?')} of {summary.get('steps', '?')}"
    elif status == "diverged":
        reason = _divergence(summary)
    flat = flatten(science)
    return Run(
        id=str(config.get("id") or folder.name),
        path=folder,
        scheme=str(config.get("scheme") or flat.get("scheme")),
        flat=flat,
        status=status,
        reason=reason,
        semantics=config.get("semantics", 1),
        data=config.get("data") or {},
        summary=summary,
    )


def _divergence(summary: Mapping[str, Any]) -> str:
    facts = summary.get("diverged") or {}
    cause = facts.get("cause") or summary.get("reason") or "cause not recorded"
    return f"at step {facts['step']}: {cause}" if "step" in facts else str(cause)


def read_metrics(run: Run, split: str) -> dict[str, np.ndarray]:
    """Columns of the run's scalars of one split, by rising step: `step` (n,) int64 and every number as (n,) float64, null as NaN.

    Of a step that was logged twice (a resume goes back to its checkpoint) the later line counts. Empty where there are none.
    """
    path = run.path / "metrics.jsonl"
    if not path.is_file():
        return {}
    lines, damaged = read_lines(path)
    if damaged:
        raise UserError(f"{path}:{damaged}: is not a metrics line; delete the run's folder and run it again")
    rows = {int(line["step"]): line for line in lines if line.get("split") == split}
    if not rows:
        return {}
    steps = sorted(rows)
    names = {k for row in rows.values() for k, v in row.items() if v is None or isinstance(v, int | float)} - {"step"}
    columns: dict[str, np.ndarray] = {"step": np.asarray(steps, np.int64)}
    for name in sorted(names):
        values = [rows[step].get(name) for step in steps]
        columns[name] = np.asarray([v if isinstance(v, int | float) else math.nan for v in values], np.float64)
    return columns


def read_layers(run: Run) -> Layers | None:
    """The run's per-layer record, None where it has none."""
    return layers.read(run.path / "layers")
