"""Named arrays in one file: NumPy's .npz, not compressed, so that NumPy alone reads it; identified by its SHA-256."""

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

_SUFFIX = r"\.[a-z0-9_]{8}\.writing"


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a file and syncs it to disk. Raises TypeError for a type that NumPy lacks: it would be read back as another type."""
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name}: {array.dtype} cannot be saved as a NumPy array")
    members: dict[str, Any] = dict(arrays)  # without `allow_pickle`, which NumPy before 2.2 would save as an array
    with open(path, "wb") as file:
        np.savez(file, **members)
        file.flush()
        os.fsync(file.fileno())


def replace_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Writes a file whole or not at all, and returns its SHA-256."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".writing", dir=path.parent)
    os.close(handle)
    written = Path(name)
    try:
        write_arrays(written, arrays)
        checksum = sha256(written)
        written.chmod(0o644)  # a temporary file is private
        written.replace(path)
    except BaseException:
        with suppress(OSError):
            written.unlink(missing_ok=True)
        raise
    return checksum


def half_written(name: str, *of: str) -> bool:
    """Whether a file with this name was left by a killed `replace_arrays` to one of the names in `of`."""
    return any(re.fullmatch(rf"\.{re.escape(path)}{_SUFFIX}", name) for path in of)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
