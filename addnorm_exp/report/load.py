"""From a folder that the user names to the studies in it.

A folder is a study (it contains study.json, or run folders), a root of several studies, or a single run. Runs that must not share a
table (different semantics or data) are refused here, before any computation; runs without a plan make one study for each data set.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from addnorm_exp.errors import UserError, program
from addnorm_exp.grouping import grouped
from addnorm_exp.report.run import UNWRITTEN, Run, flatten, progress, read_run
from addnorm_exp.runs.folder import RunFolder, is_temporary
from addnorm_exp.runs.published import Published, read_entry
from addnorm_exp.runs.reading import SWEEP, WHICH, read_plan, which
from addnorm_exp.words import counted

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class StudyRuns:
    """Runs that make one table. `phases` are in the order of the plan: tune and report, or run."""

    name: str
    path: Path
    phases: Mapping[str, tuple[Run, ...]]
    tuned: tuple[str, ...] = ()
    baseline: str | None = None
    group: tuple[str, ...] = ("scheme",)
    strangers: int = 0  # run folders in the study's folder that are not in its plan
    mixed_semantics: tuple[int, ...] = field(default=())
    twins: tuple[tuple[str, ...], ...] = ()  # sets of `function_id`s that are the same function
    published: tuple[Published, ...] = ()  # published numbers, printed beside ours
    part: str = ""  # the data set, if the folder has runs on several
    copies: tuple[tuple[Path, ...], ...] = ()  # folders with the same run; only the first of each is read

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple({run.id: run for runs in self.phases.values() for run in runs}.values())

    @property
    def recorded(self) -> tuple[Run, ...]:
        """The runs that have a config.json, which records their data and semantics."""
        return tuple(run for run in self.runs if run.recorded)

    @property
    def semantics(self) -> int | None:
        """The common version of all runs; None if versions are mixed or unknown."""
        versions = {run.semantics for run in self.recorded}
        return versions.pop() if len(versions) == 1 else None


def study_folders(directory: Path | str) -> list[Path]:
    """The study folders under `directory`: itself, or its children if it is a root of several. A study that ranges over configs is such a
    root too."""
    directory = Path(directory)
    if not directory.exists():
        raise UserError(f"{directory}: no such folder; {which(directory)}")
    if not directory.is_dir():
        raise UserError(f"{directory}: is a file; {which(directory)}")
    children = _children(directory)
    if _holds(directory, "study.json") or _holds(directory, "config.json"):
        return [directory, *(child for child in children if _holds(child, "study.json"))]
    folders = [folder for child in children for folder in (child, *_children(child))]
    studies = [folder for folder in folders if _holds(folder, "study.json") or _run_folders(folder)]
    if any(_holds(d, "config.json") for d in children):
        return [directory, *studies]  # single runs (--workdir) here, perhaps beside studies
    if not studies:
        raise UserError(f"{directory}: no runs here; {WHICH}")
    return studies


def load_study(folder: Path | str, *, mix_semantics: bool = False) -> StudyRuns:
    """The study in `folder` (or the single run in it, as a study of one).

    Raises:
        UserError: no runs; unreadable JSON; runs of different semantics (unless `mix_semantics`) or of different data.
    """
    folder = Path(folder)
    studies = _studies(folder)
    if len(studies) > 1:
        data = {str(study.runs[0].data.get("sha256"))[:12]: list(study.runs) for study in studies}
        raise _mixed_data(folder, data)
    return _checked(studies[0], mix_semantics)


def load_studies(directory: Path | str, *, mix_semantics: bool = False) -> tuple[list[StudyRuns], list[UserError]]:
    """Every study under `directory`, and the reasons why others were refused. Runs without a plan make one study for each data set.

    Raises:
        UserError: no study could be read.
    """
    problems: list[UserError] = []

    def parts(folder: Path) -> list[StudyRuns]:
        return collected(lambda study: [_checked(study, mix_semantics)], _studies(folder), problems)

    studies = collected(parts, study_folders(directory), problems)
    if not studies:
        raise problems[0]
    return studies, problems


def collected(make: Callable[[T], Iterable[R]], items: Iterable[T], problems: list[UserError]) -> list[R]:
    """What `make` returns for each item, in one list. The errors of items for which it fails are added to `problems`."""
    results: list[R] = []
    for item in items:
        try:
            results += make(item)
        except UserError as error:
            problems.append(error)
    return results


def _studies(folder: Path) -> list[StudyRuns]:
    """The folder's study; of runs without a plan, one for each data set."""
    if _holds(folder, "config.json"):
        run = read_run(folder)
        return [StudyRuns(folder.resolve().name, folder, {"run": (run,)})]
    studies = [_planned(folder)] if _holds(folder, "study.json") else _unplanned(folder)
    if not any(study.runs for study in studies):
        remedy = f"run the study first ({program()} sweep)" if _holds(folder, "study.json") else which(folder)
        raise UserError(f"{folder}: no runs here; {remedy}")
    return studies


