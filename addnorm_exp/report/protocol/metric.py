"""The metric of a table: the protocol's own, one that is requested by name, or the validation loss at an equal budget.

At a budget of tokens, FLOPs or seconds, a run's number is that of its last validation at or before the budget. Nothing is interpolated,
and a run that ended before the budget has no number.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from addnorm_exp.errors import UserError, nearest
from addnorm_exp.report.protocol.groups import Group, Reported
from addnorm_exp.report.protocol.notes import LISTED
from addnorm_exp.report.protocol.outcome import Outcome, outcome
from addnorm_exp.report.run import Run, flatten, read_metrics
from addnorm_exp.runs.metrics import Metric, metrics_of, primary
from addnorm_exp.runs.values import is_number
from addnorm_exp.words import si

BUDGETS = {"tokens": "tokens", "flops": "FLOPs", "time": "s of training"}
RESULTS = ("test.", "val.", "train_loss_final")  # numbers in which a diverged run counts as worst
NO_METRICS = ("format", "heartbeat", "finished")  # numbers of a summary that measure nothing
ROUNDING = 1e-9  # of a budget, relative
UNEVEN = 0.05  # of a budget: a note names a larger spread of the rows' readings


@dataclass(frozen=True)
class Measure:
    """What a table compares its rows by. `key` names it in CSV, `label` in print; `result` says whether a diverged run counts as the worst
    (a cost has no worst)."""

    key: str
    label: str
    read: Callable[[Run], float | None]
    split: str = ""
    metric: Metric | None = None  # of the runs' task; None: another number of their summaries
    result: bool = True
    notes: tuple[str, ...] = ()
    headline: bool = False  # the protocol's own
    steps: Callable[[Run], int | None] | None = None  # the step of the reading, if it is not the last one

    def of(self, group: Group) -> Outcome:
        """The metric over the group's seeds."""
        if self.result:
            return outcome(group.runs, self.read, self.metric.hopeless if self.metric else math.inf)
        return Outcome({run.seed: v for run in group.finished if (v := self.read(run)) is not None})


@dataclass(frozen=True)
class Budget:
    """An equal budget of `axis` (one of BUDGETS) for every run: `amount`, or if None the smallest that a finished run used."""

    axis: str
    amount: float | None = None

    @property
    def flag(self) -> str:
        return f"--match={self.axis}" if self.amount is None else f"--at={self.axis}:{self.amount:g}"


def parse_budget(text: str) -> Budget:
    """`tokens:1e6`, `flops:3e15` or `time:600` (seconds)."""
    axis, _, amount = text.partition(":")
    if axis not in BUDGETS:
        raise UserError(f"--at={text}: unknown budget; {nearest(axis, BUDGETS)}, e.g. --at=tokens:1e6")
    try:
        number = float(amount)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise UserError(f"--at={text}: needs a number above 0, e.g. --at={axis}:1e6")
    return Budget(axis, number)


def primary_of(runs: Iterable[Run]) -> Metric:
    """The primary metric of the runs' task."""
    return primary(run.summary for run in runs if run.summary)


def headline(runs: Sequence[Run], *, validation: bool = False) -> Measure:
    """The protocol's metric: the primary one of the final weights on the test split; on the validation split if no run was tested, or on
    request."""
    metric = primary_of(runs)
    name = metric.name
    tested = any(run.number("test", "final", name) is not None for run in runs)
    validated = any(run.number("val", "final", name) is not None for run in runs)
    split = "val" if validation or (validated and not tested) else "test"
    note = "The metric is computed with the final weights"
    if validation:
        note += "; tuning sees only the validation split."
    else:
        note += "." if split == "test" else "; no run was tested, so it is on the validation split."
    return Measure(
        f"{split}_{name}",
        f"{split} {name}{metric.arrow}",
        lambda run: run.number(split, "final", name),
        split,
        metric,
        notes=(note,),
        headline=True,
    )


def choose(report: Reported, name: str | None, budget: Budget | None, *, validation: bool = False) -> Measure:
    """The requested metric of the reported runs.

    Raises:
        UserError: no summary has this name; no run can be read at this budget.
    """
    if name is not None and budget is not None:
        raise UserError(
            f"--metric={name} {budget.flag}: at a budget the metric is the validation loss; omit one of them"
        )
    if name is not None:
        return _named(report.runs, name)
    return _at(report, budget) if budget else headline(report.runs, validation=validation)


def _named(runs: Sequence[Run], name: str) -> Measure:
    known = sorted({key for run in runs for key in _numbers(run)})
    if name not in known:
        raise UserError(f"--metric={name}: no run in the table has this number in its summary; {nearest(name, known)}")
    path = tuple(name.split("."))
    result = name.startswith(RESULTS)
    note = f"The metric is {name} in each run's summary"
    note += "." if result else ", a cost or a fact; diverged runs are included."
    last = "loss" if name == "train_loss_final" else path[-1]
    metric = next((m for run in runs for m in metrics_of(run.summary) if m.name == last), None) if result else None
    return Measure(name, name, lambda run: run.number(*path), path[0], metric, result, (note,))


