"""The picture of tuning: the final validation, in the primary metric, against the learning rate, one line per scheme, one dot per seed.

Every point is at its own rate. Markers of later schemes are smaller and translucent, so that none hides another; crosses at one rate
differ in size for the same reason. A diverged run is at the trivial prediction's value (of language modelling: the uniform one), as the
protocol scores it, and is marked ×. The means are those of the protocol (runs/winners.py): a run that ended worse than that has its dot
there, but counts as trivial.

If one panel cannot show all schemes, each row has a small panel (multiples.py), whatever axes it differs in. There, if the trivial
prediction lies far above the rest, each × is below the upper frame, and the legend says so.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from addnorm_exp.report.figures import multiples, style
from addnorm_exp.report.figures.looks import Looks, looks_of
from addnorm_exp.report.load import StudyRuns
from addnorm_exp.report.protocol.groups import Group, Reported
from addnorm_exp.report.protocol.learning_rates import KEY, Line, tried
from addnorm_exp.runs.metrics import Metric

SIZES = (5.4, 2.8)  # of the means' markers, from the first scheme to the last
FAR = 1.6  # the trivial prediction gets its own strip if it lies more than this many heights of the rest above the rest
TRIVIAL: dict[str, Any] = {"color": style.GREY, "linestyle": (0, (2, 2)), "linewidth": 0.8, "zorder": 1}


def draw(study: StudyRuns, report: Reported) -> Figure | str:
    """The figure, or a line that says what is missing."""
    trials = tried(study)
    if trials is None:
        return "no finished runs at two or more learning rates"
    runs, panels, metric = trials.runs, trials.panels, trials.metric
    trivial = metric.trivial
    lost = any(run.status == "diverged" for run in runs)
    finals = [v for run in runs if run.status == "done" and (v := run.number("val", "final", metric.name)) is not None]
    split = bool(
        lost
        and trivial
        and finals
        and trivial - max(finals) > FAR * max(max(finals) - min(finals), 0.02 * abs(trivial))
    )
    if multiples.many(max(panels.values(), key=len)):
        within = [*finals, *([trivial] if trivial is not None and lost and not split else [])]
        if not within:
            return f"the tuning runs have no final validation {metric.name}"
        return _each(
            Reported("tune", trials.groups, trials.axes, {}, titles=report.titles),
            study.baseline,
            metric,
            lost,
            _view(within),
        )
    across = min(len(panels), 3)
    down = math.ceil(len(panels) / across)
    looks = looks_of(study, report, free=(KEY,))
    first = {run.scheme: run for run in reversed(runs)}
    handles = [
        looks.of(first[name]).handle(report.words([("scheme", name)]), marker=True)
        for name in looks.names
        if name in first
    ]
    handles += [*([style.cross_handle()] if lost else []), _ring(trials.groups, metric)]
    fig = style.figure(style.COLUMN if across == 1 else style.PAGE, 2.45 * down + 0.1)
    style.legend(fig, handles)
    outer = fig.add_gridspec(down, across)
    mains: list[Axes] = []
    for index, (key, members) in enumerate(panels.items()):
        cell = outer[index // across, index % across]
        if split:
            grid = cell.subgridspec(2, 1, height_ratios=(1, 6), hspace=0.06)
            top = fig.add_subplot(grid[0])
            main = fig.add_subplot(grid[1], sharey=mains[0] if mains else None)
        else:
            top = main = fig.add_subplot(cell, sharey=mains[0] if mains else None)
        mains.append(main)
        _panel(main, top, members, looks, metric)
        if key:
            style.title(top, report.words(key), fig.get_figwidth() / across - 0.4)
        if index % across == 0:
            main.set_ylabel(_title(metric))
    if split:
        mains[0].set_ylim(*_view(finals))
    return fig


def _each(rows: Reported, baseline: str | None, metric: Metric, lost: bool, view: tuple[float, float]) -> Figure:
    """Small multiples, one panel per row: its seeds and means in front of the other rows' means."""
    trivial = metric.trivial if lost else None
    by_row = {group.key: Line.of(group, metric) for group in rows.groups}
    lines = {key: [(np.asarray([*row.means]), np.asarray([*row.means.values()]))] for key, row in by_row.items()}
    titles = {group.key: multiples.heading(rows.label(group)) for group in rows.groups}
    fig, panels, name = multiples.in_front_of_others(rows, baseline, titles, lines)
    panels[0].set_ylim(*view)
    beyond = trivial is not None and trivial > view[1]
    top = view[1] - 0.06 * (view[1] - view[0])  # a × on the frame would overlap the title
    for axes, row in zip(panels, by_row.values(), strict=True):
        _row(axes, row, multiples.OWN, ring=6)
        for rate, value in row.points(diverged=True):
            style.cross(axes, rate, min(value, top), multiples.OWN.colour)
        if trivial is not None and not beyond:
            axes.axhline(trivial, **TRIVIAL)
    rates = sorted({rate for row in by_row.values() for rate in row.scored})
    _rates_axis(panels[0], rates, most=3)
    fig.supxlabel("peak learning rate", fontsize=7.5)
    fig.supylabel(_title(metric), fontsize=7.5)
    handles = [*multiples.handles(name), _ring(rows.groups, metric)]
    if trivial is not None:
        cross = style.cross_handle()
        cross.set_label("diverged" + f" ({metric.trivially}, {trivial:.3g}: above the axis)" * beyond)
        handles += [cross] if beyond else [cross, Line2D([], [], **TRIVIAL, label=f"{metric.trivially} prediction")]
    style.legend(fig, handles)
    return fig


