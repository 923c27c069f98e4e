"""Rows of a probe: measured for many schemes and depths, stored as CSV, summarised as log-log slopes against depth."""

import csv
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TextIO

import numpy as np

from addnorm_exp.probe import settings
from addnorm_exp.probe.measure import measure
from addnorm_exp.residual import Scheme

# The block at which a quantity is compared over depths, the same under every scheme: the output; the last block for quantities that not
# every scheme has at the output (a state of several arrays is not a stream); the first block for the stream's gradient.
END: dict[str, Callable[[int], int]] = {
    "stream_ms": lambda depth: depth - 1,
    "grad_w2": lambda depth: depth - 1,
    "grad_stream": lambda depth: 0,
    "sensitivity": lambda depth: depth,
    "token_similarity": lambda depth: depth,
    "attn_entropy": lambda depth: depth - 1,
}


@dataclass(frozen=True)
class Measurement:
    """One line of probe.csv: a mean over seeds. `block` is 0 at the embedding and `depth` at the output."""

    scheme: str
    setting: str
    depth: int
    block: int
    quantity: str
    value: float


def measurements_of(
    scheme: Scheme, setting: str, depths: Sequence[int], width: int, seeds: int, text: np.ndarray
) -> list[Measurement]:
    """All measurements of one scheme in one setting, sorted by depth, quantity and block."""
    deepest_first = sorted(depths, reverse=True)
    problems = (
        settings.batch(scheme.name, depth, width, seeds, text)
        if setting == "batch"
        else settings.theory(scheme, depth, width, seeds)
        for depth in deepest_first
    )
    rows = [
        Measurement(scheme.name, setting, depth, one.block, one.quantity, one.value)
        for depth, values in zip(deepest_first, measure(problems), strict=True)
        for one in values
    ]
    order = list(END)
    return sorted(rows, key=lambda row: (row.depth, order.index(row.quantity), row.block))


class Probed:
    """Rows by scheme, setting, quantity and depth."""

    def __init__(self, rows: Iterable[Measurement]):
        self.rows = list(rows)
        self._curves: dict[tuple[str, str, str, int], dict[int, float]] = {}
        for row in self.rows:
            self._curves.setdefault((row.scheme, row.setting, row.quantity, row.depth), {})[row.block] = row.value

    @functools.cached_property
    def schemes(self) -> list[str]:
        return list(dict.fromkeys(row.scheme for row in self.rows))

    @functools.cached_property
    def depths(self) -> list[int]:
        return sorted({row.depth for row in self.rows})

    def curve(self, scheme: str, setting: str, quantity: str, depth: int) -> dict[int, float]:
        """Block → value; empty without measurements."""
        return self._curves.get((scheme, setting, quantity, depth), {})

    def end(self, scheme: str, setting: str, quantity: str, depth: int) -> float | None:
        """The value at the quantity's end (`END`)."""
        return self.curve(scheme, setting, quantity, depth).get(END[quantity](depth))

    def slope(self, scheme: str, setting: str, quantity: str) -> float | None:
        """The least-squares slope of log(end) against log(depth). None with fewer than two depths, or a value that is 0 or not finite."""
        ends = [(depth, self.end(scheme, setting, quantity, depth)) for depth in self.depths]
        points = [(depth, value) for depth, value in ends if value is not None]
        if len(points) < 2 or not all(value > 0 and math.isfinite(value) for _, value in points):
            return None
        x, y = np.log(np.array(points)).T
        return float(np.polyfit(x, y, 1)[0])


def write(rows: Iterable[Measurement], file: TextIO) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(field.name for field in fields(Measurement))
    writer.writerows(_texts(rows))


def _texts(rows: Iterable[Measurement]) -> Iterator[tuple]:
    for row in rows:
        *key, value = astuple(row)
        yield (*key, f"{value:.6g}")
