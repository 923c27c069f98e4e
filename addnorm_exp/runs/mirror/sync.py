"""Uploads runs that are not on W&B, or not to their end, from their records. Doing it again sends nothing.

The server is asked what it has of each run; the ledger (mirror.json) only says under which id and where the run was sent.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from addnorm_exp.errors import UserError, disk_trouble
from addnorm_exp.runs.folder import FINISHED, Busy, RunFolder, write_json
from addnorm_exp.runs.layers import KINDS
from addnorm_exp.runs.layers import read as read_layers
from addnorm_exp.runs.mirror.forms import about
from addnorm_exp.runs.mirror.rows import Rows
from addnorm_exp.runs.mirror.server import answers, connect, is_clients, remote, was_deleted
from addnorm_exp.runs.mirror.settings import LOGIN, SWEEP_AGENT, Place, check_place, require_key
from addnorm_exp.runs.mirror.window import LEDGER, Window, claimed, place_of, read_ledger, reason
from addnorm_exp.runs.reading import which

DEPTH = 3  # of run folders below the one that is named: runs/STUDY/RUN
SENT = ("finished", "failed")  # states of a run on the server that its client has closed


class Unreachable(UserError):
    """No server that answers and takes the key: true of every run, so that the rest need not be tried."""


def run_folders(directory: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The folders of runs, `directory` itself included."""
    if (directory / "config.json").is_file():
        yield directory
    elif depth and directory.is_dir():
        for child in sorted(directory.iterdir()):
            if not child.name.startswith(".") and child.is_dir():
                yield from run_folders(child, depth - 1)


def sync(directory: Path, place: Place, say: Callable[[str], None], again: bool = False) -> bool:
    """One line per run; True where every run is on the server as far as its record goes. A run that is damaged, or that the server
    refuses, is left out, and the others are not. `again` sends a run that was deleted on the server, under a new id.

    Raises: UserError where there are no runs, no key, or no server that takes it.
    """
    folders = list(run_folders(directory))
    if not folders:
        raise UserError(f"{directory}: no runs here; {which(directory)}")
    require_key("sync")
    check_place(place)
    for name in ("WANDB_MODE", *SWEEP_AGENT):  # whoever asks for an upload means it, and means these runs
        os.environ.pop(name, None)
    os.environ["WANDB_SILENT"] = "true"  # read as the client is imported; the lines are ours
    uploader = Uploader(place, again)
    complete = True
    for folder in folders:
        try:
            if about(folder) is None:
                continue  # it has not begun
            line, sent = uploader.upload(folder)
        except Unreachable:
            raise
        except (UserError, OSError) as error:
            line, sent = f"left out ({_in_a_line(error)})", False
        say(f"{folder}: {line}")
        complete = complete and sent
    return complete


def _in_a_line(error: UserError | OSError) -> str:
    """Raises the error where it is nothing that a person can mend."""
    line = str(error) if isinstance(error, UserError) else disk_trouble(error)
    if line is None:
        raise error
    return line


class Uploader:
    """Sends runs to one server, which is asked when the first run needs it."""

    def __init__(self, place: Place, again: bool):
        self.place, self.again = place, again
        self._api: Any = None

    def upload(self, folder: Path) -> tuple[str, bool]:
        """What was done, and whether the run is on the server as far as its record goes."""
        try:
            with claimed(folder), RunFolder(folder).claimed():
                return self._upload(folder)
        except Busy:
            return "left out, another process trains or mirrors it", False

    def _upload(self, folder: Path) -> tuple[str, bool]:
        summary, run = RunFolder(folder).summary() or {}, about(folder)
        assert run is not None
        ended = summary.get("status") in (*FINISHED, "failed")
        ledger = read_ledger(folder)
        id = ledger.get("id") or run.id
        there = self._ask(folder, ledger, id)
        if there is not None and ended and there.state in SENT and _finished(there) == summary.get("finished"):
            return "is there already", True
        if there is None and self._was_there(ledger):
            if not self.again:
                return (
                    f"left out, it was deleted on the server; `main.py sync {folder} --again` sends it under a new id",
                    False,
                )
            id = _next(id, run.id)
        _check(folder, ended)
        try:
            window = Window(folder, self.place, "online", id)
            window.close(ended)
        except Exception as error:
            if not is_clients(error):
                raise
            return self._refused(folder, ledger, id, error), False
        _mark_offline(folder)
        return f"{window.sent} steps sent{'' if ended else ', unfinished'}  {window.url}", True

    def _ask(self, folder: Path, ledger: dict[str, Any], id: str) -> Any | None:
        """The run on the server, None where it has none."""
        try:
            self._api = self._api or connect()
            project, entity = place_of(self.place, ledger)
            return remote(self._api, entity, project, id)
        except Exception as error:
            if isinstance(error, UserError):
                raise
            raise _unreachable(folder, error) from None

    def _was_there(self, ledger: dict[str, Any]) -> bool:
        """By the ledger: the run, or a part of it, went to this server and project; or the server said that it had been there."""
        import wandb

        here = ledger.get("server") == wandb.setup().settings.base_url
        same = (ledger.get("project"), ledger.get("entity")) == self._where(ledger)
        return here and same and (ledger.get("mode") == "online" or bool(ledger.get("deleted")))

    def _where(self, ledger: dict[str, Any]) -> tuple[str, str | None]:
        project, entity = place_of(self.place, ledger)
        return project, entity or self._api.default_entity

    def _refused(self, folder: Path, ledger: dict[str, Any], id: str, error: Exception) -> str:
        """A line on a run that the server does not take. Raises Unreachable where it takes none."""
        if not answers():
            raise _unreachable(folder, error) from None
        if not was_deleted(error):
            return f"left out ({reason(error)})"
        import wandb

        project, entity = self._where(ledger)
        place = {"id": id, "project": project, "entity": entity, "server": wandb.setup().settings.base_url}
        write_json(folder / "wandb" / LEDGER, {"step": -1, **ledger, **place, "deleted": True})
        return f"left out, it was deleted on the server; `main.py sync {folder} --again` sends it under a new id"


def _unreachable(folder: Path, error: Exception) -> Unreachable:
    return Unreachable(f"{folder}: cannot be uploaded ({reason(error)}); check the API key and the network ({LOGIN})")


def _finished(run: Any) -> Any:
    """When the run on the server ended, by its summary."""
    return dict(run.summary._json_dict).get("finished")


def _next(id: str, first: str) -> str:
    """The id after `id` of a run whose first was `first`: first-2, first-3, …"""
    number = id.removeprefix(f"{first}-")
    return f"{first}-{int(number) + 1 if number.isdecimal() and number != id else 2}"


def _check(folder: Path, ended: bool) -> None:
    """Raises UserError where the record is damaged: before a run is opened on the server that would have a part of it."""
    Rows(folder).poll(ended)
    for kind in KINDS:
        read_layers(folder / "layers", kind)


def _mark_offline(folder: Path) -> None:
    """Tells `wandb sync` that what the client wrote offline is on the server: `main.py sync` has sent the same rows."""
    for path in (folder / "wandb").glob("offline-run-*/run-*.wandb"):
        path.with_name(f"{path.name}.synced").touch()
