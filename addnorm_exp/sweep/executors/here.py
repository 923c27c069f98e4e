"""Trains in this process, one pack at a time, so that runs of one shape share one compiled program."""

from collections.abc import Callable, Sequence
from typing import Any

from addnorm_exp import tasks
from addnorm_exp.config.schema import Config
from addnorm_exp.data.spec import Data
from addnorm_exp.errors import UserError, disk_trouble
from addnorm_exp.experiment import Shape
from addnorm_exp.runs.events import Watcher
from addnorm_exp.runs.lock import Busy
from addnorm_exp.sweep.executors.executor import Assignment, Choose, Ended, Ending, Executor
from addnorm_exp.sweep.planner import PlannedPack
from addnorm_exp.sweep.study import Planned, keeps
from addnorm_exp.train.loop import Member, Stopped
from addnorm_exp.train.loop import run_pack as train


class Here(Executor):
    def __init__(
        self, watcher: Callable[[Planned], Watcher], stop: Callable[[], bool], trainer: "Trainer | None" = None
    ):
        super().__init__(watcher, stop)
        self.trainer = trainer or Trainer()
        self._ended: list[Ended] = []
        self._shapes: set[Shape] = set()

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    @property
    def training(self) -> Sequence[PlannedPack]:
        return [ended.pack for ended in self._ended]

    @property
    def has_room(self) -> bool:
        return not self._ended

    def begin(self, choose: Choose, job: Callable[[PlannedPack], Assignment]) -> None:
        pack = choose(self._shapes, ())
        self._shapes.add(pack.shape)
        work = job(pack)
        self.current = work.folders[pack.runs[0].id].path
        try:
            self._ended.append(Ended(pack, self.trainer.train(work, self.watcher, self.stop)))
        finally:
            self.current = None

    def wait(self, seconds: float) -> list[Ended]:
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """Nothing was started."""

    kill = close


class Trainer:
    """Trains packs in this process. Each data set is read once."""

    def __init__(self) -> None:
        self._data: dict[tuple[str, str, str | None], Data] = {}  # by task, name and path

    def data(self, config: Config) -> Data:
        key = config.task.name, config.data.name, config.data.path
        if key not in self._data:
            self._data[key] = tasks.load(config)
        return self._data[key]

    def train(self, job: Assignment, watcher: Callable[[Planned], Watcher], stop: Callable[[], bool]) -> Ending:
        """Trains a pack; a failure is in the record of its runs. Raises UserError, and OSError if the disk is full: every later run would
        meet them too."""
        runs = job.pack.runs
        members = [Member(run.experiment, job.folders[run.id], watcher(run)) for run in runs]
        try:
            train(members, self.data(runs[0].config), study=job.study, stop=stop, keep=keeps(job.pack.phase))
        except Busy:
            return "busy"
        except Stopped:
            return "stopped"
        except (UserError, KeyboardInterrupt):
            raise
        except Exception as error:
            if disk_trouble(error):
                raise
            return "failed"
        return "trained"
