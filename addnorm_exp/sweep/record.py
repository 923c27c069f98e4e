"""study.json: the plan, stored beside the runs. Tables and plots follow it."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from addnorm_exp.errors import UserError
from addnorm_exp.runs.folder import make_folder, write_json
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
) -> None:
    """Writes the plan as far as it is known. The report phase is absent until tuning has chosen its winners. `waiting`: the number of
    report runs that are not planned yet."""
    runs = [run for phase in phases.values() for run in phase]
    make_folder(folder)
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
