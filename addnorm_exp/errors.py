"""Errors that a user can correct: their exception, and one-line messages (what, where, remedy) for the exceptions of others."""

import errno
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from addnorm_exp import hints


class UserError(Exception):
    """A mistake that the user can correct. `main.py` prints it as one line and exits with code 2."""


def one_line(message: object, width: int | None = None) -> str:
    """The text of an error or another object, on one line of at most `width` characters; empty if it has no text."""
    return " ".join(str(message).split())[:width]


def to_stderr(line: str) -> None:
    """Prints a line for the user on standard error; standard output is for results."""
    print(line, file=sys.stderr)


def check_text(text: str, label: str) -> None:
    """Raises UserError if a name is not valid UTF-8: JSON cannot hold it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{label}: this name is not valid UTF-8; rename it, or choose another") from None


def program() -> str:
    """The command that started this program, for messages that say what to type."""
    path = Path(sys.argv[0] if sys.argv else "")
    if path.name == "__main__.py" and path.parent.name == "addnorm_exp":
        return "python -m addnorm_exp"
    return "addnorm_exp" if path.stem == "addnorm_exp" else "main.py"


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint `did you mean 'X'?` or the valid names, to end a `UserError` about an unknown name."""
    names = sorted(known)
    near = hints.near(name, names, hints.VALUES)
    return f"did you mean '{near}'?" if near is not None else f"valid names: {', '.join(names)}"


_REMEDIES = {
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some space, or write elsewhere",
    errno.EROFS: "write elsewhere",
    errno.EACCES: "change its permissions, or write elsewhere",
    errno.EPERM: "change its permissions, or write elsewhere",
    errno.ENOTDIR: "part of this path is a file; write elsewhere",
    errno.ENOLCK: "this file system has no locks; write to another one",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EEXIST: "a file with this name already exists; write elsewhere",
    errno.ELOOP: "its symbolic links form a loop; remove them, or write elsewhere",
    errno.EIO: "the device failed; check it, or write elsewhere",
    errno.EISDIR: "a folder with this name already exists; write elsewhere",
}


def memory_trouble(error: BaseException) -> str | None:
    """One line if the model or a batch does not fit in memory, else None. JAX reports this only in the message's text."""
    if isinstance(error, MemoryError) or str(error).startswith(("RESOURCE_EXHAUSTED", "Out of memory")):
        cause = one_line(error, 160) or "of this machine"
        return (
            f"does not fit in memory ({cause}); reduce batch_size, seq_len or the model, or use more micro-batches "
            "(optim.accumulate)"
        )
    return None


def device_trouble(error: BaseException) -> str | None:
    """One line if JAX finds no device of the requested kind, else None. JAX reports this in a message's text, or by an assertion."""
    frames = traceback.extract_tb(error.__traceback__)
    asserted = isinstance(error, AssertionError) and bool(frames) and frames[-1].filename.endswith("xla_bridge.py")
    words = ("Unable to initialize backend", "Unknown backend")
    if asserted or (isinstance(error, RuntimeError) and str(error).startswith(words)):
        cause = one_line(error, 160) or f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}"
        return f"this device is not available ({cause}); unset JAX_PLATFORMS, or install the extra for the device (cuda12, cuda13, tpu)"
    return None


# Modules of the standard library that exist only on Unix, as far as we or our libraries need them.
_UNIX = frozenset({"fcntl", "termios", "resource", "pwd", "grp", "posix", "pty", "tty", "syslog"})
# Packages that only an extra installs: import name → extra.
_EXTRAS = {"plotly": "dashboard", "wandb_workspaces": "dashboard", "huggingface_hub": "hf", "pyarrow": "hf"}
_OURS = frozenset({"", "addnorm_exp", "configs", "sweeps"})


def import_trouble(error: ImportError) -> str | None:
    """One line if a module of the standard library or a package is missing or has the wrong version; else None (a fault of ours, or an
    error that explains itself)."""
    name = error.name or ""
    package = name.partition(".")[0]
    if package in _OURS:
        return None
    if package in _UNIX and sys.platform in ("win32", "cygwin", "emscripten", "wasi"):
        return f"addnorm_exp runs on Linux and macOS, not on {sys.platform}; on Windows use WSL"
    if package in sys.stdlib_module_names:
        return f"this Python ({sys.executable}) was built without the module '{name}'; use another, e.g. with `uv run`"
    if package in _EXTRAS:
        extra = _EXTRAS[package]
        return f"the package '{package}' is missing; it comes with the extra '{extra}': {_install(f'--extra {extra} ', f'[{extra}]')}"
    there = isinstance(error, ModuleNotFoundError) and package == name
    what = "is missing" if there else f"has the wrong version ({one_line(error, 160)})"
    return f"the package '{package}' {what}; {_install()}"


def _install(option: str = "", extra: str = "") -> str:
    """How to install packages: with uv in a checkout, else with the installed program."""
    if (Path(__file__).parents[1] / "pyproject.toml").is_file():
        return f"run `uv run {option}main.py …`, which installs it (README.md)"
    return f"reinstall addnorm-exp{extra} with its dependencies"


def disk_trouble(error: BaseException) -> str | None:
    """One line for a disk error that the user can correct (full, read-only, not permitted), else None.

    This includes exceptions that a library raised from such an error, and those whose text reports a full disk.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _REMEDIES:
            path = cause.filename2 or cause.filename
            if cause.errno == errno.EEXIST and path is not None and Path(os.fsdecode(path)).is_file():
                return f"{os.fsdecode(path)} is a file, and a folder is needed; write elsewhere"
            place = f"{path}" if path is not None else "writing a file or standard output"
            return f"{place}: {os.strerror(cause.errno).lower()}; {_REMEDIES[cause.errno]}"
        cause = cause.__cause__
    words = os.strerror(errno.ENOSPC)
    if words.lower() in str(error).lower():
        return f"{words.lower()}; {_REMEDIES[errno.ENOSPC]} ({one_line(error, 200)})"
    return None
