"""`main.py sweep` in a process of its own that is harmed: the half of chaos.py that is under the harm, and what it may say meanwhile.

Processes are forked from one that has imported everything and computed nothing; a Python audit hook sees each file operation before it
is done.
"""

import errno
import importlib
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no threads before the fork
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp(prefix="chaos-cache-"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

from addnorm_exp import cli  # noqa: E402
from addnorm_exp.cli.stop import NOTICE  # noqa: E402
from addnorm_exp.report.figures import plot  # noqa: E402

for room in ("cli.sweep", "cli.train", "sweep.launchers.local", "sweep.phases", "report.tables.ablation", "train.loop"):
    importlib.import_module(f"addnorm_exp.{room}")  # once, before the forks

EVENTS = frozenset({"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "shutil.rmtree"})
WRITING = EVENTS - {"os.remove", "os.rmdir", "shutil.rmtree"}

# Every line that a sweep may print to standard error, whatever is done to it. `ERROR` is the line of exit code 2.
LINES = (
    r"\w+: \d+ of \d+ runs? already finished",
    r"\w+ \d+/\d+  .*  (val [\d.]+ bits/byte|diverged: .*)  \([\d.]+ s(, .* to go)?\)",
    r"\w+  .*  another process is training it",
    r"waiting for \d+ runs? that another process is training",
    r"  .*: resumed after step \d+",
    r" *(.*: )?checkpoint .*: .*; falling back",
    r" *(.*: )?no checkpoint; starting again from step 0 \(.* discarded\)",
    re.escape(NOTICE),
    r"checking which schemes are the same function…",
    r"drawing the pictures…",
    r"stopped; run the same command again to continue \(.*\)",
)
ERROR = r"error: .*(no space left|cannot be written).*"


def stray(errors: str, code: int) -> list[str]:
    """The lines of a sweep's standard error that it should not have: all but its own, and one that says what is wrong, last,
    where the exit code is 2. A process that was killed may have left half a line."""
    lines = errors.splitlines()
    if code < 0 and not errors.endswith("\n"):
        lines = lines[:-1]
    if code == 2:
        if not lines or not re.fullmatch(ERROR, lines[-1], re.IGNORECASE):
            return ["(no line that says what is wrong)", *lines]
        lines = lines[:-1]
    return [line for line in lines if not any(re.fullmatch(known, line) for known in LINES)]


class Attempt:
    """Of kind `event` the process kills itself before its file event number `at`, of kind `full` the disk takes nothing from there on;
    of kind `clock` it has a clock that jumps. `count` writes how many events there were to NAME.count. NAME.err holds standard error."""

    def __init__(self, folder: Path, name: str, kind: str = "", at: int | None = None, log: str = ""):
        self.folder, self.name = folder, name
        self.out, self.err = folder / f"{name}{log}.out", folder / f"{name}{log}.err"
        self.started, self.seconds = time.monotonic(), 0.0
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._child(kind, at)

    def send(self, number: int, after: float) -> None:
        time.sleep(after)
        os.kill(self.pid, number)

    def wait(self) -> int:
        """The exit code, negative for a signal."""
        _, status = os.waitpid(self.pid, 0)
        self.seconds = time.monotonic() - self.started
        return os.waitstatus_to_exitcode(status)

    def errors(self) -> str:
        return self.err.read_text(errors="replace")

    def _child(self, kind: str, at: int | None) -> None:
        code = 99
        try:
            for number, path in ((1, self.out), (2, self.err)):
                with open(path, "w") as log:
                    os.dup2(log.fileno(), number)
            plot.plot = lambda folder: []  # pictures take seconds and are no record
            if kind == "clock":
                real, jump = time.time, random.Random(self.started)
                time.time = lambda: real() + jump.uniform(-1e6, 1e6)
            watch = Events(str(self.folder / self.name), kind, at) if kind in ("count", "event", "full") else None
            code = cli.main(
                ["sweep", str(self.folder / "tiny.py"), f"--runs={self.folder / self.name}", "--wandb=disabled"]
            )
            if kind == "count" and watch:
                (self.folder / f"{self.name}.count").write_text(str(watch.seen))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


class Events:
    """Counts what this process does to files under a folder, by Python's audit events, each of which comes before the deed."""

    def __init__(self, folder: str, kind: str, at: int | None):
        self.folder, self.kind, self.at, self.seen = folder, kind, at, 0
        sys.addaudithook(self._on)

    @property
    def reached(self) -> bool:
        return self.at is not None and self.seen >= self.at

    def _on(self, event: str, arguments: tuple) -> None:
        if event not in EVENTS or not any(
            str(a).startswith(self.folder) for a in arguments[:2] if isinstance(a, str | Path)
        ):
            return
        self.seen += 1
        if not self.reached:
            return
        if self.kind == "event":
            os.kill(os.getpid(), signal.SIGKILL)
        if event in WRITING and not (event == "open" and arguments[1] in ("r", "rb", None)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))
