"""Numbers and values as sentences have them."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

PREFIXES = (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 run`, `2 runs`; `plural` where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def size(count: float) -> str:
    """Bytes, in powers of ten: 25.3 GB."""
    for unit, one in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:,.1f} {unit}"
    return f"{count:.0f} B"


def signed(value: float, form: str) -> str:
    """A difference or a slope by a format without a sign (".2f"): `+0.21`, `-3`; what is 0 as it is written has no sign."""
    zero, text = f"{0.0:{form}}", f"{value:+{form}}"
    return zero if text[1:] == zero else text


def figure(value: float, form: str) -> str:
    """A number by a format (".2f"); what is 0 as it is written has no sign."""
    return signed(value, form).removeprefix("+")


def aligned(rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Rows of cells as lines with aligned columns, those numbered in `right` to the right."""
    rows = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def si(value: float) -> str:
    """Three figures and a decimal prefix: 4.9 M."""
    for letter, one in PREFIXES:
        if value >= one:
            return f"{value / one:.3g} {letter}"
    return f"{value:.3g}"


def si_column(values: Sequence[float]) -> list[str]:
    """`si` for a column: one prefix, one precision."""
    letter, one = next(((a, b) for a, b in PREFIXES if max(values) >= b), ("", 1))
    places = max(len(f"{value / one:.3g}".partition(".")[2]) for value in values)
    return [f"{value / one:.{min(places, 3)}f} {letter}".rstrip() for value in values]


def duration(seconds: float) -> str:
    """In the unit that people would say it in: 0.3 s, 40 s, 3 min, 1.5 h, 12 days."""
    if 0 < seconds < 0.95:
        return f"{seconds:.1g} s"
    for unit, one, most, form in (("s", 1, 90, ".0f"), ("min", 60, 90, ".0f"), ("h", 3600, 48, ".2g")):
        if seconds < most * one:
            return f"{seconds / one:{form}} {unit}"
    return f"{seconds / 86400:.0f} days"


def show(value: Any) -> str:
    """A config value as people write it."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
