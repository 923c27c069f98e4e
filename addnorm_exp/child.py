"""Processes of our own that this one starts."""

import os
import sys
from pathlib import Path

# Imports only the package from its folder: neither the current folder nor the package's parent may be mistaken for a library.
BOOT = (
    "import importlib, sys; sys.path.insert(0, sys.argv[1]); import addnorm_exp; del sys.path[0]; "
    "importlib.import_module(sys.argv[2]).main(*sys.argv[3:])"
)


def command(module: str, *arguments: str) -> list[str]:
    """The command that calls `main(*arguments)` of a module of this package in a new process."""
    root = str(Path(__file__).resolve().parents[1])
    return [sys.executable, "-P", "-c", BOOT, root, module, *arguments]


def program_words() -> list[str]:
    """The words by which a shell in any folder starts this program as the user has started it."""
    path = Path(sys.argv[0] if sys.argv else "")
    if path.stem == "addnorm_exp" and path.is_file():
        return [os.path.abspath(path)]
    if path.name == "main.py" and path.is_file():
        return [sys.executable, os.path.abspath(path)]
    return [sys.executable, "-m", "addnorm_exp"]


def how_it_ended(code: int) -> str:
    """`was killed by signal 9`, `ended with code 1`."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
