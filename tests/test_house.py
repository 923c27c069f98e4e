"""What a room's front page says of its files is so."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

# The rooms whose front page lists their files; and those that list them in the order of reading.
IN_ORDER = ("report", "report.protocol", "report.tables", "report.figures", "report.dashboard")
ROOMS = ("nn", "train", "runs", "runs.mirror", *IN_ORDER)


def listed(room: str) -> tuple[Path, list[str]]:
    """Folder and files, in the order of the list; a folder ends in a slash."""
    front = importlib.import_module(f"addnorm_exp.{room}")
    assert front.__file__
    assert front.__doc__
    return Path(front.__file__).parent, re.findall(r"^    ([a-z_]+/?)  +\S", front.__doc__, re.MULTILINE)


def imported(file: Path, package: str) -> set[str]:
    """Files of the package that a file of it uses."""
    used: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}."):
            used.add((node.module or "").removeprefix(f"{package}.").partition(".")[0])
    return used


@pytest.mark.parametrize("room", ROOMS)
def test_a_front_page_lists_what_is_there(room):
    folder, names = listed(room)
    packages = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    assert sorted(names) == sorted({path.stem for path in folder.glob("*.py")} - {"__init__"} | packages)


def test_the_malloc_settings_need_nothing_installed():
    """benchmarks/torch_step.py takes them by this file, in an environment that has PyTorch and no JAX."""
    code = "import runpy, sys; print(runpy.run_path(sys.argv[1])['keep_memory']())"
    file = Path(importlib.import_module("addnorm_exp.train.platform").__file__ or "")
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(file)], capture_output=True, text=True)
    assert done.stdout in ("True\n", "False\n"), done.stderr


@pytest.mark.parametrize("room", IN_ORDER)
def test_a_room_is_read_from_above(room):
    """As its front page says: a file uses those above it."""
    folder, names = listed(room)
    for place, name in enumerate(names):
        for file in sorted((folder / name).glob("*.py")) if name.endswith("/") else [folder / f"{name}.py"]:
            used = imported(file, f"addnorm_exp.{room}") - {name.rstrip("/")}
            assert used <= {above.rstrip("/") for above in names[:place]}, f"{name} uses what stands below it"
