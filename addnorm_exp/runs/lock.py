"""Locks between processes, by files.

A lock is the kernel's (`flock`): a kill -9 releases it too, it needs no heartbeat, and it works between machines on network file
systems that support it.
"""

import fcntl
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from addnorm_exp.errors import UserError


class Busy(Exception):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Locks the file for this process. Raises Busy if another process holds it, UserError if it is not a regular file."""
    if path.exists() and not path.is_file():  # opening a pipe would wait for its reader
        raise UserError(f"{path}: is not a regular file; move it elsewhere")
    with open(path, "a") as file:
        for more in (True, True, False):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not more:
                    raise Busy(str(path.parent)) from None
                time.sleep(0.02)  # `is_locked` of another process may hold it for a moment
        yield


@contextmanager
def unlocked(path: Path) -> Iterator[None]:
    """Inside, no process can lock the file, if it exists. Raises Busy if one holds the lock."""
    with ExitStack() as stack:
        try:
            if stat.S_ISREG(path.stat().st_mode):
                fcntl.flock(stack.enter_context(open(path)), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(str(path.parent)) from None
        except (FileNotFoundError, NotADirectoryError):
            pass
        yield


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock."""
    try:
        with unlocked(path):
            return False
    except Busy:
        return True
