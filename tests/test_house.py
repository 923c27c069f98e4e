"""The order of the rooms, and what a room's front page says of its files."""

import ast
import collections
import functools
import graphlib
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

# A room imports only those before it.
ORDER = (
    *("hints", "errors", "words", "atomic", "grouping", "child"),
    *("residual", "config", "nn", "data"),
    *("runs", "runs.mirror", "experiment", "tasks", "train.optimisers", "train", "trained", "sweep"),
    *("report", "report.protocol", "report.tables", "report.figures", "report.dashboard"),
    *("probe", "manual", "cli"),
)
# The rooms whose front page lists their files; and those that list them in the order of reading.
IN_ORDER = ("report", "report.protocol", "report.tables", "report.figures", "report.dashboard")
ROOMS = (
    "experiment",
    "nn",
    "train",
    "train.optimisers",
    "trained",
    "runs",
    "runs.mirror",
    "sweep.executors",
    "sweep.launchers",
    *IN_ORDER,
)


def listed(room: str) -> tuple[Path, list[str]]:
    """Folder and files, in the order of the list; a folder ends in a slash."""
    front = importlib.import_module(f"addnorm_exp.{room}")
    assert front.__file__
    assert front.__doc__
    return Path(front.__file__).parent, re.findall(r"^    ([a-z_]+/?)  +\S", front.__doc__, re.MULTILINE)


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


@functools.cache
def imports() -> dict[str, set[str]]:
    """Every module of the package, without its name, and those that it imports, in functions too but not for types alone."""
    package = Path(importlib.import_module("addnorm_exp").__file__ or "").parent
    files = {".".join(path.relative_to(package).with_suffix("").parts): path for path in package.rglob("*.py")}
    files = {name.removesuffix(".__init__"): path for name, path in files.items() if name != "__init__"}
    arrows: dict[str, set[str]] = {}
    for name, path in files.items():
        tree = ast.parse(path.read_text())
        for_types = {
            id(node)
            for branch in ast.walk(tree)
            if isinstance(branch, ast.If) and getattr(branch.test, "id", "") == "TYPE_CHECKING"
            for node in ast.walk(branch)
        }
        used = {
            full.removeprefix("addnorm_exp.")
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and id(node) not in for_types
            for full in (f"{node.module}.{alias.name}" for alias in node.names)
            if full.startswith("addnorm_exp.")
        }
        arrows[name] = {full if full in files else full.rpartition(".")[0] for full in used} - {""}
    return arrows


def room(module: str) -> str:
    """The longest name in ORDER that the module's name begins with."""
    return max((name for name in ORDER if f"{module}.".startswith(f"{name}.")), key=len)


def test_rooms_import_only_those_before_them():
    place = {name: number for number, name in enumerate(ORDER)}
    arrows = imports()
    assert {room(module) for module in arrows if module != "__main__"} == set(ORDER), "each room has a place"
    backward = [
        f"{module} -> {used}"
        for module, uses in arrows.items()
        for used in uses
        if module != "__main__" and place[room(used)] > place[room(module)]
    ]
    assert not backward


def test_no_files_import_one_another():
    try:
        list(graphlib.TopologicalSorter(imports()).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_two_classes_have_two_names():
    package = Path(importlib.import_module("addnorm_exp").__file__ or "").parent
    nodes = [node for path in package.rglob("*.py") for node in ast.parse(path.read_text()).body]
    names = collections.Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("name", IN_ORDER)
def test_a_room_is_read_from_above(name):
    """As its front page says: a file uses those above it."""
    _, files = listed(name)
    above = [file.rstrip("/") for file in files]
    for module, uses in imports().items():
        file = module.removeprefix(f"{name}.").partition(".")[0]
        if module.startswith(f"{name}.") and file in above:
            own = {used.removeprefix(f"{name}.").partition(".")[0] for used in uses if used.startswith(f"{name}.")}
            assert own <= set(above[: above.index(file) + 1]), f"{file} uses what stands below it"


def test_a_command_is_checked_without_jax():
    """A mistyped flag is answered at once: the rooms that read it bring neither JAX nor a plotting library."""
    rooms = (
        "addnorm_exp.cli, addnorm_exp.config, addnorm_exp.config.flags, addnorm_exp.cli.train, addnorm_exp.cli.sweep"
    )
    code = (
        f"import sys, {rooms}; print([name for name in ('jax', 'flax', 'matplotlib', 'wandb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_no_two_classes_have_one_name():
    """An aliased type counts as a class, where the two are not the same type."""
    names: dict[str, set[str]] = collections.defaultdict(set)
    for path in Path(importlib.import_module("addnorm_exp").__file__ or "").parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                names[node.name].add(str(path))
            elif isinstance(node, ast.Assign) and re.match("[A-Z][a-z]", ast.unparse(node.targets[0])):
                names[ast.unparse(node.targets[0])].add(ast.unparse(node.value))
    assert {name: where for name, where in names.items() if len(where) > 1} == {}
