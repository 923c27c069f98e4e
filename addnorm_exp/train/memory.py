"""Whether a run can fit in memory: decided at once, before anything is built or allocated.

A lower bound on the run's memory is compared with the machine's total memory. So an accepted run may still be too large, but a refused
one could not have run. Without this check, such a run would stall a machine that swaps or overcommits memory.
"""

import functools
from collections.abc import Mapping

import jax

from addnorm_exp.errors import UserError
from addnorm_exp.experiment import Shape
from addnorm_exp.experiment.kernels import cudnn_obstacle, resolved
from addnorm_exp.tasks import minimum_footprint
from addnorm_exp.train import host
from addnorm_exp.train.device import device
from addnorm_exp.train.optimisers import make_optimiser
from addnorm_exp.train.optimisers.optimiser import state_bytes
from addnorm_exp.words import counted, size

# A parameter in training, in float32, beside the optimiser's state: its value, its gradient (the global norm needs all gradients at
# once), and the copy of the best value by validation so far.
BYTES_A_PARAMETER = 4 * 3
ROWS = 3  # per-layer quantities by site, and as many by tensor: train/step.py

MODEL, BATCH, CHUNK = (
    "parameters with gradients, optimiser state and best copy",
    "activations of a micro-batch",
    "metrics of a chunk",
)
REMEDIES = {
    MODEL: "reduce model.width or model.depth",
    BATCH: "reduce batch_size, seq_len or the model, or use more micro-batches (optim.accumulate)",
    CHUNK: "reduce execution.chunk_steps or model.depth",
}


def check_memory(shape: Shape, lanes: int = 1) -> None:
    """Raises UserError if a run, or a pack of so many, cannot fit in the memory of this machine, or of its devices."""
    parts = needed(resolved(shape, device()), jax.local_device_count(), _shared())
    require(parts, REMEDIES[max(parts, key=lambda name: parts[name])])
    available = memory()
    if lanes > 1 and available is not None:
        # Each lane has all of it. What lanes share, the data and the program, is not counted.
        remedy = f"use --pack={available // sum(parts.values())} (a pack that has begun keeps its width)"
        require({name: lanes * count for name, count in parts.items()}, remedy, f"a pack of {lanes} runs ")


def fits(shape: Shape) -> bool:
    try:
        check_memory(shape)
    except UserError:
        return False
    return True


def require(parts: Mapping[str, int], remedy: str, whose: str = "") -> None:
    """Raises UserError if these parts, in bytes, exceed the memory. `whose`: the beginning of its message."""
    available, total = memory(), sum(parts.values())
    if available is not None and total > available:
        listed = ", ".join(f"{size(count)} of {name}" for name, count in parts.items() if count > 0.01 * total)
        place = "this machine" if _shared() else "the device"
        raise UserError(
            f"{whose}needs at least {size(total)} of memory ({listed}), but {place} has {size(available)}; {remedy}"
        )


@functools.lru_cache(maxsize=1024)
def needed(shape: Shape, devices: int, shared: bool) -> dict[str, int]:
    """A lower bound on the memory that training a run takes on one device, in bytes by part; on all `devices` if they share a memory."""
    footprint = minimum_footprint(shape)
    copies = devices if shared else 1
    sequences = shape["batch_size"] // shape["optim.accumulate"] // (1 if shared else devices)
    columns = footprint.tensors + shape["model.depth"]
    rows = shape["execution.chunk_steps"] * ROWS * columns * shape["execution.diagnostics"]
    optimiser = make_optimiser(shape)
    state = footprint.minimum(lambda specs: state_bytes(optimiser, specs))
    return {
        MODEL: copies * (footprint.parameters * BYTES_A_PARAMETER + state),
        BATCH: sequences * footprint.activations,
        CHUNK: copies * rows * 4,
    }


def memory() -> int | None:
    """The memory in bytes: of a device that has its own, else of this machine or of the control group that limits this process. None if it
    is unknown."""
    if not _shared():
        limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
        return None if limit is None else int(limit)
    return host.memory()


def _shared() -> bool:
    """Whether the devices use the machine's memory."""
    return jax.local_devices()[0].platform == "cpu"


def check_devices(shape: Shape) -> None:
    """Raises UserError if a batch does not split over the local devices, or if they do not support the config."""
    obstacle = cudnn_obstacle(shape, device()) if shape["execution.attention"] == "cudnn" else None
    if obstacle:
        raise UserError(f"execution.attention=cudnn needs {obstacle}; use auto, einsum or xla")
    devices, batch, parts = jax.local_device_count(), shape["batch_size"], shape["optim.accumulate"]
    if batch // parts % devices:
        raise UserError(
            f"batch_size={batch} in {counted(parts, 'micro-batch', 'micro-batches')} does not split evenly over {devices} devices; "
            f"use a multiple of {devices * parts}, or fewer devices"
        )
