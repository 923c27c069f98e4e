"""The process that mirrors runs while another trains them: `python -m addnorm_exp.runs.mirror.agent MODE [PROJECT [ENTITY]]`.

Standard input: a JSON object a line, {"begin": FOLDER} or {"end": FOLDER}; its end says that the training process is gone, whatever
became of it. Standard output: lines for the person. It is the client's only place, so here it may fail, hang or be killed.
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
from pathlib import Path

from addnorm_exp.runs.folder import FINISHED, Busy, RunFolder
from addnorm_exp.runs.mirror.window import SWEEP_AGENT, Place, Window, claimed, patience, reason

POLL = 1.0  # seconds between two looks at the record
STUCK = 60.0  # seconds beyond the client's own time-outs, after which it counts as hung
REST = "the record stays, and `main.py sync` uploads it"


class Agent:
    def __init__(self, mode: str, place: Place):
        self.mode, self.place = mode, place
        self.window: Window | None = None
        self.folder: Path | None = None  # of the run that was begun last
        self.held = contextlib.ExitStack()
        self.dead = False
        self._told = False
        self._limit: float | None = None
        threading.Thread(target=self._watch, daemon=True).start()

    def serve(self, commands: "queue.Queue[dict[str, str] | None]") -> None:
        """Until the training process is gone, and all is sent."""
        while True:
            try:
                command = commands.get(timeout=POLL)
            except queue.Empty:
                command = {}
            with self._guarded():
                if command is None or "begin" in command:
                    self._close()
                if command is None:
                    return
                if "begin" in command and not self.dead:
                    self._open(Path(command["begin"]))
                elif "end" in command:
                    self._close()
                elif self.window:
                    with self._limited(STUCK):
                        self.window.feed()
            if command is None:
                return

    @contextlib.contextmanager
    def _guarded(self):
        """A failure of the client ends the mirror, with one line."""
        try:
            yield
        except Exception as error:
            self.window, self.dead = None, True
            self.held.close()
            say(f"W&B: stopped ({reason(error)}); {REST}")
            if self.folder:
                with contextlib.suppress(OSError), open(self.folder / "wandb" / "mirror.log", "a") as log:
                    traceback.print_exc(file=log)

    def _open(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.held.enter_context(claimed(folder))
        except Busy:
            say(f"W&B: {folder} is mirrored by another process already")
            return
        if self.mode != "offline":
            try:
                with self._limited(patience("INIT", 20) + STUCK):
                    self.window = Window(folder, self.place, "online")
                self._tell(f"W&B: {self.window.url}")
                return
            except Exception as error:  # no key, no server, no permission, a time-out: the kinds are many
                if not _is_clients(error):
                    raise
                self.mode = "offline"  # for the rest of the process: a time-out is waited for once
                say(f"W&B: offline ({why_offline(error)}); {REST}")
                _forget()
        with self._limited(STUCK):
            self.window = Window(folder, self.place, "offline")

    def _close(self) -> None:
        window, self.window = self.window, None
        if window is None:
            return
        try:
            status = (RunFolder(window.folder).summary() or {}).get("status")
            with self._limited(patience("FINISH", 60) + STUCK):
                window.close(ended=status in (*FINISHED, "failed"))
        except TimeoutError:
            self.mode = "offline"
            say(f"W&B: the server did not take all of {window.folder.name} in time, offline from here; {REST}")
        finally:
            self.held.close()
            _end_of_sweep_run()

    def _tell(self, line: str) -> None:
        """Says it for the first run alone."""
        if not self._told:
            self._told = True
            say(line)

    @contextlib.contextmanager
    def _limited(self, seconds: float):
        self._limit = time.monotonic() + seconds
        try:
            yield
        finally:
            self._limit = None

    def _watch(self) -> None:
        while True:
            time.sleep(POLL)
            limit = self._limit
            if limit is not None and time.monotonic() > limit:
                say(f"W&B: stopped (its client hangs); {REST}")
                os._exit(1)


def why_offline(error: BaseException) -> str:
    """Why the server could not be had, in a line."""
    line = reason(error)
    if "api key" in line.lower() and "configured" in line.lower():
        return "no API key"
    return "the API key is refused" if "error 401" in line else line


def _forget(exit_code: int = 1) -> None:
    """Ends the client's own process, which keeps the id of a run that could not be opened, and opens it to no other."""
    import wandb

    wandb.teardown(exit_code=exit_code)


def _end_of_sweep_run() -> None:
    """The id that a W&B sweep agent dictates is for one run: the client, which read it as it started, starts anew for the next."""
    dictated = [os.environ.pop(name, None) for name in SWEEP_AGENT]
    if any(dictated):
        _forget(exit_code=0)


def _is_clients(error: BaseException) -> bool:
    import wandb

    return isinstance(error, wandb.Error | TimeoutError | OSError)


def say(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it
        print(line, flush=True)


def _commands() -> "queue.Queue[dict[str, str] | None]":
    """Lines of standard input as they come; None at its end."""
    found: queue.Queue[dict[str, str] | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            found.put(json.loads(line))
        found.put(None)

    threading.Thread(target=read, daemon=True).start()
    return found


def main(argv: list[str]) -> None:
    os.nice(19)  # before the client starts a process of its own
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end of standard input says when to stop
    os.environ.pop("WANDB_MODE", None)  # the mode that was chosen counts
    os.environ["WANDB_SILENT"] = "true"
    mode, project, entity = (*argv, "", "")[:3]
    Agent(mode, Place(project or None, entity or None)).serve(_commands())


if __name__ == "__main__":
    main(sys.argv[1:])
