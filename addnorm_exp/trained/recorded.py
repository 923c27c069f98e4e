"""The experiment that a run's folder records, or the ticket of a run that is planned."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from addnorm_exp.config import Config, leaves, override
from addnorm_exp.errors import UserError
from addnorm_exp.experiment import Experiment
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.reading import dotted
from addnorm_exp.runs.records import RunConfig
from addnorm_exp.tasks import resolve


def on_file(folder: RunFolder, path: Path | str) -> Experiment:
    """The experiment of config.json on the data of a file. Raises UserError as `experiment_of` does."""
    return experiment_of(folder, {"data.name": "file", "data.path": str(path)})


def experiment_of(folder: RunFolder, changes: Mapping[str, Any] | None = None) -> Experiment:
    """The experiment of config.json, with some keys changed.

    Raises UserError if there is no config.json, or if another version wrote it that knew other keys.
    """
    record = folder.config()
    if record is None:
        raise UserError(f"{folder.path}: no run has begun here; give the folder of a run, e.g. runs/<study>/<run id>")
    return experiment_in(record, folder.path / "config.json", changes)


def experiment_in(record: RunConfig, file: Path, changes: Mapping[str, Any] | None = None) -> Experiment:
    """The experiment of a record that was read from this file, with some keys changed. Raises UserError if another version wrote it."""
    where = str(file)
    flat = dotted({**record.science, "execution": record.execution or {}})
    unknown = [key for key in flat if key not in leaves()]
    if unknown:
        raise UserError(f"{where}: this version does not know the key {unknown[0]}; use the version that wrote it")
    return resolve(override(Config(), flat | dict(changes or {}), where), where)
