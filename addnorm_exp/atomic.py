"""Writes that are whole or not at all, and that a process completes before it ends itself (cli/stop.py).

A kill may interrupt them: the old file stays, and a hidden file is left: a dot, the file's name and `SUFFIX`.
"""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_LOCK = threading.RLock()
SUFFIX = r"\.[a-z0-9_]{8}\.writing"


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


@contextmanager
def replacement(path: Path, synced: bool = True) -> Iterator[IO[bytes]]:
    """A file to write, which takes the place of `path` when the block ends: synced (if not, a power cut may leave it empty), and by one
    rename.

    A reader sees the old content or the new one, never a part. If the block raises, `path` stays as it is.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".writing", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if synced:
                os.fsync(file.fileno())
        os.chmod(name, 0o644)  # a temporary file is private
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def replace(path: Path, text: str) -> None:
    """Replaces a file by a short text."""
    with uncut(), replacement(path) as file:
        file.write(text.encode())
