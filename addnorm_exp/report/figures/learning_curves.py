"""The picture of training: the primary metric of validation and, smoothed, of training against optimiser steps, one line per group.

With five or more seeds: the mean with its 95 % band. If bands overlap too much, one bar per row after the last step shows the interval
there instead. With fewer seeds: every seed thin, their mean thick. If a seed diverged, the thick line is the median with diverged runs
as worst (never a mean of the others), and a × marks each end. While no run has finished, each running one is drawn as far as it has
come, and the titles say so.

If one panel cannot show all rows, each row has a small panel (multiples.py), in one figure for validation and one for training.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from addnorm_exp.report.figures import multiples, style
from addnorm_exp.report.figures.looks import Looks
from addnorm_exp.report.figures.multiples import Polyline
from addnorm_exp.report.protocol.groups import Group, Reported
from addnorm_exp.report.protocol.metric import primary_of
from addnorm_exp.report.protocol.statistics import ENOUGH, t_quantile
from addnorm_exp.report.run import Run, read_metrics
from addnorm_exp.runs.metrics import Metric
from addnorm_exp.runs.winners import Pairs

POINTS = 800  # of a training curve at most: more are not visible, and make the SVG large
BEHIND = 60  # of a curve in the background
SMOOTHED = 25  # number of windows of the running mean over a training curve
STEEP = 0.2  # share of a run at its start, which may exceed the picture

NAMES = {"val": "validation", "train": "training"}
Middle = tuple[
    np.ndarray, np.ndarray, Any
]  # steps (n,), the centre there (n,), the half-width of its interval (n,) or None


def draw(report: Reported, looks: Looks, baseline: str | None = None) -> Figure | str:
    """The figure, or a line that says what is missing. With many rows: `each` for validation, with `baseline`'s line in each panel."""
    if multiples.many(multiples.drawable(report)):
        return each(report, baseline, "val")
    drawn, running = _runs(report)
    metric = primary_of(report.runs)
    curves = {(g.key, split): _curves(drawn[g.key], split, metric) for g in report.groups for split in NAMES}
    splits = [split for split in NAMES if any(len(c[0]) > 1 for g in report.groups for c in curves[g.key, split])]
    if not splits:
        return "the reported runs have no metrics"
    fig = style.figure(style.PAGE if len(splits) > 1 else style.COLUMN, 2.4)
    # Dashes alone do not distinguish rows.
    marked = not running and (looks.crossed or len(report.groups) > len(style.LINES))
    panel_width, barred = fig.get_figwidth() / len(splits) - 0.4, False
    drawn_curves: list[Polyline] = []  # smoothed, which set the limits
    axes = np.atleast_1d(fig.subplots(1, len(splits), sharey=True))
    for panel, split in zip(axes, splits, strict=True):
        lines = {group.key: curves[group.key, split] for group in report.groups}
        window = _window(split, lines.values())
        rows = []
        for group in report.groups:
            smooth = [(steps, style.smooth(values, window)) for steps, values in lines[group.key]]
            drawn_curves += smooth
            middle = None if running else _middle(drawn[group.key], smooth, metric)
            rows.append((group, smooth, middle))
        last = _last(lines.values())
        banded = [middle for _, _, middle in rows if middle is not None and middle[2] is not None]
        bands = _apart(banded, last)
        for nth, (group, smooth, middle) in enumerate(rows):
            look = look_of(looks, group)
            _group(panel, smooth, look, running, middle, bands=bands)
            if marked and middle is not None:
                _markers(panel, middle, look, nth, len(rows))
        panel.set_xlabel("optimiser steps")
        style.title(
            panel,
            _title(metric, split, running) + f" (running mean of {window} steps)" * (window > 1),
            panel_width,
        )
        panel.set_xlim(0, last)
        panel.xaxis.set_major_locator(style.StepTicks(last))
        if banded and not bands:
            _bars(panel, [(middle, look_of(looks, group)) for group, _, middle in rows], last)
            barred = True
    axes[0].set_ylabel(metric.quantity)
    every = [run for group in report.groups for run in drawn[group.key]]
    axes[0].set_ylim(*_view(every * len(splits), drawn_curves, metric))
    for panel, split in zip(axes, splits, strict=True):
        for group in report.groups:
            _ends(panel, drawn[group.key], curves[group.key, split], look_of(looks, group))
    begun = {key for (key, _), lines in curves.items() if any(len(steps) for steps, _ in lines)}
    handles = [look_of(looks, g).handle(report.label(g), marker=marked) for g in report.groups if g.key in begun]
    lost = any(run.status == "diverged" for run in report.runs)
    handles += [style.cross_handle()] * lost + [_bar_handle()] * barred
    style.legend(fig, handles)
    return fig


