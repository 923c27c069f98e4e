"""The store's door: what a file of the record holds is checked as it is read; inside, it is trusted.

Every reader of config.json, summary.json, metrics.jsonl, layers/index.json and study.json comes through here. What no run of ours
writes is a `UserError` that names the file, the place in it and the remedy. A file that is not there is None: a kill may come before it.
"""

import errno
import json
import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addnorm_exp.config.keys import groups, leaves
from addnorm_exp.errors import UserError

FORMAT = 1
STATUSES = ("running", "done", "diverged", "failed")

AGAIN = "delete this run's folder and run it again"
ANEW = "delete this file: the command that made the run writes it anew"
SWEEP = "delete this file and run the sweep again, which writes it anew"

# Shapes: int (a count), float (any finite number), str, bool; a dict (an object with at least these keys); those below.


@dataclass(frozen=True)
class Maybe:
    """The shape, or null, or absent."""

    shape: Any


@dataclass(frozen=True)
class Each:
    """A list, each of one shape."""

    shape: Any


@dataclass(frozen=True)
class Every:
    """An object whose values, under any names, are of one shape."""

    shape: Any


class Value:
    """Null, true or false, a number, text, or a list of these: what a config key may hold."""


class Name:
    """A name of a folder beside the file."""


class Science:
    """Config keys, nested or dotted, those of the schema with values of their type."""


class Execution:
    """The config keys under `execution`, by their last name."""


_PAIR = {"loss": Maybe(float), "bpb": Maybe(float)}
_FINAL = {"loss": float, "bpb": Maybe(float)}
_FACTS = Maybe(Every(Value))
CONFIG = {
    "id": Name,
    "semantics": int,
    "scheme": str,
    "science": Science,
    "execution": Maybe(Execution),
    "data": {"name": str, "sha256": str},
}
EVERY_RUN = {
    "seed": int,
    "steps": int,
    "optim": {"lr": float},
}  # keys that may be added later are in newer records only
SUMMARY = {
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
    "train_time_s": Maybe(float),
    "compile_time_s": Maybe(float),
    "confounds": _FACTS,
    "versions": _FACTS,
    "device": _FACTS,
    "attempts": Maybe(Each({"versions": _FACTS, "device": _FACTS})),
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
    "published": Maybe(Each({"value": float, "metric": str, "source": str})),
}
INDEX = {"sites": Each(str), "tensors": Each(str), "attention_sites": Each(str)}


def read_config(path: Path) -> dict[str, Any] | None:
    config = read_object(path, CONFIG, AGAIN)
    if config is not None:
        _refuse(path, _fault(config["science"], EVERY_RUN, "science"), AGAIN)
    return config


def read_summary(path: Path) -> dict[str, Any] | None:
    """A run that is done has its final validation in it, one that diverged says where."""
    summary = read_object(path, SUMMARY, ANEW)
    if summary is not None:
        if summary["status"] not in STATUSES:
            raise UserError(f"{path}: status is {_shown(summary['status'])}, expected {' | '.join(STATUSES)}; {ANEW}")
        more = {"done": DONE, "diverged": DIVERGED}.get(summary["status"], {})
        _refuse(path, _fault(summary, more), ANEW)
    return summary


def read_study(path: Path) -> dict[str, Any] | None:
    return read_object(path, STUDY, SWEEP)


def read_object(path: Path, shape: Mapping[str, Any], remedy: str, *, formed: bool = True) -> dict[str, Any] | None:
    """The JSON object in a file, of this shape and (`formed`) of our format version; None where there is no file."""
    text = read_text(path, remedy)
    if text is None:
        return None
    try:
        value = _object(text)
    except ValueError:
        raise UserError(f"{path}: is not a readable JSON object; {remedy}") from None
    version = value.get("format", FORMAT) if "format" in value or not formed else None
    if version is None:
        raise UserError(f"{path}: is none of this program's files (it has no 'format'); {remedy}")
    if version != FORMAT:
        raise UserError(
            f"{path}: has format {_shown(version)}, this version reads format {FORMAT}; use the version that wrote it"
        )
    _refuse(path, _fault(value, shape), remedy)
    return value