def _title(metric: Metric) -> str:
    return f"final validation {metric.quantity}"


def _view(losses: list[float]) -> tuple[float, float]:
    pad = 0.07 * (max(losses) - min(losses)) or 0.02 * abs(max(losses))
    return min(losses) - pad, max(losses) + pad


def _ring(groups: Iterable[Group], metric: Metric) -> Line2D:
    """The legend entry of the rings; a rate with one seed has no mean."""
    several = any(len(scored) > 1 for group in groups for scored in Line.of(group, metric).scored.values())
    label = "best mean" if several else "chosen rate"
    return Line2D([], [], color=style.GREY, marker="o", markersize=7, markerfacecolor="none", linestyle="", label=label)


def _panel(main: Axes, top: Axes, groups: list[Group], looks: Looks, metric: Metric) -> None:
    names = looks.names
    rates = sorted({float(run.flat[KEY]) for group in groups for run in group.runs})
    lost = {
        rate: sorted(
            {
                names.index(run.scheme)
                for g in groups
                for run in g.runs
                if run.status == "diverged" and float(run.flat[KEY]) == rate
            }
        )
        for rate in rates
    }
    for group in groups:
        index = names.index(group.runs[0].scheme)
        look = looks.of(group.runs[0])
        row = Line.of(group, metric)
        for rate, value in row.points(diverged=True):
            behind = len(lost[rate]) - 1 - lost[rate].index(index)  # crosses that are drawn later
            style.cross(top, rate, value, look.colour, size=5 + min(2.5, 10 / len(lost[rate])) * behind)
        _row(main, row, look, size=SIZES[0] + (SIZES[1] - SIZES[0]) * index / max(1, len(names) - 1))
    _rates_axis(main, rates)
    main.set_xlabel("peak learning rate")
    if top is not main:
        _strip(main, top, metric)
    elif metric.trivial is not None and any(run.status == "diverged" for group in groups for run in group.runs):
        _trivial_line(main, metric)


def _row(axes: Axes, row: Line, look: style.Look, ring: float = 8.5, size: float = 3.6) -> None:
    """A row's dots, means and ring, without its crosses; `size` of the means' markers."""
    colour = look.colour
    for rate, value in row.points(diverged=False):
        axes.plot([rate], [value], look.marker, color=colour, markersize=2.4, alpha=0.6, markeredgewidth=0)
    axes.plot(
        [*row.means],
        [*row.means.values()],
        color=colour,
        markersize=size,
        linestyle=look.line,
        marker=look.marker,
        markevery=[i for i, ok in enumerate(row.clear) if ok],
        zorder=3,
        markerfacecolor=look.face if look.open else to_rgba(look.face, 0.7),
    )
    if row.best is not None:
        best = row.means[row.best]
        axes.plot([row.best], [best], "o", color=colour, markersize=ring, markerfacecolor="none", markeredgewidth=0.8)


def _rates_axis(axes: Axes, rates: list[float], most: int | None = None) -> None:
    """A logarithmic axis with one tick per rate, of which at most `most` have labels."""
    room = math.exp(0.3 * _gap(rates))
    axes.set_xscale("log")
    axes.set_xlim(rates[0] / room, rates[-1] * room)
    named = rates
    if most is not None and len(rates) > most:
        decades = [rate for rate in rates if abs(math.log10(rate) - round(math.log10(rate))) < 1e-9]
        named = decades if 2 <= len(decades) <= most else rates[:: -(-len(rates) // most)]
    axes.set_xticks(rates, [_rate(rate) if rate in named else "" for rate in rates], minor=False)
    axes.xaxis.set_minor_locator(NullLocator())


def _gap(rates: list[float]) -> float:
    return math.log(rates[-1] / rates[0]) / max(1, len(rates) - 1) if len(rates) > 1 else 1.0


def _trivial_line(axes: Axes, metric: Metric) -> None:
    assert metric.trivial is not None
    axes.axhline(metric.trivial, **TRIVIAL)
    axes.annotate(
        f"{metric.trivially} prediction",
        (0.01, metric.trivial),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2.5),
        textcoords="offset points",
        fontsize=6.2,
        color=style.GREY,
    )


def _strip(main: Axes, top: Axes, metric: Metric) -> None:
    """The strip above the axis's break, which contains only the trivial prediction."""
    trivial = metric.trivial
    assert trivial is not None
    top.set_xscale("log")
    top.set_xlim(main.get_xlim())
    top.set_ylim(trivial - 1, trivial + 1)
    top.set_yticks([trivial], [f"{trivial:.3g}"])
    _trivial_line(top, metric)
    top.grid(False)
    top.tick_params(axis="x", which="both", bottom=False, labelbottom=False)
    top.xaxis.set_minor_locator(NullLocator())
    top.spines["bottom"].set_visible(False)
    marks: dict[str, Any] = {
        "marker": [(-1, -0.6), (1, 0.6)],
        "markersize": 5,
        "linestyle": "none",
        "color": "k",
        "mew": 0.7,
        "clip_on": False,
    }
    top.plot([0], [0], transform=top.transAxes, **marks)
    main.plot([0], [1], transform=main.transAxes, **marks)


def _rate(rate: float) -> str:
    """1e-3 and 3·10⁻⁴ rather than 0.001 and 0.0003."""
    exponent = math.floor(math.log10(rate) + 1e-9)
    factor = rate / 10.0**exponent
    return f"$10^{{{exponent}}}$" if abs(factor - 1) < 1e-9 else rf"${factor:.3g}\!\cdot\!10^{{{exponent}}}$"
