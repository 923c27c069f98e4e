"""study.json: the plan beside the runs, which is what tables and plots go by."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from addnorm_exp.runs.folder import write_json
from addnorm_exp.sweep.study import Planned, Study

FORMAT = 1


def write_plan(folder: Path, study: Study, phases: Mapping[str, Iterable[Planned]]) -> None:
    """Writes the plan as far as it is known: the report phase is absent until tuning has chosen its winners."""
    runs = [run for phase in phases.values() for run in phase]
    folder.mkdir(parents=True, exist_ok=True)
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
        },
    )
