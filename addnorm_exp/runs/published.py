"""A published number, as in a study file and in study.json.

PUBLISHED = [{"scheme": "post_ln", "value": 34.15, "metric": "test BLEU", "source": "Author et al. 2020, table 1"}]

A value may be text ("34.10"), which is printed unchanged: a number does not show how many digits its source gave.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from addnorm_exp.runs.values import is_number

WORDS = ("value", "metric", "source")  # of an entry; its other keys say which rows it belongs to


@dataclass(frozen=True)
class Published:
    """A published number, and its text if the entry has one. `row`: config keys and values of the rows that it is compared with."""

    value: float
    metric: str
    source: str
    row: Mapping[str, Any]
    text: str | None = None

    def matches(self, flat: Mapping[str, Any]) -> bool:
        return all(key in flat and same(flat[key], value) for key, value in self.row.items())


def same(one: Any, other: Any) -> bool:
    """Whether two config values are equal; true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def read_entry(entry: Any) -> Published:
    """An entry of a study file or of study.json. Raises ValueError with a message if it is invalid."""
    if not isinstance(entry, Mapping):
        raise ValueError("is not a dict")
    for word in WORDS:
        if word not in entry:
            raise ValueError(f"has no '{word}'")
    value, text = _number(entry["value"])
    for word in ("metric", "source"):
        if not isinstance(entry[word], str) or not entry[word].strip():
            raise ValueError(f"has {word} {entry[word]!r}, which must be text")
    row = {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items() if key not in WORDS}
    if not row:
        raise ValueError("names no row, e.g. 'scheme': 'pre_ln'")
    return Published(value, " ".join(entry["metric"].split()), " ".join(entry["source"].split()), row, text)


def _number(entry: Any) -> tuple[float, str | None]:
    """The number, and its text if the entry is text."""
    value, text = entry, None
    if isinstance(entry, str):
        with suppress(ValueError):
            value, text = float(entry), entry.strip()
    if not is_number(value):
        raise ValueError(f"has value {entry!r}, which is not a finite number")
    return value, text


def written(entry: Published) -> dict[str, Any]:
    """The entry as a study file has it."""
    return {
        **entry.row,
        "value": entry.value if entry.text is None else entry.text,
        "metric": entry.metric,
        "source": entry.source,
    }
