"""Runs from their tickets, read and checked against this program and the data of this machine."""

import re
from collections.abc import Sequence
from pathlib import Path

from addnorm_exp import tasks
from addnorm_exp.config.files import expanded
from addnorm_exp.errors import UserError
from addnorm_exp.runs.identity import SEMANTICS
from addnorm_exp.runs.records import Ticket
from addnorm_exp.runs.tickets import RENEWED, TICKETS, read_ticket
from addnorm_exp.sweep.planner import kind_of
from addnorm_exp.sweep.study import PHASES, Planned
from addnorm_exp.trained.recorded import experiment_in


def ticket_files(text: str) -> list[Path]:
    """The files of `--ticket=FILE,FILE`. A folder's name may have a comma."""
    return [expanded(name, f"--ticket={name}") for name in re.split(r"(?<=\.json),", text)]


def pack_of(files: Sequence[Path]) -> tuple[list[Planned], str]:
    """The runs of these tickets, which one program trains, and the name of their study.

    Raises UserError if one cannot be trained here as it was planned, or if they cannot form a pack.
    """
    tickets = [read_ticket(file) for file in files]
    runs = [_planned(ticket, file) for ticket, file in zip(tickets, files, strict=True)]
    for number, (file, run) in enumerate(zip(files, runs, strict=True)):
        if run.id in {other.id for other in runs[:number]}:
            raise UserError(f"--ticket: {file} is given twice; omit one")
        differing = _difference(run, runs[0])
        if tickets[number].study != tickets[0].study:
            differing = "study"
        if differing:
            raise UserError(
                f"{file}: has another {differing} than {files[0]}, so they cannot be trained in one pack; give each a command of its own"
            )
    return runs, tickets[0].study


def folder_of(file: Path, run: Planned) -> Path:
    """The folder of the run in the study that its ticket lies in. Raises UserError if it lies in none."""
    inside = file.absolute().parent
    if inside.name != TICKETS:
        raise UserError(f"{file}: is not in the folder '{TICKETS}' of a study; name the run's folder by --workdir=DIR")
    return inside.parent / run.id


def _planned(ticket: Ticket, file: Path) -> Planned:
    if ticket.semantics != SEMANTICS:
        raise UserError(
            f"{file}: was planned under semantics {ticket.semantics}, but the meaning of training has changed (semantics {SEMANTICS}); "
            "use the version that planned it, or run the sweep again, which plans other runs"
        )
    if ticket.phase not in PHASES:
        raise UserError(f"{file}: phase is {ticket.phase!r}, expected one of {', '.join(PHASES)}; {RENEWED}")
    experiment = experiment_in(ticket, file)
    if experiment.digest != ticket.scheme_digest:
        raise UserError(
            f"{file}: the record of the scheme {ticket.scheme} has changed since this run was planned; use the version that planned it, "
            "or run the sweep again, which plans another run"
        )
    try:
        sha256 = tasks.spec(experiment.config).sha256
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    if sha256 != ticket.data.sha256:
        raise UserError(
            f"{file}: the data {ticket.data.name} have another checksum on this machine ({sha256[:12]}… instead of "
            f"{ticket.data.sha256[:12]}…); copy those that the run was planned with"
        )
    if experiment.id(sha256) != ticket.id:
        raise UserError(f"{file}: its settings are not those of the run {ticket.id}; {RENEWED}")
    label = {"optim.lr": experiment.config.optim.lr, "seed": experiment.config.seed}
    return Planned(ticket.id, experiment, label, sha256, phase=ticket.phase)


def _difference(run: Planned, first: Planned) -> str | None:
    """What prevents two runs from being trained in one pack."""
    parts = zip(("phase", "shape", "timetable", "data set"), kind_of(run), kind_of(first), strict=True)
    return next((name for name, ours, theirs in parts if ours != theirs), None)
