"""The picture of tuning: final validation loss against learning rate, a line a scheme, a dot a seed.

Schemes stand side by side at each rate, so that none hides another; the axis' label says so. A diverged run stands at the uniform
prediction's loss, which is how the protocol scores it, and is marked ×. The means are those of the protocol (runs/winners.py): a run
that ended above the uniform loss has its dot there, and counts as uniform.
"""

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from addnorm_exp.report import style
from addnorm_exp.report.groups import Group, Pairs, Reported, axes_of, groups_of, label
from addnorm_exp.report.load import Study
from addnorm_exp.report.rates import KEY, best_setting, mean_score
from addnorm_exp.report.record import Run

FAR = 1.6  # the uniform prediction gets a strip of its own when it lies farther than this many heights of the rest above it


def draw(study: Study, shown: Reported) -> Figure | str:
    """The figure, or a line that says what is missing."""
    runs = [run for run in study.phases.get("tune") or study.phases.get("run") or () if run.finished]
    if len({run.flat.get(KEY) for run in runs}) < 2:
        return "no finished runs at two or more learning rates"
    unit = "bpb" if any(run.number("val", "final", "bpb") is not None for run in runs) else "loss"
    axes = axes_of(study, runs, (*study.tuned, KEY))
    other = [a for a in axes if a != "scheme"]
    groups = groups_of(runs, axes)
    panels: dict[Pairs, list[Group]] = {}
    for group in groups:
        panels.setdefault(tuple((a, group[a]) for a in other), []).append(group)
    schemes = list(dict.fromkeys(run.scheme for run in (*(r for g in shown.groups for r in g.runs), *study.runs)))
    uniform = next((v for run in runs if (v := run.number("uniform", unit)) is not None), None)
    lost = any(_lost(run) for run in runs)
    finals = [v for run in runs if run.status == "done" and (v := run.number("val", "final", unit)) is not None]
    split = bool(
        lost and uniform and finals and uniform - max(finals) > FAR * max(max(finals) - min(finals), 0.02 * uniform)
    )
    across = min(len(panels), 3)
    down = math.ceil(len(panels) / across)
    drawn = [s for s in schemes if any(run.scheme == s for run in runs)]
    handles = [style.look(schemes.index(s)).handle(s, marker=True) for s in drawn]
    if lost:
        handles.append(style.cross_handle())
    handles.append(_ring())
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
        _panel(main, top, members, schemes, unit, uniform)
        if key:
            top.set_title(label(key))
        if index % across == 0:
            main.set_ylabel("final validation loss " + ("(bits per byte)" if unit == "bpb" else "(nats)"))
    if split:
        pad = 0.07 * (max(finals) - min(finals)) or 0.02 * abs(max(finals))
        mains[0].set_ylim(min(finals) - pad, max(finals) + pad)
    return fig


def _ring() -> Line2D:
    ring: dict[str, Any] = {"marker": "o", "markersize": 7, "markerfacecolor": "none", "linestyle": ""}
    return Line2D([], [], color=style.GREY, label="best mean", **ring)


def _panel(main: Axes, top: Axes, groups: list[Group], schemes: list[str], unit: str, uniform: float | None) -> None:
    rates = sorted({float(run.flat[KEY]) for group in groups for run in group.runs})
    gap = math.log(rates[-1] / rates[0]) / max(1, len(rates) - 1) if len(rates) > 1 else 1.0
    lost = {
        rate: sorted(
            {schemes.index(run.scheme) for g in groups for run in g.runs if _lost(run) and float(run.flat[KEY]) == rate}
        )
        for rate in rates
    }
    for group in groups:
        index = schemes.index(group.runs[0].scheme)
        look = style.look(index)
        place = (index - 0.5 * (len(schemes) - 1)) / max(1, len(schemes) - 1)
        shift = math.exp(min(0.14, 0.035 * len(schemes)) * gap * place)
        means: dict[float, float] = {}
        gone: dict[float, int] = {}
        for rate in rates:
            scored = best_setting([run for run in group.runs if float(run.flat[KEY]) == rate], unit, uniform)
            for run, value in scored:
                if _lost(run):
                    style.cross(top, rate * _beside(index, lost[rate], gap), value, look.colour)
                else:
                    main.plot(
                        [rate * shift],
                        [value],
                        look.marker,
                        color=look.colour,
                        markersize=2.4,
                        alpha=0.6,
                        markeredgewidth=0,
                    )
            if scored:
                means[rate] = mean_score(scored, uniform)
                gone[rate] = sum(_lost(run) for run, _ in scored)
        x, y = [r * shift for r in means], list(means.values())
        clear = [all(run.status == "done" for run in group.runs if float(run.flat[KEY]) == r) for r in means]
        marked = [i for i, ok in enumerate(clear) if ok]
        main.plot(x, y, color=look.colour, linestyle=look.line, marker=look.marker, markevery=marked, zorder=3)
        if means:
            best = min(means, key=lambda r: (means[r], gone[r]))
            main.plot(
                [best * shift],
                [means[best]],
                "o",
                markersize=8.5,
                markerfacecolor="none",
                color=look.colour,
                markeredgewidth=0.8,
            )
    main.set_xscale("log")
    main.set_xlabel("peak learning rate" + " (points of one rate side by side)" * (len(schemes) > 1))
    main.xaxis.set_major_locator(LogLocator(numticks=12))
    main.xaxis.set_minor_formatter(NullFormatter())
    room = math.exp(0.3 * gap)
    main.set_xlim(rates[0] / room, rates[-1] * room)
    main.set_xticks(rates, minor=False)
    main.set_xticklabels([_rate(rate) for rate in rates])
    main.xaxis.set_minor_locator(NullLocator())
    if top is not main and uniform:
        _strip(main, top, uniform)
    elif uniform and any(_lost(run) for group in groups for run in group.runs):
        _uniform_line(main, uniform)


def _uniform_line(axes: Axes, uniform: float) -> None:
    axes.axhline(uniform, color=style.GREY, linestyle=(0, (2, 2)), linewidth=0.8, zorder=1)
    axes.annotate(
        "uniform prediction",
        (0.01, uniform),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2.5),
        textcoords="offset points",
        fontsize=6.2,
        color=style.GREY,
    )


def _lost(run: Run) -> bool:
    return run.status == "diverged"


def _beside(index: int, crosses: list[int], gap: float) -> float:
    """A factor of the rate that puts one of its crosses, all at one height, beside the others, and one alone where it belongs."""
    return math.exp(0.09 * gap * (crosses.index(index) - 0.5 * (len(crosses) - 1)))


def _strip(main: Axes, top: Axes, uniform: float) -> None:
    """The strip above the axis' break, which holds the uniform prediction alone."""
    top.set_xscale("log")
    top.set_xlim(main.get_xlim())
    top.set_ylim(uniform - 1, uniform + 1)
    top.set_yticks([uniform], [f"{uniform:.3g}"])
    _uniform_line(top, uniform)
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
