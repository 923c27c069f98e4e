"""Uploads runs that are not on W&B, or not to their end, from their records. Doing it again sends nothing."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from addnorm_exp.errors import UserError, disk_trouble
from addnorm_exp.runs.folder import FINISHED, Busy, RunFolder
from addnorm_exp.runs.layers import KINDS
from addnorm_exp.runs.layers import read as read_layers
from addnorm_exp.runs.mirror.forms import about
from addnorm_exp.runs.mirror.rows import Rows
from addnorm_exp.runs.mirror.window import PROJECT, SWEEP_AGENT, Place, Window, claimed, read_ledger, reason
from addnorm_exp.runs.reading import which

DEPTH = 3  # of run folders below the one that is named: runs/STUDY/RUN


class Unreachable(UserError):
    """No key, or no server that takes runs: true of every run, so that the rest need not be tried."""


def run_folders(directory: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The folders of runs, `directory` itself included."""
    if (directory / "config.json").is_file():
        yield directory
    elif depth and directory.is_dir():
        for child in sorted(directory.iterdir()):
            if not child.name.startswith(".") and child.is_dir():
                yield from run_folders(child, depth - 1)


def sync(directory: Path, place: Place, say: Callable[[str], None]) -> bool:
    """One line per run; True where every run is on the server as far as its record goes. A damaged run is left out, the others are not.

    Raises: UserError where there are no runs, no key, or no server that takes them.
    """
    folders = list(run_folders(directory))
    if not folders:
        raise UserError(f"{directory}: no runs here; {which(directory)}")
    for name in ("WANDB_MODE", *SWEEP_AGENT):  # whoever asks for an upload means it, and means these runs
        os.environ.pop(name, None)
    os.environ["WANDB_SILENT"] = "true"  # read as the client is imported; the lines are ours
    whole = True
    for folder in folders:
        try:
            if about(folder) is None:
                continue  # it has not begun
            line, there = _claimed(folder, place)
        except Unreachable:
            raise
        except (UserError, OSError) as error:
            line, there = f"left out ({_in_a_line(error)})", False
        say(f"{folder}: {line}")
        whole = whole and there
    return whole


def _in_a_line(error: UserError | OSError) -> str:
    """Raises the error where it is nothing that a person can mend."""
    told = str(error) if isinstance(error, UserError) else disk_trouble(error)
    if told is None:
        raise error
    return told


def _claimed(folder: Path, place: Place) -> tuple[str, bool]:
    try:
        with claimed(folder):
            return _one(folder, place)
    except Busy:
        return "left out, another process is at it", False


def _one(folder: Path, place: Place) -> tuple[str, bool]:
    """What was done, and whether the run is on the server as far as its record goes."""
    import wandb

    with RunFolder(folder).claimed():  # raises Busy where it is being trained
        summary = RunFolder(folder).summary() or {}
        ended = summary.get("status") in (*FINISHED, "failed")
        if ended and _is_there(folder, place, summary.get("finished")):
            return "is there already", True
        _check(folder, ended)
        try:
            window = Window(folder, place, "online")
            window.close(ended)
        except (wandb.Error, TimeoutError, OSError) as error:
            raise Unreachable(
                f"{folder}: cannot be uploaded ({reason(error)}); see that WANDB_API_KEY (or `wandb login`) and the network are right"
            ) from None
        _mark_offline(folder)
        return f"{window.sent} steps sent{'' if ended else ', unfinished'}  {window.url}", True


def _check(folder: Path, ended: bool) -> None:
    """Raises UserError where the record is damaged: before a run is opened on the server that would have a part of it."""
    Rows(folder).poll(ended)
    for kind in KINDS:
        read_layers(folder / "layers", kind)


def _is_there(folder: Path, place: Place, finished: float | None) -> bool:
    """By the ledger: all of this very end of the run went to this server and project."""
    import wandb

    ledger = read_ledger(folder)
    project = place.project or os.environ.get("WANDB_PROJECT") or PROJECT
    entity = place.entity or os.environ.get("WANDB_ENTITY") or ledger.get("entity")
    here = (finished, wandb.setup().settings.base_url, project, entity)
    return here == tuple(ledger.get(key) for key in ("finished", "server", "project", "entity"))


def _mark_offline(folder: Path) -> None:
    """Tells `wandb sync` that what the client wrote offline is on the server: `main.py sync` has sent the same rows."""
    for path in (folder / "wandb").glob("offline-run-*/run-*.wandb"):
        path.with_name(f"{path.name}.synced").touch()
