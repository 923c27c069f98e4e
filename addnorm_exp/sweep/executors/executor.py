"""The contract of an executor."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from addnorm_exp.experiment import Shape
from addnorm_exp.runs.events import Watcher
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.sweep.planner import PlannedPack
from addnorm_exp.sweep.study import Planned

Ending = Literal["trained", "busy", "stopped", "failed"]
Choose = Callable[[Collection[Shape], Collection[Shape]], PlannedPack]


@dataclass(frozen=True)
class Assignment:
    """A pack to train. `folders`: of its runs by id; `study`: its name."""

    pack: PlannedPack
    folders: Mapping[str, RunFolder]
    study: str | None


class Ended(NamedTuple):
    """A pack that is no longer trained. `trained`: each run is done or has diverged; `busy`: another process is training one of them.
    `reason`: why it failed, if the record of its runs does not say so."""

    pack: PlannedPack
    outcome: Ending
    reason: str = ""


class Executor(ABC):
    """Trains packs, some at a time, and computes what needs a device. `watcher` gives who is told of a run's events; `stop` says whether
    the user asked to stop. `tries`: how often a pack is tried that fails; `current`: the folder of the run that is being
    trained, if it is known."""

    tries = 1
    current: Path | None = None

    def __init__(self, watcher: Callable[[Planned], Watcher], stop: Callable[[], bool]):
        self.watcher, self.stop = watcher, stop

    @abstractmethod
    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function of a module returns. It may use the devices. Nothing is trained meanwhile."""

    @property
    @abstractmethod
    def training(self) -> Sequence[PlannedPack]:
        """The packs that have begun and not ended."""

    @property
    @abstractmethod
    def has_room(self) -> bool:
        """Whether one more pack can begin."""

    @abstractmethod
    def begin(self, choose: Choose, job: Callable[[PlannedPack], Assignment]) -> None:
        """Begins to train one more pack. `choose` gets the shapes that its trainer has compiled and those of the other trainers
        (`planner.choose`)."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Ended]:
        """The packs that have ended since the last call. Waits up to `seconds` for the first; passes on events meanwhile.

        Raises UserError if something is wrong that concerns the other runs too.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends what was started. Runs that are being trained are saved."""

    @abstractmethod
    def kill(self) -> None:
        """Ends what was started at once."""