def each(report: Reported, baseline: str | None, split: str) -> Figure | str:
    """Small multiples of one split's losses (`val` or `train`): one panel per row; or a line that says what is missing."""
    drawn, running = _runs(report)
    metric = primary_of(report.runs)
    curves = {group.key: _curves(drawn[group.key], split, metric) for group in report.groups}
    rows = [group for group in report.groups if any(len(steps) for steps, _ in curves[group.key])]
    if not any(len(steps) > 1 for row in rows for steps, _ in curves[row.key]):
        return f"the reported runs have no {_title(metric, split, False)}"
    window = _window(split, curves.values())
    smooth = {row.key: [(steps, style.smooth(v, window)) for steps, v in curves[row.key]] for row in rows}
    centres = {row.key: _centre(drawn[row.key], smooth[row.key], running, metric) for row in rows}
    titles = {row.key: multiples.heading(report.label(row)) for row in rows}
    fig, panels, name = multiples.in_front_of_others(report, baseline, titles, centres)
    for axes, row in zip(panels, rows, strict=True):
        middle = None if running else _middle(drawn[row.key], smooth[row.key], metric)
        _group(axes, smooth[row.key], multiples.OWN, running, middle)
    panels[0].set_xlim(0, _last(curves.values()))
    panels[0].set_ylim(
        *_view([run for row in rows for run in drawn[row.key]], [c for r in rows for c in smooth[r.key]], metric)
    )
    multiples.steps_axis(panels[0])
    for axes, row in zip(panels, rows, strict=True):
        _ends(axes, drawn[row.key], curves[row.key], multiples.OWN)
    fig.supxlabel("optimiser steps", fontsize=7.5)
    unit = f" ({metric.label})" if metric.rescales else ""
    smoothed = f", running mean of {window} steps" * (window > 1)
    fig.supylabel(f"{_title(metric, split, running)}{unit}{smoothed}", fontsize=7.5)
    handles = multiples.handles(name)
    lost = any(run.status == "diverged" for row in rows for run in drawn[row.key])
    style.legend(fig, [*handles, style.cross_handle()] if lost else handles)
    return fig


def _title(metric: Metric, split: str, running: bool) -> str:
    """`validation loss so far`: without the unit, which the axis has."""
    return f"{NAMES[split]} {metric.rescales or metric.label}{' so far' * running}"


