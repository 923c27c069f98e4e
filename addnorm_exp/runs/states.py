"""The folders in checkpoints/ by their names, which tell whole ones from half-written ones and from somebody's own.

checkpoints/00001000/                   state, for resume
checkpoints/best-00000600/              parameters of the best validation
checkpoints/.00001000-x1y2z3w4/         being written
checkpoints/.removed-00001000-4711/     being removed
"""

import re
from pathlib import Path

BEST = "best-"
PARTS = ("arrays", "meta.json", "manifest.json")  # a folder with none of them is somebody's own, whatever its name
_NAME = re.compile(rf"({BEST})?\d{{8,}}")
_HALF = re.compile(rf"\.(removed-)?({BEST})?\d{{8,}}-\w+")


def whole(folder: Path) -> list[Path]:
    """Checkpoints, sound or not, by rising name; none where there is no such folder."""
    return [
        path
        for path in _entries(folder)
        if _NAME.fullmatch(path.name) and any((path / part).exists() for part in PARTS)
    ]


def halves(folder: Path) -> list[Path]:
    """What attempts left that were killed while they wrote or removed a checkpoint."""
    return [path for path in _entries(folder) if _HALF.fullmatch(path.name)]


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.is_symlink()) if folder.is_dir() else []
