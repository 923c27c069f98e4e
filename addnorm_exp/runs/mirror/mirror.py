"""The training process's side of the mirror: starts the agent, tells it which run begins and ends, and waits for it at the end."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from addnorm_exp.child import command, how_it_ended
from addnorm_exp.errors import one_line, program
from addnorm_exp.runs.events import Watcher
from addnorm_exp.runs.mirror.settings import LATER, Place, patience
from addnorm_exp.words import counted

MARGIN = 10.0  # seconds beyond the client's own time-out in which one run must be sent at the end of a command
HURRY = 5.0  # seconds for all of them if the user has asked the command to stop


class Mirror(contextlib.AbstractContextManager["Mirror"]):
    """`with Mirror(mode, place, say, directory) as mirror:`; `mirror.watch(folder, then)` is a watcher of training that mirrors the run.

    The agent is started when the first run begins. Only the end of the command waits for it, and no failure of it is an error.
    `directory` contains all runs: `main.py sync` of it uploads what was not sent. `stopping` says whether the user asked to stop.
    """

    def __init__(
        self,
        mode: str,
        place: Place,
        say: Callable[[str], None],
        directory: Path | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ):
        self.mode, self.place, self.stopping = mode, place, stopping
        self._line = say
        where = shlex.quote(str(directory)) if directory else "DIR"
        self.sync = f"`{program()} sync {where}`"
        self.process: subprocess.Popen[str] | None = None
        self.pending: set[str] = set()  # runs that began and are not completed
        self._changed = threading.Condition()  # of `pending` and `_gone`
        self._gone = False  # the agent has ended, or cannot be started
        self._closing = self._deferred = False
        self._began: list[str] = []  # runs that are being trained
        self._errors = -1  # the descriptor of what the agent's process prints to standard error

    def watch(self, folder: Path, then: Watcher) -> Watcher:
        """Passes events on to `then`. The run's record is mirrored from its start event on, after it has been rewound."""

        def watch(event: Mapping[str, Any]) -> None:
            if event["event"] == "start":
                self._begin(str(folder.resolve()))
            then(event)

        return watch if self.mode != "disabled" else then

    def end(self, *folders: Path) -> None:
        """The runs in these folders, or all that began, are no longer trained."""
        for folder in [str(folder.resolve()) for folder in folders] or list(self._began):
            if folder in self._began:
                self._began.remove(folder)
                self._send({"end": folder})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits until everything is sent, then kills the agent. Ctrl-C and SIGTERM end only the wait."""
        if self.process is None:
            return
        assert self.process.stdin is not None
        try:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()  # results first
            if kind is KeyboardInterrupt:
                raise _Skipped
            with _interruptible():
                self._wait(HURRY if self.stopping() else None)
        except _Skipped:
            if self.pending:
                self._leave("skipped")
        finally:
            self._closing = True
            self.process.kill()
            self.process.wait()
            self._reader.join(1.0)
            os.close(self._errors)

    def _wait(self, limit: float | None) -> None:
        """Waits until no run is pending, for up to `limit` seconds; None: as long as one run after another is sent."""
        each = patience("WANDB_FINISH_TIMEOUT") + MARGIN
        with self._changed:
            if self.pending and not self._gone:
                verb = "writing" if self.mode == "offline" else "sending"
                self.say(f"W&B: {verb} {counted(len(self.pending), 'run')}; press Ctrl-C to skip")
            deadline = time.monotonic() + (each if limit is None else limit)
            number = len(self.pending)
            while self.pending and not self._gone:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    break
                if limit is None and len(self.pending) < number:
                    number, deadline = len(self.pending), time.monotonic() + each
            late = bool(self.pending) and not self._gone
        if late:
            self._leave("not done in time")

    def _leave(self, why: str) -> None:
        self.say(f"W&B: {counted(len(self.pending), 'run')} {why}; {self.sync} uploads the rest")

    def _begin(self, folder: str) -> None:
        if self.mode == LATER:
            if not self._deferred:
                self.say(f"W&B: no API key, so nothing is sent; {self.sync} uploads the runs later")
            self._deferred = True
            return
        if self.process is None and not self._gone:
            self._start()
        with self._changed:
            if self._gone:
                return
            self.pending.add(folder)
        self._began.append(folder)
        self._send({"begin": folder})

    def _send(self, command: dict[str, str]) -> None:
        if self.process is None:
            return
        assert self.process.stdin is not None
        # A full or broken pipe means that the agent hangs or has ended.
        with contextlib.suppress(OSError):
            os.write(self.process.stdin.fileno(), (json.dumps(command) + "\n").encode())

    def _start(self) -> None:
        settings = {"mode": self.mode, "project": self.place.project, "entity": self.place.entity}
        settings["remedy"] = f"{self.sync} uploads it later"
        try:
            with tempfile.TemporaryFile() as errors:
                self.process = subprocess.Popen(
                    command("addnorm_exp.runs.mirror.agent", json.dumps(settings)),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    errors="replace",
                    # One thread: training needs the cores. A separate group: Ctrl-C at the terminal goes only to the training process.
                    env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                    process_group=0,
                )
                self._errors = os.dup(errors.fileno())
        except OSError as error:
            self._stopped(f"its process cannot be started: {one_line(error)}")
            self._gone = True
            return
        assert self.process.stdin is not None
        os.set_blocking(self.process.stdin.fileno(), False)
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        """Handles messages of the agent until it ends."""
        assert process.stdout is not None
        explained = False
        with process.stdout:
            for line in process.stdout:
                try:
                    message = json.loads(line)
                except ValueError:  # a partial message of a killed process
                    continue
                if "say" in message:
                    self.say(message["say"])
                if "stop" in message:
                    explained = True
                    self._stopped(message["stop"])
                if "done" in message:
                    with self._changed:
                        self.pending.discard(message["done"])
                        self._changed.notify_all()
        code = process.wait()
        if not explained and not self._closing and (code != 0 or self.pending):
            self._stopped(f"its process {self._how(code)}")
        with self._changed:
            self._gone = True
            self._changed.notify_all()

    def say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads it
            self._line(line)

    def _stopped(self, why: str) -> None:
        self.say(f"W&B: stopped ({why}); {self.sync} uploads what is missing")

    def _how(self, code: int) -> str:
        """How the agent ended, with its last printed line."""
        if code < 0:
            return how_it_ended(code)
        text = os.pread(self._errors, 4000, max(0, os.fstat(self._errors).st_size - 4000)).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return how_it_ended(code) + (f": {one_line(lines[-1], 200)}" if lines else "")


class _Skipped(BaseException):
    """The user does not want to wait."""


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise _Skipped inside; afterwards their former handlers are restored. Other threads get no signals.

    Meanwhile a thread that reads signals from a descriptor (cli/stop.py) does not receive these signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    waiting = True

    def skip(number: int, frame: Any) -> None:
        if waiting:
            raise _Skipped

    descriptor = signal.set_wakeup_fd(-1)
    before = {number: signal.signal(number, skip) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        waiting = False
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
