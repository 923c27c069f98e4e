"""The process that computes for a pool (pool.py).

It gets jobs through a connection and answers through it, so that what libraries print disturbs nobody. Ctrl-C at the terminal does
not reach it: the pool asks it to stop. If the pool's process is gone, it saves what it is training, and ends.
"""

import os
import queue
import signal
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from addnorm_exp.errors import UserError, disk_trouble
from addnorm_exp.runs.events import Watcher
from addnorm_exp.sweep.executors.executor import Assignment
from addnorm_exp.sweep.executors.here import Trainer
from addnorm_exp.sweep.study import Planned
from addnorm_exp.train.program_cache import keep_programs

STOP = "stop"  # sent in the place of a job, also while one is being done
GRACE = 30.0  # seconds in which a process that nobody listens to may save what it is training


class Worker:
    """Does the jobs that arrive through `connection`. `stopping` is set once the pool asks it to stop, or is gone."""

    def __init__(self, connection: Connection):
        self.connection, self.trainer = connection, Trainer()
        self.stopping = threading.Event()
        self.jobs: queue.Queue[Any] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def serve(self) -> None:
        """Does one job after another until the pool closes the connection. A job is an Assignment, or a function with its arguments."""
        self._send("ready")
        while (job := self.jobs.get()) is not None:
            self._send("answer", *self._done(job))

    def _done(self, job: Any) -> tuple[str, Any]:
        try:
            if isinstance(job, Assignment):
                return "value", self.trainer.train(job, self._watcher, self.stopping.is_set)
            function, arguments = job
            return "value", function(*arguments)
        except UserError as error:
            return "refused", str(error)
        except OSError as error:
            line = disk_trouble(error)
            if line is None:
                raise
            return "refused", line

    def _watcher(self, run: Planned) -> Watcher:
        def watch(event: Mapping[str, Any]) -> None:
            self._send("event", run.id, dict(event))

        return watch

    def _send(self, *message: Any) -> None:
        try:
            self.connection.send(message)
        except OSError:  # the pool is gone: `_read` sees it too
            self.stopping.set()

    def _read(self) -> None:
        """Runs in its own thread: the main thread computes."""
        try:
            while True:
                message = self.connection.recv()
                if message == STOP:
                    self.stopping.set()
                else:
                    self.jobs.put(message)
        except (EOFError, OSError):
            self.stopping.set()
            self.jobs.put(None)
            time.sleep(GRACE)
            os._exit(1)


def main(descriptor: str, cache: str) -> None:
    """`descriptor`: of the connection; `cache`: "cache" if compiled programs are kept on disk."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if cache:
        keep_programs()
    worker = Worker(Connection(int(descriptor)))
    signal.signal(signal.SIGTERM, lambda number, frame: worker.stopping.set())
    worker.serve()
