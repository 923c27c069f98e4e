"""A run's record as rows of W&B's history: each step once, in order, complete.

A step's row is complete when nothing can be added to it: a later step is on the disk, and so are the per-layer rows that are due at it.
The rows depend only on the record, not on when it is read.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from addnorm_exp.errors import UserError
from addnorm_exp.runs.columns import by_layer
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.layers import KINDS, chunks, is_layers_row, read_chunk, read_index
from addnorm_exp.runs.reading import LineReader
from addnorm_exp.runs.records import AttemptRecord, LayerIndex

Row = dict[str, float]


class RowReader:
    """The rows of a run's folder after step `after`, as the folder grows. It must have been rewound before (train/loop.py)."""

    def __init__(self, folder: Path, after: int = -1):
        self.folder, self.after = folder, after
        self.last_layers = -1  # the step of the newest per-layer row read so far
        self._lines = LineReader(folder / "metrics.jsonl")
        self._rows: dict[int, Row] = defaultdict(dict)
        self._layers: dict[int, Row] = defaultdict(dict)
        # By name, size and time: the last chunk of a finished run is replaced by the merged one.
        self._chunks: set[tuple[str, int, int]] = set()
        self._newest = dict.fromkeys(KINDS, -1)
        config, summary = RunFolder(folder).config(), RunFolder(folder).summary()
        self._science = config.science if config else {}
        tokens = (summary and summary.tokens_per_example) or 0
        self._tokens_a_step = self._science.get("batch_size", 0) * tokens
        attempts = (summary and summary.attempts) or [AttemptRecord()]
        self._execution: Mapping[str, Any] = attempts[-1].execution or (config and config.execution) or {}
        # The rows of an earlier attempt are complete: attempts continue from a checkpoint, before which everything is synced to disk.
        # Measurements that were due at that checkpoint but not made follow.
        self._settled = (attempts[-1].from_step or -1) - bool(attempts[-1].pending)

    def poll(self, ended: bool = False) -> list[tuple[int, Row]]:
        """Rows that were completed since the last call. `ended`: nothing follows, so all rows are complete.

        Raises UserError if metrics.jsonl is damaged.
        """
        self._read_layers()
        for line in self._lines.read():
            if line.split != "test":  # a single number, which is in the summary
                numbers = {f"{line.split}/{name}": value for name, value in line.numbers.items() if value is not None}
                self._rows[line.step].update(numbers)
        whole = []
        newest = max(self._rows, default=-1)
        for step in sorted(self._rows):
            if not ended and (step == newest or not self._has_layers(step)):
                break
            row = self._rows.pop(step)
            if step > self.after:
                self.after = step
                place = {"step": step, "tokens": step * self._tokens_a_step}
                whole.append((step, {**place, **row, **self._layers.pop(step, {})}))
        return whole

    def _has_layers(self, step: int) -> bool:
        execution = self._execution
        if step <= self._settled or not execution.get("diagnostics"):
            return True
        last = self._science.get("steps")
        if step and is_layers_row(step, execution.get("layers_every") or 1, last) and step > self._newest[""]:
            return False
        every = execution.get("attention_every")
        return not (every and (step % every == 0 or step == last) and step > self._newest["attention-"])

    def _read_layers(self) -> None:
        folder = self.folder / "layers"
        versions = {version: chunk for chunk in chunks(folder) if (version := _version(chunk[0])) is not None}
        new = {version: chunk for version, chunk in versions.items() if version not in self._chunks}
        index = read_index(folder) if new else None
        if index is None:
            return
        for version, (path, kind) in new.items():
            self._chunks.add(version)
            try:
                chunk = read_chunk(path, index) or {}
            except UserError:  # tables and pictures report it
                chunk = {}
            for number, step in enumerate(chunk.pop("step", np.array([])).tolist()):
                self._newest[kind] = max(self._newest[kind], step)
                if step <= self.after:  # its row has been sent
                    continue
                self._layers[step].update(scalars(index, {name: values[number] for name, values in chunk.items()}))
        self.last_layers = self._newest[""]


def _version(path: Path) -> tuple[str, int, int] | None:
    """What distinguishes a file from its replacement; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return path.name, status.st_size, status.st_mtime_ns


def scalars(index: LayerIndex, row: Mapping[str, np.ndarray]) -> Row:
    """One per-layer row as the numbers of the first, the middle and the last layer: means over a layer's sites or weight matrices."""
    numbers: Row = {}
    for name, values in row.items():
        layers = by_layer(index.columns(name))
        for place, layer in _ends(list(layers)).items():
            value = float(np.mean(values[layers[layer]]))
            if math.isfinite(value):
                numbers[f"layers/{name}/{place}"] = value
    return numbers


def _ends(layers: Sequence[str]) -> dict[str, str]:
    """first, middle and last, as far as they are different layers."""
    places = {"first": 0, "last": len(layers) - 1, "middle": len(layers) // 2}
    chosen = {number: place for place, number in reversed(places.items()) if layers}
    return {place: layers[number] for number, place in sorted(chosen.items())}
