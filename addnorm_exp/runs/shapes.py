"""The shape of a JSON value, and the fault of a value that does not match it.

A shape is int (a count), float (any finite number), str or bool; a dict (an object with at least these keys); or one of the classes below.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from addnorm_exp.config.keys import groups, leaves


@dataclass(frozen=True)
class Maybe:
    """The shape, or null, or absent."""

    shape: Any


@dataclass(frozen=True)
class Each:
    """A list whose elements have one shape."""

    shape: Any


@dataclass(frozen=True)
class Every:
    """An object with any keys, whose values have one shape."""

    shape: Any


class Value:
    """Null, true or false, a number, text, or a list of these: what a config key may hold."""


class Name:
    """A name of a folder beside the file."""


class Science:
    """Config keys, nested or dotted; keys of the schema have values of their type."""


class Execution:
    """The config keys under `execution`, by their last name."""


def fault(value: Any, shape: Any, place: str = "") -> str | None:
    """The fault of a value, with the place in its file; None if it is valid."""
    if isinstance(shape, Maybe):
        return None if value is None else fault(value, shape.shape, place)
    if isinstance(shape, Each):
        if not isinstance(value, list):
            return _wrong(value, place, "a list")
        return _first(fault(item, shape.shape, f"{place}[{index}]") for index, item in enumerate(value))
    if isinstance(shape, Every | Mapping):
        if not isinstance(value, dict):
            return _wrong(value, place, "an object")
        parts = shape.items() if isinstance(shape, Mapping) else [(key, shape.shape) for key in value]
        inside = f"{place}." if place else ""
        return _first(
            f"{inside}{key} is missing"
            if key not in value and not isinstance(part, Maybe)
            else fault(value.get(key), part, f"{inside}{key}")
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
    faults: list[str | None] = []
    for name, item in value.items():
        dotted = f"{key}.{name}" if key else name
        label = f"{place}.{dotted}" if place else dotted
        leaf = leaves().get(dotted)
        if dotted in groups() or (leaf is None and isinstance(item, dict)):
            faults.append(_science(item, place, dotted))
        elif leaf is None or (item is None and leaf.optional):
            faults.append(fault(item, Value, label))
        else:
            shape = {int: int, float: float, bool: bool, str: str}[leaf.type]
            faults.append(fault(item, Each(shape) if leaf.sequence else shape, label))
    return _first(iter(faults))


def _first(faults: Any) -> str | None:
    return next((fault for fault in faults if fault is not None), None)


def is_number(value: Any) -> bool:
    """Whether it is a finite number that a float can hold; true and false are not numbers."""
    if type(value) is float:
        return math.isfinite(value)
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def is_count(value: Any) -> bool:
    """Whether it is a whole number of at least 0."""
    return is_number(value) and isinstance(value, int) and 0 <= value < 2**63


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | str) or is_number(value)


_PLAIN: Mapping[Any, tuple[Any, str]] = {
    int: (is_count, "a whole number of at least 0"),
    float: (is_number, "a number"),
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
    return (
        f"{place} is {abbreviated(value)}, expected {expected}"
        if place
        else f"is {abbreviated(value)}, expected {expected}"
    )


def abbreviated(value: Any) -> str:
    """A value in a message: its JSON text, cut after 40 characters."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
