"""The picture of training: validation and smoothed training loss against optimiser steps, a line a group.

Five seeds or more: mean with its 95 % band. Fewer: every seed thin, their mean thick. Where a seed diverged the thick line is the
median with diverged runs as worst (never a mean of survivors), and a × marks each end.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from addnorm_exp.report import style
from addnorm_exp.report.groups import Group, Reported
from addnorm_exp.report.record import read_metrics
from addnorm_exp.report.statistics import ENOUGH, t_quantile

POINTS = 800  # of a training curve at most: more cannot be seen, and makes a heavy SVG
SMOOTHED = 25  # windows of the running mean over a training curve
STEEP = 0.2  # of a run: its start, which may lie beyond the picture

Curve = tuple[np.ndarray, np.ndarray]  # steps (n,), values (n,)


def draw(shown: Reported) -> Figure | str:
    """The figure, or a line that says what is missing."""
    panels = [("val", "validation"), ("train", "training")]
    curves = {(g.key, split): _curves(g, split) for g in shown.groups for split, _ in panels}
    found = [split for split, _ in panels if any(len(c[0]) > 1 for g in shown.groups for c in curves[g.key, split])]
    if not found:
        return "no metrics of the reported runs"
    unit = "bits per byte" if _in_bits(shown) else "nats"
    fig = style.figure(style.PAGE if len(found) > 1 else style.COLUMN, 2.4)
    axes = np.atleast_1d(fig.subplots(1, len(found), sharey=True))
    for panel, split in zip(axes, found, strict=True):
        lines = {group.key: curves[group.key, split] for group in shown.groups}
        longest = max(len(steps) for found_lines in lines.values() for steps, _ in found_lines)
        window = max(1, longest // SMOOTHED) if split == "train" else 1
        for index, group in enumerate(shown.groups):
            smooth = [(steps, style.smooth(values, window)) for steps, values in lines[group.key]]
            _group(panel, group, smooth, style.look(index))
        panel.set_xlabel("optimiser steps")
        panel.set_title(f"{dict(panels)[split]} loss" + f" (running mean of {window} steps)" * (window > 1))
        panel.set_xlim(0, max(steps[-1] for found_lines in lines.values() for steps, _ in found_lines if len(steps)))
    axes[0].set_ylabel(f"loss ({unit})")
    axes[0].set_ylim(*_view(shown, [curves[g.key, split] for split in found for g in shown.groups], len(found)))
    for panel, split in zip(axes, found, strict=True):
        _ends(panel, shown, {g.key: curves[g.key, split] for g in shown.groups})
    handles = [style.look(i).handle(shown.label(g)) for i, g in enumerate(shown.groups) if g.finished]
    lost = any(run.status == "diverged" for group in shown.groups for run in group.runs)
    style.legend(fig, [*handles, style.cross_handle()] if lost else handles)
    return fig


def _in_bits(shown: Reported) -> bool:
    return any("bpb" in read_metrics(run, "val") for group in shown.groups for run in group.finished[:1])


def _curves(group: Group, split: str) -> list[Curve]:
    """One curve a finished run, in the order of its seeds; empty where the run has none."""
    found = []
    for run in group.finished:
        columns = read_metrics(run, split)
        values = columns.get("bpb", columns.get("loss"))
        found.append((np.empty(0), np.empty(0)) if values is None else (columns["step"], values))
    return found


def _group(axes: Axes, group: Group, curves: list[Curve], look: style.Look) -> None:
    lost = [run.status == "diverged" for run in group.finished]
    band = len(curves) >= ENOUGH and not any(lost)
    if not band and len(curves) > 1:
        for steps, values in curves:
            axes.plot(*_thin(steps, values), color=look.colour, alpha=0.4, linewidth=0.6)
    whole = [c for c, gone in zip(curves, lost, strict=True) if len(c[0]) and not gone]
    if not whole:
        for steps, values in curves:
            axes.plot(*_thin(steps, values), color=look.colour, linestyle=look.line)
        return
    steps = whole[0][0]
    for other, _ in whole[1:]:
        steps = np.intersect1d(steps, other)
    rows = [values[np.isin(at, steps)] for at, values in whole]
    rows += [_worst_after(curve, steps) for curve, gone in zip(curves, lost, strict=True) if gone]
    table = np.stack(rows)
    if any(lost):
        with np.errstate(invalid="ignore"):  # inf - inf where the middle two have both diverged
            centre = np.median(table, axis=0)
        centre = np.where(np.isfinite(centre), centre, np.nan)
    else:
        centre = table.mean(axis=0)
    axes.plot(*_thin(steps, centre), color=look.colour, linestyle=look.line, zorder=3)
    if band:
        half = t_quantile(0.975, len(table) - 1) * table.std(axis=0, ddof=1) / np.sqrt(len(table))
        x, low = _thin(steps, centre - half)
        _, high = _thin(steps, centre + half)
        axes.fill_between(x, low, high, color=look.colour, alpha=0.22, linewidth=0)


def _worst_after(curve: Curve, steps: np.ndarray) -> np.ndarray:
    """A diverged run on common steps: its values while it had some, then infinity."""
    values = dict(zip(curve[0].tolist(), curve[1].tolist(), strict=True))
    found = np.asarray([values.get(step, np.inf) for step in steps.tolist()], np.float64)
    return np.where(np.isfinite(found), found, np.inf)


def _thin(steps: np.ndarray, values: np.ndarray) -> Curve:
    if not len(steps):
        return steps, values
    stride = max(1, -(-len(steps) // POINTS))
    keep = np.unique(np.append(np.arange(0, len(steps), stride), len(steps) - 1))
    return steps[keep], values[keep]


def _view(shown: Reported, curves: list[list[Curve]], splits: int) -> tuple[float, float]:
    """The losses to show: those after the steep start, which would press everything of interest into a line. How high is for the
    runs to say that did not diverge (for all where every run did)."""
    runs = [run for group in shown.groups for run in group.finished] * splits
    pairs = list(zip(runs, (curve for found in curves for curve in found), strict=True))
    alive = any(run.status == "done" for run in runs)
    low, high = np.inf, -np.inf
    for run, (steps, values) in pairs:
        late = values[np.isfinite(values) & (steps >= STEEP * steps[-1])] if len(steps) else values
        if len(late):
            low = min(low, float(late.min()))
            high = max(high, float(np.quantile(late, 0.98)) if run.status == "done" or not alive else low)
    if not np.isfinite(low):
        return 0.0, 1.0
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - pad, high + pad


def _ends(axes: Axes, shown: Reported, curves: dict) -> None:
    low, high = axes.get_ylim()
    for index, group in enumerate(shown.groups):
        for run, (steps, values) in zip(group.finished, curves[group.key], strict=True):
            good = np.isfinite(values)
            if run.status == "diverged" and good.any():
                style.cross(
                    axes, float(steps[good][-1]), float(np.clip(values[good][-1], low, high)), style.look(index).colour
                )
