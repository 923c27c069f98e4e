"""A run's folder: the record that tables and plots read, written so that a kill at any moment leaves it readable.

    config.json      what the run is; written once
    metrics.jsonl    scalars, one object a line, append-only; a torn last line is dropped on resume
    layers/          per-layer arrays in chunks (layers.py)
    summary.json     status and results; replaced whole
    checkpoints/     train/checkpoint.py's own
    lock             held by the process that trains the run

One process at a time may write. The lock is the kernel's (`flock`): it is given back by a kill -9 too, needs no heartbeat to be
trusted, and holds between machines on network file systems that support it. The heartbeat in summary.json is for people.
"""

import fcntl
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from addnorm_exp.errors import UserError

FORMAT = 1
FINISHED = ("done", "diverged")  # the statuses of a run that is not run again


class Busy(Exception):
    """Another process is training this run."""


class RunFolder:
    def __init__(self, path: Path):
        self.path = path

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Holds the folder for this process. Raises Busy where another holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "lock", "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(str(self.path)) from None
            for left in self.path.glob(".*-*"):  # of an attempt that was killed while replacing a file
                left.unlink(missing_ok=True)
            yield

    def config(self) -> dict[str, Any] | None:
        return read_json(self.path / "config.json")

    def summary(self) -> dict[str, Any] | None:
        return read_json(self.path / "summary.json")

    def write_config(self, record: Mapping[str, Any]) -> None:
        write_json(self.path / "config.json", {"format": FORMAT, **record})

    def write_summary(self, record: Mapping[str, Any]) -> None:
        write_json(self.path / "summary.json", {"format": FORMAT, **record})

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Adds metric lines; non-finite numbers become null, since JSON has none."""
        text = "".join(json.dumps(_finite(line)) + "\n" for line in lines)
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(text)

    def rewind(self, step: int) -> None:
        """Forgets what was recorded after `step` updates, a torn line included: training goes on from there."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return
        lines, damaged = read_lines(path)
        if damaged is not None and step >= 0:
            raise UserError(f"{path}: line {damaged} is damaged, and not by a kill; remove {self.path} to train anew")
        kept = [line for line in lines if line["step"] <= step and line["split"] != "test"]
        _replace(path, "".join(json.dumps(line) + "\n" for line in kept))

    def sync(self) -> None:
        """Puts metric lines on the disk: a checkpoint must not outlive the record that it goes on from."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            with open(path) as file:
                os.fsync(file.fileno())

    def fail(self, text: str) -> None:
        """Keeps the traceback of a failed attempt."""
        _replace(self.path / "failure.log", text)

    def forgive(self) -> None:
        """Removes the traceback of an earlier attempt: the run has ended well."""
        (self.path / "failure.log").unlink(missing_ok=True)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file, None where the file is missing or torn."""
    try:
        return _object(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int | None]:
    """The objects of metrics.jsonl up to the first line that is none, and that line's number if others follow it.

    A kill tears the last line only: a number says that the file is damaged.
    """
    lines = path.read_text(errors="replace").split("\n")
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(_object(line))
        except ValueError:
            return found, number if any(rest.strip() for rest in lines[number:]) else None
    return found, None


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replaces a file at once: a reader sees the old text or the new, never half of one."""
    _replace(path, json.dumps(_finite(value), indent=1) + "\n")


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
