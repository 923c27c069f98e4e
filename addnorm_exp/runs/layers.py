"""Per-layer arrays beside the scalars: compact chunks, one file for many steps, read back as one table.

layers/index.json             sites, tensors and attention sites: the meaning of the columns
layers/00000200.npz           rows since the last chunk, up to step 200
layers/attention-00000200.npz
"""

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from addnorm_exp.errors import UserError
from addnorm_exp.runs.folder import read_json, write_json

Rows = list[tuple[int, Mapping[str, np.ndarray]]]
ROWS_A_CHUNK = 50


class LayersWriter:
    """Collects rows and writes them in chunks; `flush` before every checkpoint, so that nothing older than it is in memory only."""

    def __init__(self, folder: Path, index: Mapping[str, Sequence[str]]):
        self.folder = folder
        self.rows: dict[str, Rows] = {"": [], "attention-": []}
        folder.mkdir(exist_ok=True)
        write_json(folder / "index.json", index)

    def add(self, step: int, row: Mapping[str, np.ndarray], kind: str = "") -> None:
        """One row: quantity → array over the columns. `kind`: empty, or `attention-`."""
        self.rows[kind].append((step, row))
        if len(self.rows[kind]) >= ROWS_A_CHUNK:
            self._write(kind)

    def flush(self) -> None:
        for kind in self.rows:
            self._write(kind)

    def _write(self, kind: str) -> None:
        rows, self.rows[kind] = self.rows[kind], []
        if not rows:
            return
        names = rows[0][1]
        columns: dict[str, Any] = {
            name: np.stack([np.asarray(row[name], np.float32) for _, row in rows]) for name in names
        }
        path = self.folder / f"{kind}{rows[-1][0]:08d}.npz"
        made = path.with_name(f".{path.name}")
        with open(made, "wb") as file:
            np.savez_compressed(file, step=np.array([step for step, _ in rows], np.int32), **columns)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)


def rewind(folder: Path, step: int) -> None:
    """Removes chunks with rows after `step`. Chunks end at checkpoints, so none holds rows from before and after one."""
    if folder.is_dir():
        for path in folder.iterdir():
            number = path.stem.rpartition("-")[2]
            if path.name.startswith(".") or (number.isdigit() and int(number) > step):
                path.unlink()


@dataclass(frozen=True)
class Layers:
    """Per-layer arrays of a run: `step` (n,), `arrays[name]` (n, S) by site or (n, P) by weight tensor."""

    sites: tuple[str, ...]
    tensors: tuple[str, ...]
    step: np.ndarray
    arrays: Mapping[str, np.ndarray]


def read(folder: Path) -> Layers | None:
    """The rows without those of attention, None where there are none. Of a step that was written twice the later row counts.

    A last chunk that cannot be read is left out, as a torn line is; an earlier one is a `UserError`.
    """
    paths = sorted(p for p in folder.glob("*.npz") if p.stem.isdigit())
    index = read_json(folder / "index.json")
    if not paths or index is None:
        return None
    chunks: list[dict[str, np.ndarray]] = []
    for path in paths:
        try:
            with np.load(path) as file:
                chunks.append({name: file[name] for name in file.files})
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            if path != paths[-1]:
                raise UserError(f"{path}: is damaged; delete the run's folder and run it again") from None
    if not chunks:
        return None
    names = set.intersection(*(set(chunk) for chunk in chunks)) - {"step"}
    step = np.concatenate([chunk["step"] for chunk in chunks]).astype(np.int64)
    # np.unique keeps the first of equal steps; on the reversed array that is the last written.
    _, first = np.unique(step[::-1], return_index=True)
    keep = len(step) - 1 - first
    arrays = {name: np.concatenate([chunk[name] for chunk in chunks])[keep] for name in sorted(names)}
    return Layers(tuple(index.get("sites", ())), tuple(index.get("tensors", ())), step[keep], arrays)
