"""How many processes train a study, and the cores or devices that each of them has. Nothing here needs a device.

On CPU a small model gains little from a second core: on two cores, the quickstart took 0.77 of the time with a process a core
(benchmarks/NOTES.md). On GPUs each process has a device of its own.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from addnorm_exp.errors import UserError
from addnorm_exp.experiment import Shape
from addnorm_exp.sweep.planner import operations
from addnorm_exp.sweep.study import Planned
from addnorm_exp.train import host
from addnorm_exp.train.memory import needed
from addnorm_exp.words import counted

# Below this, further processes would take as long to start as they save. Times are rough, from below: a core's peak (two cores of an
# AMD EPYC, 2026-12), the dispatch of a step, and the compilation of a shape.
WORTHWHILE = 15.0
OPERATIONS_A_SECOND, STEP_SECONDS, COMPILE_SECONDS = 1e11, 5e-4, 4.0
# The packages that bring a device other than the CPU to JAX.
PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm60_plugin", "jax_rocm7_plugin", "libtpu")


@dataclass(frozen=True)
class Seat:
    """What a process may use: its cores (none: all), and the environment by which it sees its devices."""

    cores: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def may_accelerate() -> bool:
    """Whether JAX may find another device than the CPU: a process must be asked."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    return platforms != "cpu" and any(map(find_spec, PLUGINS))


def is_short(runs: Iterable[Planned]) -> bool:
    """Whether one process trains these runs as soon as several would."""
    runs = list(runs)
    shapes = {run.experiment.shape for run in runs}
    seconds = sum(operations(run) / OPERATIONS_A_SECOND + run.config.steps * STEP_SECONDS for run in runs)
    return seconds + COMPILE_SECONDS * len(shapes) < WORTHWHILE


def of_cores(workers: int | None, packs: int, lanes: Mapping[Shape, int]) -> list[Seat]:
    """Seats on the cores of this machine for so many packs: as many as asked for, else one a core, as memory allows. Each has equally many
    cores. `lanes`: how many runs a pack of each shape has.

    Raises UserError if more workers are asked for than there are cores.
    """
    cores = host.cores()
    if workers is None:
        available, each = (
            host.memory(),
            host.PROCESS_BYTES + max((_bytes(shape, n) for shape, n in lanes.items()), default=0),
        )
        room = available // each if available else 1
        workers = max(1, min(len(cores), packs, room))
    elif workers > 1 and not cores:
        raise UserError(f"--workers={workers}: this system cannot bind processes to cores; use --workers=1")
    elif workers > max(1, len(cores)):
        raise UserError(
            f"--workers={workers}: this process has {counted(len(cores), 'core')}; use fewer workers, or auto"
        )
    share = len(cores) // workers
    return [Seat(cores[place * share : (place + 1) * share]) for place in range(workers)]


def of_devices(workers: int | None, packs: int, platform: str, count: int, each: int) -> list[Seat]:
    """Seats on the `count` devices of this machine, `each` devices a seat. More workers than that share the devices.

    Raises UserError if there are too few devices for a seat.
    """
    if each > count:
        raise UserError(f"--devices_per_run={each}: this machine has {counted(count, 'device')}")
    if platform != "gpu":  # a TPU's chips belong to one process
        return [Seat()]
    variable = "CUDA_VISIBLE_DEVICES"  # which ROCm follows too
    visible = [name for name in os.environ.get(variable, "").split(",") if name] or list(map(str, range(count)))
    groups = [visible[first : first + each] for first in range(0, count - each + 1, each)]
    number = min(len(groups), packs) if workers is None else workers
    sharing = -(-number // len(groups))
    share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / sharing:.3f}"} if sharing > 1 else {}
    return [Seat(environment={variable: ",".join(groups[place % len(groups)]), **share}) for place in range(number)]


def _bytes(shape: Shape, lanes: int) -> int:
    return lanes * sum(needed(shape, 1, True).values())