def _checked(study: StudyRuns, mix_semantics: bool) -> StudyRuns:
    """The study, if its runs may share a table."""
    semantics = grouped(study.recorded, lambda run: run.semantics)
    if len(semantics) > 1 and not mix_semantics:
        raise UserError(
            f"{study.path}: runs of different semantics are mixed here ({_named(semantics)}), so their numbers cannot be compared;"
            " run the study again with this version, or pass --mix_semantics"
        )
    data = grouped(study.recorded, lambda run: str(run.data.get("sha256"))[:12])
    if len(data) > 1:
        raise _mixed_data(study.path, data)
    return replace(study, mixed_semantics=tuple(sorted(semantics))) if len(semantics) > 1 else study


def _mixed_data(folder: Path, data: Mapping[str, list[Run]]) -> UserError:
    return UserError(
        f"{folder}: runs on different data are mixed here (sha256 {_named(data)}), so their numbers cannot be compared; keep each data"
        " set in its own folder"
    )


def _holds(folder: Path, name: str) -> bool:
    """Whether the folder has an entry of this name, even a folder or a broken link: reading it reports that."""
    return os.path.lexists(folder / name)


def _children(folder: Path) -> list[Path]:
    return sorted(d for d in folder.iterdir() if d.is_dir() and not d.name.startswith("."))


def _run_folders(folder: Path) -> list[Path]:
    return [d for d in _children(folder) if _holds(d, "config.json")]


def _named(by_value: Mapping[Any, list[Run]]) -> str:
    return ", ".join(f"{k}: {counted(len(runs), 'run')}, e.g. {runs[0].id}" for k, runs in sorted(by_value.items()))


def _unplanned(folder: Path) -> list[StudyRuns]:
    """One study for each data set, named after it if there are several."""
    runs = sorted((read_run(d) for d in _run_folders(folder)), key=lambda run: (run.scheme, run.seed, run.id))
    by_data = grouped(runs, lambda run: str(run.data.get("sha256")))
    names = [str(members[0].data.get("name")) for members in by_data.values()]
    studies = []
    for (checksum, members), name in zip(by_data.items(), names, strict=True):
        part = "" if len(names) == 1 else name if names.count(name) == 1 else f"{name}-{checksum[:8]}"
        # A copy that has finished comes first.
        copies = [sorted(c, key=lambda run: not run.finished) for c in grouped(members, lambda run: run.id).values()]
        studies.append(
            StudyRuns(
                folder.resolve().name + f"-{part}" * bool(part),
                folder,
                {"run": tuple(each[0] for each in copies)},
                part=part,
                copies=tuple(tuple(run.path for run in each) for each in copies if len(each) > 1),
            )
        )
    return studies


def _planned(folder: Path) -> StudyRuns:
    plan = read_plan(folder / "study.json")
    if plan is None:
        raise UserError(f"{folder / 'study.json'}: cannot be found; run the sweep again")
    phases = {
        phase: [(entry.id, flatten(entry.overrides)) for entry in entries] for phase, entries in plan.phases.items()
    }
    try:
        published = tuple(map(read_entry, plan.published or ()))
    except ValueError as error:
        raise UserError(f"{folder / 'study.json'}: an entry of 'published' {error}; {SWEEP}") from None
    present = {run.id: run for run in (read_run(d) for d in _run_folders(folder))}
    planned = {name for entries in phases.values() for name, _ in entries}
    shared = _shared([run for run in present.values() if run.id in planned])
    read = {
        phase: tuple(
            present.get(name) or _missing(folder / name, name, shared | overrides)
            for name, overrides in dict(entries).items()
        )
        for phase, entries in phases.items()
    }
    return StudyRuns(
        name=plan.name,
        path=folder,
        phases=read,
        tuned=tuple(plan.tuned),
        baseline=plan.baseline,
        group=tuple(key for key in plan.group if key not in (*plan.tuned, "seed")),
        strangers=len(set(present) - planned),
        twins=tuple(map(tuple, plan.twins.groups)) if plan.twins else (),
        published=published,
    )


def _missing(folder: Path, name: str, flat: dict[str, Any]) -> Run:
    """A run of the plan that has written nothing yet. Keys that its overrides lack are taken from existing runs."""
    if RunFolder(folder).is_locked():  # first: it may have begun since the folders were listed
        return Run(
            name, folder, str(flat.get("scheme")), flat, "running", f"unfinished, {progress(UNWRITTEN)}", recorded=False
        )
    if folder.is_dir() and any(entry.name != "lock" and not is_temporary(entry.name) for entry in folder.iterdir()):
        reason = (RunFolder(folder).summary() or UNWRITTEN).reason or "no config.json"
        return Run(name, folder, str(flat.get("scheme")), flat, "failed", reason, recorded=False)
    return Run(name, folder, str(flat.get("scheme")), flat, "missing", "not run yet", recorded=False)


def _shared(runs: list[Run]) -> dict[str, Any]:
    first = runs[0].flat if runs else {}
    return {key: value for key, value in first.items() if all(run.flat.get(key) == value for run in runs)}
