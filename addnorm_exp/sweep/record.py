"""study.json: the plan beside the runs, which is what tables and plots go by."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from addnorm_exp.errors import UserError
from addnorm_exp.runs.folder import make_folder, write_json
from addnorm_exp.runs.published import written
from addnorm_exp.runs.reading import FORMAT, read_study
from addnorm_exp.sweep.study import Planned, Study
from addnorm_exp.sweep.twins import Twins


def check_folder(folder: Path, study: Study) -> None:
    """Raises UserError where the folder is a run's, or another study's: two files of one stem share it.

    The study is the same where study.json names this file, or one of the same content (another checkout). Where the file that it names
    is gone (moved, renamed with its folder, or on another machine), the study is the same if the plans share a run.
    """
    if (folder / "config.json").exists():
        raise UserError(
            f"{folder}: is a run's folder (it holds config.json); rename {study.path}, or choose --runs=DIR"
        )
    plan = read_study(folder / "study.json")
    if plan is None or _is_same(plan, study):
        return
    raise UserError(
        f"{folder}: holds the study of {plan['file']}, not of {os.path.abspath(study.path)}; rename one, choose --runs=DIR, or delete "
        f"{folder / 'study.json'} to go on here with this one"
    )


def _is_same(plan: Mapping[str, Any], study: Study) -> bool:
    former = Path(plan["file"])
    if former.is_absolute() and former.is_file():
        return former.samefile(study.path) or former.read_bytes() == study.path.read_bytes()
    planned = {entry["id"] for entries in plan["phases"].values() for entry in entries}
    first = study.tune() if study.phased else study.sweep()
    return not planned or any(run.id in planned for run in first)


def read_twins(folder: Path) -> Twins | None:
    """What study.json says of schemes that are one function; None where it says nothing."""
    twins = (read_study(folder / "study.json") or {}).get("twins")
    return twins and Twins(frozenset(twins["among"]), tuple(map(tuple, twins["groups"])))


NOT_COMPARED = Twins()


def write_plan(
    folder: Path,
    study: Study,
    phases: Mapping[str, Iterable[Planned]],
    twins: Twins = NOT_COMPARED,
    waiting: int = 0,
) -> None:
    """Writes the plan as far as it is known: the report phase is absent until tuning has chosen its winners. `waiting`: how many report
    runs are not planned yet."""
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
