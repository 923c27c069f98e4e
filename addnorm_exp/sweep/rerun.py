"""Repeats runs from step 0 by the config in their folders. The former records are put aside, not removed."""

from collections.abc import Callable, Sequence
from pathlib import Path

from addnorm_exp.errors import UserError, program
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.lock import Busy
from addnorm_exp.runs.mirror.mirror import Mirror
from addnorm_exp.runs.reading import dotted
from addnorm_exp.runs.status import Standing
from addnorm_exp.sweep.agenda import Agenda
from addnorm_exp.sweep.display import Display
from addnorm_exp.sweep.launchers.local import Local
from addnorm_exp.sweep.study import Planned, keeps
from addnorm_exp.train.loop import check, check_machine
from addnorm_exp.trained.recorded import experiment_of


def planned(run: Standing) -> Planned:
    """The run as an entry of a plan. Raises UserError if its folder has no config."""
    folder = RunFolder(run.path)
    record = folder.config()
    if record is None:
        raise UserError(
            f"{run.id}: this run has not begun, so it cannot be repeated; run the sweep ({program()} sweep)"
        )
    summary = folder.summary()
    policy = (record.execution or {}).get("keep") or (summary and summary.keep) or keeps(run.phase)
    label = {"optim.lr": dotted(record.science)["optim.lr"], "seed": record.science["seed"]}
    return Planned(record.id, experiment_of(folder, {"execution.keep": policy}), label, phase="rerun")


def again(
    runs: Sequence[Standing], display: Display, stop: Callable[[], bool], mirror: Mirror | None = None
) -> tuple[Agenda, list[Path]]:
    """Trains the runs again; returns their agenda and the paths of the former records. Everything is checked before a file is moved.

    Raises UserError if a repeated run would be a different one: other data, another record of the scheme, or other semantics.
    """
    plan = tuple(planned(run) for run in runs)
    places = {run.id: standing.path for run, standing in zip(plan, runs, strict=True)}
    studies = {config.study if config else None for config in (RunFolder(run.path).config() for run in runs)}
    study = studies.pop() if len(studies) == 1 else None
    launcher = Local(display, stop, mirror=mirror)

    def place(run: Planned) -> RunFolder:
        return RunFolder(places[run.id])

    for run in plan:
        check_machine(run.experiment)
        data = launcher.trainer.data(run.config)
        check(run.experiment, data)
        if run.experiment.id(data.spec.sha256) != run.id:
            raise UserError(
                f"{places[run.id]}: its data, its scheme's record or the semantics of training have changed, so this would be "
                "a different run; run the sweep, or train it into another folder"
            )
    aside, busy = [], []
    for run in plan:
        try:
            former = place(run).put_aside()
        except Busy:
            busy.append(run)
        else:
            aside += [former] if former else []
    agenda = Agenda((run for run in plan if run not in busy), place, study)
    launcher.launch(agenda)
    agenda.busy += busy
    return agenda, aside
