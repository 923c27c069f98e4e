"""Folders that each have some runs of a study, read and checked before they are joined (merge.py)."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addnorm_exp.errors import UserError
from addnorm_exp.runs.folder import FINISHED, RunFolder, is_temporary
from addnorm_exp.runs.reading import dotted, read_plan, which
from addnorm_exp.runs.records import RunConfig, StudyPlan, Summary

HALF = ".merging"  # ends the hidden name of a run that is being copied; the lock of a merger has this name alone


@dataclass(frozen=True)
class RunCopy:
    """A run in one of the folders, of which another folder may have it too."""

    study: Path
    config: RunConfig
    summary: Summary | None
    busy: bool  # a process is training it

    @property
    def path(self) -> Path:
        return self.study / self.config.id

    @property
    def finished(self) -> bool:
        return self.summary is not None and self.summary.status in FINISHED

    @property
    def step(self) -> int:
        return (self.summary and self.summary.step) or 0

    @property
    def results(self) -> dict[str, Any]:
        """The numbers that must be equal in two folders, by dotted key."""
        plain = self.summary.plain() if self.summary else {}
        return dotted({key: plain.get(key) for key in ("status", "step", "val", "test", "diverged")})


@dataclass(frozen=True)
class StudyPart:
    """A folder with some runs of a study."""

    path: Path
    plan: StudyPlan
    runs: Mapping[str, RunCopy]


def read_parts(directories: Sequence[Path], into: Path) -> list[StudyPart]:
    """The folders, read; `into` is the first if it is a study already. Raises UserError if one of them is no study or is damaged, or if
    one is given twice or lies in another."""
    for directory in directories:
        if not directory.is_dir():
            kind = "is a file" if directory.exists() else "no such folder"
            raise UserError(f"{directory}: {kind}; {which(directory)}")
        if not os.path.lexists(directory / "study.json"):
            what = (
                "is a run, not a study"
                if (directory / "config.json").exists()
                else "is no study (it has no study.json)"
            )
            raise UserError(f"{directory}: {what}; {which(directory)}")
    folders = [*directories, into]
    for number, folder in enumerate(folders):
        for other in folders[:number]:
            inner, outer = sorted((folder.resolve(), other.resolve()), key=lambda path: -len(path.parts))
            if inner == outer:
                twice = f"--into={into} is one of the folders to merge" if folder == into else "is given twice"
                raise UserError(f"{other}: {twice}; omit it")
            if outer in inner.parents:
                raise UserError(f"{inner} lies in {outer}; give folders that lie beside each other")
    if into.is_dir() and not os.path.lexists(into / "study.json"):
        foreign = sorted(path.name for path in into.iterdir() if path.name != HALF and not is_temporary(path.name))
        if foreign:
            raise UserError(
                f"--into={into}: contains {foreign[0]} but no study; choose an empty or new folder, or one of this study"
            )
        return [_read(directory) for directory in directories]
    return [_read(directory) for directory in (*([into] if into.is_dir() else []), *directories)]


def _read(folder: Path) -> StudyPart:
    plan = read_plan(folder / "study.json")
    if plan is None:
        raise UserError(f"{folder / 'study.json'}: cannot be found; is it a broken link?")
    runs: dict[str, RunCopy] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not os.path.lexists(path / "config.json"):
            continue
        if path.is_symlink():
            raise UserError(f"{path}: is a symbolic link; put what it points to in its place")
        run = RunFolder(path)
        config = run.config()
        if config is None or config.id != path.name:
            content = f"contains the run {config.id}" if config else "its config.json is a broken link"
            raise UserError(f"{path}: {content}; rename this folder, or move it elsewhere")
        runs[path.name] = RunCopy(folder, config, run.summary(), run.is_locked())
    return StudyPart(folder, plan, runs)
