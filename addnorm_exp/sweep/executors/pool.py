"""Trains in several processes, each on cores or devices of its own. This process neither trains nor starts a device."""

import contextlib
import multiprocessing
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any

from addnorm_exp.child import command, how_it_ended
from addnorm_exp.errors import UserError, one_line
from addnorm_exp.experiment import Shape
from addnorm_exp.runs.events import Watcher
from addnorm_exp.sweep.executors.executor import Assignment, Choose, Ended, Executor
from addnorm_exp.sweep.executors.seats import Seat
from addnorm_exp.sweep.executors.worker import GRACE, STOP
from addnorm_exp.sweep.planner import PlannedPack
from addnorm_exp.sweep.study import Planned

HURRY = 5.0  # seconds for a process to end that has nothing to do


class Process:
    """A worker's process: what it trains, and what it has compiled."""

    def __init__(self, seat: Seat, cache: bool):
        self.seat = seat
        self.pack: PlannedPack | None = None
        self.shapes: set[Shape] = set()
        self.ready = self.stopping = False  # whether it has started; whether it was asked to stop
        self.connection, theirs = multiprocessing.Pipe()
        words = command("addnorm_exp.sweep.executors.worker", str(theirs.fileno()), "cache" * cache)
        try:
            with _bound(seat.cores):
                self.popen = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=2,  # standard output is for results
                    pass_fds=(theirs.fileno(),),
                    env={**os.environ, **seat.environment},
                    process_group=0,  # Ctrl-C at the terminal goes to this process alone
                )
        except OSError as error:
            raise UserError(f"a worker's process cannot be started ({one_line(error)}); use --workers=1") from None
        finally:
            theirs.close()

    def send(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # it has ended: the end of the connection says so
            self.connection.send(message)

    def messages(self) -> list[Any]:
        """What has arrived. Raises EOFError if the process has ended and nothing is left."""
        arrived = []
        try:
            while self.connection.poll():
                arrived.append(self.connection.recv())
        except (EOFError, OSError):
            if not arrived:
                raise EOFError from None
        return arrived

    def end(self, seconds: float) -> int:
        """Ends the process, which may save what it trains. Returns its exit code."""
        self.connection.close()
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.wait()


class WorkerPool(Executor):
    """A process for each seat. The processes start at once, so that they are ready when the plan is checked. `cache`:
    whether they keep compiled programs on disk."""

    tries = 2

    def __init__(
        self, watcher: Callable[[Planned], Watcher], stop: Callable[[], bool], seats: Sequence[Seat], cache: bool
    ):
        super().__init__(watcher, stop)
        self.cache = cache
        self.processes = [Process(seat, cache) for seat in seats]
        self._watchers: dict[str, Watcher] = {}  # of the runs that are being trained, by id

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        process = self.processes[0]
        process.send((function, arguments))
        try:
            while (message := process.connection.recv())[0] != "answer":
                process.ready = True
        except (EOFError, OSError):
            how = how_it_ended(process.end(HURRY))
            raise UserError(f"a worker's process {how}; see its output above, or use --workers=1") from None
        return _value(*message[1:])

    @property
    def training(self) -> Sequence[PlannedPack]:
        return [process.pack for process in self.processes if process.pack]

    @property
    def has_room(self) -> bool:
        return len(self.training) < len(self.processes)

    def begin(self, choose: Choose, job: Callable[[PlannedPack], Assignment]) -> None:
        process = next(process for process in self.processes if process.pack is None)
        others = [each for each in self.processes if each is not process]
        pack = choose(process.shapes, {shape for other in others for shape in other.shapes})
        if pack.tries:  # where it failed, it may fail again for that reason
            process = self._renewed(process)
        work = job(pack)
        process.pack = pack
        process.shapes.add(pack.shape)
        self._watchers |= {run.id: self.watcher(run) for run in pack.runs}
        process.send(work)

    def wait(self, seconds: float) -> list[Ended]:
        if self.stop():
            for process in self.processes:
                if process.pack and not process.stopping:
                    process.stopping = True
                    process.send(STOP)
        ended = []
        busy = {process.connection: process for process in self.processes if process.pack}
        for ready in connection.wait(list(busy), seconds):
            process = busy[ready]  # type: ignore[index]
            try:
                messages = process.messages()
            except EOFError:
                ended.append(self._lost(process))
                continue
            for message in messages:
                process.ready = True
                if message[0] == "event":
                    _, run, event = message
                    self._watchers[run](event)
                elif message[0] == "answer":
                    outcome = _value(*message[1:])
                    ended.append(Ended(self._free(process), outcome))
        return ended

    def _free(self, process: Process) -> PlannedPack:
        pack, process.pack = process.pack, None
        assert pack
        for run in pack.runs:
            self._watchers.pop(run.id, None)
        return pack

    def _lost(self, process: Process) -> Ended:
        """A process that has ended while it was training; another one takes its seat."""
        code = process.end(HURRY)
        pack = self._free(process)
        if process.stopping:
            return Ended(pack, "stopped")
        if not process.ready:
            raise UserError(
                f"a worker's process {how_it_ended(code)} at its start; see its output above, or use --workers=1"
            )
        self._renewed(process)
        return Ended(pack, "failed", f"its process {how_it_ended(code)}")

    def _renewed(self, process: Process) -> Process:
        """A new process in the seat of this one, which trains nothing."""
        process.end(HURRY)
        place = self.processes.index(process)
        self.processes[place] = Process(process.seat, self.cache)
        return self.processes[place]

    def kill(self) -> None:
        """Ends the processes at once, whatever they do."""
        for process in self.processes:
            process.popen.kill()

    def close(self) -> None:
        for process in self.processes:
            process.connection.close()
        for process in self.processes:
            process.end(GRACE if process.pack else HURRY)


@contextlib.contextmanager
def _bound(cores: Sequence[int]) -> Iterator[None]:
    """A process that is started inside may use these cores only, from its first thread on. None: all."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _value(kind: str, value: Any) -> Any:
    if kind == "refused":
        raise UserError(value)
    return value
