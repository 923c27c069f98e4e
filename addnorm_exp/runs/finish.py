"""The end of a run on disk: what its policy does not keep of checkpoints/ goes, and its per-layer chunks become one.

This comes after the summary that says how the run ended. A kill in between leaves more than there should be, and nothing wrong; the
next launcher that comes upon the run, or `gc`, completes it.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from addnorm_exp.runs import layers
from addnorm_exp.runs.folder import FINISHED, Busy, RunFolder
from addnorm_exp.runs.states import delete, halves, hide, not_kept


def finish(folder: RunFolder, summary: Mapping[str, Any]) -> None:
    """To be called by the process that holds the folder of a finished run. Runs whose summary names no policy are left as they are."""
    if summary.get("keep") is None:
        return
    checkpoints = folder.path / "checkpoints"
    for path in beyond(folder.path, summary):
        delete(hide(path, os.getpid()) if path.is_dir() else path)
    for half in halves(checkpoints):
        delete(half)
    with suppress(OSError):  # it holds something that is kept, or somebody's own, or there is none
        checkpoints.rmdir()
    layers.merge(folder.path / "layers")


def complete(folder: RunFolder, summary: Mapping[str, Any]) -> None:
    """Ends what was killed while it ended; does nothing where nothing is left to do, or a process holds the folder."""
    if summary["status"] not in FINISHED or summary.get("keep") is None:
        return
    left = [*beyond(folder.path, summary), *halves(folder.path / "checkpoints")]
    if left or not layers.is_merged(folder.path / "layers"):
        with suppress(Busy), folder.claimed():
            finish(folder, summary)


def beyond(path: Path, summary: Mapping[str, Any], keep: str | None = None) -> list[Path]:
    """What a finished run has beyond the policy `keep`; not given: beyond its own, if its summary names one."""
    policy = keep or summary.get("keep")
    if policy is None:
        return []
    return not_kept(path / "checkpoints", policy, summary["status"] == "done", summary.get("steps"))
