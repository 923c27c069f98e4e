"""A table before it has a format: columns, rows of text, notes; and the same content as named numbers for CSV."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Column:
    """`key` names it in CSV and in code, `label` at the head of the printed table."""

    key: str
    label: str
    right: bool = True  # aligned right, as numbers are


@dataclass(frozen=True)
class Table:
    """`rows` are texts, one a column; `records` hold the same rows as {name: number or text}, without losses by rounding."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    records: Sequence[dict[str, Any]] = field(default=())

    def __getitem__(self, key: str) -> list[str]:
        """One column's texts."""
        index = [column.key for column in self.columns].index(key)
        return [row[index] for row in self.rows]
