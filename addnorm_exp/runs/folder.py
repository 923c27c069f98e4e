"""A run's folder: the record that tables and plots read, written so that a kill at any moment leaves it readable.

    config.json      what the run is; written once
    pack.json        the runs that one program trains together, this one included; a run alone has none
    metrics.jsonl    scalars, one object a line, append-only; a torn last line is dropped on resume
    layers/          per-layer arrays in chunks (layers.py)
    summary.json     status and results; replaced whole
    checkpoints/     train/checkpoint.py's own
    lock             held by the process that trains the run

One process at a time may write (lock.py). The heartbeat in summary.json is for people.
"""

import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from addnorm_exp.atomic import SUFFIX, replace, uncut
from addnorm_exp.errors import UserError, check_text, disk_trouble
from addnorm_exp.runs.lock import is_locked, locked
from addnorm_exp.runs.reading import AGAIN, ANEW, FORMAT, read, read_lines
from addnorm_exp.runs.records import PackRecord, RunConfig, Summary

FORMER = ".former-"  # prefix of the name of a folder that `rerun` has put aside
FINISHED = ("done", "diverged")  # the statuses of a run that is not repeated


class RunFolder:
    def __init__(self, path: Path):
        self.path = path

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Locks the folder for this process. Raises Busy if another process holds it, UserError if it is not a run's folder."""
        self.admit()
        make_folder(self.path)
        with locked(self.path / "lock"):
            yield

    def is_locked(self) -> bool:
        """Whether a process is training the run."""
        return is_locked(self.path / "lock")

    def admit(self) -> None:
        """Raises UserError if the folder is a study's, or contains files but no run: foreign files are never touched."""
        if not self.path.is_dir():
            return
        names = {entry.name for entry in self.path.iterdir()}
        if "study.json" in names:
            raise UserError(
                f"{self.path}: this is a study's folder (it contains study.json); choose another one for a single run"
            )
        if "config.json" in names:
            self.config()  # raises UserError if the file is not ours
            return
        foreign = sorted(name for name in names if name != "lock" and not is_temporary(name))
        if foreign:
            raise UserError(
                f"{self.path}: contains {foreign[0]} but no run (no config.json); choose an empty or new folder"
            )

    def put_aside(self) -> Path | None:
        """Renames the folder so that the study ignores it and `gc` finds it. Returns the new path, or None if there was no folder.

        Raises Busy if a process is training the run, UserError if the folder is not a run's.
        """
        if not self.path.exists():
            return None
        with self.claimed():
            paths = (self.path.parent / f"{FORMER}{self.path.name}-{number}" for number in itertools.count(1))
            aside = next(path for path in paths if not path.exists())
            self.path.rename(aside)
        return aside

    def tidy(self) -> None:
        """Removes temporary files of an attempt that was killed while replacing a file."""
        for entry in self.path.iterdir():
            if is_temporary(entry.name):
                entry.unlink(missing_ok=True)

    def config(self) -> RunConfig | None:
        return read(self.path / "config.json", RunConfig, AGAIN)

    def summary(self) -> Summary | None:
        return read(self.path / "summary.json", Summary, ANEW)

    def pack(self) -> list[str] | None:
        """The ids of the runs that one program trains together, in order; None if the run is alone."""
        pack = read(self.path / "pack.json", PackRecord, AGAIN)
        return pack.ids if pack else None

    def write_pack(self, ids: Sequence[str]) -> None:
        write_json(self.path / "pack.json", {"format": FORMAT, "ids": list(ids)})

    def write_config(self, record: Mapping[str, Any]) -> None:
        write_json(self.path / "config.json", {"format": FORMAT, **record})

    def write_summary(self, record: Mapping[str, Any]) -> None:
        write_json(self.path / "summary.json", {"format": FORMAT, **record})

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Adds metric lines; non-finite numbers become null, since JSON has none."""
        text = "".join(json.dumps(_finite(line)) + "\n" for line in lines)
        with uncut(), open(self.path / "metrics.jsonl", "a") as file:
            file.write(text)

    def rewind(self, step: int, validated: bool = True) -> None:
        """Drops the record after `step` updates, including a torn line: training continues from there. If the validation at `step` is
        still to be made (not `validated`), its line is dropped too."""
        path = self.path / "metrics.jsonl"
        lines, damaged = read_lines(path)
        if damaged is not None and step >= 0:
            raise UserError(f"{path}: line {damaged} is damaged, and not by a kill; delete {self.path} and train again")
        bounds = {"train": step, "val": step if validated else step - 1, "test": -1}
        kept = [line for line in lines if line.step <= bounds.get(line.split, step)]
        recorded = len({line.step for line in kept if line.split == "train"})
        if recorded < step:  # a checkpoint is written after the record of its steps
            raise UserError(
                f"{path}: lacks {step - recorded} of the {step} finished steps; delete {self.path} and train again"
            )
        if path.exists():
            replace(path, "".join(json.dumps(line.plain()) + "\n" for line in kept))

    def recorded(self) -> int:
        """The number of training steps with a metric line."""
        lines, _ = read_lines(self.path / "metrics.jsonl")
        return sum(line.split == "train" for line in lines)

    def sync(self) -> None:
        """Syncs metric lines to disk: a checkpoint must not exist without the record that it continues."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            with open(path) as file:
                os.fsync(file.fileno())

    def fail(self, text: str) -> None:
        """Saves the traceback of a failed attempt."""
        replace(self.path / "failure.log", text)

    def forgive(self) -> None:
        """Removes the traceback of an earlier attempt, because the run has ended without an error."""
        (self.path / "failure.log").unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Creates a folder and its parents. Raises UserError if that is impossible (e.g. in /proc)."""
    check_text(str(path.absolute()), str(path))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if disk_trouble(error):
            raise
        raise UserError(
            f"{path}: cannot create this folder ({(error.strerror or str(error)).lower()}); choose another path"
        ) from None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replaces a file atomically: a reader sees the old text or the new one, never a part."""
    replace(path, json.dumps(_finite(value), indent=1) + "\n")


# Exactly the names that `replace` makes: a user's own hidden files are not touched.
_TEMPORARY = re.compile(
    r"\.(config\.json|pack\.json|summary\.json|metrics\.jsonl|failure\.log|index\.json|study\.json)" + SUFFIX
)


def is_temporary(name: str) -> bool:
    return _TEMPORARY.fullmatch(name) is not None
