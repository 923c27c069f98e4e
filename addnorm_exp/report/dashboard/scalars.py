"""Scalars against steps, run by run: the content of metrics.jsonl, thinned to a visible number of points."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from addnorm_exp.report.dashboard.pack import POINTS, Pool, stride, thin
from addnorm_exp.report.run import Run, read_splits

SPLITS = {"val": "validation", "train": "training"}
NAMES = {"bpb": "bits per byte", "loss": "loss (nats per token)", "grad_norm": "gradient norm", "lr": "learning rate"}


def curves(runs: Sequence[Run], pool: Pool) -> dict[str, Any]:
    """`runs`: for each, {split: {"x": place in the pool, quantity: place, …}}; `quantities`: those that exist, as [split, key, label];
    `thinned`: the number of steps that one point represents, by split, if more than one.

    Loss is omitted if there are bits per byte, which give the same curve. Bins of training steps have means.
    """
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
            if "bpb" in columns:
                columns.pop("loss", None)
            planned = max(int(steps[-1]), int(run.summary.steps or run.flat.get("steps") or 0))
            size = stride(planned) if len(steps) > POINTS or split == "train" else 1
            if size > 1:
                thinned[split] = max(size, thinned.get(split, 1))
            x, columns = thin(steps, columns, size)
            mine[split] = {"x": pool.add(x)} | {name: pool.add(values) for name, values in columns.items()}
            names |= dict.fromkeys((split, name) for name in columns)
        by_run.append(mine)
    order = {split: place for place, split in enumerate(SPLITS)}
    known = {name: place for place, name in enumerate(NAMES)}
    ranked = sorted(names, key=lambda pair: (known.get(pair[1], len(known)), order[pair[0]], pair[1]))
    return {
        "runs": by_run,
        "quantities": [[split, name, _label(split, name)] for split, name in ranked],
        "thinned": thinned,
    }


def _label(split: str, name: str) -> str:
    if name in ("bpb", "loss"):
        return f"{SPLITS[split]} {NAMES[name]}"
    return NAMES.get(name, name) + (f" ({SPLITS[split]})" if split != "train" else "")
