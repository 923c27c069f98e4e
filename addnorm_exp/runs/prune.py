"""Leftovers of interrupted attempts, and files that a finished run need not keep: listed first, removed only on request.

A folder that a process holds is skipped: the process is still writing its files.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from addnorm_exp.runs.checkpoint_folders import delete, halves
from addnorm_exp.runs.finish import beyond
from addnorm_exp.runs.folder import FORMER, RunFolder, is_temporary
from addnorm_exp.runs.layers import half_written
from addnorm_exp.runs.lock import Busy
from addnorm_exp.runs.status import standings
from addnorm_exp.runs.tickets import half_written_tickets


@dataclass(frozen=True)
class Left:
    """A file or a folder that may be removed. `run`: the folder whose lock guards it, or None."""

    path: Path
    why: str
    size: int  # bytes
    run: Path | None


def leavings(folder: Path, *, keep: str | None = None, former: bool = False) -> Iterator[Left]:
    """What may be removed in the folder of a study or a run.

    For finished runs: files that the policy `keep` does not keep. Default: files that the run's own policy does not keep and a kill has
    left. `former`: also the records that `rerun` has put aside.
    """
    runs = standings(folder)
    places = [run.path for run in runs if run.path.is_dir()]
    if folder not in places:
        yield from _temporary(folder, None)
        yield from (_left(path, "half written", None) for path in half_written_tickets(folder))
        folders = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."]
        places += [path for path in folders if path not in places and _is_bare(path)]
    for place in places:
        if not RunFolder(place).is_locked():
            yield from _of_run(place)
    if former:
        for path in sorted({place.parent for place in places} | {folder}):
            yield from (
                _left(old, "put aside by rerun", None) for old in sorted(path.glob(f"{FORMER}*")) if old.is_dir()
            )
    for run in runs:
        summary = RunFolder(run.path).summary() if run.finished else None
        if summary is not None:
            why = f"not kept once a run is {run.status}" if keep is None else f"beyond --keep={keep}"
            yield from (_left(path, why, run.path) for path in beyond(run.path, summary, keep))


def remove(left: Left) -> bool:
    """Removes it; False if a process is now training the run."""
    lock = nullcontext() if left.run is None else RunFolder(left.run).claimed()
    try:
        with lock:
            delete(left.path, ignore_errors=False)
    except Busy:
        return False
    return True


def _of_run(place: Path) -> Iterator[Left]:
    if _is_bare(place):
        yield _left(place, "an attempt ended before it wrote anything", place)
        return
    yield from _temporary(place, place)
    for path in (place / "layers", place / "checkpoints"):
        if path.is_dir() and not path.is_symlink():
            partial = half_written(path) if path.name == "layers" else halves(path)
            yield from (_left(half, "half written or half removed", place) for half in partial)


def _is_bare(place: Path) -> bool:
    """Whether an attempt ended here before it wrote its config."""
    names = {entry.name for entry in place.iterdir()}
    return "lock" in names and all(name == "lock" or is_temporary(name) for name in names)


def _temporary(folder: Path, run: Path | None) -> Iterator[Left]:
    for path in sorted(folder.iterdir()):
        if is_temporary(path.name):
            yield _left(path, "half written", run)


def _left(path: Path, why: str, run: Path | None) -> Left:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    return Left(path, why, sum(file.stat().st_size for file in files), run)
