"""A metric: a number with a name, a unit, a direction and a trivial value.

The record of a run lists the metrics of its task, the primary one first (`metrics` in
summary.json).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from addnorm_exp.runs.records import Summary
from addnorm_exp.runs.values import is_number


@dataclass(frozen=True)
class Metric:
    """`trivial` is what the trivial prediction scores (uniform, the majority class, the mean), None
    where that is not known before training. A diverged run scores it, and no run scores worse."""

    name: str  # the key in the record: bpb, accuracy
    label: str  # in a legend or on an axis: bits per byte
    unit: str  # behind a number: bits/byte; empty: the name stands before the number
    better: Literal["lower", "higher"]
    trivial: float | None = None
    trivially: str = "trivial"  # the name of that prediction: uniform, majority
    rescales: str | None = None  # the metric of which this one is a multiple: one of the two is enough in a picture

    @property
    def sign(self) -> float:
        """A value times the sign is lower the better it is."""
        return 1.0 if self.better == "lower" else -1.0

    @property
    def hopeless(self) -> float:
        """Worse than any value."""
        return math.inf * self.sign

    @property
    def arrow(self) -> str:
        """Behind the metric's name in a table; empty where lower is better, as of every loss."""
        return " ↑" if self.better == "higher" else ""

    @property
    def quantity(self) -> str:
        """On an axis that has the whole name: loss (bits per byte)."""
        return f"{self.rescales} ({self.label})" if self.rescales else self.label

    def improves(self, value: float, former: float) -> bool:
        """Whether a value is better than a former one. Equal ones are not."""
        return self.sign * value < self.sign * former

    def best(self, values: Iterable[float]) -> float:
        return min(values, key=lambda value: self.sign * value)

    def text(self, value: float) -> str:
        """A value in a sentence: `2.4513 bits/byte`, `accuracy 81.20 %`, `loss 0.8120`."""
        if self.unit == "%":
            return f"{self.name} {value:.2f} %"
        return f"{value:.4f} {self.unit}" if self.unit else f"{self.name} {value:.4f}"


# Those of the default task, for runs that have recorded none yet.
DEFAULT = (
    Metric("bpb", "bits per byte", "bits/byte", "lower", trivially="uniform", rescales="loss"),
    Metric("loss", "loss (nats per token)", "", "lower", trivially="uniform"),
)


def metrics_of(summary: Summary | None) -> tuple[Metric, ...]:
    """The metrics of a run by its summary; the loss, where it has recorded none yet."""
    recorded = (summary and summary.metrics) or ()
    return tuple(Metric(**{f.name: getattr(m, f.name) for f in fields(Metric)}) for m in recorded) or DEFAULT[1:]


def primary(summaries: Iterable[Summary | None]) -> Metric:
    """The metric by which runs with these summaries are compared. If some lack a metric that others
    have, the longest list counts."""
    listed = [metrics_of(summary) for summary in summaries]
    first = max(listed, key=len, default=DEFAULT[1:])[0]
    known = (m.trivial for metrics in listed for m in metrics if m.name == first.name and m.trivial is not None)
    return replace(first, trivial=next(known, None))


def named(summary: Summary | None, name: str | None) -> Metric | None:
    """The metric of this name, None if the run has no such one; without a name, the primary one."""
    metrics = metrics_of(summary)
    return metrics[0] if name is None else next((metric for metric in metrics if metric.name == name), None)


def figure(values: Mapping[str, Any], metrics: Iterable[Metric] = DEFAULT) -> str:
    """The first of the metrics that has a value, in a sentence."""
    return next((m.text(values[m.name]) for m in metrics if is_number(values.get(m.name))), "not finite")
