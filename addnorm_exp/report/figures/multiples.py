"""Small multiples: one panel per row, with the row in colour and all others in grey, if one panel would have too many lines.

Axes are shared, so that panels can be compared by eye. The baseline's line is in every panel, for direct comparison.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from addnorm_exp.report.figures import style
from addnorm_exp.report.protocol.compare import baselines
from addnorm_exp.report.protocol.groups import Reported
from addnorm_exp.runs.winners import Pairs

MANY = 12  # the most rows in one panel; with more, each row has a panel
COLUMNS = 6  # panels across a page, fewer if their titles are longer
OWN = style.Look(style.COLOURS[0], "-", ".")  # the row of the panel
EARLIER = style.Look(style.COLOURS[1], (0, (2.5, 1.2)), ".")  # the same row, at its start
BASE = "#4A4A4A"
OTHERS = "#CDCDCD"
HEADING = 20  # letters in a line of a title
LETTER = 0.056  # width of a letter of a title in inches

Polyline = tuple[Any, Any]  # x (n,), y (n,)


def many(rows: Sequence[Any]) -> bool:
    """Whether each of these rows needs its own panel."""
    return len(rows) > MANY


def drawable(report: Reported) -> list[Pairs]:
    """The rows with something to draw: finished runs, or running ones if no run has finished."""
    finished = [group.key for group in report.groups if group.finished]
    return finished or [g.key for g in report.groups if any(run.status == "running" for run in g.runs)]


def grid(titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with one panel per title, all with one scale, at most `COLUMNS` across a page. A title may have several lines."""
    lines = [title.split("\n") for title in titles]
    fit = int(style.PAGE / (0.1 + LETTER * max(len(line) for title in lines for line in title)))
    most = max(1, min(COLUMNS, fit))
    across = min(most, len(titles))
    down = math.ceil(len(titles) / across)
    tall = 1.02 + 0.11 * (max(map(len, lines)) - 1)
    fig = style.figure(max(style.COLUMN, style.PAGE * across / most), 0.4 + tall * down)
    panels = fig.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for axes in panels[len(titles) :]:
        axes.set_visible(False)
    for index, (axes, title) in enumerate(zip(panels, titles, strict=False)):
        axes.set_title(title, fontsize=6.8, pad=3)
        axes.tick_params(labelbottom=index + across >= len(titles))  # also above an empty place in the last line
    return fig, panels[: len(titles)]


def heading(label: str, more: str = "") -> str:
    """A row's label as a panel's title: one axis per line, long ones broken; `more` on its own line."""
    lines = [line for part in label.split(", ") for line in textwrap.wrap(part, HEADING, break_long_words=False)]
    return "\n".join([*lines, *([more] if more else [])])


def in_front_of_others(
    report: Reported, baseline: str | None, titles: Mapping[Pairs, str], lines: Mapping[Pairs, Sequence[Polyline]]
) -> tuple[Figure, list[Axes], str]:
    """A `grid` with a panel for each row in `titles`, in which the other rows' lines are drawn, the baseline's darker. Returns also the
    name of the baseline, which is that of the table."""
    indices, name = baselines(report, baseline, strict=False)
    bases = {
        row.key: None if j is None else report.groups[j].key for row, j in zip(report.groups, indices, strict=True)
    }
    fig, panels = grid(list(titles.values()))
    for axes, own in zip(panels, titles, strict=True):
        axes.grid(False)
        others = [line for key, curves in lines.items() if key not in (own, bases[own]) for line in curves]
        _joined(axes, others, color=OTHERS, linewidth=0.45, zorder=1)
        if (base := bases[own]) not in (None, own):
            _joined(axes, lines.get(base, ()), color=BASE, linewidth=0.9, zorder=2)
    return fig, panels, report.titled(name)


def _joined(axes: Axes, lines: Iterable[Polyline], **look: Any) -> None:
    """Many lines as one, with gaps: fifty panels of fifty lines each remain small."""
    gap = np.asarray([np.nan])
    parts = [part for x, y in lines for part in ((x, y), (gap, gap))]
    if parts:
        axes.plot(np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts]), **look)


def handles(name: str, own: str = "the panel's row") -> list[Line2D]:
    """Legend entries of a panel's own row, the baseline and the other rows."""
    return [
        OWN.handle(own),
        Line2D([], [], color=BASE, linewidth=0.9, label=f"baseline {name}"),
        Line2D([], [], color=OTHERS, linewidth=0.9, label="other rows"),
    ]


def off_axis(axes: Axes, values: Iterable[float]) -> bool:
    """Marks a panel if some of its own values lie above or below its axis; returns whether it was marked."""
    low, high = axes.get_ylim()
    known = [value for value in values if math.isfinite(value)]
    sides = [(0.95, "^")] * any(value > high for value in known) + [(0.05, "v")] * any(value < low for value in known)
    for y, marker in sides:
        axes.plot([0.96], [y], marker, transform=axes.transAxes, color=OWN.colour, markersize=3.2, markeredgewidth=0)
    return bool(sides)


def off_axis_handle() -> Line2D:
    """The legend entry of `off_axis`."""
    return Line2D(
        [],
        [],
        color=OWN.colour,
        marker="v",
        linestyle="",
        markersize=3.2,
        markeredgewidth=0,
        label="extends beyond the axis",
    )


def steps_axis(axes: Axes) -> None:
    """Few ticks on an axis of steps, 20000 as 20k."""
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=(1, 2, 5, 10)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def limits(positive: Iterable[float], outside: float = 1 / MANY, decades: float = 1.5) -> tuple[float, float]:
    """One logarithmic axis for all: the values without a share `outside` at either end, extended by `decades` on either side.

    Exploding or vanishing values lie beyond it. By default, one row's values among more than `MANY` rows do not stretch it.
    """
    values, more = list(positive), 10.0**decades
    low, high = np.quantile(values, (outside, 1 - outside))
    return max(min(values), float(low) / more) / 1.3, min(max(values), float(high) * more) * 1.3
