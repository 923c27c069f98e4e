"""The folders in checkpoints/: which are whole, which half-written, and which somebody's own.

checkpoints/00001000/                     state, for resume
checkpoints/best-00000600/                parameters of the best validation
checkpoints/.00001000.x1y2z3w4.writing/   being written
checkpoints/.00001000.4711.removing/      being removed
"""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

BEST = "best-"
_NAME = re.compile(rf"({BEST})?(\d{{8,}})")
_HALF = re.compile(rf"\.({BEST})?\d{{8,}}\.([a-z0-9_]{{8}}\.writing|\d+\.removing)")
_ARRAYS = ("_METADATA", "_CHECKPOINT_METADATA")  # what Orbax writes beside the arrays of every checkpoint


def whole(folder: Path, last: int | None = None) -> list[Path]:
    """Checkpoints, sound or not, by rising name; none where there is no such folder.

    A folder named by a number counts by what only our writer puts into it, for a date is a number too. No checkpoint is of a step
    after `last`, the run's last one.
    """
    found = []
    for path in _entries(folder):
        name = _NAME.fullmatch(path.name)
        if name and (last is None or int(name[2]) <= last) and _is_ours(path):
            found.append(path)
    return found


def halves(folder: Path) -> list[Path]:
    """What attempts left that were killed while they wrote or removed a checkpoint."""
    return [path for path in _entries(folder) if _HALF.fullmatch(path.name)]


def begin(folder: Path, name: str) -> Path:
    """A new hidden folder in which the checkpoint `name` is written."""
    return Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".writing", dir=folder))


def hide(path: Path, process: int) -> Path:
    """Takes a checkpoint out of sight by one rename, before it is removed; returns where it is now."""
    return path.rename(path.with_name(f".{path.name}.{process}.removing"))


def read_manifest(path: Path) -> Any:
    """What a checkpoint's manifest holds, None where it cannot be read."""
    try:
        return json.loads((path / "manifest.json").read_bytes()) if (path / "manifest.json").is_file() else None
    except (OSError, ValueError, RecursionError):
        return None


def _is_ours(path: Path) -> bool:
    """Whether our writer made this folder, by what is left of it: arrays of Orbax's, or a manifest of ours."""
    if any((path / "arrays" / name).is_file() for name in _ARRAYS):
        return True
    manifest = read_manifest(path)
    return isinstance(manifest, dict) and "meta.json" in manifest and any(key.startswith("arrays/") for key in manifest)


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.is_symlink()) if folder.is_dir() else []