def read_lines(path: Path) -> tuple[list[dict[str, Any]], int | None]:
    """The lines of metrics.jsonl up to the first that is none, and that one's number if others follow it; ([], None) without a file.

    A kill tears the last line only: a number says that the file is damaged.
    """
    lines = (read_text(path, AGAIN) or "").split("\n")
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(_line(line))
        except ValueError:
            return found, number if any(rest.strip() for rest in lines[number:]) else None
    return found, None


def read_text(path: Path, remedy: str) -> str | None:
    """A file's text, None where there is none. Bytes that are no UTF-8 become �."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: is no file; {remedy}")
        return path.read_text(encoding="utf-8", errors="replace")
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
    count, words = _PLAIN[int][0](value.get("step")), ("split", "weights")
    if not count or not isinstance(value.get("split"), str) or not isinstance(value.get("weights"), str | None):
        raise ValueError("not a line of metrics")
    if not all(
        item is None or _number(item) for key, item in value.items() if key not in words
    ):  # by hand: lines are many
        raise ValueError("not a number")
    return value


def _object(text: str) -> dict[str, Any]:
    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no JSON")

    try:
        value = json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if "\\u" in text:
        json.dumps(
            value, ensure_ascii=False
        ).encode()  # half a surrogate pair is no text: UnicodeEncodeError, a ValueError
    return value


def _refuse(path: Path, fault: str | None, remedy: str) -> None:
    if fault is not None:
        raise UserError(f"{path}: {fault}; {remedy}")


def _fault(value: Any, shape: Any, place: str = "") -> str | None:
    """What is wrong with a value, by the place in its file; None where nothing is."""
    if isinstance(shape, Maybe):
        return None if value is None else _fault(value, shape.shape, place)
    if isinstance(shape, Each):
        if not isinstance(value, list):
            return _wrong(value, place, "a list")
        return _first(_fault(item, shape.shape, f"{place}[{number}]") for number, item in enumerate(value))
    if isinstance(shape, Every | Mapping):
        if not isinstance(value, dict):
            return _wrong(value, place, "an object")
        parts = shape.items() if isinstance(shape, Mapping) else [(key, shape.shape) for key in value]
        inside = f"{place}." if place else ""
        return _first(
            f"{inside}{key} is missing"
            if key not in value and not isinstance(part, Maybe)
            else _fault(value.get(key), part, f"{inside}{key}")
            for key, part in parts
        )
    if shape is Science:
        return _science(value, place)
    if shape is Execution:
        return _science(value, "", "execution")
    holds, words = _PLAIN[shape]
    return None if holds(value) else _wrong(value, place, words)


def _science(value: Any, place: str, key: str = "") -> str | None:
    if not isinstance(value, dict):
        return _wrong(value, place or key, "an object")
    faults = []
    for name, item in value.items():
        dotted = f"{key}.{name}" if key else name
        label = f"{place}.{dotted}" if place else dotted
        leaf = leaves().get(dotted)
        if dotted in groups() or (leaf is None and isinstance(item, dict)):
            faults.append(_science(item, place, dotted))
        elif leaf is None or (item is None and leaf.optional):
            faults.append(_fault(item, Value, label))
        else:
            shape = {int: int, float: float, bool: bool, str: str}[leaf.type]
            faults.append(_fault(item, Each(shape) if leaf.sequence else shape, label))
    return _first(iter(faults))


def _first(faults: Any) -> str | None:
    return next((fault for fault in faults if fault is not None), None)


def _number(value: Any) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | str) or _number(value)


_PLAIN: Mapping[Any, tuple[Any, str]] = {
    int: (lambda value: _number(value) and isinstance(value, int) and 0 <= value < 2**63, "a whole number from 0 on"),
    float: (_number, "a number"),
    bool: (lambda value: isinstance(value, bool), "true or false"),
    str: (lambda value: isinstance(value, str), "text"),
    Value: (
        lambda value: _scalar(value) or (isinstance(value, list) and all(map(_scalar, value))),
        "a value or a list of values",
    ),
    Name: (
        lambda value: (
            isinstance(value, str) and value == Path(value).name and value.isprintable() and value not in ("", "..")
        ),
        "the name of a folder",
    ),
}


def _wrong(value: Any, place: str, expected: str) -> str:
    return f"{place} is {_shown(value)}, expected {expected}" if place else f"is {_shown(value)}, expected {expected}"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
