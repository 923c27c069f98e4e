"""Reads the files of the record and checks their content. Other modules trust what it returns.

Every reader of config.json, summary.json, metrics.jsonl, layers/index.json and study.json uses this module and gets a type of records.py.
Invalid content is a `UserError` that names the file, the place in it and the remedy. A missing file is None, because a kill may precede it.
"""

import errno
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json

from addnorm_exp import hints
from addnorm_exp.errors import UserError
from addnorm_exp.runs.records import MetricsLine, Record, StudyPlan
from addnorm_exp.runs.values import BOOL, NUMBER, OBJECT, TEXT, WHOLE

FORMAT = 1
R = TypeVar("R", bound=Record)

AGAIN = "delete this run's folder and run it again"
ANEW = "delete this file and run the command that trained the run again"
WHICH = "give a study's folder, e.g. runs/quickstart, or a run's --workdir"
SWEEP = "delete this file and run the sweep again, which rewrites it"


def which(directory: Path) -> str:
    """The end of an error about a folder without runs: the folder that the user probably meant, or what to give."""
    inside = sorted(path.parent for path in directory.glob("*/study.json"))
    if inside:
        return f"it is a folder of studies; give one of them, e.g. {inside[0]}"
    for parent in (Path("runs"), directory.parent):
        try:
            known = {entry.name: entry for entry in parent.iterdir() if (entry / "study.json").exists()}
        except OSError:
            continue
        if name := hints.near(directory.stem, known):
            return f"did you mean '{known[name]}'?"
    return WHICH


def read_plan(path: Path) -> StudyPlan | None:
    return read(path, StudyPlan, SWEEP)


def read(path: Path, kind: type[R], remedy: str, *, formed: bool = True) -> R | None:
    """The record in a file, with (`formed`) our format version; None if there is no file."""
    text = read_text(path, remedy)
    if text is None:
        return None
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{path}: is not a readable JSON object; {remedy}")
    version = value.get("format", None if formed else FORMAT)
    if version is None:
        raise UserError(f"{path}: unrecognised file (it has no 'format'); {remedy}")
    if version != FORMAT:
        raise UserError(
            f"{path}: has format {abbreviated(version)}, but this version reads format {FORMAT}; use the version that wrote it"
        )
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{path}: {fault(error)}; {remedy}") from None


EXPECTED = {
    **dict.fromkeys(("int_type", "greater_than_equal", "less_than"), WHOLE),
    **dict.fromkeys(("float_type", "finite_number"), NUMBER),
    **dict.fromkeys(("dict_type", "model_type"), OBJECT),
    "string_type": TEXT,
    "bool_type": BOOL,
    "list_type": "a list",
}


def fault(error: ValidationError) -> str:
    """The first fault of a record, with its place."""
    first = error.errors(include_url=False)[0]
    context = first.get("ctx", {})
    parts = (*first["loc"], *filter(None, [context.get("place")]))
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)[1:]
    if first["type"] == "missing":
        return f"{place} is missing"
    expected = EXPECTED.get(first["type"]) or context.get("expected", first["msg"])
    return f"{place} is {abbreviated(context.get('value', first['input']))}, expected {expected}"


def abbreviated(value: Any) -> str:
    """A value in a message: its JSON text, cut after 40 characters."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


_line = MetricsLine.__pydantic_validator__.validate_json


def read_lines(path: Path) -> tuple[list[MetricsLine], int | None]:
    """The lines of metrics.jsonl up to the first invalid one, and that one's number if others follow it; ([], None) without a file.

    A kill tears only the last line, so a number means that the file is damaged.
    """
    lines = (read_text(path, AGAIN) or "").split("\n")
    records: list[MetricsLine] = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(_line(line))
        except ValidationError:
            return records, number if any(rest.strip() for rest in lines[number:]) else None
    return records, None


class LineReader:
    """The lines of a growing metrics.jsonl, each once."""

    def __init__(self, path: Path):
        self.path = path
        self._offset = self._number = 0  # bytes and lines read so far
        self._torn: int | None = None  # the number of an invalid line: torn by a kill, unless others follow

    def read(self) -> list[MetricsLine]:
        """The complete lines since the last call. Raises UserError if the file is damaged."""
        text = _read_bytes(self.path, AGAIN, self._offset) or b""
        end = text.rfind(b"\n") + 1  # the next call returns a line that is still being written
        self._offset += end
        records = []
        for line in text[:end].decode("utf-8", "replace").split("\n")[:-1]:
            self._number += 1
            self._follows(line)
            try:
                records.append(_line(line))
            except ValidationError:
                self._torn = self._torn or self._number
        self._follows(text[end:].decode("utf-8", "replace"))
        return records

    def _follows(self, line: str) -> None:
        if self._torn is not None and line.strip():
            raise UserError(f"{self.path}:{self._torn}: is not a metrics line; {AGAIN}")


def read_text(path: Path, remedy: str) -> str | None:
    """A file's text, or None without a file. Invalid UTF-8 becomes �."""
    content = _read_bytes(path, remedy)
    return None if content is None else content.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")


def _read_bytes(path: Path, remedy: str, offset: int = 0) -> bytes | None:
    """A file's bytes from `offset` on, or None without a file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: is not a regular file; {remedy}")
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        mend = "change its permissions" if error.errno in (errno.EACCES, errno.EPERM) else remedy
        raise UserError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()}); {mend}") from None


def dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}; lists become tuples, so that values can be compared and hashed."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= dotted(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = tuple(value) if isinstance(value, list) else value
    return flat
