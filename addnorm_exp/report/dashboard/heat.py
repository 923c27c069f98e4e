"""Per-layer diagnostics as cells of layer × step: two bytes per cell, long records joined, within a budget for the whole page."""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from addnorm_exp.report.dashboard.pack import Pool
from addnorm_exp.report.figures.depth import SHORT, site_names
from addnorm_exp.report.run import Run, read_layers
from addnorm_exp.runs.columns import COLUMNS, within
from addnorm_exp.runs.layers import KINDS, Layers, read_index
from addnorm_exp.runs.thinning import joined, steps_a_cell

CELLS = 3_000_000  # on a page at most
ROWS = 120  # in steps, of a run at most; more are not visible
FEWEST = 30  # rows that a run keeps if the page has many runs; runs are omitted if even these are too many
LEVELS = 65535

# Quantity -> words for it, and whether its colours are logarithmic.
QUANTITIES = {
    "grad_stream": ("gradient of the stream, ‖∂L/∂x‖", True),
    "stream_rms": ("RMS of the stream", True),
    "branch_ratio": ("branch over stream, RMS", True),
    "grad_weight": ("gradient of the weights, ‖∂L/∂W‖", True),
    "update_ratio": ("update over weight, norms", True),
    "weight_rms": ("RMS of the weights", True),
    "logit_max": ("largest attention logit", False),
    "entropy": ("attention entropy (nats)", False),
}


def heat(runs: Sequence[Run], first: Sequence[str], pool: Pool) -> dict[str, Any]:
    """`runs`: for each run with a per-layer record, by its place, {quantity: [names, steps, cells, low, high]}; the first three are places
    in `names` and in the pool. `first` are the ids of the runs that are kept before others if there is not room for all.

    `scale` has the bounds of the colours by quantity, without the most extreme cells, from the runs in `first` that did not diverge.
    Cells are uint16 (rows of steps one after another): 0 without a value, else 1 + 65534 · (v − low) / (high − low), v the value or
    its common logarithm. `joined`: the largest number of the record's rows that one row represents; `left_out`: the number of omitted runs.
    """
    sizes = {run.id: size for run in runs if (size := _columns(run))}
    rows = int(np.clip(CELLS // max(1, sum(sizes.values())), FEWEST, ROWS))
    order = sorted(sizes, key=lambda name: name not in set(first))
    room = itertools.accumulate(rows * sizes[name] for name in order)
    chosen = {*order[:1], *(name for name, cells in zip(order, room, strict=True) if cells <= CELLS)}
    names: list[dict[str, Any]] = []
    cells_of: dict[int, dict[str, list[Any]]] = {}
    seen: dict[str, list[np.ndarray]] = {}
    most = 1
    for place, run in enumerate(runs):
        mine: dict[str, list[Any]] = {}
        for kind in KINDS if run.id in chosen else ():
            layers = read_layers(run, kind)
            if layers is None or not len(layers.step):
                continue
            most = max(most, steps_a_cell(len(layers.step), rows))
            steps = pool.add(joined(layers.step, layers.step, rows, geometric=False)[1])
            for key, labels, values in _quantities(layers, rows):
                if labels not in names:
                    names.append(labels)
                cells, low, high = coded(values)
                mine[key] = [names.index(labels), steps, pool.codes(cells), low, high]
                if run.id in first and run.status != "diverged":
                    seen.setdefault(key, []).append(values[np.isfinite(values)])
        if mine:
            cells_of[place] = mine
    finite = {key: np.concatenate(values) for key, values in seen.items()}
    present = {quantity for mine in cells_of.values() for quantity in mine}
    return {
        "quantities": [[key, words, log, COLUMNS[key]] for key, (words, log) in QUANTITIES.items() if key in present],
        "names": names,
        "runs": cells_of,
        "scale": {key: np.quantile(every, [0.002, 0.998]).tolist() for key, every in finite.items() if len(every)},
        "joined": most,
        "left_out": len(sizes) - len(chosen),
    }


def _columns(run: Run) -> int:
    index = read_index(run.path / "layers")
    return 0 if index is None else sum(len(index.columns(key)) for key in QUANTITIES)


def _quantities(layers: Layers, rows: int) -> Iterator[tuple[str, dict[str, Any], np.ndarray]]:
    """Key, names of the columns and at most `rows` joined rows of each quantity: common logarithms if its colours are logarithmic."""
    for key, (_, log) in QUANTITIES.items():
        if (values := layers.arrays.get(key)) is not None:
            _, cells = joined(layers.step, values, rows, geometric=log)
            yield key, labelled(layers.index.columns(key), COLUMNS[key]), np.log10(cells) if log else cells


def labelled(columns: Sequence[str], kind: str) -> dict[str, Any]:
    """`labels` of the columns; for tensors also `families`: a tensor's name within its block, empty outside blocks."""
    if kind != "tensors":
        return {"labels": site_names(columns)}
    families = [_family(place.rest) if (place := within(name)) else "" for name in columns]
    return {"labels": site_names(columns, _short), "families": families}


def _family(tensor: str) -> str:
    """The name of a tensor within its block, without what is between its sublayer and itself."""
    return re.sub(r"connections?/(nodes/)?", "", tensor)


def _short(tensor: str) -> str:
    return " ".join(SHORT.get(part, part) for part in _family(tensor).removesuffix("/kernel").split("/"))


def coded(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Values as uint16 with the bounds of their scale; 0 without a value."""
    good = np.isfinite(values)
    if not good.any():
        return np.zeros(values.shape, np.uint16), 0.0, 0.0
    low, high = float(values[good].min()), float(values[good].max())
    share = (np.where(good, values, low) - low) / ((high - low) or 1.0)
    return np.where(good, 1 + np.rint(share * (LEVELS - 1)), 0).astype(np.uint16), low, high
