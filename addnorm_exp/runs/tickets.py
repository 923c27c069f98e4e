"""plan/<id>.json in a study's folder: the ticket of a planned run. A worker on another machine needs it and the data, and nothing else."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from addnorm_exp.atomic import SUFFIX, replacement, uncut
from addnorm_exp.errors import UserError
from addnorm_exp.runs.folder import make_folder
from addnorm_exp.runs.reading import FORMAT, read
from addnorm_exp.runs.records import Ticket

TICKETS = "plan"  # the folder in a study's folder
_HALF = re.compile(r"\..+\.json" + SUFFIX)
RENEWED = "run the sweep that planned it again, which renews it"


def ticket_file(folder: Path, name: str) -> Path:
    """The ticket of the run with this id, of the study in this folder."""
    return folder / TICKETS / f"{name}.json"


def write(folder: Path, tickets: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes the tickets, given by id, that are missing in the study's folder or have another content.

    There may be thousands. So they are not synced: a power cut may leave one empty, and the next command writes it again.
    """
    make_folder(folder / TICKETS)
    for name, ticket in tickets.items():
        path = ticket_file(folder, name)
        content = to_json({"format": FORMAT, **ticket}, indent=1) + b"\n"
        try:
            same = path.read_bytes() == content
        except OSError:
            same = False
        if not same:
            with uncut(), replacement(path, synced=False) as file:
                file.write(content)


def half_written_tickets(folder: Path) -> list[Path]:
    """What a kill left of tickets that were being written."""
    return [path for path in sorted((folder / TICKETS).glob(".*.writing")) if _HALF.fullmatch(path.name)]


def read_ticket(path: Path) -> Ticket:
    """Raises UserError if there is none, or if it is damaged."""
    ticket = read(path, Ticket, RENEWED)
    if ticket is None:
        raise UserError(f"--ticket={path}: no such file; a sweep writes tickets to runs/<study>/{TICKETS}/")
    return ticket
