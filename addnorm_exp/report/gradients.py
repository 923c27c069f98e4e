"""The pictures of gradient flow: the stream's gradient by layer and step, and gradient norms by depth at init and at the end."""

import itertools
import math
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from addnorm_exp.report import style
from addnorm_exp.report.groups import Group, Reported
from addnorm_exp.report.record import read_layers
from addnorm_exp.runs.layers import Layers

CELLS = 240  # columns of a heatmap at most; more are joined by their geometric mean
LAST = 10  # rows that make "the end"
NO_RECORD = "the finished runs have no per-layer record (was execution.diagnostics off?)"
STREAM = "gradient of the stream\n" + r"$\|\partial\mathcal{L}/\partial x\|_F$"


def heatmap(shown: Reported) -> Figure | str:
    """The Frobenius norm of dLoss/dstream at each site against steps, a panel a group, its lowest seed; one colour scale."""
    found = []
    for group in shown.groups:
        for run in group.finished:
            layers = _with(read_layers(run), "grad_stream")
            if layers is not None:
                found.append((group, run, layers))
                break
    if not found:
        return NO_RECORD
    values = [v[np.isfinite(v) & (v > 0)] for _, _, layers in found for v in [layers.arrays["grad_stream"]]]
    every = np.concatenate(values)
    if not len(every):
        return "no finite gradient norm in the per-layer record"
    low, high = np.quantile(every, [0.002, 0.998])
    norm = LogNorm(low, high if high > low else low * 1.01)
    across = len(found) if len(found) < 4 else 2 if len(found) == 4 else min((3, 4), key=lambda n: -len(found) % n)
    down = math.ceil(len(found) / across)
    sites = max(len(layers.sites) for _, _, layers in found)
    height = min(2.4, 0.55 + 0.13 * min(sites, 14))
    fig = style.figure(style.PAGE if across > 1 else style.COLUMN, height * down + 0.45)
    panels = np.atleast_2d(fig.subplots(down, across, sharex=True, squeeze=False))
    image = None
    for index, axes in enumerate(panels.flat):
        if index >= len(found):
            axes.set_axis_off()
            continue
        group, run, layers = found[index]
        edges, cells = _joined(layers.step, layers.arrays["grad_stream"])
        axes.set_facecolor("#C8C8C8")  # what is missing (not finite, or after divergence)
        axes.grid(False)
        masked = np.ma.masked_invalid(np.where(cells > 0, cells, np.nan)).T
        image = axes.pcolormesh(
            edges, np.arange(masked.shape[0] + 1) - 0.5, masked, norm=norm, cmap="viridis", rasterized=True
        )
        axes.set_title(f"{shown.label(group)}{' (diverged)' if run.status == 'diverged' else ''}")
        axes.set_yticks(*_site_ticks(layers.sites))
        axes.set_ylim(-0.5, masked.shape[0] - 0.5)
        if index % across:
            axes.tick_params(labelleft=list(layers.sites) != list(found[index - 1][2].sites))
        else:
            axes.set_ylabel("block and sublayer")
        if index + across >= len(found):
            axes.set_xlabel(f"{'optimiser ' if across < 4 else ''}steps (seed {run.seed})")
            axes.tick_params(labelbottom=True)
    panels.flat[0].set_xlim(1, max(2.0, *(float(layers.step[-1]) for _, _, layers in found)))
    if image is not None:
        bar = fig.colorbar(image, ax=panels, pad=0.015, aspect=28, fraction=0.05, extend="both")
        bar.set_label(STREAM)
        style.log_ticks(bar.ax.yaxis)
        bar.outline.set_linewidth(0.5)
    return fig


