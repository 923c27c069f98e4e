"""Compiled programs, kept on disk, so that a second launch compiles nothing: JAX's persistent cache, in the user's cache folder.

XLA cuts loops on CPU into as many parts as there are cores when it compiles, and JAX's key of a program does not say how many. A program
that was compiled for another number of cores gives other last digits, and is slower. So each processor and number of cores has a folder.
"""

import contextlib
import hashlib
import os
from pathlib import Path

import jax

from addnorm_exp.data import cache
from addnorm_exp.errors import UserError
from addnorm_exp.runs import machine

MOST_BYTES = 2 * 10**9  # a program of a small model has 0.2 to 1 MB
LEAST_SECONDS = 0.1  # of a compilation whose program is kept


def keep_programs() -> None:
    """Switches the cache on in this process, which must not have compiled anything. JAX's own settings (JAX_COMPILATION_CACHE_DIR,
    JAX_ENABLE_COMPILATION_CACHE) come first; without a folder that can be written there is no cache."""
    values = jax.config.values
    if values["jax_compilation_cache_dir"] is not None or not values["jax_enable_compilation_cache"]:
        return
    try:
        folder = cache.folder() / "programs" / _for_this_machine()
        folder.mkdir(parents=True, exist_ok=True)
        prune(folder.parent)
    except (UserError, OSError):
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)


def prune(folder: Path, most: int = MOST_BYTES) -> None:
    """Removes the files that were read longest ago until the others have no more than `most` bytes."""
    files = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another process prunes
            if path.is_file():
                files.append((path.stat(), path))
    left = most
    for stat, path in sorted(files, key=lambda file: -max(file[0].st_atime, file[0].st_mtime)):
        left -= stat.st_size
        if left < 0:
            path.unlink(missing_ok=True)


def _for_this_machine() -> str:
    """The name of the folder: 12 hexadecimal digits of the processor, and the number of its cores that this process may use."""
    kind = hashlib.sha256(machine.processor().encode()).hexdigest()[:12]
    return f"{kind}-{machine.usable_cores()}"
