"""The pictures of gradient flow: the stream's gradient by layer and step, and gradient norms by depth at init and at the end."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from addnorm_exp.report.figures import depth, multiples, style
from addnorm_exp.report.figures.looks import Looks
from addnorm_exp.report.protocol.groups import Group, Reported
from addnorm_exp.report.run import Run, read_layers
from addnorm_exp.runs.layers import Layers
from addnorm_exp.runs.thinning import joined
from addnorm_exp.runs.winners import Pairs

CELLS = 240  # columns of a heatmap at most; more steps are joined
LAST, SHARE = 10, 0.1  # "the end": at most this many rows, from the last tenth of the completed steps
NO_RECORD = "the finished runs have no per-layer record (was execution.diagnostics off?)"
NOTHING_FINITE = "no finite gradient norm in the per-layer record"
START = "at initialisation (step 1)"
STREAM = "gradient of the stream\n" + r"$\|\partial\mathcal{L}/\partial x\|_F$"

Mapped = tuple[str, Run, Layers]  # a heatmap: its title, its run and the run's layers


def heatmap(report: Reported) -> Figure | str:
    """The Frobenius norm of dLoss/dstream at each site against steps: one panel per group, for its lowest seed; one colour scale."""
    maps: list[Mapped] = []
    keys: list[Pairs] = []
    for group in report.groups:
        for run in group.finished:
            layers = _with(read_layers(run), "grad_stream")
            if layers is not None:
                maps.append((f"{report.label(group)}{' (diverged)' if run.status == 'diverged' else ''}", run, layers))
                keys.append(group.key)
                break
    if not maps:
        return NO_RECORD
    values = [v[np.isfinite(v) & (v > 0)] for _, _, layers in maps for v in [layers.arrays["grad_stream"]]]
    every = np.concatenate(values)
    if not len(every):
        return NOTHING_FINITE
    many = multiples.many(maps)
    low, high = multiples.limits(every) if many else np.quantile(every, [0.002, 0.998])
    norm = LogNorm(low, high if high > low else low * 1.01)
    if many:
        fig, panels, image = _small_maps(maps, norm)
    else:
        order, across = _design(keys)
        fig, panels, image = _maps([maps[i] for i in order], norm, across)
    panels[0].set_xlim(1, max(2.0, *(float(layers.step[-1]) for _, _, layers in maps)))
    bar = fig.colorbar(image, ax=panels, pad=0.015, aspect=60 if many else 28, fraction=0.05, extend="both")
    bar.set_label(STREAM)
    style.log_ticks(bar.ax.yaxis)
    bar.outline.set_linewidth(0.5)
    return fig


def _design(keys: Sequence[Pairs]) -> tuple[list[int], int | None]:
    """The order of panels and their number in a line: of a full design, a column for each scheme and a line for each value of the
    other axes. None if the rows are no such design."""
    schemes = list(dict.fromkeys(dict(key).get("scheme") for key in keys))
    others = list(dict.fromkeys(tuple(pair for pair in key if pair[0] != "scheme") for key in keys))
    if not (1 < len(schemes) <= 4 and len(others) > 1 and len(keys) == len(schemes) * len(others)):
        return list(range(len(keys))), None

    def place(i: int) -> tuple[int, int]:
        return others.index(tuple(p for p in keys[i] if p[0] != "scheme")), schemes.index(dict(keys[i])["scheme"])

    return sorted(range(len(keys)), key=place), len(schemes)


def _across(count: int) -> int:
    """The number of panels in a line, with the fewest empty places."""
    return count if count < 4 else 2 if count == 4 else min((3, 4), key=lambda n: -count % n)


def _maps(maps: Sequence[Mapped], norm: LogNorm, columns: int | None) -> tuple[Figure, list[Axes], QuadMesh]:
    """Panels that name every site, by default as many in a line as fit."""
    across = columns or _across(len(maps))
    down = math.ceil(len(maps) / across)
    sites = max(len(layers.index.sites) for _, _, layers in maps)
    height = min(2.4, 0.55 + 0.13 * min(sites, 14))
    fig = style.figure(style.PAGE if across > 1 else style.COLUMN, height * down + 0.45)
    panels = fig.subplots(down, across, sharex=True, squeeze=False).ravel().tolist()
    for axes in panels[len(maps) :]:
        axes.set_axis_off()
    for index, (axes, (title, run, layers)) in enumerate(zip(panels, maps, strict=False)):
        image = _cells(axes, layers, np.arange(layers.arrays["grad_stream"].shape[1] + 1) - 0.5, norm)
        style.title(axes, title, fig.get_figwidth() / across - 0.45)
        names = depth.site_names(layers.index.sites)
        axes.set_yticks(*depth.sparse((list(range(len(names))), names), 14))
        axes.set_ylim(-0.5, layers.arrays["grad_stream"].shape[1] - 0.5)
        if index % across:
            axes.tick_params(labelleft=layers.index.sites != maps[index - 1][2].index.sites)
        else:
            axes.set_ylabel("block and sublayer")
        if index + across >= len(maps):
            axes.set_xlabel(f"{'optimiser ' if across < 4 else ''}steps (seed {run.seed})")
            axes.tick_params(labelbottom=True)
    return fig, panels, image


def _small_maps(maps: Sequence[Mapped], norm: LogNorm) -> tuple[Figure, list[Axes], QuadMesh]:
    """Panels that count blocks."""
    fig, panels = multiples.grid([multiples.heading(title) for title, _, _ in maps])
    longest: tuple[list[float], list[str]] = ([], [])
    for axes, (_, _, layers) in zip(panels, maps, strict=True):
        _, names = _columns(layers, "grad_stream")
        places = depth.places(names)
        image = _cells(axes, layers, np.append(places, math.floor(places[-1]) + 1), norm)
        longest = max(longest, (places, names), key=lambda ticks: (ticks[0][-1:], len(ticks[0])))
    panels[0].set_ylim(0, math.floor(longest[0][-1]) + 1)
    panels[0].set_yticks(*depth.block_ticks(*longest, most=6))
    multiples.steps_axis(panels[0])
    seeds = {run.seed for _, run, _ in maps}
    fig.supxlabel(
        f"optimiser steps ({f'seed {seeds.pop()}' if len(seeds) == 1 else 'lowest seed of each'})", fontsize=7.5
    )
    fig.supylabel("block (one band per sublayer)", fontsize=7.5)
    return fig, panels, image


def _cells(axes: Axes, layers: Layers, sides: np.ndarray, norm: LogNorm) -> QuadMesh:
    """The record's cells; `sides` (sites + 1,) are the bounds of the sites."""
    edges, cells = joined(layers.step, layers.arrays["grad_stream"], CELLS)
    axes.set_facecolor("#C8C8C8")  # missing values (not finite, or after divergence)
    axes.grid(False)
    return axes.pcolormesh(edges, sides, np.ma.masked_invalid(cells).T, norm=norm, cmap="viridis", rasterized=True)


