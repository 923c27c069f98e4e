"""The per-layer record as one image: layer × step, a panel a quantity."""

import math

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from addnorm_exp.runs.columns import by_layer
from addnorm_exp.runs.layers import Layers

PANELS = {
    "grad_stream": "gradient of the stream",
    "grad_weight": "gradient of weight matrices",
    "stream_rms": "RMS of the stream",
    "branch_ratio": "branch over stream",
}
CELLS = 200  # columns at most; more steps are joined
DPI = 120


def heatmap(layers: Layers) -> np.ndarray | None:
    """The quantities in PANELS on logarithmic colour scales, as (height, width, RGB) of bytes; None where there is nothing to show.

    A row of the picture is a site, or for weight matrices a layer with their mean; neighbouring steps are joined by their mean.
    """
    found = {name: cells for name in PANELS if (cells := _cells(layers, name)) is not None}
    if not found:
        return None
    down = math.ceil(len(found) / 2)
    fig = Figure(figsize=(9.0, 2.9 * down), layout="constrained", dpi=DPI)
    canvas = FigureCanvasAgg(fig)
    panels = fig.subplots(down, 2, squeeze=False).ravel()
    edges = _edges(layers.step)
    for axes in panels[len(found) :]:
        axes.set_axis_off()
    for axes, (name, cells) in zip(panels, found.items(), strict=False):
        low, high = np.nanquantile(cells, [0.005, 0.995])
        norm = LogNorm(low, high if high > low else 1.01 * low)
        axes.set_facecolor("#C8C8C8")  # what is missing: zero, not finite
        heights = np.arange(cells.shape[1] + 1) - 0.5
        image = axes.pcolormesh(edges, heights, np.ma.masked_invalid(cells).T, norm=norm, cmap="viridis")
        axes.set_title(f"{PANELS[name]} ({name})", fontsize=9)
        axes.set_ylabel("layer" if name == "grad_weight" else "site", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.yaxis.get_major_locator().set_params(integer=True)
        fig.colorbar(image, ax=axes, pad=0.02).ax.tick_params(labelsize=7, which="both")
    for axes in panels[max(0, len(found) - 2) : len(found)]:
        axes.set_xlabel("optimiser steps", fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _cells(layers: Layers, name: str) -> np.ndarray | None:
    """(columns of the picture, rows of the picture); None where no number is positive and finite."""
    values = layers.arrays.get(name)
    if values is None:
        return None
    if name == "grad_weight":
        members = list(by_layer(layers.columns(name)).values())
        if not members:
            return None
        values = np.stack([values[:, columns].mean(axis=1) for columns in members], axis=1)
    starts = _starts(len(values))
    values = np.add.reduceat(values.astype(np.float64), starts) / np.diff([*starts, len(values)])[:, None]
    values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    return values if np.isfinite(values).any() else None


def _starts(count: int) -> np.ndarray:
    return np.arange(0, count, max(1, -(-count // CELLS)))


def _edges(step: np.ndarray) -> np.ndarray:
    last = step[-1] + (step[-1] - step[-2] if len(step) > 1 else 1)
    return np.append(step[_starts(len(step))], last).astype(np.float64)
