"""Published numbers beside ours: one column per metric, with its sources below the table. They enter no statistic."""

import itertools
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from addnorm_exp.report.protocol.groups import Group, Reported
from addnorm_exp.report.protocol.outcome import NOTHING
from addnorm_exp.runs.published import Published


@dataclass(frozen=True)
class Side:
    """One column: the numbers of one metric, with a text and the numbers for CSV for every row."""

    metric: str
    texts: Sequence[str]
    records: Sequence[dict[str, Any]]


def sides(entries: Sequence[Published], report: Reported) -> list[Side]:
    """One column for each published metric for which a row has a number; marks [a], [b], … name the sources."""
    marks = _marks(entries, report)
    columns = []
    for metric in dict.fromkeys(entry.metric for entry in entries):
        of = [[e for e in entries if e.metric == metric and _applies(e, group)] for group in report.groups]
        if not any(of):
            continue
        # An entry that is text is unchanged; a number has no trailing zeros.
        texts = [", ".join(f"{e.text or f'{e.value:.12g}'} [{marks[e.source]}]" for e in row) or NOTHING for row in of]
        key = f"published_{'_'.join(metric.split())}"
        records = [
            {key: " ".join(f"{e.value:.12g}" for e in row), f"{key}_source": "; ".join(e.source for e in row)}
            for row in of
        ]
        columns.append(Side(metric, texts, records))
    return columns


def notes(entries: Sequence[Published], report: Reported) -> list[str]:
    """A note with the sources, which says that the numbers are not ours."""
    marks = _marks(entries, report)
    if not marks:
        return []
    sources = "; ".join(f"[{mark}] {source}" for source, mark in marks.items())
    return [f"Published numbers come from other set-ups and enter no statistic: {sources}."]


def _applies(entry: Published, group: Group) -> bool:
    return bool(group.runs) and all(entry.matches(run.flat) for run in group.runs)


def _marks(entries: Sequence[Published], report: Reported) -> dict[str, str]:
    """A letter for each source of a number in the table, in order of appearance."""
    used = dict.fromkeys(e.source for e in entries if any(_applies(e, group) for group in report.groups))
    return dict(zip(used, _letters(), strict=False))


def _letters() -> Iterator[str]:
    """a … z, aa, ab, …"""
    for size in itertools.count(1):
        yield from map("".join, itertools.product(string.ascii_lowercase, repeat=size))