def by_depth(report: Reported, looks: Looks, baseline: str | None = None) -> Figure | str:
    """Gradient norms against depth: of the stream by site, of each block's last matrix; at step 1 and at the end.

    With many rows: `each` for the stream, with `baseline`'s line in each panel.
    """
    if multiples.many(multiples.drawable(report)):
        return each(report, baseline, "grad_stream")
    records = _records(report)
    kinds = [
        k for k in ("grad_stream", "grad_weight") if any(_with(v, k) for layers in records.values() for v in layers)
    ]
    if not kinds:
        return NO_RECORD
    fig = style.figure(style.PAGE, 2.05 * len(kinds) + 0.2)
    panels = fig.subplots(len(kinds), 2, squeeze=False, sharey="row", sharex="row")
    for row, kind in enumerate(kinds):
        by_group = {group.key: [_lines(records[group.key], kind, when) for when in (0, 1)] for group in report.groups}
        for group in report.groups:
            for when, lines in enumerate(by_group[group.key]):
                if group.runs:
                    look = looks.of(group.runs[0])
                    _depth_lines(panels[row, when], lines, look, thick=not (when and _lost(group)))
        panels[row, 0].set_ylabel(STREAM if kind == "grad_stream" else _weight_name(records.values()))
        for when in (0, 1):
            axes = panels[row, when]
            axes.set_yscale("log")
            style.log_ticks(axes.yaxis)
            axes.set_xlabel(_blocks_axis(axes, kind, [lines for both in by_group.values() for lines in both]))
    panels[0, 0].set_title(START)
    style.title(panels[0, 1], f"at the end ({_ending(records.values())})", style.PAGE / 2 - 0.4)
    handles = [
        looks.of(g.runs[0]).handle(f"{report.label(g)} {_share_lost(g)}".strip(), marker=True)
        for g in report.groups
        if records[g.key]
    ]
    if any(len(layers) > 1 for layers in records.values()):
        handles.append(Line2D([], [], color=style.GREY, linewidth=0.6, label="seed (thick: geometric mean)"))
    style.legend(fig, handles)
    return fig


