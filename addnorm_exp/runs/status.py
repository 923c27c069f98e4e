"""The status of runs, read from each run's folder and lock (docs/runs.md).

missing   in the plan, but not begun
running   a process holds its lock
stopped   begun, not ended, and no process holds its lock: killed or interrupted; the same command continues it
failed    an attempt raised an error; the same command retries it
diverged  ended: a result
done      ended: a result
damaged   its record cannot be read
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from addnorm_exp.errors import UserError, program
from addnorm_exp.runs.folder import FINISHED, RunFolder
from addnorm_exp.runs.reading import read_plan

STANDINGS = ("missing", "running", "stopped", "failed", "diverged", "done", "damaged")
STRANGER = "–"  # the phase of a run that is not in the study's plan


@dataclass(frozen=True)
class Standing:
    """The status of a run. `age`: seconds since its summary was last written, None without one. `settings`: the keys that the study
    file set for it besides the scheme, `optim.lr=0.003 seed=0`."""

    path: Path
    id: str
    phase: str
    scheme: str
    status: str
    step: int | None = None
    steps: int | None = None
    age: float | None = None
    reason: str | None = None
    settings: str = ""

    @property
    def finished(self) -> bool:
        return self.status in FINISHED


def standings(folder: Path) -> list[Standing]:
    """The runs of a study in the order of its plan, then runs in its folder that are not in the plan; or a single run.

    A run of both phases is listed once, under the first.
    """
    if os.path.lexists(folder / "config.json"):
        return [standing(folder, "run")]
    plan = read_plan(folder / "study.json")
    by_id: dict[str, Standing] = {}
    for phase, entries in (plan.phases if plan else {}).items():
        for entry in entries:
            if entry.id not in by_id:
                overrides = dict(entry.overrides)
                by_id[entry.id] = replace(
                    standing(folder / entry.id, phase, str(overrides.pop("scheme", ""))),
                    settings=" ".join(f"{key}={value}" for key, value in overrides.items()),
                )
    for path in sorted(folder.iterdir()):
        if path.name not in by_id and not path.name.startswith(".") and os.path.lexists(path / "config.json"):
            by_id[path.name] = standing(path, STRANGER if plan else "run")
    return list(by_id.values())


def waiting(folder: Path) -> int:
    """The number of report runs that are not planned yet because their tuning has not ended."""
    plan = read_plan(folder / "study.json")
    return (plan and plan.waiting) or 0


def standing(path: Path, phase: str, scheme: str = "") -> Standing:
    """The status of one run. `scheme` is used if the folder does not name one."""
    folder = RunFolder(path)
    try:
        config, summary = folder.config(), folder.summary()
    except UserError as error:
        problem = str(error).removeprefix(f"{path}{os.sep}")
        return Standing(path, path.name, phase, scheme, "damaged", reason=problem)
    locked = folder.is_locked()
    if config is None:
        return Standing(path, path.name, phase, scheme, "running" if locked else "missing")
    about = (path, config.id, phase, config.scheme)
    steps = config.science["steps"]
    if summary is None:
        return Standing(*about, "running" if locked else "stopped", 0, steps, reason="before its first step")
    written = summary.finished or summary.heartbeat
    age = None if written is None else max(0.0, time.time() - written)  # a clock may jump
    status, reason = str(summary.status), summary.reason
    if status not in FINISHED and locked:
        status, reason = "running", None
    elif status == "running":
        status = "stopped"
    if summary.diverged:
        reason = f"{summary.diverged.cause}, step {summary.diverged.step}"
    return Standing(*about, status, summary.step, steps, age, reason)


def chosen(standings: list[Standing], ids: tuple[str, ...]) -> Iterator[Standing]:
    """The runs with these ids. An id may be shortened as long as it matches one run only."""
    for name in ids:
        fitting = [run for run in standings if run.id == name] or [
            run for run in standings if name and run.id.startswith(name)
        ]
        if len(fitting) > 1:
            raise UserError(
                f"{name}: matches {len(fitting)} runs, e.g. {fitting[0].id} and {fitting[1].id}; give more of the id"
            )
        if not fitting:
            raise UserError(f"{name}: no such run here; `{program()} runs` lists them")
        yield fitting[0]
