"""Reads the files of the record and checks their content. Other modules trust what it returns.

Every reader of config.json, summary.json, metrics.jsonl, layers/index.json and study.json uses this module. Invalid content is a
`UserError` that names the file, the place in it and the remedy. A missing file is None, because a kill may precede it.
"""

import errno
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from addnorm_exp import hints
from addnorm_exp.errors import UserError
from addnorm_exp.runs.shapes import (
    Each,
    Every,
    Execution,
    Maybe,
    Name,
    Science,
    Value,
    abbreviated,
    fault,
    is_count,
    is_number,
)

FORMAT = 1
STATUSES = ("running", "done", "diverged", "failed")

AGAIN = "delete this run's folder and run it again"
ANEW = "delete this file and run the command that trained the run again"
WHICH = "give a study's folder, e.g. runs/quickstart, or a run's --workdir"
SWEEP = "delete this file and run the sweep again, which rewrites it"


def which(directory: Path) -> str:
    """The end of an error about a folder without runs: the folder that the user probably meant, or what to give."""
    for parent in (Path("runs"), directory.parent):
        try:
            known = {entry.name: entry for entry in parent.iterdir() if (entry / "study.json").exists()}
        except OSError:
            continue
        name = hints.near(directory.stem, known)
        if name:
            return f"did you mean '{known[name]}'?"
    return WHICH


_PAIR = {"loss": Maybe(float), "bpb": Maybe(float)}
_FINAL = {"loss": float, "bpb": Maybe(float)}
_FACTS = Maybe(Every(Value))
_DEVIATIONS = Every(Value)
# What the scheme brings besides its method (residual/recipe.py); older records lack it.
RESOLVED = {
    "init": str,
    "law": str,
    "deviations": _DEVIATIONS,
    "law_deviations": _DEVIATIONS,
    "embedding_norm": str,
    "embedding_scale": str,
    "embedding_scale_by_law": bool,
    "factors": str,
    "drop_path": float,
    "norm": str,
    "eps": Maybe(float),
    "eps_place": Maybe(str),
    "affine": Maybe(str),
    "gain": Maybe(str),
    "final_norm": bool,
}
CONFIG = {
    "id": Name,
    "semantics": int,
    "scheme": str,
    "science": Science,
    "execution": Maybe(Execution),
    "resolved": Maybe(RESOLVED),
    "scheme_digest": Maybe(str),
    "data": {"name": str, "sha256": str},
}
EVERY_RUN = {
    "seed": int,
    "steps": int,
    "optim": {"lr": float},
}  # keys that are added later exist only in newer records
SUMMARY = {
    "title": Maybe(str),
    "status": str,
    "reason": Maybe(str),
    "step": Maybe(int),
    "steps": Maybe(int),
    "started": Maybe(float),
    "heartbeat": Maybe(float),
    "finished": Maybe(float),
    "val": Maybe({"final": Maybe(_PAIR), "best": Maybe(_PAIR)}),
    "test": Maybe({"final": Maybe(_PAIR), "best": Maybe(_PAIR)}),
    "uniform": Maybe(_PAIR),
    "diverged": Maybe({"step": int, "cause": str, "value": Maybe(float)}),
    "parameters": Maybe(int),
    "flops_per_token": Maybe(float),
    "step_time_s": Maybe(float),
    "record_time_s": Maybe(float),
    "train_time_s": Maybe(float),
    "compile_time_s": Maybe(float),
    "keep": Maybe(str),
    "saved": Maybe(Every({"file": str, "step": int, "sha256": str})),
    "confounds": _FACTS,
    "versions": _FACTS,
    "device": _FACTS,
    "attempts": Maybe(
        Each({"versions": _FACTS, "device": _FACTS, "execution": Maybe(Execution), "from_step": Maybe(int)})
    ),
}
DONE = {
    "scheme": str,
    "val": {"final": _FINAL},
    "test": {"final": _FINAL},
    "step": int,
    "steps": int,
    "step_time_s": float,
}
DIVERGED = {"scheme": str, "diverged": {"step": int, "cause": str}, "uniform": _FINAL}
STUDY = {
    "name": str,
    "file": str,
    "phases": Every(Each({"id": Name, "overrides": Science})),
    "tuned": Each(str),
    "group": Each(str),
    "baseline": Maybe(str),
    "waiting": Maybe(int),
    "twins": Maybe({"among": Each(str), "groups": Each(Each(str))}),
    "published": Maybe(Each({"value": Value, "metric": str, "source": str})),
}
INDEX = {"sites": Each(str), "tensors": Each(str), "attention_sites": Each(str)}