def each(report: Reported, baseline: str | None, kind: str) -> Figure | str:
    """Small multiples of `grad_stream` or `grad_weight` against depth: one panel per row, its start and end over the others' ends."""
    records = _records(report)
    start, end = ({g.key: _lines(records[g.key], kind, when) for g in report.groups} for when in (0, 1))
    rows = [group for group in report.groups if start[group.key].values]
    if not rows:
        return NO_RECORD
    ends = {row.key: [(end[row.key].places, v) for v in _centre(end[row.key], thick=not _lost(row))] for row in rows}
    values = {g.key: np.concatenate([v for lines in (start, end) for v in lines[g.key].values]) for g in rows}
    every = np.concatenate(list(values.values()))
    every = every[np.isfinite(every)]
    if not len(every):
        return NOTHING_FINITE
    titles = {row.key: multiples.heading(report.label(row), _share_lost(row)) for row in rows}
    fig, panels, name = multiples.in_front_of_others(report, baseline, titles, ends)
    for axes, row in zip(panels, rows, strict=True):
        axes.set_yscale("log")
        _depth_lines(axes, start[row.key], multiples.EARLIER, thick=True)
        _depth_lines(axes, end[row.key], multiples.OWN, thick=not _lost(row))
    panels[0].set_ylim(*multiples.limits(every))
    style.log_ticks(panels[0].yaxis)
    blocks = _blocks_axis(panels[0], kind, [start[row.key] for row in rows], most=5)
    fig.supxlabel(f"{blocks}; the end is the {_ending(records.values())}", fontsize=7.5)
    fig.supylabel(STREAM if kind == "grad_stream" else _weight_name(records.values()), fontsize=7.5)
    own, *others = multiples.handles(f"{name}, at the end", "at the end")
    cut = [multiples.off_axis(axes, values[row.key]) for axes, row in zip(panels, rows, strict=True)]
    style.legend(
        fig, [own, multiples.EARLIER.handle(START), *others, *([multiples.off_axis_handle()] if any(cut) else [])]
    )
    return fig


@dataclass(frozen=True)
class Lines:
    """A row's lines against depth, one per seed."""

    places: list[float]  # (columns,) in blocks
    names: list[str]  # (columns,)
    values: list[np.ndarray]  # (columns,) each


def _records(report: Reported) -> dict[Pairs, list[Layers]]:
    return {
        g.key: [v for run in g.finished if (v := read_layers(run)) is not None and len(v.step)] for g in report.groups
    }


def _lines(records: Sequence[Layers], kind: str, when: int) -> Lines:
    """The lines of the records that have this kind and, for the end (`when` = 1), more than their first step."""
    lines = Lines([], [], [])
    for layers in records:
        if _with(layers, kind) is not None and not (when and layers.step[-1] <= 1):
            columns, names = _columns(layers, kind)
            lines = Lines(depth.places(names), names, [*lines.values, _at(layers, kind, columns, when)])
    return lines


def _with(layers: Layers | None, name: str) -> Layers | None:
    return layers if layers is not None and name in layers.arrays and len(layers.step) else None


