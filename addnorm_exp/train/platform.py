"""Settings that a process makes once, before it computes."""

import ctypes
import functools
import sys

# mallopt(3): the threshold above which glibc gives an allocation separate pages, and the one above which it returns memory.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@functools.cache
def keep_memory() -> bool:
    """Makes glibc keep freed memory. True if that succeeded.

    Every dispatch on CPU allocates and frees large temporaries. By default glibc returns them to the system each time, and the page
    faults of the next allocation took up to 40 % of a step (benchmarks/NOTES.md). On other systems this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 2**30)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def pin_generator() -> None:
    """Makes batches, dropout and initial values come from partitionable threefry, whatever the environment sets. It is JAX's default
    today; the former default draws other numbers."""
    import jax  # here: the PyTorch side of benchmarks/step.py uses this file without JAX

    jax.config.update("jax_threefry_partitionable", True)


# JAX's switches under which no run can work: option → its value, and why.
_EXPLICIT = ("disallow_explicit", "the corpus and the initial values are moved to the device explicitly")
REFUSED = {
    "jax_no_tracing": (True, "training is traced before it is compiled"),
    "jax_no_execution": (True, "it executes nothing"),
    "jax_transfer_guard": _EXPLICIT,
    "jax_transfer_guard_host_to_device": _EXPLICIT,
    "jax_transfer_guard_device_to_host": _EXPLICIT,
    "jax_transfer_guard_device_to_device": _EXPLICIT,
}


def refused_switch() -> str | None:
    """One line for a switch of JAX under which no run can work, with the remedy; or None."""
    import jax

    for option, (value, reason) in REFUSED.items():
        if jax.config.values.get(option) == value:
            return f"{option.upper()}={value}: no run works under this switch, because {reason}; unset it"
    return None
