"""The user's own file: the one at `data.path`."""

import functools
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from addnorm_exp.config.files import expanded
from addnorm_exp.errors import UserError

T = TypeVar("T")
LARGEST = 2**31 - 1  # bytes: offsets are int32 inside the compiled program


def label(name: str) -> str:
    """How messages begin that are about the file."""
    return f"data.path={name}"


def read(name: str) -> bytes:
    """Its bytes. Raises UserError if it cannot be used."""
    where = label(name)
    try:
        path = expanded(name, where)
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UserError(f"{where} is a folder; name a file")
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{where} is not a regular file, which a resumed run could read again; name one")
        if status.st_size > LARGEST:
            raise UserError(
                f"{where} has {status.st_size:,} bytes and at most {LARGEST:,} can be used (offsets are 32-bit inside "
                "the compiled program); train on a part of it"
            )
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{where}: no such file; check the path (it is relative to the current folder)") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        mend = "permissions" if isinstance(error, PermissionError) else "path"
        raise UserError(
            f"{where} cannot be read ({getattr(error, 'strerror', None) or error}); check its {mend}"
        ) from error
    if not data:
        raise UserError(f"{where} is empty; name a file with text")
    return data


def remembered(of_file: Callable[[str], T]) -> Callable[[str], T]:
    """A function of a file's name that computes anew only after the file has changed: a study asks for each of its runs."""

    @functools.lru_cache(maxsize=8)
    def compute(name: str, status: object) -> T:
        del status
        return of_file(name)

    @functools.wraps(of_file)
    def of_name(name: str) -> T:
        try:
            status = Path(name).expanduser().resolve().stat()
        except (OSError, ValueError, RuntimeError):
            return of_file(name)  # which says what is wrong
        return compute(name, (str(Path.cwd()), status.st_ino, status.st_mtime_ns, status.st_size))

    return of_name
