"""study.json: the plan beside the runs, which is what tables and plots go by."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from addnorm_exp.errors import UserError
from addnorm_exp.runs.folder import make_folder, write_json
from addnorm_exp.runs.published import written
from addnorm_exp.runs.reading import FORMAT, read_study
from addnorm_exp.sweep.study import Planned, Study
from addnorm_exp.sweep.twins import Twins


def check_folder(folder: Path, study: Study) -> None:
    """Raises UserError where the folder is a run's, or another study's: two files of one stem share it.

    Another: the file that study.json names is still there, is not this one, and says something else. A study file may change, move,
    or be copied with its runs.
    """
    if (folder / "config.json").exists():
        raise UserError(
            f"{folder}: is a run's folder (it holds config.json); rename {study.path}, or choose --runs=DIR"
        )
    plan = read_study(folder / "study.json")
    if plan is None:
        return
    former = Path(plan["file"])
    if former.is_file() and not former.samefile(study.path) and former.read_bytes() != study.path.read_bytes():
        raise UserError(
            f"{folder}: holds the study of {former}, not of {study.path}; rename one, choose --runs=DIR, or delete "
            f"{folder / 'study.json'} to go on here with this one"
        )


def read_twins(folder: Path) -> Twins | None:
    """What study.json says of schemes that are one function; None where it says nothing."""
    twins = (read_study(folder / "study.json") or {}).get("twins")
    return twins and Twins(frozenset(twins["among"]), tuple(map(tuple, twins["groups"])))


def write_plan(folder: Path, study: Study, phases: Mapping[str, Iterable[Planned]], twins: Twins) -> None:
    """Writes the plan as far as it is known: the report phase is absent until tuning has chosen its winners."""
    runs = [run for phase in phases.values() for run in phase]
    make_folder(folder)
    write_json(
        folder / "study.json",
        {
            "format": FORMAT,
            "name": study.name,
            "file": str(study.path),
            "phases": {
                phase: [{"id": run.id, "overrides": run.overrides} for run in planned]
                for phase, planned in phases.items()
            },
            "tuned": list(study.tuned),
            "baseline": study.baseline,
            "group": list(study.axes(runs)),
            "twins": {"among": sorted(twins.among), "groups": [list(group) for group in twins.groups]},
            "published": [written(entry) for entry in study.published],
        },
    )
