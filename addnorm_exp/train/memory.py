"""Whether a run can fit into memory: told in a moment, before anything of it is built or allocated.

What is compared is the least that a run can take with what the machine has in all, so a run that is let through may still be too large; one
that is refused could not have run. Without this a machine with a swap or an overcommitting kernel would be brought to its knees.
"""

import functools
import os
from collections.abc import Mapping
from pathlib import Path

import jax

from addnorm_exp.config.schema import Config
from addnorm_exp.errors import UserError
from addnorm_exp.tasks import least
from addnorm_exp.train.hypers import static
from addnorm_exp.words import counted, size

# A parameter in training, in float32: its value, Adam's two moments, its gradient (all of them are there before the first is used, for the
# global norm), and the copy that is the best by validation so far.
BYTES_A_PARAMETER = 4 * 5
ROWS = 3  # per-layer quantities by site, and as many by tensor: train/step.py

MODEL, BATCH, CHUNK = (
    "parameters with gradients, moments and best copy",
    "activations of a micro-batch",
    "metrics of a chunk",
)
REMEDIES = {
    MODEL: "take a smaller model.width or model.depth",
    BATCH: "take a smaller batch_size, seq_len or model, or more micro-batches with optim.accumulate",
    CHUNK: "take a smaller execution.chunk_steps or model.depth",
}


def check_memory(config: Config) -> None:
    """Raises UserError where a run cannot fit into the memory of this machine, or of its devices."""
    parts = needed(static(config), jax.local_device_count(), _shared())
    require(parts, REMEDIES[max(parts, key=lambda name: parts[name])])


def fits(config: Config) -> bool:
    try:
        check_memory(config)
    except UserError:
        return False
    return True


def require(parts: Mapping[str, int], remedy: str) -> None:
    """Raises UserError where these parts, in bytes, are more than there is."""
    there, total = memory(), sum(parts.values())
    if there is not None and total > there:
        told = ", ".join(f"{size(count)} of {name}" for name, count in parts.items() if count > 0.01 * total)
        whose = "this machine has" if _shared() else "the device has"
        raise UserError(f"needs at least {size(total)} of memory ({told}), and {whose} {size(there)}; {remedy}")


@functools.lru_cache(maxsize=64)
def needed(config: Config, devices: int, shared: bool) -> dict[str, int]:
    """The least that training takes of one device, in bytes by part; of all `devices` where they share a memory."""
    here = least(config)
    copies = devices if shared else 1
    sequences = config.batch_size // config.optim.accumulate // (1 if shared else devices)
    rows = config.execution.chunk_steps * ROWS * (here.tensors + config.model.depth) * config.execution.diagnostics
    return {
        MODEL: copies * here.parameters * BYTES_A_PARAMETER,
        BATCH: sequences * here.activations,
        CHUNK: copies * rows * 4,
    }


def memory() -> int | None:
    """Bytes that there are: of a device that has its own, else of this machine or of the control group that bounds this process. None where
    nobody says."""
    if not _shared():
        limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
        return None if limit is None else int(limit)
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # another system
        return None
    return min([physical, *_bounds()])


def _shared() -> bool:
    """Whether the devices live in the machine's own memory."""
    return jax.local_devices()[0].platform == "cpu"


def _bounds(process: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """What control groups allow this process: its own and those above it, of version 2 and 1 (see cgroups(7))."""
    try:
        lines = process.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        place, name = (root, "memory.max") if not kinds else (root / "memory", "memory.limit_in_bytes")
        group = place / path.lstrip("/")
        for folder in (group, *group.parents):
            try:
                text = (folder / name).read_text().strip()
            except OSError:  # inside a container the path may be that of the machine outside
                text = ""
            found += [int(text)] if text.isdigit() else []
            if folder == place:
                break
    return found


def check_devices(config: Config) -> None:
    """Raises UserError where a batch does not split over the local devices, or these cannot do what the config asks."""
    kind = jax.local_devices()[0].platform
    if config.execution.attention == "cudnn" and (kind != "gpu" or config.model.compute_dtype != "bfloat16"):
        raise UserError(
            f"execution.attention=cudnn needs a GPU and model.compute_dtype=bfloat16, and this is {kind} with "
            f"{config.model.compute_dtype}; take einsum or xla"
        )
    devices = jax.local_device_count()
    part = config.batch_size // config.optim.accumulate
    if part % devices:
        raise UserError(
            f"batch_size={config.batch_size} in {counted(config.optim.accumulate, 'micro-batch', 'micro-batches')} does not split over "
            f"{devices} devices; take a multiple of {devices * config.optim.accumulate}, or fewer devices"
        )
