"""What a number depends on besides its config: versions, device, source revision."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("addnorm-exp", "jax", "jaxlib", "flax", "optax", "numpy")


@functools.cache
def versions() -> dict[str, str]:
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
            continue
    return installed


@functools.cache
def device() -> dict[str, Any]:
    """Platform, kind (JAX's name; on CPU also the processor's model) and number of local devices."""
    first = jax.local_devices()[0]
    kind = first.device_kind
    if first.platform == "cpu":
        kind = f"cpu ({_cpuinfo('model name') or platform.machine()})"
    return {"platform": first.platform, "kind": kind, "count": jax.local_device_count()}


def threads() -> int | None:
    """How many threads compute, on CPU: as many as this process may use cores. None on another platform."""
    return usable_cores() if jax.default_backend() == "cpu" else None


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's model and what it can do, in the words of the system."""
    return f"{_cpuinfo('model name')} {_cpuinfo('flags') or _cpuinfo('Features')}"


def _cpuinfo(name: str) -> str:
    """The first value of this name in what Linux says of the processor; elsewhere its model, whatever the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


@functools.cache
def revision() -> str | None:
    """`<commit>` of the checkout that contains this package, `<commit>+changes` if files differ; None outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        run = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10, check=True)
        return run.stdout.strip()

    try:
        root = Path(git("rev-parse", "--show-toplevel"))
        if here.parent.parent != root:  # installed into some other project's tree
            return None
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None
