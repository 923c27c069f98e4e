"""Joins neighbouring steps of the per-layer record, for a picture with fewer cells than the record has steps."""

import numpy as np


def steps_a_cell(count: int, most: int) -> int:
    """How many neighbours to join so that `count` steps become `most` cells at most."""
    return max(1, -(-count // most))


def joined(step: np.ndarray, values: np.ndarray, most: int, *, geometric: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Rows `values` (n, …) at `step` (n,) as m ≤ `most` cells: edges (m + 1,) in steps, and means (m, …) in float64.

    The mean is geometric; with `geometric=False` it is arithmetic, for quantities that may be negative. It includes the valid values
    (finite; for the geometric mean also positive), and is NaN if there are none. Two cells meet midway between their nearest steps. The
    first cell begins at the first step and the last ends at the last one, so that each covers its own steps and none exceeds the run.
    """
    size = steps_a_cell(len(step), most)
    starts = np.arange(0, len(step), size)
    values = values.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.log(values) if geometric else values
        good = np.isfinite(terms)
        total = np.add.reduceat(np.where(good, terms, 0.0), starts, axis=0)
        means = total / np.add.reduceat(good.astype(np.float64), starts, axis=0)
    between = (step[starts[1:] - 1] + step[starts[1:]]) / 2
    last = step[-1] if len(step) > 1 else step[0] + 1  # a single step has no width
    return np.concatenate([step[:1], between, [last]]).astype(np.float64), np.exp(means) if geometric else means
