"""Short stretches of writing that a process must not leave halfway. A kill may: the record is sound after one, as folder.py says, but a
line or a checkpoint may be lost. A process that ends itself waits for them (cli/stop.py)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.RLock()


@contextmanager
def uncut() -> Iterator[None]:
    """For a replacement, an append, a rename: nothing that takes longer."""
    with _LOCK:
        yield


@contextmanager
def between(seconds: float) -> Iterator[None]:
    """Inside, no other thread writes: waits until none does, but no longer than so long."""
    acquired = _LOCK.acquire(timeout=seconds)
    try:
        yield
    finally:
        if acquired:
            _LOCK.release()
