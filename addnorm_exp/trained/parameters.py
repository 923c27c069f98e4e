"""The parameters that a finished run keeps (docs/runs.md), verified before they are trusted."""

import numpy as np

from addnorm_exp.errors import UserError
from addnorm_exp.runs.arrays import read_arrays, sha256
from addnorm_exp.runs.checkpoint_folders import PARAMETERS
from addnorm_exp.runs.folder import RunFolder

WEIGHTS = tuple(PARAMETERS)


def kept(folder: RunFolder, weights: str) -> tuple[dict[str, np.ndarray], int]:
    """The parameters by path and the number of updates after which they were saved. `weights`: final, or best by validation.

    Raises UserError if the run has not finished or keeps none, or if the file is missing or damaged.
    """
    summary = folder.summary()
    if summary is None or summary.status != "done":
        status = "has not begun" if summary is None else f"is {summary.status}"
        raise UserError(f"{folder.path}: this run {status}; only a run that is done keeps parameters")
    saved = summary.saved or {}
    if weights not in saved:
        others = [name for name in WEIGHTS if name in saved]
        remedy = f"take {others[0]}" if others else "train it again with --config.execution.keep=final"
        raise UserError(f"{folder.path}: this run keeps no {weights} parameters (execution.keep); {remedy}")
    path = folder.path / saved[weights].file
    if not path.is_file():
        raise UserError(f"{path}: this file is missing; train the run again ({folder.path})")
    if sha256(path) != saved[weights].sha256:
        raise UserError(f"{path}: does not match the checksum in summary.json; train the run again ({folder.path})")
    return read_arrays(path), saved[weights].step
