"""What people are told of trouble: what is wrong, where, and the remedy, in one line; and the one exception for it."""

import errno
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from addnorm_exp import hints


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


def program() -> str:
    """The command by which this program was started, for lines that say what to type."""
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
        return f"no such device here ({told}); unset JAX_PLATFORMS, or install the extra for the device (cuda12, cuda13, tpu)"
    return None


# Modules of Python that it has on Unix alone, as far as we or our libraries need them.
_UNIX = frozenset({"fcntl", "termios", "resource", "pwd", "grp", "posix", "pty", "tty", "syslog"})
# Packages that only an extra installs, by the name that is imported.
_EXTRAS = {"plotly": "dashboard", "wandb_workspaces": "dashboard", "huggingface_hub": "hf", "pyarrow": "hf"}
_OURS = frozenset({"", "addnorm_exp", "configs", "sweeps"})


def import_trouble(error: ImportError) -> str | None:
    """One line where a module of Python or a library is missing or of another version, else None: a fault of ours, or one that its words
    tell best."""
    name = error.name or ""
    package = name.partition(".")[0]
    if package in _OURS:
        return None
    if package in _UNIX and sys.platform in ("win32", "cygwin", "emscripten", "wasi"):
        return f"addnorm_exp runs on Linux and macOS, and this is {sys.platform}; on Windows use WSL"
    if package in sys.stdlib_module_names:
        return (
            f"this Python ({sys.executable}) was built without its module '{name}'; use another, e.g. that of `uv run`"
        )
    if package in _EXTRAS:
        extra = _EXTRAS[package]
        return f"the package '{package}' is missing; the extra '{extra}' has it: {_install(f'--extra {extra} ', f'[{extra}]')}"
    there = isinstance(error, ModuleNotFoundError) and package == name
    what = "is missing" if there else f"has not what is needed here ({one_line(error, 160)}): it is of another version"
    return f"the package '{package}' {what}; {_install()}"


def _install(option: str = "", extra: str = "") -> str:
    """How packages come in: by uv in a checkout, else with the installed program."""
    if (Path(__file__).parents[1] / "pyproject.toml").is_file():
        return f"run `uv run {option}main.py …`, which installs it (README.md)"
    return f"install addnorm-exp{extra} again with its dependencies"


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
