"""Small multiples: a panel a row, the row in colour before all others in grey, for what would be one tangle of lines.

Axes are shared, so that panels compare by eye; the baseline's line stands in every panel, for comparison by line.
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

from addnorm_exp.report import style
from addnorm_exp.report.compare import baselines
from addnorm_exp.report.groups import Reported
from addnorm_exp.runs.winners import Pairs

MANY = 12  # rows that one panel tells apart; from one more on each row has a panel
COLUMNS = 6  # panels across a page, fewer where their titles are longer
OWN = style.Look(style.COLOURS[0], "-", ".")  # the row of the panel
EARLIER = style.Look(style.COLOURS[1], (0, (2.5, 1.2)), ".")  # the same row, at its start
BASE = "#4A4A4A"
OTHERS = "#CDCDCD"
HEADING = 20  # letters of a line of a title
LETTER = 0.056  # inches that a letter of a title takes

Curve = tuple[Any, Any]  # x (n,), y (n,)


def many(rows: Sequence[Any]) -> bool:
    """Whether these rows want a panel each."""
    return len(rows) > MANY


def drawable(shown: Reported) -> list[Pairs]:
    """The rows that have something to draw: finished runs, or, while there are none at all, running ones."""
    finished = [group.key for group in shown.groups if group.finished]
    return finished or [g.key for g in shown.groups if any(run.status == "running" for run in g.runs)]


def grid(titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with a panel a title, all of one scale, at most `COLUMNS` across a page. A title may have several lines."""
    lines = [title.split("\n") for title in titles]
    fit = int(style.PAGE / (0.1 + LETTER * max(len(line) for found in lines for line in found)))
    most = max(1, min(COLUMNS, fit))
    across = min(most, len(titles))
    down = math.ceil(len(titles) / across)
    tall = 1.02 + 0.11 * (max(map(len, lines)) - 1)
    fig = style.figure(max(style.COLUMN, style.PAGE * across / most), 0.4 + tall * down)
    panels = fig.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for index, axes in enumerate(panels):
        if index >= len(titles):
            axes.set_visible(False)
            continue
        axes.set_title(titles[index], fontsize=6.8, pad=3)
        axes.tick_params(labelbottom=index + across >= len(titles))  # also above an empty place of the last line
    return fig, panels[: len(titles)]


def heading(label: str, more: str = "") -> str:
    """A row's label as a panel's title: an axis a line, long ones broken; `more` on a line of its own."""
    lines = [line for part in label.split(", ") for line in textwrap.wrap(part, HEADING, break_long_words=False)]
    return "\n".join([*lines, *([more] if more else [])])


def against(shown: Reported, baseline: str | None) -> tuple[dict[Pairs, Pairs | None], str]:
    """For every row's key that of its baseline, as in the table, and the baseline's name."""
    found, name = baselines(shown, baseline, strict=False)
    keys = [group.key for group in shown.groups]
    return {key: None if j is None else keys[j] for key, j in zip(keys, found, strict=True)}, shown.titled(name)


def behind(axes: Axes, lines: Mapping[Pairs, Sequence[Curve]], own: Pairs, base: Pairs | None) -> None:
    """Draw the other rows' lines, the baseline's darker; of the panel's own row nothing."""
    axes.grid(False)
    others = [line for key, found in lines.items() if key not in (own, base) for line in found]
    _joined(axes, others, color=OTHERS, linewidth=0.45, zorder=1)
    if base is not None and base != own:
        _joined(axes, lines.get(base, ()), color=BASE, linewidth=0.9, zorder=2)


def _joined(axes: Axes, lines: Iterable[Curve], **look: Any) -> None:
    """Many lines as one, with gaps: fifty panels of fifty lines each stay light."""
    gap = np.asarray([np.nan])
    found = [part for x, y in lines for part in ((x, y), (gap, gap))]
    if found:
        axes.plot(np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found]), **look)


def handles(name: str, own: str = "the panel's row") -> list[Line2D]:
    """Legend entries of a panel's own row, the baseline and the other rows."""
    return [
        OWN.handle(own),
        Line2D([], [], color=BASE, linewidth=0.9, label=f"baseline {name}"),
        Line2D([], [], color=OTHERS, linewidth=0.9, label="other rows"),
    ]


def off_axis(axes: Axes, values: Iterable[float]) -> bool:
    """Mark a panel of whose own values some lie beyond its axis, above or below; whether it has been marked."""
    low, high = axes.get_ylim()
    known = [value for value in values if math.isfinite(value)]
    sides = [(0.95, "^")] * any(value > high for value in known) + [(0.05, "v")] * any(value < low for value in known)
    for y, marker in sides:
        axes.plot([0.96], [y], marker, transform=axes.transAxes, color=OWN.colour, markersize=3.2, markeredgewidth=0)
    return bool(sides)


def off_axis_handle() -> Line2D:
    """What `off_axis` has drawn."""
    look: dict[str, Any] = {"marker": "v", "linestyle": "", "markersize": 3.2, "markeredgewidth": 0}
    return Line2D([], [], color=OWN.colour, label="goes on beyond the axis", **look)


def steps_axis(axes: Axes) -> None:
    """Few ticks on an axis of steps, 20000 as 20k."""
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=(1, 2, 5, 10)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def limits(positive: Iterable[float], outside: float = 1 / MANY, decades: float = 1.5) -> tuple[float, float]:
    """One logarithmic axis for all: the values without a share `outside` at either end, and so many decades more on either side.

    What explodes or vanishes runs off it. By default one row's values of more than `MANY` rows do not stretch it.
    """
    values, more = list(positive), 10.0**decades
    low, high = np.quantile(values, (outside, 1 - outside))
    return max(min(values), float(low) / more) / 1.3, min(max(values), float(high) * more) * 1.3
