"""The plan, stored beside the runs: study.json, which tables and plots follow, and a ticket for each run, from which it is trained."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from addnorm_exp.config import science
from addnorm_exp.errors import UserError
from addnorm_exp.runs import tickets
from addnorm_exp.runs.folder import make_folder, write_json
from addnorm_exp.runs.identity import SEMANTICS
from addnorm_exp.runs.published import written
from addnorm_exp.runs.reading import FORMAT, read_plan
from addnorm_exp.runs.records import StudyPlan
from addnorm_exp.sweep.study import Planned, Study
from addnorm_exp.sweep.twins import Twins


def check_folder(folder: Path, study: Study) -> None:
    """Raises UserError if the folder belongs to a run or to another study: two files with the same stem share a folder.

    The study is the same if study.json names this file, or a file with the same content (another checkout). If the named file does not
    exist (moved, renamed with its folder, or on another machine), the study is the same if the plans share a run.
    """
    if (folder / "config.json").exists():
        raise UserError(
            f"{folder}: this is a run's folder (it contains config.json); rename {study.path}, or choose --runs=DIR"
        )
    plan = read_plan(folder / "study.json")
    if plan is None or _is_same(plan, study):
        return
    raise UserError(
        f"{folder}: contains the study {plan.file}, not {os.path.abspath(study.path)}; rename one, choose --runs=DIR, or delete "
        f"{folder / 'study.json'} to use this folder"
    )


def _is_same(plan: StudyPlan, study: Study) -> bool:
    former = Path(plan.file)
    if former.is_absolute() and former.is_file():
        return former.samefile(study.path) or former.read_bytes() == study.path.read_bytes()
    planned = {entry.id for entries in plan.phases.values() for entry in entries}
    first = study.tune() if study.phased else study.sweep()
    return not planned or any(run.id in planned for run in first)


def read_twins(folder: Path) -> Twins | None:
    """The twins that study.json records; None if it records none."""
    plan = read_plan(folder / "study.json")
    twins = plan and plan.twins
    return Twins(frozenset(twins.among), tuple(map(tuple, twins.groups))) if twins else None


NOT_COMPARED = Twins()


def write_plan(
    folder: Path,
    study: Study,
    phases: Mapping[str, Iterable[Planned]],
    twins: Twins = NOT_COMPARED,
    waiting: int = 0,
    new: Iterable[Planned] | None = None,
) -> None:
    """Writes the plan as far as it is known. The report phase is absent until tuning has chosen its winners. `waiting`: the number of
    report runs that are not planned yet; `new`: the runs whose tickets are not written yet (None: all)."""
    runs = [run for phase in phases.values() for run in phase]
    make_folder(folder)
    # A run of both phases has the ticket of the first. The plan names no run without a ticket.
    tickets.write(folder, {run.id: _ticket(run, study.name) for run in reversed(runs if new is None else tuple(new))})
    write_json(
        folder / "study.json",
        {
            "format": FORMAT,
            "name": study.name,
            "file": os.path.abspath(study.path),
            "phases": {
                phase: [{"id": run.id, "overrides": run.overrides} for run in planned]
                for phase, planned in phases.items()
            },
            "waiting": waiting,
            "tuned": list(study.tuned),
            "baseline": study.baseline,
            "group": list(study.axes(runs)),
            "twins": {"among": sorted(twins.among), "groups": [list(group) for group in twins.groups]},
            "published": [written(entry) for entry in study.published],
        },
    )


def _ticket(run: Planned, study: str) -> dict[str, Any]:
    """The content of a run's ticket. Its data may be a file: a worker finds it from whatever folder it is started in."""
    values: dict[str, Any] = science(run.config)
    data = run.config.data
    if data.path is not None:
        values = {**values, "data": {**values["data"], "path": os.path.abspath(os.path.expanduser(data.path))}}
    return {
        "id": run.id,
        "semantics": SEMANTICS,
        "scheme": run.config.scheme,
        "study": study,
        "phase": run.phase,
        "science": values,
        "execution": asdict(run.config.execution),
        "data": {"name": data.path or data.name, "sha256": run.sha256},
        "scheme_digest": run.experiment.digest,
    }
