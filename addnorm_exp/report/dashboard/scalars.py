"""Scalars against steps, run by run: the content of metrics.jsonl, thinned to a visible number of points."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from addnorm_exp.report.dashboard.pack import Pool, thin
from addnorm_exp.report.run import Run, read_splits
from addnorm_exp.runs.metrics import metrics_of
from addnorm_exp.runs.thinning import steps_a_cell

POINTS = 400  # of a curve at most
SPLITS = {"val": "validation", "train": "training"}
NAMES = {"grad_norm": "gradient norm", "lr": "learning rate"}  # of scalars that are no metric


def curves(runs: Sequence[Run], pool: Pool) -> dict[str, Any]:
    """`runs`: for each, {split: {"x": place in the pool, quantity: place, …}}; `quantities`: those that exist, as [split, key, label];
    `thinned`: the number of steps that one point represents, by split, if more than one; `better`: the sign of each metric, -1 where higher
    is better.

    A metric is omitted if there is one that rescales it, which gives the same curve. Bins of training steps have means.
    """
    metrics = {metric.name: metric for run in runs for metric in metrics_of(run.summary)}
    labels = {name: metric.label for name, metric in metrics.items()} | NAMES
    by_run: list[dict[str, dict[str, int]]] = []
    names: dict[tuple[str, str], None] = {}
    thinned: dict[str, int] = {}
    for run in runs:
        mine: dict[str, dict[str, int]] = {}
        splits = read_splits(run)
        for split in SPLITS:
            columns = splits.get(split, {})
            steps = columns.pop("step", np.empty(0, np.int64))
            if not len(steps):
                continue
            for metric in metrics.values():
                if metric.rescales and metric.name in columns:
                    columns.pop(metric.rescales, None)
            planned = max(int(steps[-1]), int(run.summary.steps or run.flat.get("steps") or 0))
            # By the planned length: runs of one plan can be compared point by point, however far each has come.
            size = steps_a_cell(planned, POINTS) if len(steps) > POINTS or split == "train" else 1
            if size > 1:
                thinned[split] = max(size, thinned.get(split, 1))
            x, columns = thin(steps, columns, size)
            mine[split] = {"x": pool.add(x)} | {name: pool.add(values) for name, values in columns.items()}
            names |= dict.fromkeys((split, name) for name in columns)
        by_run.append(mine)
    order = {split: place for place, split in enumerate(SPLITS)}
    known = {name: place for place, name in enumerate(labels)}
    ranked = sorted(names, key=lambda pair: (known.get(pair[1], len(known)), order[pair[0]], pair[1]))

    def label(split: str, name: str) -> str:
        if name in metrics:
            return f"{SPLITS[split]} {labels[name]}"
        return labels.get(name, name) + (f" ({SPLITS[split]})" if split != "train" else "")

    return {
        "runs": by_run,
        "quantities": [[split, name, label(split, name)] for split, name in ranked],
        "thinned": thinned,
        "better": {name: metric.sign for name, metric in metrics.items()},
    }
