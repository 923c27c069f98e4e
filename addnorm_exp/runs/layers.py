"""Per-layer arrays beside the scalars: compact chunks, one file for many steps, read back as one table.

layers/index.json             sites, tensors and attention sites: the meaning of the columns
layers/00000200.npz           rows since the last chunk, up to step 200
layers/attention-00000200.npz

A finished run has one chunk of each kind (`merge`).
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from addnorm_exp.atomic import SUFFIX, replacement, uncut
from addnorm_exp.errors import UserError
from addnorm_exp.runs.columns import COLUMNS
from addnorm_exp.runs.folder import is_temporary, write_json
from addnorm_exp.runs.reading import AGAIN, read
from addnorm_exp.runs.records import LayerIndex

NumberedRows = list[tuple[int, Mapping[str, np.ndarray]]]
KINDS = ("", "attention-")  # prefixes of chunk names: measured with training, and measured more rarely
ROWS_A_CHUNK = 50
# A row reaches the disk after at most this time plus one dispatch, so that readers can follow a run.
SECONDS_A_CHUNK = 30.0


def is_layers_row(step: Any, every: int, last: Any) -> Any:
    """Whether update number `step` (1 for the first) is a row of the per-layer record; numbers or traced."""
    return (step == 1) | (step % every == 0) | (step == last)


class LayersWriter:
    """Collects rows and writes them in chunks: when a chunk is full, or by `write_due` when it is old. Call `flush` before every
    checkpoint, so that no older row is only in memory."""

    def __init__(self, folder: Path, index: Mapping[str, Sequence[str]]):
        self.folder = folder
        self.rows: dict[str, NumberedRows] = {kind: [] for kind in KINDS}
        self.written = dict.fromkeys(self.rows, time.monotonic())
        folder.mkdir(exist_ok=True)
        write_json(folder / "index.json", index)

    def add(self, step: int, row: Mapping[str, np.ndarray], kind: str = "") -> None:
        """One row: quantity → array over the columns. `kind`: one of KINDS."""
        self.rows[kind].append((step, row))
        if len(self.rows[kind]) >= ROWS_A_CHUNK or self._aged(kind):
            self._write(kind)

    def write_due(self) -> None:
        """Writes old rows. Call it regularly: if rows are rare, the next one may come hours later."""
        for kind, rows in self.rows.items():
            if rows and self._aged(kind):
                self._write(kind)

    def _aged(self, kind: str) -> bool:
        return time.monotonic() - self.written[kind] > SECONDS_A_CHUNK

    def flush(self) -> None:
        for kind in self.rows:
            self._write(kind)

    def _write(self, kind: str) -> None:
        rows, self.rows[kind] = self.rows[kind], []
        self.written[kind] = time.monotonic()
        if not rows:
            return
        columns: dict[str, Any] = {
            name: np.stack([np.asarray(row[name], np.float32) for _, row in rows]) for name in rows[0][1]
        }
        _write_chunk(self.folder / f"{kind}{rows[-1][0]:08d}.npz", [step for step, _ in rows], columns)


def _write_chunk(path: Path, steps: Sequence[int], columns: dict[str, Any]) -> None:
    with uncut(), replacement(path) as file:
        np.savez_compressed(file, step=np.array(steps, np.int32), **columns)


_CHUNK = re.compile(rf"({'|'.join(KINDS)})(\d{{8,}})\.npz")
_HALF = re.compile(rf"\.{_CHUNK.pattern}{SUFFIX}")


def rewind(folder: Path, step: int, measured: bool = True) -> None:
    """Removes chunks with rows after `step`, and half-written files of a killed attempt. Foreign files are not touched.

    If attention at `step` is still to be measured (not `measured`), a chunk that ends with that row is removed too. Chunks end at
    checkpoints, so none has rows from both before and after one.
    """
    bounds = {"": step, "attention-": step if measured else step - 1}
    if folder.is_dir():
        for path in folder.iterdir():
            chunk = _CHUNK.fullmatch(path.name)
            if chunk and int(chunk[2]) > bounds[chunk[1]] and _last_step(path) == int(chunk[2]):
                path.unlink(missing_ok=True)
        for path in half_written(folder):
            path.unlink(missing_ok=True)


def _last_step(path: Path) -> int | None:
    """The last step in a chunk's rows; None if the file is not one of our chunks (a date in a name is a number too)."""
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as raw, np.load(raw) as file:
            return int(file["step"][-1])
    except Exception:  # zipfile, zlib and NumPy have a dozen exceptions for a file that is not an archive
        return None


