"""A benchmark's processes: one each side, started once, that take requests and answer them by lines of JSON. Standard library only,
since one side runs in an environment of its own."""

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from typing import Any

Answer = dict[str, Any]


class WorkerError(Exception):
    """A worker died or could not do what it was asked; the message is its own."""


class Worker:
    """The parent's end. `ask` blocks until the answer is there, so never do two workers compute at once."""

    def __init__(self, command: list[str], environment: Mapping[str, str] | None = None):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as the process)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def ask(self, request: str, **arguments: Any) -> Answer:
        """What the worker's function of this name returns. Raises WorkerError."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps({"request": request, **arguments}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._process.wait()
            self._errors.seek(0)
            last = self._errors.read().strip().splitlines()[-1:] or ["it said nothing"]
            raise WorkerError(f"ended with code {self._process.returncode}: {last[0]}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self) -> None:
        """Ends the process: it stops at the end of its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve(functions: Mapping[str, Callable[..., Answer]]) -> None:
    """The worker's end: answers requests on standard input until it ends. What libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            answer = functions[arguments.pop("request")](**arguments)
        except Exception as error:
            traceback.print_exc()
            told = (str(error).strip().splitlines() or [""])[0]
            answer = {"error": f"{type(error).__name__}: {told}"}
        answers.write(json.dumps(answer) + "\n")


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