def by_depth(shown: Reported) -> Figure | str:
    """Gradient norms against depth: of the stream by site, of each block's last matrix; at step 1 and over the last rows."""
    records = {
        g.key: [v for run in g.finished if (v := read_layers(run)) is not None and len(v.step)] for g in shown.groups
    }
    kinds = [k for k in ("grad_stream", "grad_weight") if any(_with(v, k) for found in records.values() for v in found)]
    if not kinds:
        return NO_RECORD
    fig = style.figure(style.PAGE, 2.05 * len(kinds) + 0.2)
    panels = fig.subplots(len(kinds), 2, squeeze=False, sharey="row", sharex="row")
    for row, kind in enumerate(kinds):
        ticks: tuple[list[float], list[str]] = ([], [])
        named = set()
        for index, group in enumerate(shown.groups):
            for when in (0, 1):
                lines, places = [], []
                for layers in records[group.key]:
                    if _with(layers, kind) is None:
                        continue
                    if when and layers.step[-1] <= 1:
                        continue
                    columns, names = _columns(layers, kind)
                    places = _places(names)
                    named.add(tuple(names))
                    if len(names) > len(ticks[0]):
                        ticks = (places, names)
                    lines.append(_at(layers, kind, columns, when))
                lost = sum(run.status == "diverged" for run in group.finished) if when else 0
                _depth_lines(panels[row, when], places, lines, style.look(index), thick=not lost)
        panels[row, 0].set_ylabel(STREAM if kind == "grad_stream" else _weight_name(records.values()))
        for when in (0, 1):
            axes = panels[row, when]
            axes.set_yscale("log")
            style.log_ticks(axes.yaxis)
            # Rows whose blocks have other sites have the blocks in common.
            stream, many = kind == "grad_stream", len(ticks[0]) > 8 or len(named) > 1
            axes.set_xticks(*(_block_ticks(*ticks) if stream and many else _sparse(ticks)))
            axes.set_xlabel(
                "block (a point a sublayer)" if stream and many else "block and sublayer" if stream else "block"
            )
    panels[0, 0].set_title("at initialisation (step 1)")
    panels[0, 1].set_title(f"at the end (geometric mean of the last {LAST} records)")
    drawn = [(i, g) for i, g in enumerate(shown.groups) if records[g.key]]
    handles = [style.look(i).handle(_with_lost(shown, g), marker=True) for i, g in drawn]
    style.legend(fig, handles)
    return fig


def _with(layers: Layers | None, name: str) -> Layers | None:
    return layers if layers is not None and name in layers.arrays and len(layers.step) else None


def _with_lost(shown: Reported, group: Group) -> str:
    lost = sum(run.status == "diverged" for run in group.finished)
    return shown.label(group) + (f" ({lost}/{len(group.finished)} diverged)" if lost else "")