def read_config(path: Path) -> dict[str, Any] | None:
    config = read_object(path, CONFIG, AGAIN)
    if config is not None:
        _refuse(path, fault(config["science"], EVERY_RUN, "science"), AGAIN)
    return config


def read_summary(path: Path) -> dict[str, Any] | None:
    """The summary of a run. A done run has its final validation in it, a diverged run the step of its divergence."""
    summary = read_object(path, SUMMARY, ANEW)
    if summary is not None:
        if summary["status"] not in STATUSES:
            raise UserError(
                f"{path}: status is {abbreviated(summary['status'])}, expected {' | '.join(STATUSES)}; {ANEW}"
            )
        more = {"done": DONE, "diverged": DIVERGED}.get(summary["status"], {})
        _refuse(path, fault(summary, more), ANEW)
    return summary


def read_pack(path: Path) -> list[str] | None:
    pack = read_object(path, {"ids": Each(Name)}, AGAIN)
    return None if pack is None else pack["ids"]


def read_study(path: Path) -> dict[str, Any] | None:
    return read_object(path, STUDY, SWEEP)


def read_object(path: Path, shape: Mapping[str, Any], remedy: str, *, formed: bool = True) -> dict[str, Any] | None:
    """The JSON object in a file, with this shape and (`formed`) our format version; None if there is no file."""
    text = read_text(path, remedy)
    if text is None:
        return None
    try:
        value = _object(text)
    except ValueError:
        raise UserError(f"{path}: is not a readable JSON object; {remedy}") from None
    version = value.get("format", FORMAT) if "format" in value or not formed else None
    if version is None:
        raise UserError(f"{path}: unrecognised file (it has no 'format'); {remedy}")
    if version != FORMAT:
        raise UserError(
            f"{path}: has format {abbreviated(version)}, but this version reads format {FORMAT}; use the version that wrote it"
        )
    _refuse(path, fault(value, shape), remedy)
    return value


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int | None]:
    """The lines of metrics.jsonl up to the first invalid one, and that one's number if others follow it; ([], None) without a file.

    A kill tears only the last line, so a number means that the file is damaged.
    """
    lines = (read_text(path, AGAIN) or "").split("\n")
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(_line(line))
        except ValueError:
            return records, number if any(rest.strip() for rest in lines[number:]) else None
    return records, None


class LineReader:
    """The lines of a growing metrics.jsonl, each once."""

    def __init__(self, path: Path):
        self.path = path
        self._offset = self._number = 0  # bytes and lines read so far
        self._torn: int | None = None  # the number of an invalid line: torn by a kill, unless others follow

    def read(self) -> list[dict[str, Any]]:
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
            except ValueError:
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


def _line(text: str) -> dict[str, Any]:
    value = _object(text)
    count, words = is_count(value.get("step")), ("split", "weights")
    if not count or not isinstance(value.get("split"), str) or not isinstance(value.get("weights"), str | None):
        raise ValueError("not a line of metrics")
    if not all(
        item is None or is_number(item) for key, item in value.items() if key not in words
    ):  # without `fault`, for speed: there are many lines
        raise ValueError("not a number")
    return value


def _object(text: str) -> dict[str, Any]:
    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is not JSON")

    try:
        value = json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair raises UnicodeEncodeError, a ValueError
    return value


def _refuse(path: Path, wrong: str | None, remedy: str) -> None:
    if wrong is not None:
        raise UserError(f"{path}: {wrong}; {remedy}")