def _numbers(run: Run) -> list[str]:
    """The dotted keys of the summary's numbers."""
    flat = flatten(run.summary.plain())
    return [key for key, value in flat.items() if is_number(value) and key not in NO_METRICS]


def _at(report: Reported, budget: Budget) -> Measure:
    metric, axis = primary_of(report.runs), budget.axis
    unit = metric.name
    done = [run for run in report.runs if run.status == "done"]
    spent = {name: cost for group in report.groups for name, cost in _costs(group, axis).items()}
    if not any(run.id in spent for run in done):
        raise UserError(f"{budget.flag}: no finished run in the table has recorded its {axis} per step; omit the flag")
    totals = [cost * (run.number("step") or 0) for run in done if (cost := spent.get(run.id))]
    amount = min(totals) if budget.amount is None else budget.amount
    readings = {run.id: _reading(run, spent[run.id], amount, unit) for run in done if run.id in spent}
    read = {key: reading for key, reading in readings.items() if reading}
    if not read and max(totals) < amount * (1 - ROUNDING):
        longest = f"{si(max(totals))} {BUDGETS[axis]}"
        raise UserError(f"{budget.flag}: every finished run in the table ends before it; the longest has {longest}")
    if not read:
        raise UserError(
            f"{budget.flag}: no finished run in the table that reaches it has a validation before it in its record; choose a larger budget"
        )
    why = ", the smallest that a finished run used" if budget.amount is None else ""
    lags = [1 - step * spent[key] / amount for key, (step, _) in read.items()]
    lines = [
        f"The metric is the validation {unit} at an equal budget of {si(amount)} {BUDGETS[axis]}{why}: each run's last validation at or "
        f"before it, {_range(lags)} of the budget earlier; nothing is interpolated."
    ]
    if max(lags) - min(lags) > UNEVEN:
        lines.append(
            "Runs that are read earlier are at a disadvantage; for a finer comparison, validate more often (eval.every)."
        )
    if axis == "time":
        lines.append(
            "Time is steps × the row's median step time: without compilation and evaluation, on the machine of the runs under its "
            "load at the time."
        )
    if any(step < (run.number("steps") or 0) for run in done if run.id in read for step, _ in (read[run.id],)):
        lines.append(
            "Runs that continue beyond the budget are read before their learning-rate schedule ends; a run planned for this budget would "
            "reach another loss."
        )
    short = [
        f"{report.label(g)} seed {r.seed}" for g in report.groups for r in g.runs if r in done and r.id not in read
    ]
    if short:
        more = f" and {len(short) - LISTED} more" if len(short) > LISTED else ""
        lines.append(
            f"No number for runs that ended, or were not validated, before the budget: {'; '.join(short[:LISTED])}{more}."
        )
    return Measure(
        f"val_{unit}_at_{axis}",
        f"val {unit} at {si(amount)} {BUDGETS[axis]}{metric.arrow}",
        lambda run: read[run.id][1] if run.id in read else None,
        "val",
        metric,
        notes=tuple(lines),
        steps=lambda run: read[run.id][0] if run.id in read else None,
    )


def _costs(group: Group, axis: str) -> dict[str, float]:
    """The cost of one optimiser step on this axis, by run id; without runs whose summary lacks it, or that made no step.

    For time, the row's median counts: its seeds run one program, and other load on the machine must not decide where each is read.
    """
    costs = {run.id: cost for run in group.finished if (cost := _cost(run, axis))}
    return dict.fromkeys(costs, median(costs.values())) if axis == "time" and costs else costs


def _cost(run: Run, axis: str) -> float | None:
    step, tokens = run.number("step"), run.number("tokens")
    if not step:
        return None
    if axis == "time":
        return run.number("step_time_s")
    if tokens is None:
        batch, length = run.flat.get("batch_size"), run.flat.get("seq_len")
        tokens = float(batch * length) * step if batch and length else None
    each = 1.0 if axis == "tokens" else run.number("flops_per_token")
    return tokens / step * each if tokens and each else None


def _reading(run: Run, cost: float, amount: float, unit: str) -> tuple[int, float] | None:
    """Step and value of the last validation after training began and at or before the budget; None if the run ended before it."""
    if cost * (run.number("step") or 0) < amount * (1 - ROUNDING):
        return None
    columns = read_metrics(run, "val")
    if unit not in columns:
        return None
    readings = [
        (int(step), float(value))
        for step, value in zip(columns["step"], columns[unit], strict=True)
        if 0 < step * cost <= amount * (1 + ROUNDING) and math.isfinite(value)
    ]
    return readings[-1] if readings else None


def _range(lags: Sequence[float]) -> str:
    low, high = (f"{100 * max(0.0, lag):.3g}" for lag in (min(lags), max(lags)))
    return f"{low} %" if low == high else f"{low} % to {high} %"
