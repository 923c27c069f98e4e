"""One picture per quantity: a small panel for each scheme with the value by relative depth, one line per depth."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from addnorm_exp.probe.measurements import Probed
from addnorm_exp.report.figures import multiples, style
from addnorm_exp.residual.predictions import QUANTITIES, SETTINGS

LABELS = {
    "stream_ms": "E x² of the stream",
    "grad_w2": "‖∂loss/∂W₂‖ of each block",
    "grad_stream": "‖∂loss/∂x‖ of the stream",
    "sensitivity": "‖Δy‖² / ‖y‖² at 1 % of weights",
    "token_similarity": "mean cosine of tokens",
    "attn_entropy": "attention entropy (nats)",
}
LINEAR = ("token_similarity", "attn_entropy")
DEPTH_COLOURS = ("#9ECAE1", "#4292C6", "#08519C", "#041F40", "#E69F00", "#D55E00")  # light to dark, then two more
LINES: dict[str, Any] = {"batch": "-", "theory": (0, (2, 1.2))}


def draw(probed: Probed, folder: Path, each: Callable = map) -> list[Path]:
    """Writes each quantity's PNG and SVG into `folder`. `each` is called as `map`."""
    folder.mkdir(parents=True, exist_ok=True)
    return [path for written in each(functools.partial(_write, probed, folder), QUANTITIES) for path in written]


def _write(probed: Probed, folder: Path, quantity: str) -> list[Path]:
    with style.paper():
        figure = _figure(probed, quantity)
        return style.save(figure, folder, quantity) if figure else []


def _figure(probed: Probed, quantity: str) -> Figure | None:
    if not any(row.quantity == quantity for row in probed.rows):
        return None
    fig, panels = multiples.grid(probed.schemes)
    panel_of: Callable = _against_depth if quantity == "sensitivity" else _through_the_stack
    values = [row.value for row in probed.rows if row.quantity == quantity and math.isfinite(row.value)]
    logarithmic = quantity not in LINEAR and any(value > 0 for value in values)
    for scheme, axes in zip(probed.schemes, panels, strict=True):
        if logarithmic:
            axes.set_yscale("log")
        drawn = panel_of(axes, probed, scheme, quantity, logarithmic)
        if not drawn:
            axes.text(
                0.5, 0.5, "0 throughout" if logarithmic else "none", transform=axes.transAxes, ha="center", fontsize=6.5
            )
    if logarithmic:
        panels[0].set_ylim(*multiples.limits((value for value in values if value > 0), 0.05, 1))
    fig.supylabel(LABELS[quantity], fontsize=7.5)
    fig.supxlabel(
        "depth of the model (blocks)" if quantity == "sensitivity" else "position in the stack (0 embedding, 1 output)",
        fontsize=7.5,
    )
    handles = [Line2D([], [], color=style.GREY, linestyle=LINES[one], label=one) for one in SETTINGS]
    if quantity != "sensitivity":
        handles += [Line2D([], [], color=_colour(probed, depth), label=f"{depth} blocks") for depth in probed.depths]
    style.legend(fig, handles)
    return fig


def _through_the_stack(axes, probed: Probed, scheme: str, quantity: str, logarithmic: bool) -> bool:
    drawn = False
    for setting in SETTINGS:
        for depth in probed.depths:
            curve = probed.curve(scheme, setting, quantity, depth)
            points = [(block / depth, value) for block, value in sorted(curve.items()) if value > 0 or not logarithmic]
            if points:
                drawn = True
                x, y = np.array(points).T
                axes.plot(x, y, color=_colour(probed, depth), linestyle=LINES[setting], linewidth=0.9)
    return drawn


def _against_depth(axes, probed: Probed, scheme: str, quantity: str, logarithmic: bool) -> bool:
    drawn = False
    axes.set_xscale("log", base=2)
    axes.set_xticks(probed.depths, [str(depth) for depth in probed.depths])
    axes.minorticks_off()
    for setting in SETTINGS:
        ends = [(depth, probed.end(scheme, setting, quantity, depth)) for depth in probed.depths]
        points = [(depth, value) for depth, value in ends if value is not None and (value > 0 or not logarithmic)]
        if points:
            drawn = True
            x, y = np.array(points).T
            axes.plot(x, y, color=style.COLOURS[1], linestyle=LINES[setting], marker="o", markersize=2.2, linewidth=0.9)
    return drawn


def _colour(probed: Probed, depth: int) -> str:
    return DEPTH_COLOURS[probed.depths.index(depth) % len(DEPTH_COLOURS)]
