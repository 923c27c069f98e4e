"""The contract of a launcher: it carries out the runs of a plan, phase after phase. See local.py."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from addnorm_exp import tasks
from addnorm_exp.data.spec import Data
from addnorm_exp.runs.folder import FINISHED, RunFolder
from addnorm_exp.runs.mirror.mirror import Mirror
from addnorm_exp.runs.mirror.settings import Place
from addnorm_exp.runs.records import Summary
from addnorm_exp.sweep.display import Display
from addnorm_exp.sweep.study import Planned
from addnorm_exp.train.loop import check, check_machine


@dataclass
class PhaseResult:
    """The outcome of the runs of a phase."""

    summaries: dict[str, Summary] = field(default_factory=dict)
    failed: list[Planned] = field(default_factory=list)
    busy: list[Planned] = field(default_factory=list)
    left: list[Planned] = field(default_factory=list)  # beyond --max_runs, or left to others
    stopped: bool = False

    @property
    def complete(self) -> bool:
        return not (self.busy or self.left or self.stopped)


def keeps(phase: str) -> str:
    """Which parameters a finished run of a phase keeps if `execution.keep` is not set. Tuning needs only a number."""
    return "none" if phase == "tune" else "final"


class Launcher(ABC):
    """Carries out the missing runs of a plan. A run's folder is `folder/<id>`, or the one in `places` under its id; `name` is the study's.
    `limit` bounds the runs of all phases together; None is no bound. Up to `width` runs of one shape, timetable and data are trained in
    one program."""

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
        self._data: dict[tuple[str, str, str | None], Data] = {}  # by task, name and path
        self._remarks: set[str] = set()  # lines about data that were printed

    @abstractmethod
    def launch(self, phase: str, runs: tuple[Planned, ...]) -> PhaseResult:
        """Sees to it that the runs of a phase are trained, and returns what has become of them. The next phase begins once every run has
        an outcome. Raises UserError if the data do not suit a run."""

    def prospect(self) -> str:
        """From where the same command continues if the process ends now."""
        return "run the same command again to continue"

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
