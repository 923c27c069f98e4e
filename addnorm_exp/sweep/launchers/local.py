"""Trains the runs on this machine: packs of runs that share a program, in this process or in several (sweep/executors)."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from addnorm_exp.experiment import Experiment, Shape
from addnorm_exp.runs.checkpoint_folders import prospect
from addnorm_exp.runs.events import Watcher
from addnorm_exp.runs.lock import Busy
from addnorm_exp.sweep.agenda import Agenda
from addnorm_exp.sweep.executors import executor_for
from addnorm_exp.sweep.executors.executor import Assignment, Ended, Executor
from addnorm_exp.sweep.executors.here import Here
from addnorm_exp.sweep.launchers.launcher import Launcher, unfinished
from addnorm_exp.sweep.planner import FolderOf, PlannedPack, choose, ordered, packs, widths
from addnorm_exp.sweep.study import Planned
from addnorm_exp.train.loop import check_machine, record_failure
from addnorm_exp.train.program_cache import keep_programs
from addnorm_exp.words import counted

INTERVAL = 1.0  # seconds between two looks at runs that another process is training


class Local(Launcher):
    """Several commands may work on one study: each leaves alone what another one is training."""

    follows = frozenset({"pack", "max_runs", "workers", "devices_per_run"})

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.executor: Executor = Here(self._watcher, self.stop, self.trainer)

    def prepare(self, phases: Iterable[tuple[FolderOf, tuple[Planned, ...]]]) -> None:
        phases = list(phases)
        waiting: list[tuple[Planned, int]] = []
        threads: set[int] = set()
        for place, runs in phases:
            of_phase = unfinished(runs, place)
            waiting += zip(of_phase, widths(of_phase, self.options.width, place), strict=True)
            attempts = [summary.attempts for run in of_phase if (summary := place(run).summary())]
            threads |= {count for each in attempts if each and (count := each[-1].threads)}
        self.executor = executor_for(self.options, waiting, threads, self._here, self._watcher, self.stop)
        # Runs of one shape need the same. They are checked before data are fetched.
        by_shape = {(run.experiment.shape, width): (run.experiment, width) for run, width in waiting}
        self.ask(check_machines, list(by_shape.values()))
        super().prepare(phases)

    def _here(self) -> Here:
        if self.options.cache:
            keep_programs()
        return Here(self._watcher, self.stop, self.trainer)

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.executor.ask(function, *arguments)

    def launch(self, agenda: Agenda) -> None:
        self.agenda = agenda
        self.queue: list[PlannedPack] = []
        self.begun: dict[str, float] = {}  # when a run began, by id
        self.display.study(agenda)
        waiting = False  # for runs of another process
        while True:
            self._take()
            while self.queue and self.executor.has_room and not (self._spent or self.stop()):
                self.executor.begin(self._chosen, self._job)
            if self.executor.training:
                for ended in self.executor.wait(INTERVAL):
                    self._end(ended)
            elif self.stop():
                agenda.stopped = bool(agenda.open)
                return
            elif agenda.busy and not self._spent:
                if not waiting:
                    number = counted(len(agenda.busy), "run")
                    self.display.say(f"waiting for {number} that another process is training")
                waiting = True
                self._look()
            else:
                return

    @property
    def _spent(self) -> bool:
        """Whether the limit of runs is reached."""
        return self.limit is not None and self.limit <= 0

    def _take(self) -> None:
        """Puts what has joined the agenda into the queue. Raises UserError if the data do not suit a run, or if a pack that has begun lacks
        one."""
        joined = self.agenda.take()
        self.display.joined(joined)
        waiting = [run for run in joined if run.id in self.agenda.open]
        for run in waiting:
            self.check_data(run)
        self._enqueue(waiting)

    def _enqueue(self, runs: Iterable[Planned]) -> None:
        new = packs(runs, self.agenda.planned, self.options.width, self.agenda.place)
        self.queue = ordered([*self.queue, *new])

    def _chosen(self, compiled: Collection[Shape], taken: Collection[Shape]) -> PlannedPack:
        pack = choose(self.queue, compiled, taken)
        self.queue.remove(pack)
        if self.limit is not None and not pack.begun and len(pack.runs) > self.limit:
            self.queue.append(replace(pack, runs=pack.runs[self.limit :]))
            pack = replace(pack, runs=pack.runs[: self.limit])
        return pack

    def _job(self, pack: PlannedPack) -> Assignment:
        going = self._going(pack)
        if self.limit is not None and not pack.tries:
            self.limit -= len(going)
        self.begun |= dict.fromkeys((run.id for run in going), time.perf_counter())
        self.display.begin(*going)
        folders = {run.id: self.agenda.place(run) for run in pack.runs}
        return Assignment(pack, folders, self.agenda.name)

    def _going(self, pack: PlannedPack) -> list[Planned]:
        """The runs of a pack that have no outcome; the others only fill their places."""
        return [run for run in pack.runs if run.id in self.agenda.open]

    def _end(self, ended: Ended) -> None:
        """A pack is no longer trained."""
        pack, outcome, reason = ended
        if outcome == "stopped":
            reason = "its process was asked to stop"
        going = self._going(pack)
        self.mirror.end(*(self.agenda.place(run).path for run in going))
        if outcome == "stopped" and self.stop():
            for run in going:
                self.display.leave(run)
        elif outcome == "busy":
            self._leave(going)
        elif outcome == "trained" or pack.tries + 1 == self.executor.tries:
            for run in going:
                self._settle(run, time.perf_counter() - self.begun[run.id], reason)
        else:
            for run in going:
                self.display.leave(run, f"failed ({reason or 'see failure.log'}); it is tried once more")
            self.queue.insert(0, replace(pack, tries=pack.tries + 1))

    def _settle(self, run: Planned, seconds: float, reason: str = "") -> None:
        """The run has an outcome: it is finished, or it has failed. `reason`: why, if its record does not say so yet."""
        if summary := self.agenda.finished(run):
            self.agenda.end(run, summary)
            self.display.end(run, summary, seconds)
            return
        folder = self.agenda.place(run)
        if reason and folder.config():  # it has begun
            with suppress(Busy), folder.claimed():
                record_failure(run.experiment, folder, reason)
        former = folder.summary()
        self.agenda.fail(run, reason or (former and former.reason) or "")
        self.display.end(run, former, seconds, reason)

    def _leave(self, runs: Iterable[Planned]) -> None:
        """Another process is training these runs, or has just finished them."""
        for run in runs:
            if self.limit is not None:
                self.limit += 1
            self.agenda.busy.append(run)
            self.display.leave(run, "another process is training it")

    def _look(self) -> None:
        """Looks at the runs that another process is training. One that it has finished counts; one that it has abandoned is trained here:
        the next phase may need it."""
        busy, self.agenda.busy = self.agenda.busy, []
        abandoned = []
        for run in busy:
            if self.agenda.place(run).is_locked():
                self.agenda.busy.append(run)
            elif summary := self.agenda.finished(run):
                self._settle(run, (summary.finished or 0.0) - (summary.started or 0.0))
            else:
                abandoned.append(run)
        self._enqueue(abandoned)
        if not abandoned and self.agenda.busy:
            time.sleep(INTERVAL)

    def _watcher(self, run: Planned) -> Watcher:
        def watch(event: Mapping[str, Any]) -> None:
            self.display.watch(event, run)

        return self.mirror.watch(self.agenda.place(run).path, watch)

    def prospect(self) -> str:
        return prospect(self.executor.current) if self.executor.current else super().prospect()

    def close(self) -> None:
        self.executor.close()

    def kill(self) -> None:
        self.executor.kill()


def check_machines(pairs: Iterable[tuple[Experiment, int]]) -> None:
    """Raises UserError if this machine cannot train one of these experiments in packs of so many runs."""
    for experiment, lanes in pairs:
        check_machine(experiment, lanes)
