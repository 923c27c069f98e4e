"""The end of a run on disk: removes the checkpoints that its policy does not keep, and merges its per-layer chunks into one.

This follows the summary that says how the run ended. A kill in between leaves too many files, but no wrong ones; the next launcher of
the run, or `gc`, completes it.
"""

import os
from contextlib import suppress
from pathlib import Path

from addnorm_exp.runs import layers
from addnorm_exp.runs.checkpoint_folders import delete, halves, hide, not_kept
from addnorm_exp.runs.folder import FINISHED, RunFolder
from addnorm_exp.runs.lock import Busy
from addnorm_exp.runs.records import Summary


def finish(folder: RunFolder, summary: Summary) -> None:
    """Must be called by the process that holds the folder of a finished run."""
    checkpoints = folder.path / "checkpoints"
    for path in beyond(folder.path, summary):
        delete(hide(path, os.getpid()) if path.is_dir() else path)
    for half in halves(checkpoints):
        delete(half)
    with suppress(OSError):  # it contains kept or foreign files, or does not exist
        checkpoints.rmdir()
    layers.merge(folder.path / "layers")


def complete(folder: RunFolder, summary: Summary) -> None:
    """Completes a `finish` that was killed. Does nothing if nothing is left to do, or if a process holds the folder."""
    if summary.status not in FINISHED:
        return
    left = [*beyond(folder.path, summary), *halves(folder.path / "checkpoints")]
    if left or not layers.is_merged(folder.path / "layers"):
        with suppress(Busy), folder.claimed():
            finish(folder, summary)


def beyond(path: Path, summary: Summary, keep: str | None = None) -> list[Path]:
    """The files of a finished run that the policy `keep`, by default the run's own, does not keep."""
    return not_kept(path / "checkpoints", keep or summary.keep or "state", summary.status == "done", summary.steps)
