"""Runs from their configs to their summaries: claimed, checked, trained as one pack, and finished."""

import contextlib
import time
import traceback
from collections.abc import Callable, Sequence

from addnorm_exp import tasks
from addnorm_exp.data.spec import Data
from addnorm_exp.errors import UserError, disk_trouble, one_line
from addnorm_exp.experiment import Experiment
from addnorm_exp.runs.events import Watcher
from addnorm_exp.runs.finish import finish
from addnorm_exp.runs.folder import FINISHED, RunFolder
from addnorm_exp.runs.records import Summary
from addnorm_exp.train.entry import enter, enter_pack
from addnorm_exp.train.lane import Member
from addnorm_exp.train.memory import check_devices, check_memory
from addnorm_exp.train.pack import Pack, Stopped
from addnorm_exp.train.platform import refused_switch
from addnorm_exp.train.program import never

__all__ = ["Member", "Stopped", "check", "check_machine", "run", "run_pack"]


def run(
    experiment: Experiment,
    data: Data,
    folder: RunFolder,
    *,
    study: str | None = None,
    watch: Watcher = lambda event: None,
    stop: Callable[[], bool] = never,
    keep: str = "best",
    clock: Callable[[], float] = time.perf_counter,
) -> Summary:
    """Trains a run alone; see `run_pack`. Returns its summary."""
    members = (Member(experiment, folder, watch),)
    (summary,) = run_pack(members, data, study=study, stop=stop, keep=keep, clock=clock)
    return summary


def run_pack(
    members: Sequence[Member],
    data: Data,
    *,
    study: str | None = None,
    stop: Callable[[], bool] = never,
    keep: str = "best",
    clock: Callable[[], float] = time.perf_counter,
) -> list[Summary]:
    """Trains runs of one shape and timetable in one program, from step 0 or from where an earlier attempt stopped, to the end. Returns
    their summaries. A finished run is not repeated; in a pack that is resumed, it fills its place.

    `stop` is checked between dispatches of a few seconds each (`pace`), of training and of measurements; `clock` returns seconds.
    `keep`: what a finished run keeps in checkpoints/ if `execution.keep` is not set.

    Raises: UserError if a folder contains another run, or one of another pack, or if the data do not suit it; Stopped if `stop()` became
    true; lock.Busy if another process is training one of the runs. Any other exception is recorded in the folders as a failure and
    raised, except a full disk: the runs are sound then, and there is no room for the record of a failure.
    """
    for member in members:
        check(member.experiment, data, len(members))
    with contextlib.ExitStack() as claims:
        for member in members:
            claims.enter_context(member.folder.claimed())
        for member in members:
            enter(member.folder, member.experiment, data.spec, study)
        summaries = [member.folder.summary() for member in members]
        unfinished = [
            member
            for member, summary in zip(members, summaries, strict=True)
            if summary is None or summary.status not in FINISHED
        ]
        results = [summary for summary in summaries if summary is not None]
        if unfinished:
            ids = [member.experiment.id(data.spec.sha256) for member in members]
            enter_pack([member.folder for member in members], ids)
            for member in unfinished:
                member.folder.tidy()
            try:
                results = Pack(members, data, keep, stop, clock).train()
            except (UserError, Stopped, KeyboardInterrupt):
                raise
            except Exception as error:
                if not disk_trouble(error):
                    for member in unfinished:
                        reason = f"{type(error).__name__}: {one_line(error, 300)}"
                        text = "".join(traceback.format_exception(error))
                        record_failure(member.experiment, member.folder, reason, text)
                raise
        for member, summary in zip(members, results, strict=True):
            if member in unfinished:
                member.folder.forgive()
            finish(member.folder, summary)
        return results


def check_machine(experiment: Experiment, lanes: int = 1) -> None:
    """Raises UserError if the run, or the pack of `lanes` runs that it is one of, does not fit the devices or the memory of this machine,
    without building it."""
    switch = refused_switch()
    if switch:
        raise UserError(switch)
    check_devices(experiment.shape)
    check_memory(experiment.shape, lanes)


def check(experiment: Experiment, data: Data, lanes: int = 1) -> None:
    """Raises UserError if the run, or its pack, does not fit this machine, or the data do not suit the config."""
    check_machine(experiment, lanes)
    tasks.check(experiment, data.spec)


def record_failure(experiment: Experiment, folder: RunFolder, reason: str, text: str = "") -> None:
    """Records that an attempt failed: the reason in the summary, and a text beside it. A run that had ended before stays ended."""
    config, former = experiment.config, folder.summary()
    if former is not None and former.status in FINISHED:
        return
    first = {"id": folder.path.name, "scheme": config.scheme, "steps": config.steps, "step": 0}
    folder.write_summary(
        {
            **(former.plain() if former else first),
            "status": "failed",
            "reason": reason,
            "finished": time.time(),
        }
    )
    folder.fail(text or f"{reason}\n")
