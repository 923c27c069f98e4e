"""The command line: finds the command, runs it, and turns a mistake of the user into one line and an exit code.

A command is a module here with `HELP: str` (one line) and `run(argv: list[str]) -> int`. Help is read from the module's
source without running it, so that `main.py --help` imports no library.

Exit codes: 0 success, 2 a mistake that the user can correct, 130 interrupted, 141 the reader of our output closed the pipe;
otherwise the command's own.
"""

import ast
import contextlib
import functools
import importlib
import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from addnorm_exp import hints
from addnorm_exp.errors import (
    UserError,
    device_trouble,
    disk_trouble,
    import_trouble,
    memory_trouble,
    one_line,
    program,
)

_ORDER = ("train", "sweep", "table", "plot", "dashboard")  # in order of use; other commands follow by name


def main(argv: list[str]) -> int:
    """Runs `main.py ARGV…` and returns the exit code."""
    _mend_streams()
    code = _guarded(argv)
    try:
        sys.stdout.flush()  # at the interpreter's exit, a failure would print a traceback
    except BrokenPipeError:
        _drop_stdout()
        return code or 141
    except OSError as error:
        _drop_stdout()
        return code or _fail(disk_trouble(error) or f"cannot write the output: {error.strerror}")
    return code


def _guarded(argv: list[str]) -> int:
    try:
        return _dispatch(argv)
    except SystemExit as stop:  # a command's --help
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else _fail(str(stop.code))
    except UserError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:
        _drop_stdout()
        return 141
    except Exception as error:
        missing = import_trouble(error) if isinstance(error, ImportError) else None
        line = missing or disk_trouble(error) or memory_trouble(error) or device_trouble(error)
        if line is None:
            raise
        return _fail(line)


@functools.cache
def commands() -> dict[str, str]:
    """Each command with its line of help, in the order of the listing."""
    files = Path(__file__).parent.glob("*.py")
    lines = {file.stem: line for file in files if (line := _help_line(file)) is not None}
    order = {name: place for place, name in enumerate(_ORDER)}
    return {name: lines[name] for name in sorted(lines, key=lambda name: (order.get(name, len(order)), name))}


def load_command(name: str) -> ModuleType:
    """The command's module, with the libraries that it needs."""
    return importlib.import_module(f"addnorm_exp.cli.{name}")


def _dispatch(argv: list[str]) -> int:
    known = commands()
    if not argv or argv[0] in ("--help", "-h", "-help", "help"):
        if len(argv) > 1:
            return load_command(_known(argv[1], known)).run(["--help"])
        print(_overview(known), end="")
        return 0
    name, *rest = argv
    if name.startswith("-"):
        later = [word for word in rest if word in known]
        if not later and name.startswith("--config"):
            later = ["train"]
        hint = f"{program()} {later[0]} {name} …" if later else f"commands: {', '.join(known)}"
        raise UserError(f"{name}: the command comes first; {hint}")
    return load_command(_known(name, known)).run(rest)


def _known(name: str, known: Iterable[str]) -> str:
    if name in known:
        return name
    close = (
        hints.near(name, [*known, "help"], {word: (command,) for word, command in hints.COMMANDS.items()})
        if name
        else None
    )
    hint = f"did you mean '{close}'?" if close else f"commands: {', '.join(known)}"
    key, equals, value = name.partition("=")
    if equals:
        from addnorm_exp.config import keys  # here: help needs no library

        if meant := hints.keys(key.removeprefix("config."), keys.leaves()):
            hint = f"did you mean '{program()} train --config=… --config.{meant[0]}={value}'?"
    if name.partition(":")[0].endswith(".py"):
        hint = f"did you mean '{program()} {_for_file(name)}'?"
    raise UserError(f"unknown command {name!r}; {hint}")


def _for_file(name: str) -> str:
    """The command that the user probably meant by typing only a file."""
    return f"train --config={name}" if Path(name).parent.name == "configs" or ":" in name else f"sweep {name}"


def _overview(known: dict[str, str]) -> str:
    wide = max(map(len, known), default=0)
    rows = "".join(f"  {name:<{wide}}  {line}\n" for name, line in known.items())
    return (
        "addnorm_exp: what the residual connection and the normalisation do to a Transformer\n\n"
        f"usage: {program()} COMMAND …      ({program()} COMMAND --help for details)\n\n"
        f"commands:\n{rows}\n"
        "example:\n"
        f"  {program()} train --config=configs/lm.py:pre_ln --config.optim.lr=3e-3 --workdir=runs/try\n"
    )


def _help_line(file: Path) -> str | None:
    for node in ast.parse(file.read_bytes()).body:
        match node:
            case ast.Assign([ast.Name("HELP")], value) | ast.AnnAssign(ast.Name("HELP"), value=ast.expr() as value):
                return str(ast.literal_eval(value))
    return None


def _fail(line: str) -> int:
    _say(f"error: {line}")
    return 2


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it
        print(one_line(line), file=sys.stderr, flush=True)


def _mend_streams() -> None:
    """Repairs what can break every printed line: a terminal without the field's letters, or a closed stream."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        # If it is closed, the next opened file would get its number, and libraries would print into that file.
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_stdout() -> None:
    """Discards buffered output that cannot be written; otherwise the interpreter retries at exit and prints an error."""
    with contextlib.suppress(OSError, ValueError):  # not a real file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
