"""The process that mirrors runs while another trains them (started by mirror.py).

Standard input: one JSON object per line, {"begin": FOLDER} or {"end": FOLDER}; its end means that the training process has ended.
Standard output: one JSON object per line, {"say": LINE} for the user, {"done": FOLDER, "sent": WHETHER} for a completed run, and
{"stop": LINE} before the process gives up. The client runs only in this process, so it may fail, hang or be killed.
"""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from addnorm_exp.errors import UserError
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.lock import Busy
from addnorm_exp.runs.mirror.server import answers, is_clients
from addnorm_exp.runs.mirror.settings import SWEEP_AGENT, Place, patience
from addnorm_exp.runs.mirror.window import Window, claimed, reason

POLL = 1.0  # seconds between two reads of the record
STUCK = 600.0  # seconds beyond the client's own time-outs, after which it counts as hung: on a busy machine this process is slow
PAUSE = 600.0  # seconds without requests to a server that did not answer


class Session:
    """A run that is being mirrored: its window once that is open, and the lock of its mirror."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.window: Window | None = None
        self.lock = contextlib.ExitStack()


class Agent:
    """Mirrors the runs that are being trained, each in a window of its own. `tell` receives the messages; `remedy` ends the lines about
    runs that were not sent.

    A run that the server refuses, or whose record is damaged, is skipped with a line. If the server does not answer, runs are skipped
    with one line for all, until a run begins after the pause.
    """

    def __init__(
        self,
        mode: str,
        place: Place,
        remedy: str,
        tell: Callable[[dict[str, Any]], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self.mode, self.place, self.remedy, self.tell, self.clock = mode, place, remedy, tell, clock
        self.sessions: dict[str, Session] = {}  # by folder, until they are completed
        self.deadline: float | None = None  # of the client's current call
        self.paused_until = -1.0
        self._announced = self._complained = False

    def serve(self, commands: "queue.Queue[dict[str, str] | None]") -> None:
        """Runs until the training process has ended and everything is sent."""
        while True:
            try:
                command = commands.get(timeout=POLL)
            except queue.Empty:
                for session in list(self.sessions.values()):
                    self._feed(session)
                continue
            if command is None:
                for session in list(self.sessions.values()):
                    self._close(session)
                return
            if "begin" in command:
                self._open(Path(command["begin"]))
            elif command["end"] in self.sessions:
                self._close(self.sessions[command["end"]])

    def _open(self, folder: Path) -> None:
        if str(folder) in self.sessions:
            self._close(self.sessions[str(folder)])
        session = self.sessions[str(folder)] = Session(folder)
        if self.clock() < self.paused_until:
            self._leave(session, None)
            return
        with self._apart(session):
            session.lock.enter_context(claimed(folder))
            with self._limited(patience("WANDB_INIT_TIMEOUT") + STUCK):
                session.window = Window(folder, self.place, self.mode)
            if self.mode == "online" and not self._announced:
                self._announced = True
                self._say(session.window.url)

    def _feed(self, session: Session) -> None:
        assert session.window is not None
        with self._apart(session), self._limited(STUCK):
            session.window.feed()

    def _close(self, session: Session) -> None:
        assert session.window is not None
        with self._apart(session):
            summary = RunFolder(session.folder).summary()
            with self._limited(patience("WANDB_FINISH_TIMEOUT") + STUCK):
                session.window.close(ended=summary is not None and summary.status != "running")
            self._done(session, sent=True)

    @contextlib.contextmanager
    def _apart(self, session: Session) -> Iterator[None]:
        """A failure inside stops the mirror of this run only."""
        try:
            yield
        except Busy:
            self._leave(session, "another process is mirroring it")
        except Exception as error:
            clients = is_clients(error)
            if not clients and not isinstance(error, UserError):
                with contextlib.suppress(OSError), open(session.folder / "wandb" / "mirror.log", "a") as log:
                    traceback.print_exc(file=log)
            if clients and self.mode == "online":
                with self._limited(STUCK):
                    forget()
                    if not answers():
                        self._pause(session, error)
                        return
            self._leave(session, reason(error))

    def _leave(self, session: Session, why: str | None) -> None:
        """Gives up on a run."""
        if why:
            self._say(f"{session.folder.name} is skipped ({why}); {self.remedy}")
        self._done(session, sent=False)

    def _pause(self, session: Session, error: Exception) -> None:
        self.paused_until = self.clock() + PAUSE
        if not self._complained:
            self._complained = True
            self._say(f"the server cannot be reached ({why_unreachable(error)}); {self.remedy}")
        self._announced = False  # printing the address again means that runs are sent again
        self._done(session, sent=False)

    def _done(self, session: Session, sent: bool) -> None:
        del self.sessions[str(session.folder)]
        session.lock.close()
        # The id from a W&B sweep agent is for one run, and the client read it at its start.
        dictated = [os.environ.pop(name, None) for name in SWEEP_AGENT]
        if any(dictated):
            forget(exit_code=0)
        self.tell({"done": str(session.folder), "sent": sent})

    def _say(self, line: str) -> None:
        self.tell({"say": f"W&B: {line}"})

    @contextlib.contextmanager
    def _limited(self, seconds: float) -> Iterator[None]:
        before, self.deadline = self.deadline, self.clock() + seconds
        try:
            yield
        finally:
            self.deadline = before

    def watch(self) -> None:
        """Ends the process if the client hangs; runs in its own thread."""
        while True:
            time.sleep(POLL)
            deadline = self.deadline
            if deadline is not None and self.clock() > deadline:
                self.tell({"stop": "its client hangs"})
                os._exit(1)


def why_unreachable(error: BaseException) -> str:
    """Why no run can be sent, in one line."""
    line = reason(error)
    if "api key" in line.lower() and "configured" in line.lower():
        return "no API key"
    return "it refuses the API key" if "error 401" in line else line


def forget(exit_code: int = 1) -> None:
    """Ends the client's own process: it keeps the id of a run that could not be opened, and would open no other."""
    import wandb

    wandb.teardown(exit_code=exit_code)


def read_commands() -> "queue.Queue[dict[str, str] | None]":
    """Lines of standard input as they arrive; None at its end."""
    commands: queue.Queue[dict[str, str] | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            commands.put(json.loads(line))
        commands.put(None)

    threading.Thread(target=read, daemon=True).start()
    return commands


def messages() -> Callable[[dict[str, Any]], None]:
    """Reserves standard output for messages: from now on, what libraries print goes to standard error."""
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    lock = threading.Lock()

    def tell(message: dict[str, Any]) -> None:
        with lock, contextlib.suppress(OSError):  # nobody reads it
            print(json.dumps(message), file=stream, flush=True)

    return tell


def main(settings: str) -> None:
    """`settings`: a JSON object with mode, project, entity and remedy."""
    os.nice(19)  # before the client starts its own process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the process stops at the end of standard input
    os.environ.pop("WANDB_MODE", None)  # the mode in `settings` counts
    os.environ["WANDB_SILENT"] = "true"
    options = json.loads(settings)
    agent = Agent(options["mode"], Place(options["project"], options["entity"]), options["remedy"], messages())
    threading.Thread(target=agent.watch, daemon=True).start()
    agent.serve(read_commands())
