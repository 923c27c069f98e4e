"""The style of pictures: sizes and fonts for a paper's column, colours that colour-blind readers can distinguish, reproducible files."""

import math
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

COLUMN = 3.4  # inches, one column of a two-column paper
PAGE = 6.9  # both columns
DPI = 200

# Okabe and Ito's palette without its yellow (too light on white), in an order that keeps neighbours distinct. Each colour has a
# line style and a marker, so that nothing depends on colour alone.
COLOURS = ("#D55E00", "#0072B2", "#CC79A7", "#009E73", "#000000", "#E69F00", "#56B4E9", "#7A5195")
LINES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (9, 2)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")

GREY = "#666666"

_RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same picture on every machine
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 6.8,
    "ytick.labelsize": 6.8,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.6,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "svg.hashsalt": "addnorm_exp",
    "svg.fonttype": "path",
    "path.simplify": True,
}


def paper() -> AbstractContextManager[None]:
    """Our fonts and lines for pictures drawn within; matplotlib's settings are restored afterwards."""
    return matplotlib.rc_context(_RC)


@dataclass(frozen=True)
class Look:
    """The colour, line and marker of one group, the same in every picture of a study."""

    colour: str
    line: Any
    marker: str

    open: bool = False  # a marker without a face, which hides nothing

    @property
    def face(self) -> str:
        return "none" if self.open else self.colour

    def handle(self, label: str, *, marker: bool = False) -> Line2D:
        """A line for the legend."""
        mark = self.marker if marker else ""
        return Line2D(
            [], [], color=self.colour, linestyle=self.line, marker=mark, markerfacecolor=self.face, label=label
        )


def look(index: int) -> Look:
    """The look of the index-th group, by the order of the plan."""
    colour, marker = _colour_and_marker(index)
    return Look(colour, LINES[(index + index // len(COLOURS)) % len(LINES)], marker)


def crossed(scheme: int, variant: int) -> Look:
    """The look of a row of a crossed design: colour and marker show the scheme, the dash shows the other axes. The markers of every
    second variant are open."""
    colour, marker = _colour_and_marker(scheme)
    return Look(colour, LINES[variant % len(LINES)], marker, bool(variant % 2))


def _colour_and_marker(index: int) -> tuple[str, str]:
    """A pair of its own for each of 64: when the colours begin again, they come with other markers."""
    cycle = index // len(COLOURS)
    return COLOURS[index % len(COLOURS)], MARKERS[(index + cycle) % len(MARKERS)]


def figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, without global state."""
    return Figure(figsize=(width, height), layout="constrained")


def title(axes: Axes, text: str, width: float) -> None:
    """A panel's title, broken so that it does not touch its neighbour; `width` of the panel, in inches."""
    letters = max(12, int(width / 0.058))
    axes.set_title("\n".join(textwrap.wrap(text, letters, break_long_words=False)))


def legend(fig: Figure, handles: Sequence[Line2D]) -> None:
    """One legend for all panels, above them, in as many lines as the width needs; the figure grows by its height."""
    room = max(1, int(fig.get_figwidth() / (0.55 + 0.062 * max(len(str(h.get_label())) for h in handles))))
    lines = math.ceil(len(handles) / min(len(handles), room))
    count = math.ceil(len(handles) / lines)  # even lines
    fig.set_figheight(fig.get_figheight() + 0.15 * lines)
    fig.legend(handles=handles, loc="outside upper center", ncols=count, columnspacing=1.4, borderaxespad=0.2)


def cross(axes: Axes, x: float, y: float, colour: str, size: float = 5) -> None:
    """The mark of a diverged run; it is drawn whole even on the frame."""
    axes.plot([x], [y], "x", color=colour, markersize=size, markeredgewidth=1.4, clip_on=False, zorder=5)


def cross_handle() -> Line2D:
    return Line2D([], [], color=GREY, marker="x", linestyle="", markersize=5, markeredgewidth=1.4, label="diverged")


def log_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis with content: at least two labels, between the decades if those are too few."""
    low, high = axis.get_view_interval()
    axis.set_minor_formatter(NullFormatter())
    if not 0 < low < high < 100 * low:
        return
    for places in ((1, 2, 5), (1, 2, 3, 4, 5, 6, 7, 8, 9)):
        if len(_between(low, high, places)) >= 2:
            axis.set_major_locator(LogLocator(subs=places, numticks=20))
            break
    else:
        axis.set_major_locator(MaxNLocator(4))
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))


class StepTicks(MaxNLocator):
    """Ticks at whole steps, none after the last one."""

    def __init__(self, last: float):
        super().__init__("auto", steps=[1, 2, 2.5, 5, 10], integer=True)
        self.last = last

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        ticks = super().tick_values(vmin, vmax)
        return [float(tick) for tick in ticks if vmin <= tick <= self.last]


def _between(low: float, high: float, places: Sequence[int]) -> list[float]:
    """The multiples `places` of the powers of ten from low to high."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [value for d in decades for place in places if low <= (value := place * 10.0**d) <= high]


def save(fig: Figure, folder: Path, name: str) -> list[Path]:
    """Writes `name`.png and `name`.svg; the same content gives the same bytes. The figure is laid out
    only once."""
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    fig.savefig(paths[0], dpi=DPI, metadata={"Software": None})
    fig.set_layout_engine("none")  # with fifty panels, the layout takes as long as drawing
    fig.savefig(paths[1], metadata={"Date": None, "Creator": None})
    return paths


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """The running mean over `window` values, centred, shorter at the ends; (n,) -> (n,). NaN if the value is NaN."""
    if window <= 1 or len(values) < 2:
        return values
    total = np.concatenate([[0.0], np.cumsum(np.nan_to_num(values))])
    count = np.concatenate([[0.0], np.cumsum(np.isfinite(values))])
    low = np.maximum(np.arange(len(values)) - window // 2, 0)
    high = np.minimum(np.arange(len(values)) + (window - 1) // 2 + 1, len(values))
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (total[high] - total[low]) / (count[high] - count[low])
    return np.where(np.isfinite(values), means, np.nan)
