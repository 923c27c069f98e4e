"""Executors: what trains the packs of a study, one or several at a time.

Read in this order:

    executor    the contract: compute something, begin a pack, wait for what happens
    here        trains in this process, one pack at a time
    seats       how many processes, and the cores or devices of each
    worker      the process that computes for a pool
    pool        trains in several processes
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax

from addnorm_exp.errors import UserError
from addnorm_exp.runs.events import Watcher
from addnorm_exp.sweep.executors import seats
from addnorm_exp.sweep.executors.executor import Executor
from addnorm_exp.sweep.executors.here import Here
from addnorm_exp.sweep.executors.pool import WorkerPool
from addnorm_exp.sweep.planner import unpublished
from addnorm_exp.sweep.study import Planned


class Options(NamedTuple):
    """What the command line says of how runs are carried out. `width`: the most runs of one pack; `limit`: the most runs of all; `workers`:
    how many processes train, None for as many as pay; `devices`: how many each of them has on an accelerator; `cache`: whether compiled
    programs are kept on disk. `sweep`: the words of this command after the program; `train`: those of its flags that the command of a
    single run has too."""

    width: int = 1
    limit: int | None = None
    workers: int | None = None
    devices: int = 1
    cache: bool = False
    sweep: tuple[str, ...] = ()
    train: tuple[str, ...] = ()


def executor_for(
    options: Options,
    waiting: Sequence[tuple[Planned, int]],
    threads: Collection[int],
    here: Callable[[], Here],
    watcher: Callable[[Planned], Watcher],
    stop: Callable[[], bool],
) -> Executor:
    """The executor for these runs with the widths of their packs. `threads`: with how many runs have begun that are to be resumed.

    Raises UserError for more workers or devices than this machine has, or for several workers where a scheme is not in the catalogue.
    """
    workers, packs = options.workers, -(-len(waiting) // options.width)
    if workers == 1 or (workers is None and packs < 2):
        return here()
    if own := next(filter(None, (unpublished(run) for run, _ in waiting)), None):
        if workers is not None:
            raise UserError(
                f"--workers={workers}: the scheme '{own}' is known only to this study file, and not to other processes; add it to the "
                "catalogue (CONTRIBUTING.md), or use --workers=1"
            )
        return here()
    if seats.may_accelerate():
        pool = WorkerPool(watcher, stop, [seats.Seat()], options.cache)
        platform, count = pool.ask(devices)
        if platform != "cpu":
            on_devices = seats.of_devices(workers, packs, platform, count, options.devices)
            if len(on_devices) == 1:
                return pool
            pool.close()
            return WorkerPool(watcher, stop, on_devices, options.cache)
        pool.close()
    if workers is None and threads:
        workers = max(1, len(seats.host.cores()) // max(threads))  # the numbers of a resumed run depend on it
    elif workers is None and seats.is_short(run for run, _ in waiting):
        return here()
    lanes = {run.experiment.shape: width for run, width in waiting}
    on_cores = seats.of_cores(workers, packs, lanes)
    return WorkerPool(watcher, stop, on_cores, options.cache) if len(on_cores) > 1 else here()


def devices() -> tuple[Any, int]:
    """The platform of this process's devices, and how many there are."""
    return jax.default_backend(), jax.local_device_count()
