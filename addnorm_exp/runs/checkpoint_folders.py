"""The files in checkpoints/: which are whole, half-written or foreign, and which a finished run keeps.

checkpoints/00001000/                     a state, for resume: arrays.npz, meta.json, manifest.json
checkpoints/best-00000600/                the parameters of the best validation so far, in the same files
checkpoints/final.npz                     the parameters of a finished run
checkpoints/best.npz                      those of its best validation, if that is not the last one
checkpoints/.00001000.x1y2z3w4.writing    being written
checkpoints/.00001000.4711.removing       being removed
"""

import re
import shutil
import tempfile
from pathlib import Path

from pydantic import ValidationError

from addnorm_exp.config.keys import leaves
from addnorm_exp.runs.arrays import half_written
from addnorm_exp.runs.records import MANIFEST

KEEP = leaves()["execution.keep"].choices  # each keeps more than the one before it
PARAMETERS = {"final": "final.npz", "best": "best.npz"}
ARRAYS = "arrays.npz"
BEST = "best-"
MARK = "format"  # the first array of a checkpoint; it identifies the file as ours
_NAME = re.compile(rf"({BEST})?(\d{{8,}})")
_HALF = re.compile(rf"\.({BEST})?\d{{8,}}\.([a-z0-9_]{{8}}\.writing|\d+\.removing)")
_ORBAX = ("_METADATA", "_CHECKPOINT_METADATA")  # files in arrays/ of Orbax, which wrote checkpoints until 2026-11


def whole(folder: Path, last: int | None = None) -> list[Path]:
    """Checkpoints, sound or not, by rising name; empty without such a folder.

    A folder named by a number is a checkpoint if it has files that only our writer makes, because a date is a number too. No checkpoint
    has a step after `last`, the run's last step.
    """
    named = ((path, _NAME.fullmatch(path.name)) for path in _entries(folder))
    return [path for path, name in named if name and (last is None or int(name[2]) <= last) and _is_ours(path)]


def prospect(run_folder: Path) -> str:
    """From where a run continues if its process ends now."""
    steps = [int(path.name) for path in whole(run_folder / "checkpoints") if path.name.isdigit()]
    if steps:
        return f"the last checkpoint is at step {max(steps):,}"
    return "there is no checkpoint yet, so the next run starts from step 0"


def halves(folder: Path) -> list[Path]:
    """Files of attempts that were killed while they wrote or removed something here."""
    return [
        path for path in _entries(folder) if _HALF.fullmatch(path.name) or half_written(path.name, *PARAMETERS.values())
    ]


def not_kept(folder: Path, keep: str, done: bool, last: int | None = None) -> list[Path]:
    """The files of a finished run in checkpoints/ that the policy `keep` does not keep. `done`: the run did not diverge. A diverged run
    has no parameters to keep."""
    if keep == "state":
        return []
    wanted = [name for name in PARAMETERS if done and KEEP.index(keep) >= KEEP.index(name)]
    files = [folder / file for name, file in PARAMETERS.items() if name not in wanted and (folder / file).is_file()]
    return files + whole(folder, last)


def begin(folder: Path, name: str) -> Path:
    """A new hidden folder in which the checkpoint `name` is written."""
    return Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".writing", dir=folder))


def hide(path: Path, process: int) -> Path:
    """Renames a checkpoint to a hidden name before it is removed; returns the new path."""
    return path.rename(path.with_name(f".{path.name}.{process}.removing"))


def delete(path: Path, *, ignore_errors: bool = True) -> None:
    """Removes a file or a folder, by default as far as it can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors)
    else:
        path.unlink(missing_ok=True)


def read_manifest(path: Path) -> dict[str, str]:
    """File -> SHA-256 of a checkpoint, by its manifest; empty if that is missing, damaged or foreign."""
    try:
        return MANIFEST.validate_json(
            (path / "manifest.json").read_bytes() if (path / "manifest.json").is_file() else ""
        )
    except (OSError, ValidationError):
        return {}


def is_former(path: Path) -> bool:
    """Whether Orbax wrote the checkpoint, as in versions before 2026-12."""
    manifest = read_manifest(path)
    return any((path / "arrays" / name).is_file() for name in _ORBAX) or (
        "meta.json" in manifest and any(key.startswith("arrays/") for key in manifest)
    )


def _is_ours(path: Path) -> bool:
    """Whether our writer made this folder: it has our manifest, or arrays with our mark."""
    return {"meta.json", ARRAYS} <= read_manifest(path).keys() or _is_marked(path / ARRAYS) or is_former(path)


def _is_marked(path: Path) -> bool:
    """Whether the first member of an archive is `MARK`: its name follows a header of 30 bytes."""
    name = f"{MARK}.npy".encode()
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            head = file.read(30 + len(name))
    except OSError:
        return False
    return head[:4] == b"PK\x03\x04" and head[30:] == name


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.is_symlink()) if folder.is_dir() else []