def _lost(group: Group) -> int:
    return sum(run.status == "diverged" for run in group.finished)


def _share_lost(group: Group) -> str:
    return f"({_lost(group)}/{len(group.finished)} diverged)" if _lost(group) else ""


def _blocks_axis(axes: Axes, kind: str, rows: Sequence[Lines], most: int = 12) -> str:
    """Sets the ticks of an axis for these rows and returns its label."""
    ticks = max(((lines.places, lines.names) for lines in rows), key=lambda pair: len(pair[0]))
    # Rows whose blocks have different sites share the blocks.
    named = {tuple(lines.names) for lines in rows if lines.names}
    if kind != "grad_stream":
        axes.set_xticks(*depth.sparse(ticks, most + 1))
        return "block"
    if len(ticks[0]) > 8 or len(named) > 1 or most < 12:
        axes.set_xticks(*depth.block_ticks(*ticks, most))
        return "block (one point per sublayer)"
    axes.set_xticks(*depth.sparse(ticks, most + 1))
    return "block and sublayer"


def _depth_lines(axes: Axes, lines: Lines, look: style.Look, *, thick: bool) -> None:
    """Each seed thin and their geometric mean thick; only the seeds if one diverged."""
    values = _seeds(lines)
    if len(values) > 1 or not thick:
        for line in values:
            axes.plot(
                lines.places, line, color=look.colour, linestyle="-" if thick else look.line, alpha=0.4, linewidth=0.6
            )
    if thick and values and len({len(line) for line in values}) == 1:
        (centre,) = _centre(lines, thick=True)
        every = max(1, len(centre) // 16)
        axes.plot(
            lines.places,
            centre,
            color=look.colour,
            linestyle=look.line,
            marker=look.marker,
            markevery=every,
            zorder=3,
            markerfacecolor=look.face,
        )


def _seeds(lines: Lines) -> list[np.ndarray]:
    return [line for line in lines.values if np.isfinite(line).any()]


def _centre(lines: Lines, *, thick: bool) -> list[np.ndarray]:
    """The seeds' geometric mean, or the seeds if there is none."""
    values = _seeds(lines)
    if not thick or len({len(line) for line in values}) != 1:
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        return [np.exp(np.mean(np.log(np.stack(values)), axis=0))]


def _at(layers: Layers, kind: str, columns: Sequence[int], when: int) -> np.ndarray:
    """The first row, or the geometric mean over those of the end; (columns,). Zero and non-finite values become NaN."""
    values = layers.arrays[kind][:, columns].astype(np.float64)
    values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    if not when:
        return values[0]
    return np.exp(np.mean(np.log(values[-_last(layers) :]), axis=0))


def _last(layers: Layers) -> int:
    """The number of rows of the end: those of the last steps, including the last row."""
    return min(LAST, int(np.sum(layers.step > (1 - SHARE) * layers.step[-1])))


def _ending(records: Iterable[Sequence[Layers]]) -> str:
    """Describes the end of these runs in words."""
    counts = sorted({_last(layers) for row in records for layers in row})
    if counts == [1]:
        return "last record"
    return f"geometric mean of the last {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} records"


def _columns(layers: Layers, kind: str) -> tuple[list[int], list[str]]:
    """The columns along depth, with their names: all sites, or one weight matrix per block."""
    if kind == "grad_stream":
        count = layers.arrays[kind].shape[1]
        sites = layers.index.sites
        names = depth.site_names(sites) if len(sites) == count else [str(i) for i in range(count)]
        return list(range(count)), names
    return depth.last_matrices(layers.index.tensors)


def _weight_name(records) -> str:
    tensors = {t for row in records for layers in row for t in layers.index.tensors}
    if any(t.endswith("feed_forward/down/kernel") for t in tensors):
        return "gradient of the feed-forward\noutput matrix " + r"$\|\partial\mathcal{L}/\partial W\|_F$"
    return "gradient of the block's\nlast matrix " + r"$\|\partial\mathcal{L}/\partial W\|_F$"
