"""Many schemes at once: on CPU one process per core, because half of a scheme's time is in Python, which threads would share."""

import functools
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax

from addnorm_exp.config.tasks.task import DataConfig
from addnorm_exp.data import corpus
from addnorm_exp.errors import UserError, one_line
from addnorm_exp.probe import draws, measure, settings
from addnorm_exp.probe.measurements import Measurement, measurements_of
from addnorm_exp.residual import catalogue
from addnorm_exp.residual.predictions import SETTINGS
from addnorm_exp.runs.machine import usable_cores
from addnorm_exp.train.host import PROCESS_BYTES
from addnorm_exp.train.memory import memory
from addnorm_exp.train.platform import keep_memory, pin_generator

SCHEMES = (
    4  # schemes per process; a further process takes as long to start and to compile shared programs as two schemes
)


@dataclass(frozen=True)
class Job:
    """What is measured of every scheme."""

    depths: tuple[int, ...]
    width: int
    seeds: int
    data: DataConfig


Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]  # as `map`


@contextmanager
def pool(processes: int) -> Iterator[Each]:
    """Yields a `map` over `processes` processes; with more than one, it works in the main thread only. Raises UserError if a process
    cannot be started, or ends before its work is done."""
    if processes == 1:
        _begin()
        yield map
        return
    others = multiprocessing.active_children()
    children: list[Any] = []
    with _current_folder_ignored():
        executor = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin_child)

    def each(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        # The new processes inherit that interrupts are blocked: only this process handles one, and not before they are started.
        with _interrupts_blocked(), _current_folder_ignored():
            try:
                started = [executor.submit(function, item) for item in items]
            except OSError as error:
                line = f"cannot start a process of the probe ({one_line(error)}); check the Python installation"
                raise UserError(line) from None
            children[:] = set(multiprocessing.active_children()) - set(others)
        return (one.result() for one in started)

    try:
        yield each
    except BrokenProcessPool:
        raise UserError(_why_broken(child.exitcode for child in children)) from None
    except BaseException:  # an interrupt too; otherwise the program would wait for running work
        for child in set(multiprocessing.active_children()) - set(others):
            child.terminate()
        raise
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _why_broken(codes: Iterable[int | None]) -> str:
    """A line on a pool in which a process has ended. The pool then terminates the others."""
    ended = [code for code in codes if code not in (None, 0, -signal.SIGTERM)]
    if not ended or -signal.SIGKILL in ended:
        return "a process of the probe was killed, probably for lack of memory; reduce --depths, --width or --seeds"
    how = f"was killed by signal {-ended[0]}" if ended[0] < 0 else f"ended with code {ended[0]}"
    return f"a process of the probe {how} before its work was done; see its output above"


def measured(job: Job, name: str) -> list[Measurement]:
    """The rows of a scheme."""
    scheme, text = catalogue.get(name), load(job.data).train
    measurements = [
        row for setting in SETTINGS for row in measurements_of(scheme, setting, job.depths, job.width, job.seeds, text)
    ]
    measure.forget()
    return measurements


def processes(schemes: Sequence[str], job: Job) -> int:
    """The number of processes that cores and memory allow; one on an accelerator, because JAX takes all its memory."""
    if jax.default_backend() != "cpu":
        return 1
    # For the deepest stack and one half as deep. Attention residuals take about 2 GB more: each sublayer keeps a mixture of all outputs.
    stacks = 3 * sum(settings.needed(schemes[0], max(job.depths), job.width, job.seeds).values())
    each = PROCESS_BYTES + stacks + 2 * draws.KEPT_BYTES
    room = (memory() or each) // each
    return max(1, min(usable_cores(), room, len(schemes) // SCHEMES))


@functools.lru_cache(maxsize=1)
def load(data: DataConfig) -> corpus.Corpus:
    """The corpus, read once per process."""
    return corpus.load(data)


def _begin() -> None:
    keep_memory()
    pin_generator()


def _begin_child() -> None:
    gc.freeze()  # loaded modules are permanent: the collector need not scan them again
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _begin()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # nobody would read its results


@contextmanager
def _current_folder_ignored() -> Iterator[None]:
    """Python processes that are started inside import nothing from the current folder."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
