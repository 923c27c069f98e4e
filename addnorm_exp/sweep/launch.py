"""Trains a plan on this machine, one pack of runs after another, so that runs of one shape share one compiled program."""

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from addnorm_exp import tasks
from addnorm_exp.data.spec import Data
from addnorm_exp.errors import UserError, disk_trouble
from addnorm_exp.runs.checkpoint_folders import prospect
from addnorm_exp.runs.events import Watcher
from addnorm_exp.runs.finish import complete
from addnorm_exp.runs.folder import FINISHED, RunFolder
from addnorm_exp.runs.lock import Busy
from addnorm_exp.runs.mirror.mirror import Mirror
from addnorm_exp.runs.mirror.settings import Place
from addnorm_exp.runs.records import Summary
from addnorm_exp.sweep.display import Display
from addnorm_exp.sweep.study import Planned
from addnorm_exp.train.loop import Member, Stopped, check, check_machine
from addnorm_exp.train.loop import run_pack as train
from addnorm_exp.words import counted

INTERVAL = 1.0  # seconds between two checks of runs that another process is training


@dataclass
class PhaseResult:
    """The outcome of the runs of a phase."""

    summaries: dict[str, Summary] = field(default_factory=dict)
    failed: list[Planned] = field(default_factory=list)
    busy: list[Planned] = field(default_factory=list)
    left: list[Planned] = field(default_factory=list)  # beyond --max_runs
    stopped: bool = False

    @property
    def complete(self) -> bool:
        return not (self.busy or self.left or self.stopped)


def keeps(phase: str) -> str:
    """Which parameters a finished run of a phase keeps if `execution.keep` is not set. Tuning needs only a number."""
    return "none" if phase == "tune" else "final"


class Launcher:
    """Trains the missing runs of a plan. `limit` bounds the runs of all phases together; None is no bound. A run's folder is
    `folder/<id>`, or the one in `places` under its id. Up to `width` runs of one shape, timetable and data are trained in one program."""

    def __init__(
        self,
        folder: Path,
        name: str | None,
        display: Display,
        stop: Callable[[], bool],
        limit: int | None = None,
        places: Mapping[str, Path] | None = None,
        mirror: Mirror | None = None,
        width: int = 1,
    ):
        self.folder, self.name, self.display, self.stop, self.limit = folder, name, display, stop, limit
        self.width = width
        self.places = places or {}
        self.mirror = mirror or Mirror("disabled", Place(), display.say)
        self._runs: tuple[Planned, ...] = ()  # of the phase
        self._data: dict[tuple[str, str, str | None], Data] = {}  # by task, name and path
        self._keep = keeps("")
        self.current: Path | None = None  # the folder of the run that is being trained
        self._remarks: set[str] = set()  # lines about data that were printed

    def place(self, run: Planned) -> RunFolder:
        return RunFolder(self.places.get(run.id, self.folder / run.id))

    def finished(self, runs: Iterable[Planned]) -> dict[str, Summary]:
        """Summaries of the finished runs, by id."""
        summaries = ((run.id, self.place(run).summary()) for run in runs)
        return {name: summary for name, summary in summaries if summary and summary.status in FINISHED}

    def check(self, *phases: Iterable[Planned]) -> None:
        """Raises UserError if the data of an unfinished run are not available, or if the data or the devices do not suit the run.
        Runs of different phases are not trained in one pack."""
        waiting: list[Planned] = []
        for runs in map(tuple, phases):
            finished = self.finished(runs)
            of_phase = [run for run in runs if run.id not in finished]
            for run, lanes in zip(of_phase, widths(of_phase, self.width, self.place), strict=True):
                check_machine(run.experiment, lanes)  # before data are fetched
            waiting += of_phase
        for run in waiting:
            check(run.experiment, self.data(run))
            for line in tasks.remarks(run.experiment, self.data(run).spec):
                if line not in self._remarks:
                    self._remarks.add(line)
                    self.display.say(line)

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
        """From where the same command continues if the process ends now."""
        return prospect(self.current) if self.current else "run the same command again to continue"

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

    def data(self, run: Planned) -> Data:
        """A run's data, read once."""
        config = run.config
        key = config.task.name, config.data.name, config.data.path
        if key not in self._data:
            self._data[key] = tasks.load(config)
        return self._data[key]


def kind_of(run: Planned) -> Hashable:
    """What the runs of a pack have in common."""
    return run.experiment.shape, run.experiment.timetable, run.sha256


def widths(runs: Sequence[Planned], width: int, place: Callable[[Planned], RunFolder]) -> list[int]:
    """For each of these unfinished runs of one phase, how many runs the widest pack has that it may be trained in."""
    kinds = Counter(kind_of(run) for run in runs if not place(run).recorded())

    def lanes(run: Planned) -> int:
        folder = place(run)
        if ids := folder.pack():
            return len(ids)
        return 1 if folder.recorded() else min(width, kinds[kind_of(run)])

    return [lanes(run) for run in runs]
