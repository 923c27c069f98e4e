"""Trains a plan on this machine, one pack of runs after another, so that runs of one shape share one compiled program."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from addnorm_exp.errors import UserError, disk_trouble
from addnorm_exp.runs.checkpoint_folders import prospect
from addnorm_exp.runs.events import Watcher
from addnorm_exp.runs.finish import complete
from addnorm_exp.runs.folder import FINISHED
from addnorm_exp.runs.lock import Busy
from addnorm_exp.sweep.launchers.launcher import Launcher, PhaseResult, keeps, kind_of
from addnorm_exp.sweep.study import Planned
from addnorm_exp.train.loop import Member, Stopped
from addnorm_exp.train.loop import run_pack as train
from addnorm_exp.words import counted

INTERVAL = 1.0  # seconds between two checks of runs that another process is training


class Local(Launcher):
    """Trains in this process. Several processes may work on one study: each leaves alone what another one is training."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._runs: tuple[Planned, ...] = ()  # of the phase
        self._keep = keeps("")
        self.current: Path | None = None  # the folder of the run that is being trained

    def launch(self, phase: str, runs: tuple[Planned, ...]) -> PhaseResult:
        """Trains the runs shape by shape, otherwise in the plan's order. Raises UserError if the data do not suit a run."""
        self._runs = runs
        outcome = PhaseResult(summaries=self.finished(runs))
        for run in runs:
            if run.id in outcome.summaries:
                complete(self.place(run), outcome.summaries[run.id])
        order = {shape: place for place, shape in enumerate(dict.fromkeys(run.experiment.shape for run in runs))}
        missing = (run for run in runs if run.id not in outcome.summaries)
        waiting = sorted(missing, key=lambda run: order[run.experiment.shape])
        self.check(waiting)
        self._keep = keeps(phase)
        shapes = len({run.experiment.shape for run in waiting})
        self.display.phase(phase, total=len(runs), finished=len(outcome.summaries), shapes=shapes)
        for pack in self._packs(waiting):
            if self.stop():
                outcome.stopped = True
                return outcome
            most = self._room(pack)
            outcome.left += [run for run in pack[most:] if run.id not in outcome.summaries]
            if most:
                self._one(pack[:most], outcome)
        self._wait(outcome)
        return outcome

    def _room(self, pack: tuple[Planned, ...]) -> int:
        """How many runs of a pack the limit leaves room for. A pack that has begun is resumed whole."""
        if self._spent:
            return 0
        if self.limit is None or self.place(pack[0]).pack():
            return len(pack)
        return min(self.limit, len(pack))

    def _packs(self, waiting: Iterable[Planned]) -> list[tuple[Planned, ...]]:
        """The waiting runs in packs, in their order. A run that has begun continues as it began: alone, or in its pack, some of whose runs
        may have ended since. Raises UserError if the phase lacks a run of such a pack."""
        planned = {run.id: run for run in self._runs}
        packs: list[list[Planned]] = []
        with_room: dict[Any, list[Planned]] = {}  # the newest pack of each kind
        packed: set[str] = set()  # ids of runs in packs that have begun
        for run in waiting:
            folder = self.place(run)
            if run.id in packed:
                continue
            if ids := folder.pack():
                if missing := [name for name in ids if name not in planned]:
                    raise UserError(
                        f"{folder.path}: is trained together with {missing[0]}, which is not among these runs; run the sweep without "
                        "--filter, or delete this folder to train the run anew"
                    )
                packs.append([planned[name] for name in ids])
                packed |= set(ids)
            elif self.width == 1 or folder.recorded():
                packs.append([run])
            else:
                kind = kind_of(run)
                if len(with_room.get(kind, ())) in (0, self.width):
                    with_room[kind] = []
                    packs.append(with_room[kind])
                with_room[kind].append(run)
        return [tuple(pack) for pack in packs]

    def _wait(self, outcome: PhaseResult) -> None:
        """Waits until no other process is training a run of the phase, because the next phase may need it. A run that another process
        has finished counts; a run that it has abandoned is trained here."""
        if outcome.busy and not self._spent:
            self.display.say(f"waiting for {counted(len(outcome.busy), 'run')} that another process is training")
        while outcome.busy and not self._spent and not outcome.stopped:
            busy, outcome.busy = outcome.busy, []
            for run in busy:
                if run.id in outcome.summaries or run in outcome.failed:  # trained here meanwhile, as one of a pack
                    continue
                if self.stop() or outcome.stopped:
                    outcome.stopped = True
                elif self._spent or self.place(run).is_locked():
                    outcome.busy.append(run)
                elif summary := self.finished([run]).get(run.id):
                    outcome.summaries[run.id] = summary
                    self.display.end(run, summary, (summary.finished or 0.0) - (summary.started or 0.0))
                else:
                    (pack,) = self._packs([run])
                    self._one(pack, outcome)
            if outcome.busy:
                time.sleep(INTERVAL)

    def prospect(self) -> str:
        return prospect(self.current) if self.current else super().prospect()

    @property
    def _spent(self) -> bool:
        """Whether the limit of runs is reached."""
        return self.limit is not None and self.limit <= 0

    def _one(self, pack: tuple[Planned, ...], outcome: PhaseResult) -> None:
        """Trains one pack. Those of its runs that have ended before only fill their places."""
        finished = self.finished(pack)
        # Another process may have finished all of them since the phase began: then nothing is trained.
        going = [run for run in pack if run.id not in finished] or list(pack)
        self.display.begin(*going)
        self.current = self.place(going[0]).path
        started = time.perf_counter()
        try:
            members = [Member(run.experiment, self.place(run), self._watcher(run)) for run in pack]
            summaries = train(members, self.data(going[0]), study=self.name, stop=self.stop, keep=self._keep)
        except Busy:
            outcome.busy += going
            for run in going:
                self.display.leave(run, "another process is training it")
            return
        except Stopped:
            outcome.stopped = True
            return
        except (UserError, KeyboardInterrupt):
            raise
        except Exception as error:
            if disk_trouble(error):  # it affects every later run
                raise
            for run in going:
                summary = self.place(run).summary()
                if summary and summary.status in FINISHED:  # it had ended before the others failed
                    outcome.summaries[run.id] = summary
                else:
                    outcome.failed.append(run)
                self.display.end(run, summary, time.perf_counter() - started)
        else:
            outcome.summaries |= {run.id: summary for run, summary in zip(pack, summaries, strict=True)}
            for run in going:
                self.display.end(run, outcome.summaries[run.id], time.perf_counter() - started)
        finally:
            self.current = None
            self.mirror.end()
        if self.limit is not None:
            self.limit -= len(going)

    def _watcher(self, run: Planned) -> Watcher:
        return self.mirror.watch(self.place(run).path, lambda event: self.display.watch(event, run))
