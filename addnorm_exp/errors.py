"""What people are told of trouble: what is wrong, where, and the remedy, in one line; and the one exception for it."""

import difflib
import errno
import os
import sys
import traceback
from collections.abc import Iterable


class UserError(Exception):
    """Something that the person at the command line can mend. `main.py` prints it as one line and exits with code 2."""


def one_line(said: object, most: int | None = None) -> str:
    """What an error or a text says, in one line of `most` characters at most; empty where it says nothing."""
    return " ".join(str(said).split())[:most]


def to_stderr(line: str) -> None:
    """Tells the person; standard output is for results."""
    print(line, file=sys.stderr)


def check_text(text: str, label: str) -> None:
    """Raises UserError where a name holds bytes that are no text, which JSON cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{label}: this name is no text in UTF-8; rename it, or choose another") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint `did you mean X?` (whatever the case of its letters) or the valid names, to end a `UserError` about an unknown name."""
    names = {one.casefold(): one for one in sorted(known)}
    close = difflib.get_close_matches(name.casefold(), names, n=1, cutoff=0.6)
    return f"did you mean '{names[close[0]]}'?" if close else f"valid names: {', '.join(names.values())}"


_REMEDIES = {
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some space, or write elsewhere",
    errno.EROFS: "write elsewhere",
    errno.EACCES: "change its permissions, or write elsewhere",
    errno.EPERM: "change its permissions, or write elsewhere",
    errno.ENOTDIR: "a part of this path is a file; write elsewhere",
    errno.ENOLCK: "this file system has no locks; write to another",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EEXIST: "a file of that name is in the way; write elsewhere",
    errno.ELOOP: "its symbolic links lead in a circle; remove them, or write elsewhere",
    errno.EIO: "the device has failed; check it, or write elsewhere",
    errno.EISDIR: "a folder of that name is in the way; write elsewhere",
}


def memory_trouble(error: BaseException) -> str | None:
    """One line where the model or a batch does not fit into memory, else None. JAX says so in words only."""
    if isinstance(error, MemoryError) or str(error).startswith(("RESOURCE_EXHAUSTED", "Out of memory")):
        told = one_line(error, 160) or "of this machine"
        return (
            f"does not fit into memory ({told}); take a smaller batch_size, seq_len or model, or more "
            "micro-batches with optim.accumulate"
        )
    return None


def device_trouble(error: BaseException) -> str | None:
    """One line where JAX finds no device of the kind that is asked for, else None. JAX says so in words, or by an assertion of its own."""
    frames = traceback.extract_tb(error.__traceback__)
    asserted = isinstance(error, AssertionError) and bool(frames) and frames[-1].filename.endswith("xla_bridge.py")
    words = ("Unable to initialize backend", "Unknown backend")
    if asserted or (isinstance(error, RuntimeError) and str(error).startswith(words)):
        told = one_line(error, 160) or f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}"
        return f"no such device here ({told}); unset JAX_PLATFORMS, or install the extra for the device (cuda, tpu)"
    return None


def disk_trouble(error: BaseException) -> str | None:
    """One line for an error of the disk that a person can mend (full, read-only, not permitted), else None.

    Also where a library raised its own exception from one, or put a full disk into words.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _REMEDIES:
            path = cause.filename2 or cause.filename
            place = f"{path}" if path is not None else "writing a file or the output"
            return f"{place}: {os.strerror(cause.errno).lower()}; {_REMEDIES[cause.errno]}"
        cause = cause.__cause__
    words = os.strerror(errno.ENOSPC)
    if words.lower() in str(error).lower():
        return f"{words.lower()}; {_REMEDIES[errno.ENOSPC]} ({one_line(error, 200)})"
    return None
