"""The front door: whatever goes wrong that a person can mend is one line on stderr with exit code 2, and no traceback."""

import ast
import errno
import os
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from of_config import checked
from processes import ROOT, run

from addnorm_exp import cli, errors
from addnorm_exp.config import Flag, parse
from addnorm_exp.errors import UserError


@pytest.fixture
def command(monkeypatch):
    """Puts `run` behind the command `train`, whatever that is in the house."""

    def install(run):
        monkeypatch.setattr(cli, "commands", lambda: {"train": "Trains.", "table": "Prints."})
        monkeypatch.setattr(cli, "load_command", lambda name: SimpleNamespace(HELP="", run=run))

    return install


def failing(error):
    def run(argv):
        raise error

    return run


def one_line(capsys):
    """The single line on stderr, with nothing on stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    return err.rstrip("\n")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["trian"], "error: unknown command 'trian'; did you mean 'train'?"),
        (["xyz"], "error: unknown command 'xyz'; commands: train, table"),
        ([""], "error: unknown command ''; commands: train, table"),
        (["--workdir=x", "train"], "error: --workdir=x: the command comes first; main.py train --workdir=x …"),
        (["--verbose"], "error: --verbose: the command comes first; commands: train, table"),
        (["a\nb"], r"error: unknown command 'a\nb'; commands: train, table"),
    ],
)
def test_an_unknown_command(argv, line, command, capsys):
    command(lambda argv: 0)
    assert cli.main(argv) == 2
    assert one_line(capsys) == line


def os_error(number, *names):
    return OSError(number, os.strerror(number), *names)


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("what, where, remedy"), 2, "error: what, where, remedy"),
        (UserError("two\nlines"), 2, "error: two lines"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            os_error(errno.ENOSPC, "runs/a/metrics.jsonl"),
            2,
            "error: runs/a/metrics.jsonl: no space left on device; free",
        ),
        (
            os_error(errno.EACCES, "runs"),
            2,
            "error: runs: permission denied; change its permissions, or write elsewhere",
        ),
        (os_error(errno.EROFS, "runs"), 2, "error: runs: read-only file system; write elsewhere"),
        (
            os_error(errno.EROFS, "runs/.tmp", None, "runs/a"),
            2,
            "error: runs/a: read-only file system; write elsewhere",
        ),
        (os_error(errno.ENOTDIR, "f/x"), 2, "error: f/x: not a directory; part of this path is a file"),
        (
            os_error(errno.ENOSPC),
            2,
            "error: writing a file or standard output: no space left on device; free some space",
        ),
        (
            caused(RuntimeError("save failed"), os_error(errno.ENOSPC, "ckpt")),
            2,
            "error: ckpt: no space left on device",
        ),
        (
            ValueError("RESOURCE_EXHAUSTED: [No space left on device]\nmore"),
            2,
            "error: no space left on device; free some",
        ),
        (MemoryError(), 2, "error: does not fit in memory (of this machine); reduce batch_size"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating\n 99 bytes"),
            2,
            "error: does not fit in memory (RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes); reduce batch_size",
        ),
        (
            ModuleNotFoundError("No module named 'flax.nnx'", name="flax.nnx"),
            2,
            "error: the package 'flax' has the wrong version (No module named 'flax.nnx'); run `uv run main.py …`",
        ),
        (
            ImportError("cannot import name 'AxisType' from 'jax.sharding' (/a/b.py)", name="jax.sharding"),
            2,
            "error: the package 'jax' has the wrong version (cannot import name 'AxisType'",
        ),
        (
            ModuleNotFoundError("No module named 'optax'", name="optax"),
            2,
            "error: the package 'optax' is missing; run `uv run main.py …`, which installs it (README.md)",
        ),
        (
            ModuleNotFoundError("No module named 'plotly'", name="plotly"),
            2,
            "error: the package 'plotly' is missing; it comes with the extra 'dashboard': run `uv run --extra dashboard main.py …`",
        ),
        (
            ModuleNotFoundError("No module named '_lzma'", name="_lzma"),
            2,
            "error: this Python (",
        ),
        (SystemExit("said so"), 2, "error: said so"),
    ],
    ids=lambda part: repr(part)[:50],
)
def test_what_a_person_can_mend_is_one_line(error, code, line, command, capsys):
    command(failing(error))
    assert cli.main(["train"]) == code
    assert one_line(capsys).startswith(line)


@pytest.mark.parametrize("name", ["fcntl", "termios", "resource"])
def test_a_system_that_is_not_supported_is_named(name, command, capsys, monkeypatch):
    """No package is missing there, and none would help."""
    command(failing(ModuleNotFoundError(f"No module named '{name}'", name=name)))
    monkeypatch.setattr("sys.platform", "win32")
    assert cli.main(["train"]) == 2
    assert one_line(capsys) == "error: addnorm_exp runs on Linux and macOS, not on win32; on Windows use WSL"


def test_an_extra_that_is_named_has_the_package():
    """In pyproject.toml, under the name that is installed."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for package, extra in errors._EXTRAS.items():
        assert any(re.match(rf"{package.replace('_', '-')}\b", entry) for entry in extras[extra]), package


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError(),
        KeyError("x"),
        FileNotFoundError(errno.ENOENT, "gone", "x"),
        ModuleNotFoundError("no", name="addnorm_exp.gone"),
        ImportError("cannot import name 'x' from 'addnorm_exp.errors'", name="addnorm_exp.errors"),
        ImportError("libcudart.so: cannot open shared object file"),
    ],
)
def test_a_bug_keeps_its_traceback(error, command):
    command(failing(error))
    with pytest.raises(type(error)):
        cli.main(["train"])


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (None, 0), (1, 1)])
def test_exit_codes_pass_through(code, expected, command):
    command(failing(SystemExit(code)))
    assert cli.main(["train"]) == expected
    command(lambda argv: expected)
    assert cli.main(["train"]) == expected


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["--config=configs/lm.py", "--config.optim.lrr=1"],
            "error: --config.optim.lrr: no such key; did you mean '--config.optim.lr'?",
        ),
        (["--config=configs/no.py"], "error: configs/no.py: no such config file"),
        (
            ["--config=configs/lm.py", "--config.optim.lr=nan"],
            "error: --config.optim.lr='nan': expected a finite number",
        ),
        (
            ["--config=configs/lm.py", "--config.model.num_heads=5"],
            "error: --config.model.num_heads=5 does not divide",
        ),
        (
            ["--config=configs/lm.py", "--config.optim.warmup=9999"],
            "error: --config.optim.warmup=9999 is longer than the run",
        ),
        (["--config=configs/lm.py", "--wrkdir=x"], "error: --wrkdir: no such flag; did you mean '--workdir'?"),
    ],
)
def test_mistakes_in_flags_reach_the_person(argv, line, command, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    reached = []

    def train(rest):
        typed = parse(rest, [Flag("workdir")], command="train", config="required")
        reached.append(checked(typed.config, typed.config_file, typed.overrides))

    command(train)
    assert cli.main(["train", *argv]) == 2
    assert one_line(capsys).startswith(line)
    assert not reached


def test_the_listing_is_what_exists_and_each_command_is_one():
    listed = cli.commands()
    written = {file.stem for file in Path(cli.__file__).parent.glob("*.py") if "\nHELP" in file.read_text()}
    assert set(listed) == written
    for name, line in listed.items():
        assert line
        assert len(line.splitlines()) == 1
        defined = {node.name for node in ast.parse((Path(cli.__file__).parent / f"{name}.py").read_text()).body
                   if isinstance(node, ast.FunctionDef)}  # fmt: skip
        assert "run" in defined, f"cli/{name}.py has HELP and no run()"


def test_help_for_one_command_goes_to_it(command):
    seen = []
    command(lambda argv: seen.append(argv) or 0)
    assert cli.main(["help", "train"]) == cli.main(["train", "--help"]) == 0
    assert seen == [["--help"], ["--help"]]


def test_help_waits_for_no_library():
    told = run("-X", "importtime", "main.py", "--help")
    assert told.returncode == 0
    assert "usage: main.py COMMAND" in told.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in told.stderr.splitlines()}
    assert "addnorm_exp" in imported
    assert not imported & {"jax", "flax", "numpy", "ml_collections", "matplotlib", "pandas"}


def test_no_command_is_the_help_too():
    assert run("main.py").stdout == run("main.py", "--help").stdout


def test_an_unknown_command_in_a_real_process():
    told = run("main.py", "tabel")
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith("error: unknown command 'tabel'; ")
    assert len(told.stderr.splitlines()) == 1


def test_help_for_a_misspelt_command(command, capsys):
    command(lambda argv: 0)
    assert cli.main(["help", "trian"]) == 2
    assert one_line(capsys) == "error: unknown command 'trian'; did you mean 'train'?"
