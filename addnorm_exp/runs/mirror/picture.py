"""The per-layer record as one image: layer × step, one panel per quantity."""

import math

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from addnorm_exp.runs.columns import by_layer
from addnorm_exp.runs.layers import Layers
from addnorm_exp.runs.thinning import joined

PANELS = {
    "grad_stream": "gradient of the stream",
    "grad_weight": "gradient of weight matrices",
    "stream_rms": "RMS of the stream",
    "branch_ratio": "branch over stream",
}
CELLS = 200  # columns at most; more steps are joined
DPI = 120


def heatmap(layers: Layers) -> np.ndarray | None:
    """The quantities in PANELS on logarithmic colour scales, as (height, width, RGB) of bytes; None if there is no data.

    A row of the picture is a site, or for weight matrices the mean over a layer. Neighbouring steps are joined by their geometric mean.
    """
    parts = {name: part for name in PANELS if (part := panel(layers, name)) is not None}
    if not parts:
        return None
    down = math.ceil(len(parts) / 2)
    fig = Figure(figsize=(9.0, 2.9 * down), layout="constrained", dpi=DPI)
    canvas = FigureCanvasAgg(fig)
    panels = fig.subplots(down, 2, squeeze=False).ravel()
    for axes in panels[len(parts) :]:
        axes.set_axis_off()
    for axes, (name, (edges, cells)) in zip(panels, parts.items(), strict=False):
        low, high = np.nanquantile(cells, [0.005, 0.995])
        norm = LogNorm(low, high if high > low else 1.01 * low)
        axes.set_facecolor("#C8C8C8")  # missing values: zero or not finite
        heights = np.arange(cells.shape[1] + 1) - 0.5
        image = axes.pcolormesh(edges, heights, np.ma.masked_invalid(cells).T, norm=norm, cmap="viridis")
        axes.set_title(f"{PANELS[name]} ({name})", fontsize=9)
        axes.set_ylabel("layer" if name == "grad_weight" else "site", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.yaxis.get_major_locator().set_params(integer=True)
        fig.colorbar(image, ax=axes, pad=0.02).ax.tick_params(labelsize=7, which="both")
    for axes in panels[max(0, len(parts) - 2) : len(parts)]:
        axes.set_xlabel("optimiser steps", fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def panel(layers: Layers, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Edges in steps (m + 1,) and cells (m, rows of the picture), NaN for missing values; None if every cell is NaN."""
    values = layers.arrays.get(name)
    if values is None:
        return None
    if name == "grad_weight":
        members = list(by_layer(layers.index.columns(name)).values())
        if not members:
            return None
        values = np.stack([values[:, columns].mean(axis=1) for columns in members], axis=1)
    edges, cells = joined(layers.step, values, CELLS)
    return (edges, cells) if np.isfinite(cells).any() else None
