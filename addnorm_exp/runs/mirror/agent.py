"""The process that mirrors runs while another trains them (started by mirror.py).

Standard input: a JSON object a line, {"begin": FOLDER} or {"end": FOLDER}; its end says that the training process is gone, whatever
became of it. Standard output: a JSON object a line, {"say": LINE} for the person, {"done": FOLDER, "sent": WHETHER} for a run that is
dealt with, and {"stop": LINE} before the process gives up. The client runs nowhere else, so here it may fail, hang or be killed.
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
from addnorm_exp.runs.folder import FINISHED, Busy, RunFolder
from addnorm_exp.runs.mirror.server import answers, is_clients
from addnorm_exp.runs.mirror.settings import SWEEP_AGENT, Place, patience
from addnorm_exp.runs.mirror.window import Window, claimed, reason

POLL = 1.0  # seconds between two looks at the record
STUCK = 600.0  # seconds beyond the client's own time-outs, after which it counts as hung: on a busy machine this process is slow
PAUSE = 600.0  # seconds for which a server that did not answer is left alone


class Agent:
    """Mirrors one run at a time. `tell` takes the messages; `remedy` ends the lines of what was not sent.

    A run that the server refuses, or whose record is damaged, is left out with a line. Where the server does not answer, runs are left
    out with one line for all, until one begins after the pause.
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
        self.window: Window | None = None
        self.folder: Path | None = None  # of the run that was begun last, until it is dealt with
        self.lock = contextlib.ExitStack()
        self.deadline: float | None = None  # of what the client is doing
        self.paused_until = -1.0
        self._announced = self._complained = False

    def serve(self, commands: "queue.Queue[dict[str, str] | None]") -> None:
        """Until the training process is gone, and all is sent."""
        while True:
            try:
                command = commands.get(timeout=POLL)
            except queue.Empty:
                command = {}
            if command is None or "begin" in command or "end" in command:
                self._close()
            if command is None:
                return
            if "begin" in command:
                self._open(Path(command["begin"]))
            elif not command and self.window:
                with self._one_run(), self._limited(STUCK):
                    self.window.feed()

    def _open(self, folder: Path) -> None:
        self.folder = folder
        if self.clock() < self.paused_until:
            self._leave(None)
            return
        with self._one_run():
            self.lock.enter_context(claimed(folder))
            with self._limited(patience("WANDB_INIT_TIMEOUT") + STUCK):
                self.window = Window(folder, self.place, self.mode)
            if self.mode == "online" and not self._announced:
                self._announced = True
                self._say(self.window.url)

    def _close(self) -> None:
        window = self.window
        if window is None:
            return
        with self._one_run():
            status = (RunFolder(window.folder).summary() or {}).get("status")
            with self._limited(patience("WANDB_FINISH_TIMEOUT") + STUCK):
                window.close(ended=status in (*FINISHED, "failed"))
            self._done(sent=True)

    @contextlib.contextmanager
    def _one_run(self) -> Iterator[None]:
        """Whatever fails inside costs this run its mirror, and no other run."""
        try:
            yield
        except Busy:
            self._leave("another process mirrors it")
        except Exception as error:
            clients = is_clients(error)
            if not clients and not isinstance(error, UserError):
                self._log()
            if clients and self.mode == "online":
                with self._limited(STUCK):
                    forget()
                    if not answers():
                        self._pause(error)
                        return
            self._leave(reason(error))

    def _leave(self, why: str | None) -> None:
        """Gives up on the run that was begun last."""
        if why and self.folder:
            self._say(f"{self.folder.name} is left out ({why}); {self.remedy}")
        self._done(sent=False)

    def _pause(self, error: Exception) -> None:
        self.paused_until = self.clock() + PAUSE
        if not self._complained:
            self._complained = True
            self._say(f"the server cannot be reached ({why_unreachable(error)}); {self.remedy}")
        self._announced = False  # its address says that runs are sent again
        self._done(sent=False)

    def _done(self, sent: bool) -> None:
        folder, self.folder, self.window = self.folder, None, None
        self.lock.close()
        _end_of_sweep_run()
        if folder:
            self.tell({"done": str(folder), "sent": sent})

    def _log(self) -> None:
        if self.folder:
            with contextlib.suppress(OSError), open(self.folder / "wandb" / "mirror.log", "a") as log:
                traceback.print_exc(file=log)

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
        """Ends the process where the client hangs; for a thread of its own."""
        while True:
            time.sleep(POLL)
            deadline = self.deadline
            if deadline is not None and self.clock() > deadline:
                self.tell({"stop": "its client hangs"})
                os._exit(1)


def why_unreachable(error: BaseException) -> str:
    """Why no run can be sent, in a line."""
    line = reason(error)
    if "api key" in line.lower() and "configured" in line.lower():
        return "no API key"
    return "it refuses the API key" if "error 401" in line else line


def forget(exit_code: int = 1) -> None:
    """Ends the client's own process, which keeps the id of a run that could not be opened, and opens it to no other."""
    import wandb

    wandb.teardown(exit_code=exit_code)


def _end_of_sweep_run() -> None:
    """The id that a W&B sweep agent dictates is for one run: the client, which read it as it started, starts anew for the next."""
    dictated = [os.environ.pop(name, None) for name in SWEEP_AGENT]
    if any(dictated):
        forget(exit_code=0)


def read_commands() -> "queue.Queue[dict[str, str] | None]":
    """Lines of standard input as they come; None at its end."""
    commands: queue.Queue[dict[str, str] | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            commands.put(json.loads(line))
        commands.put(None)

    threading.Thread(target=read, daemon=True).start()
    return commands


def messages() -> Callable[[dict[str, Any]], None]:
    """Writes to standard output, which from here on nobody else does: what libraries print goes to standard error."""
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    lock = threading.Lock()

    def tell(message: dict[str, Any]) -> None:
        with lock, contextlib.suppress(OSError):  # nobody reads it
            print(json.dumps(message), file=stream, flush=True)

    return tell


def main(settings: str) -> None:
    """`settings`: a JSON object with mode, project, entity and remedy."""
    os.nice(19)  # before the client starts a process of its own
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end of standard input says when to stop
    os.environ.pop("WANDB_MODE", None)  # the mode that was chosen counts
    os.environ["WANDB_SILENT"] = "true"
    asked = json.loads(settings)
    agent = Agent(asked["mode"], Place(asked["project"], asked["entity"]), asked["remedy"], messages())
    threading.Thread(target=agent.watch, daemon=True).start()
    agent.serve(read_commands())