def is_merged(folder: Path) -> bool:
    """Whether there is at most one chunk of each kind."""
    return all(len(_own_chunks(folder, kind)) < 2 for kind in KINDS)


def merge(folder: Path) -> None:
    """Merges all chunks of a kind into one. During the merge, or after a kill, a reader may see rows twice, but never too few.

    Damaged chunks are not touched; their readers report them.
    """
    for kind in KINDS:
        paths = _own_chunks(folder, kind)
        try:
            index = read_index(folder) if len(paths) > 1 else None
            parts = [read_chunk(path, index) or {} for path in paths] if index else []
        except UserError:
            continue
        if parts and all(part.keys() == parts[0].keys() for part in parts) and parts[0]:
            step, arrays = _joined(parts)
            _write_chunk(paths[-1], step.tolist(), arrays)  # before removing the others: it has their rows
            for path in paths[:-1]:
                path.unlink(missing_ok=True)


def _own_chunks(folder: Path, kind: str) -> list[Path]:
    named = [(path, _CHUNK.fullmatch(path.name)) for path, of in chunks(folder) if of == kind]
    if len(named) < 2:
        return [path for path, _ in named]
    return [path for path, chunk in named if chunk and _last_step(path) == int(chunk[2])]


def half_written(folder: Path) -> list[Path]:
    """Files of attempts that were killed while they wrote a chunk or the index."""
    return [path for path in sorted(folder.iterdir()) if is_temporary(path.name) or _HALF.fullmatch(path.name)]


@dataclass(frozen=True)
class Layers:
    """Per-layer arrays of a run: `step` (n,), `arrays[name]` (n, S) by site, (n, P) by weight tensor or (n, A) by attention site. The
    index names the columns."""

    index: LayerIndex
    step: np.ndarray
    arrays: Mapping[str, np.ndarray]


def read_index(folder: Path) -> LayerIndex | None:
    """The names of the columns; None if there is no record."""
    return read(folder / "index.json", LayerIndex, AGAIN, formed=False)


def chunks(folder: Path) -> list[tuple[Path, str]]:
    """The chunks, each with its kind, by name. Other files are foreign."""
    matches = ((path, _CHUNK.fullmatch(path.name)) for path in sorted(folder.glob("*.npz")))
    return [(path, chunk[1]) for path, chunk in matches if chunk]


def read_layers(folder: Path, kind: str = "") -> Layers | None:
    """The rows of one of KINDS, or None. If a step was written twice, the later row counts.

    Raises UserError if a file is damaged: chunks are written whole, so a kill does not explain it.
    """
    index = read_index(folder)
    if index is None:
        return None
    contents = [read_chunk(path, index) for path, of in chunks(folder) if of == kind]
    parts = [part for part in contents if part is not None]
    return Layers(index, *_joined(parts)) if parts else None


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Steps in rising order and the quantities that all parts have. If a step occurs twice, the later row counts."""
    names = set.intersection(*map(set, parts)) - {"step"}
    step = np.concatenate([part["step"] for part in parts]).astype(np.int64)
    # np.unique keeps the first of equal steps; on the reversed array that is the last written.
    _, first = np.unique(step[::-1], return_index=True)
    keep = len(step) - 1 - first
    return step[keep], {name: np.concatenate([part[name] for part in parts])[keep] for name in sorted(names)}


def read_chunk(path: Path, index: LayerIndex) -> dict[str, np.ndarray] | None:
    """A chunk's `step` (n,) and quantities (n, columns); None if a resumed run has just removed it.

    Quantities that COLUMNS does not name are ignored. Raises UserError if the file is damaged.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("no file")
        with open(path, "rb") as raw, np.load(raw) as file:
            chunk = {name: file[name] for name in file.files if name in COLUMNS or name == "step"}
    except FileNotFoundError:
        return None
    except Exception as error:  # zipfile, zlib and NumPy have a dozen exceptions for a damaged archive
        raise UserError(f"{path}: is damaged ({type(error).__name__}); {AGAIN}") from None
    step = chunk.get("step")
    if step is None or step.ndim != 1 or not np.issubdtype(step.dtype, np.integer):
        raise UserError(f"{path}: has no steps; {AGAIN}")
    for name, array in chunk.items():
        if name == "step":
            continue
        shape = (len(step), len(index.columns(name)))
        if array.shape != shape or not np.issubdtype(array.dtype, np.floating):
            raise UserError(f"{path}: {name} is {array.dtype} of shape {array.shape}, expected {shape}; {AGAIN}")
    return chunk
