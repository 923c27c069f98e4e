"""Uploads runs that are missing or incomplete on W&B, from their records. A second upload sends nothing.

The server says what it has of each run; the ledger (mirror.json) says only under which id and where the run was sent.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from addnorm_exp.errors import UserError, disk_trouble, program
from addnorm_exp.runs.folder import RunFolder, write_json
from addnorm_exp.runs.layers import KINDS, read_layers
from addnorm_exp.runs.lock import Busy
from addnorm_exp.runs.mirror.forms import about
from addnorm_exp.runs.mirror.rows import RowReader
from addnorm_exp.runs.mirror.server import answers, connect, is_clients, remote, was_deleted
from addnorm_exp.runs.mirror.settings import LOGIN, SWEEP_AGENT, Place, ask_for_server, check_place
from addnorm_exp.runs.mirror.window import LEDGER, Window, claimed, place_of, read_ledger, reason
from addnorm_exp.runs.reading import which

DEPTH = 3  # of run folders below the named one: runs/STUDY/RUN
SENT = ("finished", "failed")  # states of a run on the server that its client has closed


class Unreachable(UserError):
    """No server answers and accepts the key. This holds for every run, so the rest need not be tried."""


def run_folders(directory: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The folders of runs, including `directory` itself."""
    if (directory / "config.json").is_file():
        yield directory
    elif depth and directory.is_dir():
        for child in sorted(directory.iterdir()):
            if not child.name.startswith(".") and child.is_dir():
                yield from run_folders(child, depth - 1)


def sync(directory: Path, place: Place, say: Callable[[str], None], again: bool = False) -> bool:
    """Prints one line per run; True if every run is on the server as far as its record goes. A run that is damaged, or that the server
    refuses, is skipped. `again` sends a run that was deleted on the server, under a new id.

    Raises: UserError without runs, a key, or a server that accepts it.
    """
    folders = list(run_folders(directory))
    if not folders:
        raise UserError(f"{directory}: no runs here; {which(directory)}")
    ask_for_server("sync")
    check_place(place)
    for name in SWEEP_AGENT:  # an explicit upload overrides them
        os.environ.pop(name, None)
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
            line, sent = f"skipped ({_in_a_line(error)})", False
        say(f"{folder}: {line}")
        complete = complete and sent
    return complete


def _in_a_line(error: UserError | OSError) -> str:
    """The error in one line. Raises it if the user cannot correct it."""
    line = str(error) if isinstance(error, UserError) else disk_trouble(error)
    if line is None:
        raise error
    return line


class Uploader:
    """Sends runs to one server, to which it connects when the first run needs it."""

    def __init__(self, place: Place, again: bool):
        self.place, self.again = place, again
        self._api: Any = None

    def upload(self, folder: Path) -> tuple[str, bool]:
        """What was done, and whether the server has the run as far as its record goes."""
        try:
            with claimed(folder), RunFolder(folder).claimed():
                return self._upload(folder)
        except Busy:
            return "skipped (another process is training or mirroring it)", False

    def _upload(self, folder: Path) -> tuple[str, bool]:
        summary, run = RunFolder(folder).summary(), about(folder)
        assert run is not None
        assert summary is not None
        ended = summary.status != "running"
        ledger = read_ledger(folder)
        id = ledger.get("id") or run.id
        there = self._ask(folder, ledger, id)
        if (
            there is not None
            and ended
            and there.state in SENT
            and dict(there.summary._json_dict).get("finished") == summary.finished
        ):
            return "already there", True
        if there is None and self._was_there(ledger):
            if not self.again:
                return (
                    f"skipped (it was deleted on the server); `{program()} sync {folder} --again` sends it under a new id",
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
        # Tells `wandb sync` that the client's offline files are on the server: the same rows have been sent.
        for path in (folder / "wandb").glob("offline-run-*/run-*.wandb"):
            path.with_name(f"{path.name}.synced").touch()
        return f"{window.sent} steps sent{'' if ended else ', unfinished'}  {window.url}", True

    def _ask(self, folder: Path, ledger: dict[str, Any], id: str) -> Any | None:
        """The run on the server, or None."""
        try:
            self._api = self._api or connect()
            project, entity = place_of(self.place, ledger)
            return remote(self._api, entity, project, id)
        except UserError:
            raise
        except Exception as error:
            raise _unreachable(folder, error) from None

    def _was_there(self, ledger: dict[str, Any]) -> bool:
        """Whether the ledger says that a part of the run was sent to this server and project, or that the server had it once."""
        import wandb

        here = ledger.get("server") == wandb.setup().settings.base_url
        same = (ledger.get("project"), ledger.get("entity")) == self._where(ledger)
        return here and same and (ledger.get("mode") == "online" or bool(ledger.get("deleted")))

    def _where(self, ledger: dict[str, Any]) -> tuple[str, str | None]:
        project, entity = place_of(self.place, ledger)
        return project, entity or self._api.default_entity

    def _refused(self, folder: Path, ledger: dict[str, Any], id: str, error: Exception) -> str:
        """A line on a run that the server refuses. Raises Unreachable if it accepts none."""
        if not answers():
            raise _unreachable(folder, error) from None
        if not was_deleted(error):
            return f"skipped ({reason(error)})"
        import wandb

        project, entity = self._where(ledger)
        place = {"id": id, "project": project, "entity": entity, "server": wandb.setup().settings.base_url}
        write_json(folder / "wandb" / LEDGER, {"step": -1, **ledger, **place, "deleted": True})
        return f"skipped (it was deleted on the server); `{program()} sync {folder} --again` sends it under a new id"


def _unreachable(folder: Path, error: Exception) -> Unreachable:
    return Unreachable(f"{folder}: cannot be uploaded ({reason(error)}); check the API key and the network ({LOGIN})")


def _next(id: str, first: str) -> str:
    """The id that follows `id` for a run whose first id was `first`: first-2, first-3, …"""
    number = id.removeprefix(f"{first}-")
    return f"{first}-{int(number) + 1 if number.isdecimal() and number != id else 2}"


def _check(folder: Path, ended: bool) -> None:
    """Raises UserError if the record is damaged, before a run is opened that the server would have only in part."""
    RowReader(folder).poll(ended)
    for kind in KINDS:
        read_layers(folder / "layers", kind)