def _window(split: str, lines: Iterable[Sequence[Polyline]]) -> int:
    longest = max(len(steps) for row in lines for steps, _ in row)
    return max(1, longest // SMOOTHED) if split == "train" else 1


def _last(lines: Iterable[Sequence[Polyline]]) -> float:
    return max(steps[-1] for row in lines for steps, _ in row if len(steps))


def _runs(report: Reported) -> tuple[dict[Pairs, tuple[Run, ...]], bool]:
    """The runs to draw, group by group, and whether they are running: the finished runs, or the running ones if none has finished."""
    finished = {group.key: group.finished for group in report.groups}
    if any(finished.values()):
        return finished, False
    return {g.key: tuple(run for run in g.runs if run.status == "running") for g in report.groups}, True


def _curves(runs: Sequence[Run], split: str, metric: Metric) -> list[Polyline]:
    """One curve per run, in the given order; empty if the run has none."""
    columns = [read_metrics(run, split) for run in runs]
    return [(c["step"], c[metric.name]) if metric.name in c else (np.empty(0), np.empty(0)) for c in columns]


def look_of(looks: Looks, group: Group) -> style.Look:
    """The look of a row; one without runs is not drawn."""
    return looks.of(group.runs[0]) if group.runs else style.look(0)


def _apart(rows: Sequence[Middle], last: float) -> bool:
    """Whether bands can be distinguished: after the steep start, each overlaps at most one other on average."""
    at = np.linspace(STEEP * last, last, 50)
    lows = [np.interp(at, steps, centre - half, right=np.nan) for steps, centre, half in rows]
    highs = [np.interp(at, steps, centre + half, right=np.nan) for steps, centre, half in rows]
    meets = [
        np.mean((lows[i] <= highs[j]) & (lows[j] <= highs[i]))
        for i in range(len(rows))
        for j in range(len(rows))
        if i != j
    ]
    return sum(meets) <= len(rows)


def _bars(axes: Axes, rows: Sequence[tuple[Middle | None, style.Look]], last: float) -> None:
    """One bar per row after the last step, side by side: the 95 % interval there."""
    bars = [(middle, look) for middle, look in rows if middle is not None and middle[2] is not None]
    room = last * min(0.25, 0.028 * len(bars))
    axes.set_xlim(0, last + room)
    axes.axvline(last, color=style.GREY, linewidth=0.5, linestyle=(0, (1, 2)))
    for nth, ((_, centre, half), look) in enumerate(bars):
        axes.errorbar(
            [last + room * (nth + 0.7) / (len(bars) + 0.4)],
            [centre[-1]],
            yerr=[half[-1]],
            color=look.colour,
            marker=look.marker,
            markersize=3,
            markerfacecolor=look.face,
            markeredgewidth=0.7,
            elinewidth=0.9,
            capsize=1.4,
            capthick=0.7,
        )


def _bar_handle() -> Line2D:
    return Line2D([], [], color=style.GREY, marker="|", linestyle="", markersize=7, label="95 % interval at the end")


def _markers(axes: Axes, middle: Middle, look: style.Look, nth: int, rows: int) -> None:
    """A few markers on a row's line, at different steps from those of other rows."""
    steps, centre, _ = middle
    at = np.interp((np.arange(4) + 1 + nth / rows) / 5, np.linspace(0, 1, len(steps)), np.arange(len(steps)))
    places = np.unique(at.astype(int))
    axes.plot(steps[places], centre[places], look.marker, color=look.colour, markerfacecolor=look.face, zorder=4)


def _group(
    axes: Axes,
    curves: list[Polyline],
    look: style.Look,
    running: bool,
    middle: Middle | None,
    *,
    bands: bool = True,
) -> None:
    """A row's line with its band, or with its seeds. Running runs, and rows whose runs all diverged, have one line per run."""
    banded = middle is not None and middle[2] is not None
    if not running and not banded and len(curves) > 1:
        for steps, values in curves:
            axes.plot(*_thin(steps, values), color=look.colour, alpha=0.4, linewidth=0.6)
    if middle is None:
        for steps, values in curves:
            axes.plot(*_thin(steps, values), color=look.colour, linestyle=look.line)
        return
    steps, centre, half = middle
    axes.plot(*_thin(steps, centre), color=look.colour, linestyle=look.line, zorder=3)
    if half is not None and bands:
        x, low = _thin(steps, centre - half)
        _, high = _thin(steps, centre + half)
        axes.fill_between(x, low, high, color=look.colour, alpha=0.22, linewidth=0)


def _centre(runs: Sequence[Run], curves: list[Polyline], running: bool, metric: Metric) -> list[Polyline]:
    """The line of a row in the background: without band and seeds, unless it has only seeds."""
    middle = None if running else _middle(runs, curves, metric)
    return [_thin(steps, values, BEHIND) for steps, values in (curves if middle is None else [middle[:2]])]


def _middle(runs: Sequence[Run], curves: list[Polyline], metric: Metric) -> Middle | None:
    """Steps (n,) that all complete curves have, the mean there (the median if a run diverged), and the half-width of its interval
    (None below five curves or if a run diverged). None if every run diverged."""
    lost = [run.status == "diverged" for run in runs]
    whole = [c for c, gone in zip(curves, lost, strict=True) if len(c[0]) and not gone]
    if not whole:
        return None
    steps = whole[0][0]
    for other, _ in whole[1:]:
        steps = np.intersect1d(steps, other)
    rows = [values[np.isin(at, steps)] for at, values in whole]
    rows += [_worst_after(curve, steps, metric.hopeless) for curve, gone in zip(curves, lost, strict=True) if gone]
    table = np.stack(rows)
    if any(lost):
        with np.errstate(invalid="ignore"):  # inf - inf if the middle two have both diverged
            centre = np.median(table, axis=0)
        return steps, np.where(np.isfinite(centre), centre, np.nan), None
    centre = table.mean(axis=0)
    if len(table) < ENOUGH:
        return steps, centre, None
    return steps, centre, t_quantile(0.975, len(table) - 1) * table.std(axis=0, ddof=1) / np.sqrt(len(table))


def _worst_after(curve: Polyline, steps: np.ndarray, worst: float) -> np.ndarray:
    """A diverged run on common steps: its values as far as it has any, then `worst`, which is infinite."""
    values = dict(zip(curve[0].tolist(), curve[1].tolist(), strict=True))
    extended = np.asarray([values.get(step, worst) for step in steps.tolist()], np.float64)
    return np.where(np.isfinite(extended), extended, worst)


def _thin(steps: np.ndarray, values: np.ndarray, most: int = POINTS) -> Polyline:
    if not len(steps):
        return steps, values
    stride = max(1, -(-len(steps) // most))
    keep = np.unique(np.append(np.arange(0, len(steps), stride), len(steps) - 1))
    return steps[keep], values[keep]


def _view(runs: Sequence[Run], curves: Sequence[Polyline], metric: Metric) -> tuple[float, float]:
    """The range of values to show: after the steep start, which would compress the interesting part. Runs that did not diverge set the
    worse limit (all runs if none is done). `curves` are those of `runs`, in the same order."""
    pairs = list(zip(runs, curves, strict=True))
    alive = any(run.status == "done" for run in runs)
    low, high = np.inf, -np.inf  # of costs, which are lower the better
    for run, (steps, values) in pairs:
        late = values[np.isfinite(values) & (steps >= STEEP * steps[-1])] if len(steps) else values
        costs = metric.sign * late
        if len(costs):
            low = min(low, float(costs.min()))
            high = max(high, float(np.quantile(costs, 0.98)) if run.status == "done" or not alive else low)
    if not np.isfinite(low):
        return 0.0, 1.0
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    ends = metric.sign * (low - pad), metric.sign * (high + pad)
    return min(ends), max(ends)


def _ends(axes: Axes, runs: Sequence[Run], curves: Sequence[Polyline], look: style.Look) -> None:
    low, high = axes.get_ylim()
    for run, (steps, values) in zip(runs, curves, strict=True):
        good = np.isfinite(values)
        if run.status == "diverged" and good.any():
            style.cross(axes, float(steps[good][-1]), float(np.clip(values[good][-1], low, high)), look.colour)
