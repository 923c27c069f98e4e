"""The contract of a launcher: it carries out an agenda. See local.py."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, ClassVar, Self

from addnorm_exp import tasks
from addnorm_exp.runs.folder import FINISHED
from addnorm_exp.runs.mirror.mirror import Mirror
from addnorm_exp.runs.mirror.settings import Place
from addnorm_exp.sweep.agenda import Agenda
from addnorm_exp.sweep.display import Display
from addnorm_exp.sweep.executors import Options
from addnorm_exp.sweep.executors.here import Trainer
from addnorm_exp.sweep.planner import FolderOf
from addnorm_exp.sweep.study import Planned


class Launcher(ABC):
    """Carries out the runs of agendas, one after the other. `stop` says whether the user asked to stop. As a context manager it ends the
    processes that it has started. `follows`: the flags of `sweep` (cli/sweep.py: `OWN`) that it follows; the others are refused."""

    follows: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        display: Display,
        stop: Callable[[], bool],
        options: Options = Options(),  # noqa: B008
        mirror: Mirror | None = None,
    ):
        self.display, self.stop, self.options = display, stop, options
        self.limit = options.limit  # what is left of it
        self.mirror = mirror or Mirror("disabled", Place(), display.say)
        self.trainer = Trainer()
        self._remarks: set[str] = set()  # lines about data that were printed

    @abstractmethod
    def launch(self, agenda: Agenda) -> None:
        """Sees to it that the open runs of the agenda are trained, and tells the agenda what has become of them. Raises UserError if a run
        cannot be trained for a reason that concerns the others too."""

    def prepare(self, phases: Iterable[tuple[FolderOf, tuple[Planned, ...]]]) -> None:
        """Checks the unfinished runs of these phases with their folders, before the first one is trained. Raises UserError if their data
        are not available, or do not suit a run; a launcher that trains here also if a run does not fit this machine."""
        for place, runs in phases:
            for run in unfinished(runs, place):
                self.check_data(run)

    def check_data(self, run: Planned) -> None:
        """Raises UserError if a run's data are not available, or do not suit it. Prints each remark about data once."""
        data = self.trainer.data(run.config).spec
        tasks.check(run.experiment, data)
        for line in tasks.remarks(run.experiment, data):
            if line not in self._remarks:
                self._remarks.add(line)
                self.display.say(line)

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function returns that needs a device."""
        return function(*arguments)

    def prospect(self) -> str:
        """From where the same command continues if the process ends now."""
        return "run the same command again to continue"

    def close(self) -> None:  # noqa: B027 (most start none)
        """Ends the processes that were started."""

    def kill(self) -> None:  # noqa: B027
        """Ends them at once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def unfinished(runs: Iterable[Planned], place: FolderOf) -> list[Planned]:
    """Those of these runs that are not finished."""
    summaries = ((run, place(run).summary()) for run in runs)
    return [run for run, summary in summaries if summary is None or summary.status not in FINISHED]