def _depth_lines(axes, places: Sequence[float], lines: Sequence[np.ndarray], look: style.Look, *, thick: bool) -> None:
    """Each seed thin and their geometric mean thick; where a seed diverged, the seeds alone."""
    lines = [line for line in lines if np.isfinite(line).any()]
    if len(lines) > 1 or not thick:
        for line in lines:
            axes.plot(places, line, color=look.colour, linestyle="-" if thick else look.line, alpha=0.4, linewidth=0.6)
    if thick and lines and len({len(line) for line in lines}) == 1:
        with np.errstate(divide="ignore", invalid="ignore"):
            centre = np.exp(np.mean(np.log(np.stack(lines)), axis=0))
        every = max(1, len(centre) // 16)
        axes.plot(places, centre, color=look.colour, linestyle=look.line, marker=look.marker, markevery=every, zorder=3)


def _at(layers: Layers, kind: str, columns: Sequence[int], when: int) -> np.ndarray:
    """The first row, or the geometric mean over the last; (columns,). Zero and what is not finite become NaN."""
    values = layers.arrays[kind][:, columns].astype(np.float64)
    values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    if not when:
        return values[0]
    return np.exp(np.mean(np.log(values[1:][-LAST:]), axis=0))


def _columns(layers: Layers, kind: str) -> tuple[list[int], list[str]]:
    """Which columns stand for depth, with their names: all sites, or one weight matrix a block."""
    if kind == "grad_stream":
        count = layers.arrays[kind].shape[1]
        names = site_names(layers.sites) if len(layers.sites) == count else [str(i) for i in range(count)]
        return list(range(count)), names
    return last_matrices(layers.tensors)


_BLOCK = re.compile(r"^(?P<stack>.*?)(?:^|/)blocks/(?P<block>\d+)/(?P<rest>.+)$")


def last_matrices(tensors: Sequence[str]) -> tuple[list[int], list[str]]:
    """Of each block the index of `feed_forward/down/kernel`, or of its last matrix where that name is not there; with block names."""
    blocks: dict[tuple[str, int], list[tuple[int, str]]] = {}
    for index, name in enumerate(tensors):
        found = _BLOCK.match(name)
        if found:
            blocks.setdefault((found["stack"], int(found["block"])), []).append((index, found["rest"]))
    stacks = {stack for stack, _ in blocks}
    indices, names = [], []
    for (stack, block), members in sorted(blocks.items()):
        matrices = [m for m in members if m[1].endswith("kernel")] or members
        down = [m for m in matrices if m[1].endswith("feed_forward/down/kernel")]
        indices.append((down or matrices)[-1][0])
        names.append(f"{stack[:3]} {block}" if len(stacks) > 1 else str(block))
    return indices, names


def _weight_name(records) -> str:
    tensors = {t for found in records for layers in found for t in layers.tensors}
    if any(t.endswith("feed_forward/down/kernel") for t in tensors):
        return "gradient of the feed-forward\noutput matrix " + r"$\|\partial\mathcal{L}/\partial W\|_F$"
    return "gradient of the block's\nlast matrix " + r"$\|\partial\mathcal{L}/\partial W\|_F$"


SHORT = {"attention": "attn", "self_attention": "attn", "cross_attention": "cross", "feed_forward": "ff"}


def site_names(sites: Sequence[str]) -> list[str]:
    """decoder.0.attention -> 0 attn; with the stack's first letters where there are several."""
    several = len({site.split(".")[0] for site in sites}) > 1
    names = []
    for site in sites:
        stack, _, rest = site.partition(".")
        block, _, kind = rest.partition(".")
        names.append(f"{stack[:3] + ' ' if several else ''}{block} {SHORT.get(kind, kind)}".strip() if rest else site)
    return names


def _site_ticks(sites: Sequence[str]) -> tuple[list[float], list[str]]:
    return _sparse((list(range(len(sites))), site_names(sites)), 14)


def _blocks(names: Sequence[str]) -> list[str]:
    return [name.rpartition(" ")[0] or name for name in names]


def _places(names: Sequence[str]) -> list[float]:
    """Where a site stands in blocks: that of a block's second of two sites is half a block on, whatever the other rows' blocks hold."""
    places: list[float] = []
    for number, (_, members) in enumerate(itertools.groupby(_blocks(names))):
        count = len(list(members))
        places += [number + index / count for index in range(count)]
    return places


def _block_ticks(places: Sequence[float], names: Sequence[str]) -> tuple[list[float], list[str]]:
    """A tick where a block begins, with its number."""
    starts = [(place, block) for place, block in zip(places, _blocks(names), strict=True) if place == int(place)]
    stride = max(1, -(-len(starts) // 12))
    return [place for place, _ in starts[::stride]], [block for _, block in starts[::stride]]


def _sparse(ticks: tuple[list[float], list[str]], most: int = 13) -> tuple[list[float], list[str]]:
    stride = max(1, -(-len(ticks[0]) // most))
    if stride > 1:
        stride += stride % 2  # land on the same sublayer of each block
    return ticks[0][::stride], ticks[1][::stride]


def _joined(step: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most CELLS columns: edges (m + 1,) in steps, geometric means (m, S)."""
    stride = max(1, -(-len(step) // CELLS))
    starts = np.arange(0, len(step), stride)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values.astype(np.float64))
        cells = np.exp(np.stack([logs[i : i + stride].mean(axis=0) for i in starts]))
    last = float(step[-1]) + (float(step[-1] - step[-2]) if len(step) > 1 else 1.0)
    edges = np.append(step[starts].astype(np.float64), last)
    return edges, cells
