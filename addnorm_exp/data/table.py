"""Labelled text from a table: CSV or TSV with the columns text and label, in UTF-8 or Latin-1.

The content of a file decides how it is read, not its name. In CSV a field may be quoted (RFC 4180),
and a semicolon may stand for the comma. TSV has no quoting: a tab or a line break cannot stand
inside a field.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from addnorm_exp.data import formats
from addnorm_exp.errors import UserError
from addnorm_exp.words import counted

COLUMNS = ("text", "label")
LARGEST = 2**31 - 1  # bytes of a file
LISTED = 3  # malformed rows that an error names


class Example(NamedTuple):
    """`line` is where the row begins in the file, counted from 1."""

    text: str
    label: str
    line: int


class LabelledTable(NamedTuple):
    """`notes` say how the file was read where that is not plain, a line each."""

    examples: tuple[Example, ...]
    notes: tuple[str, ...]


def read(data: bytes, name: str, where: str) -> LabelledTable:
    """The examples of a file of these bytes, in its order. `name` opens each note, `where` each
    error.

    A header is a first row that names both columns, in any order and among others. Without one the
    columns are text, label.

    Raises:
      UserError: a file that is not text or cannot be unpacked; malformed rows, named by line.
    """
    content = formats.unpacked(data, name, where, LARGEST)
    kind = None if content.decoded else formats.likeness(content.data)
    if kind:
        raise UserError(
            f"{where} is not text but looks like {kind}; name a CSV or TSV file with the columns text and label"
        )
    notes = content.notes
    try:
        text = content.data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.data.decode("latin-1")
        notes = (*notes, f"{name} is not in UTF-8; it is read as Latin-1")
    return LabelledTable(tuple(_examples(text, where)), notes)


def _examples(text: str, where: str) -> Iterator[Example]:
    if text.lstrip().startswith('{"'):
        raise UserError(f"{where} is JSON; save it as CSV or TSV with the columns text and label")
    delimiter = _delimiter(text)
    if delimiter is None:
        raise UserError(f"{where} has one column; separate the columns text and label by a tab or a comma")
    rows = _rows(text, delimiter, where)
    columns, width = (0, 1), 2
    malformed: list[tuple[int, str]] = []
    for number, (line, row) in enumerate(rows):
        if number == 0 and (header := _header(row, where)) is not None:
            columns, width = header, len(row)
            continue
        if len(row) != width:
            malformed.append((line, f"has {counted(len(row), 'column')}, not {width}"))
            continue
        cells = [row[column].strip() for column in columns]
        if all(cells):
            yield Example(cells[0], cells[1], line)
        else:
            malformed.append((line, f"has no {COLUMNS[cells.index('')]}"))
    if malformed:
        raise UserError(f"{where}: {_in_words(malformed)}; {_remedy(delimiter)}")


def _delimiter(text: str) -> str | None:
    """Decided by the first line that has one: the delimiter that makes it a header, else a tab, a
    comma or a semicolon, in this order."""
    for line in io.StringIO(text):
        if candidates := [delimiter for delimiter in "\t,;" if delimiter in line]:
            headers = (d for d in candidates if set(COLUMNS) <= set(_names(line.split(d))))
            return next(headers, candidates[0])
    return None


def _names(row: Iterable[str]) -> list[str]:
    return [cell.strip().strip('"').strip().lower() for cell in row]


def _header(row: list[str], where: str) -> tuple[int, int] | None:
    """Where the columns text and label stand; None if the row names no columns."""
    names = _names(row)
    if not set(COLUMNS) <= set(names):
        return None
    for column in COLUMNS:
        if names.count(column) > 1:
            raise UserError(f"{where}: its header names {column} twice; rename one of the columns")
    return names.index("text"), names.index("label")


def _rows(text: str, delimiter: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, each with the line on which it begins."""
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL,
        strict=True,
    )
    limit = csv.field_size_limit(LARGEST)
    line = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{where}: the row that begins on line {line} is malformed ({error}); close each quoted field, and write a quote "
            'inside one as ""'
        ) from None
    finally:
        csv.field_size_limit(limit)


def _in_words(malformed: list[tuple[int, str]]) -> str:
    """`line 3 has 1 column, not 2; line 9 has no label; and 4 more rows`."""
    words = [f"line {line} {reason}" for line, reason in malformed[:LISTED]]
    more = len(malformed) - LISTED
    return "; ".join([*words, *([f"and {counted(more, 'more row')}"] if more > 0 else [])])


def _remedy(delimiter: str) -> str:
    if delimiter == "\t":
        return "a row has one line, and a tab stands only between columns"
    name = "comma" if delimiter == "," else "semicolon"
    return f'put a field that contains a {name} in quotes ("…"), or save the table with tabs'
