"""Named arrays in one file: NumPy's .npz, not compressed, so that NumPy alone reads it; identified by its SHA-256."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from addnorm_exp.atomic import SUFFIX, replacement


def write_arrays(file: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    """Raises TypeError for a type that NumPy lacks: it would be read back as another type."""
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name}: {array.dtype} cannot be saved as a NumPy array")
    members: dict[str, Any] = dict(arrays)  # without `allow_pickle`, which NumPy before 2.2 would save as an array
    np.savez(file, **members)


def replace_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Writes a file whole or not at all, and returns its SHA-256."""
    with replacement(path) as file:
        write_arrays(file, arrays)
    return sha256(path)


def half_written(name: str, *of: str) -> bool:
    """Whether a file with this name was left by a killed `replace_arrays` to one of the names in `of`."""
    return any(re.fullmatch(rf"\.{re.escape(path)}{SUFFIX}", name) for path in of)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
