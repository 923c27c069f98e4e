"""The table of benchmarks/grid.py and the lines below it, from its measurements. Standard library
only.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from grid_plan import Arrangement, Workload

# How far the mean test loss (nats) at a learning rate may be from ours, after the whole number of steps. The
# twin is our model with other random numbers. The nanoGPT-like model has another init and fewer parameters.
TOLERANCE = {"ours": 0.05, "twin": 0.1, "nano": 1.0}


@dataclass(frozen=True)
class Measurement:
    """One arrangement at one size, once. `cache`: cold or warm, or none where an arrangement keeps no
    programs. `seconds`: from the shell to the last number; `end`: to the end of the last process. `load`:
    that of the machine before. `results`: a mapping a run, with lr, seed, test_loss and what it did."""

    size: str
    arrangement: str
    cache: str
    repetition: int
    seconds: float
    end: float
    load: float
    results: list[dict[str, Any]]

    @property
    def unit(self) -> tuple[str, str, int]:
        """What is measured together."""
        return self.size, self.arrangement, self.repetition

    @property
    def row(self) -> tuple[str, str]:
        return self.arrangement, self.cache

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def table(
    measurements: Sequence[Measurement], arrangements: Mapping[str, Arrangement], sizes: Mapping[str, str]
) -> str:
    """Markdown: a row an arrangement, and a cell a size (key → title)."""
    measured = {each.size for each in measurements}
    columns = [size for size in sizes if size in measured]
    lines = [["s, runs an hour, × the best PyTorch", *(sizes[size] for size in columns)]]
    lines.append(["---", *["---:"] * len(columns)])
    for arrangement, cache in sorted(
        {each.row for each in measurements}, key=lambda row: (list(arrangements).index(row[0]), row[1])
    ):
        title = arrangements[arrangement].title + {"warm": ", warm cache"}.get(cache, "")
        cells = []
        for size in columns:
            row = [each for each in measurements if each.row == (arrangement, cache) and each.size == size]
            cells.append(_cell(row, measurements, arrangements) if row else "")
        lines.append([title, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(
    row: Sequence[Measurement], measurements: Sequence[Measurement], arrangements: Mapping[str, Arrangement]
) -> str:
    seconds = [each.seconds for each in row]
    cell = f"{statistics.median(seconds):,.0f} s{_range(seconds, '{:,.0f}')}"
    cell += f", {statistics.median(3600 * len(each.results) / each.seconds for each in row):,.0f} an hour"
    ratios = [best.seconds / each.seconds for each in row if (best := best_rival(each, measurements, arrangements))]
    return f"{cell}, {statistics.median(ratios):.2f} ×{_range(ratios, '{:.2f}')}" if ratios else cell


def _range(values: Sequence[float], form: str) -> str:
    """` (minimum–maximum)` of several values."""
    return f" ({form.format(min(values))}–{form.format(max(values))})" if len(values) > 1 else ""


def best_rival(
    measurement: Measurement, measurements: Iterable[Measurement], arrangements: Mapping[str, Arrangement]
) -> Measurement | None:
    """The fastest PyTorch arrangement of the same size and repetition, with a cache in the same state. One
    that keeps no programs stands beside a cold and a warm cache."""
    states = {"none", measurement.cache if measurement.cache != "none" else "cold"}
    rivals = [
        each
        for each in measurements
        if arrangements[each.arrangement].kind != "ours"
        and (each.size, each.repetition) == (measurement.size, measurement.repetition)
        and each.cache in states
    ]
    return min(rivals, key=lambda each: each.seconds, default=None)


def losses(
    measurements: Sequence[Measurement],
    arrangements: Mapping[str, Arrangement],
    sizes: Mapping[str, str],
    checked: bool,
) -> tuple[list[str], bool]:
    """The mean final test losses by learning rate, a line an arrangement and size, and whether all are in
    the range of ours, if that is `checked`."""
    means: dict[tuple[str, str], dict[float, list[float]]] = {}
    for each in measurements:
        by_rate = means.setdefault((each.size, each.arrangement), defaultdict(list))
        for result in each.results:
            by_rate[result["lr"]].append(result["test_loss"])
    lines, sound = [], True
    for (size, arrangement), by_rate in means.items():
        reference = _ours(size, means, arrangements)
        tolerance = TOLERANCE[arrangements[arrangement].kind]
        words = []
        for rate, values in sorted(by_rate.items()):
            mean = statistics.fmean(values)
            words.append(f"{mean:.3f} at {rate:g}")
            # `not <=`: NaN is far as well.
            if checked and rate in reference and not abs(mean - statistics.fmean(reference[rate])) <= tolerance:
                words[-1] += f" (MORE THAN {tolerance:g} FROM OURS)"
                sound = False
        lines.append(f"- {sizes[size]}, {arrangements[arrangement].title}: {', '.join(words)}")
    return lines, sound


def _ours(
    size: str,
    means: Mapping[tuple[str, str], Mapping[float, Sequence[float]]],
    arrangements: Mapping[str, Arrangement],
) -> Mapping[float, Sequence[float]]:
    """The losses of the first arrangement of ours at a size, by learning rate; empty if there is none."""
    return next(
        (
            by_rate
            for (column, arrangement), by_rate in means.items()
            if column == size and arrangements[arrangement].kind == "ours"
        ),
        {},
    )


def check_work(measurement: Measurement, workload: Workload) -> str | None:
    """One line if a run of the measurement is missing, or did other work than was asked for."""
    pairs = sorted((result["lr"], result["seed"]) for result in measurement.results)
    if pairs != sorted(workload.runs):
        return f"{measurement.arrangement} printed the results of {len(pairs)} runs, not of all {len(workload.runs)}"
    expected = {"steps": workload.steps, "validations": workload.validations, "tests": 2, "windows": workload.windows}
    for result in measurement.results:
        for name, value in expected.items():
            if result[name] != value:
                pair = f"lr={result['lr']:g} seed={result['seed']}"
                return f"{measurement.arrangement}, {pair}: {name} is {result[name]}, not {value}"
    return None
