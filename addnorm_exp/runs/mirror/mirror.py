"""The training process's end of the mirror: starts the agent, tells it which run begins and ends, and waits a little for it at the end."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import addnorm_exp
from addnorm_exp.runs.events import Watcher
from addnorm_exp.runs.mirror.window import Place, patience

MODES = ("online", "offline", "disabled")
MARGIN = 10.0  # seconds beyond the client's own time-out that the end of a command waits


def mode_of(flag: str | None) -> str:
    """The mode by the flag, else by WANDB_MODE, else `auto`: online with a key and a server, offline without."""
    said = flag or os.environ.get("WANDB_MODE", "").lower()
    return {"dryrun": "offline", "": "auto"}.get(said, said if said in MODES else "auto")


class Mirror:
    """`with Mirror(mode, place, say) as mirror:`; `mirror.watch(folder, then)` is a watcher of training that mirrors the run.

    The agent is started when the first run begins. Nothing here waits for it but the end, and nothing that becomes of it is an error.
    """

    def __init__(self, mode: str, place: Place, say: Callable[[str], None]):
        self.mode, self.place, self.say = mode, place, say
        self.process: subprocess.Popen[str] | None = None
        self._began: Path | None = None
        self._reader: threading.Thread | None = None

    def watch(self, folder: Path, then: Watcher) -> Watcher:
        """Passes events on to `then`; the run's record is mirrored from its first event on, when it has been rewound."""

        def watch(event: Mapping[str, Any]) -> None:
            if event["event"] == "start":
                self._began = folder
                self._send({"begin": str(folder.resolve())})
            then(event)

        return watch if self.mode != "disabled" else then

    def end(self) -> None:
        """The run that was begun last is no longer trained."""
        if self._began is not None:
            self._send({"end": str(self._began.resolve())})
            self._began = None

    def __enter__(self) -> "Mirror":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits until all is sent, no longer than the client's time-out and a little more; then the agent is killed."""
        process = self.process
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(patience("FINISH", 60) + MARGIN)
        except subprocess.TimeoutExpired:
            self.say("W&B: not all was sent in time; the record stays, and `main.py sync` uploads the rest")
        finally:  # also where the person is tired of waiting
            process.kill()
            process.wait()
        if self._reader:
            self._reader.join(1.0)

    def _send(self, command: dict[str, str]) -> None:
        if self.process is None:
            self._start()
        assert self.process is not None
        assert self.process.stdin is not None
        # A pipe that is full, or closed at its other end, belongs to an agent that hangs or is gone.
        with contextlib.suppress(OSError):
            os.write(self.process.stdin.fileno(), (json.dumps(command) + "\n").encode())

    def _start(self) -> None:
        words = [self.mode, self.place.project or "", self.place.entity or ""]
        root = str(Path(addnorm_exp.__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "addnorm_exp.runs.mirror.agent", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # One thread: the cores belong to training. A group of its own: Ctrl-C at the terminal is for the training process.
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            process_group=0,
        )
        assert self.process.stdin is not None
        os.set_blocking(self.process.stdin.fileno(), False)
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.say(line.rstrip())
