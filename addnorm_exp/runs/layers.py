"""Per-layer arrays beside the scalars: compact chunks, one file for many steps, read back as one table.

layers/index.json             sites, tensors and attention sites: the meaning of the columns
layers/00000200.npz           rows since the last chunk, up to step 200
layers/attention-00000200.npz
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from addnorm_exp.runs.folder import write_json

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
        columns: dict[str, Any] = {name: np.stack([np.asarray(row[name], np.float32) for _, row in rows]) for name in names}
        path = self.folder / f"{kind}{rows[-1][0]:08d}.npz"
        made = path.with_name(f".{path.name}")
        with open(made, "wb") as file:
            np.savez_compressed(file, step=np.array([step for step, _ in rows], np.int32), **columns)
        made.replace(path)


def rewind(folder: Path, step: int) -> None:
    """Removes chunks with rows after `step`. Chunks end at checkpoints, so none holds rows from before and after one."""
    if folder.is_dir():
        for path in folder.iterdir():
            number = path.stem.rpartition("-")[2]
            if path.name.startswith(".") or (number.isdigit() and int(number) > step):
                path.unlink()
