"""Short writes that a process must complete before it ends itself (cli/stop.py). A kill may interrupt them: the record stays readable
(folder.py), but a line or a checkpoint may be lost."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.RLock()


@contextmanager
def uncut() -> Iterator[None]:
    """Use it for a replacement, an append or a rename, and for nothing that takes longer."""
    with _LOCK:
        yield


@contextmanager
def between(seconds: float) -> Iterator[None]:
    """Inside, no other thread writes. Waits up to `seconds` for a thread that does."""
    acquired = _LOCK.acquire(timeout=seconds)
    try:
        yield
    finally:
        if acquired:
            _LOCK.release()
