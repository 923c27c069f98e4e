"""Places that cannot hold a folder, or hold something else: one line, exit code 2, and nothing made."""

import os
import shutil
from pathlib import Path

import pytest
from of_config import run
from studies import write
from training import TEXT, config, flags, interrupt, signals_restored

from addnorm_exp import cli
from addnorm_exp.runs.folder import RunFolder

NOWHERE = Path("/proc")
needs_proc = pytest.mark.skipif(not (NOWHERE / "self").exists(), reason="no /proc on this system")


def refused(argv: list[str], capsys) -> str:
    with signals_restored():
        assert cli.main(argv) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("probe ")]
    return line


@needs_proc
@pytest.mark.parametrize("place", ["/proc/x", "/proc/x/y"])
def test_a_place_that_holds_no_folders(place, tmp_path, capsys):
    (tmp_path / "text").write_bytes(TEXT)
    line = refused(["train", *flags(), f"--config.data.path={tmp_path / 'text'}", f"--workdir={place}"], capsys)
    assert line == f"error: {place}: cannot create this folder (no such file or directory); choose another path"
    line = refused(["sweep", str(write(tmp_path)), f"--runs={place}"], capsys)
    assert line.startswith(f"error: {place}/tiny: cannot create this folder (")
    line = refused(["probe", "--schemes=pre_ln", f"--data={tmp_path / 'text'}", f"--out={place}"], capsys)
    assert line.startswith(f"error: {place}: cannot create this folder (")


def test_a_sweep_file_or_config_that_is_no_regular_file(tmp_path, capsys):
    """To read a pipe is to wait for its writer."""
    os.mkfifo(tmp_path / "pipe.py")
    told = "is not a regular file; save the {} as one"
    assert refused(["sweep", str(tmp_path / "pipe.py")], capsys).endswith(told.format("sweep file"))
    line = refused(["train", f"--config={tmp_path / 'pipe.py'}", f"--workdir={tmp_path / 'run'}"], capsys)
    assert line.endswith(told.format("config file"))


def test_a_home_that_nobody_has(tmp_path, capsys):
    line = refused(["sweep", str(write(tmp_path)), "--runs=~nobody-of-that-name/x"], capsys)
    assert line.startswith("error: --runs=~nobody-of-that-name/x: no home folder for '~nobody-of-that-name'")
    assert refused(["sweep", "~nobody-of-that-name/x.py"], capsys).startswith(
        "error: ~nobody-of-that-name/x.py: no home"
    )


def test_a_page_is_not_written_over_a_folder(finished, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    for place in ("/", ".", "..", str(tmp_path), str(tmp_path / "pipe")):
        line = refused(["dashboard", str(finished), f"--out={place}"], capsys)
        assert "cannot be written" in line
    assert (tmp_path / "pipe").is_fifo(), "nor over a device"


def test_a_name_that_is_no_text(tmp_path, capsys):
    """A record in JSON cannot hold it."""
    odd = os.fsdecode(b"od\xffd")
    (tmp_path / "text").write_bytes(TEXT)
    here = f"--config.data.path={tmp_path / 'text'}"
    shutil.copy(write(tmp_path), tmp_path / f"{odd}.py")
    for argv in (
        ["train", *flags(), here, f"--workdir={tmp_path / odd}"],
        ["train", *flags(), f"--config.data.path={tmp_path / odd}", f"--workdir={tmp_path / 'run'}"],
        ["sweep", str(tmp_path / f"{odd}.py"), f"--runs={tmp_path / 'runs'}"],
        ["sweep", str(tmp_path / "tiny.py"), f"--runs={tmp_path / odd}"],
    ):
        assert "this name is not valid UTF-8" in refused(argv, capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"{odd}.py", "text", "tiny.py"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("runs") / "run"
    run(config(), data, RunFolder(folder))
    return folder


OURS = ("lock", "config.json", "metrics.jsonl", "summary.json", "layers/00000012.npz", "layers/index.json")
# A pipe, for which a reader would wait, under each name; the others under two names each, and under all in `full`.
LESS = {("folder", name) for name in OURS[:4]} | {("loop", name) for name in (*OURS[:1], *OURS[3:])}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(kind, name, marks=pytest.mark.full if (kind, name) in LESS else [])
        for kind in ("pipe", "folder", "loop")
        for name in OURS
    ],
)
def test_something_else_under_one_of_our_names(name, kind, finished, tmp_path, capsys):
    """Every command that reads a run ends, in a line or with an answer."""
    folder = tmp_path / "runs" / "run"
    shutil.copytree(finished, folder)
    place = folder / name
    place.unlink()
    {"pipe": os.mkfifo, "folder": Path.mkdir, "loop": lambda path: path.symlink_to(path)}[kind](place)
    (tmp_path / "text").write_bytes(TEXT)
    train = ["train", *flags(), f"--config.data.path={tmp_path / 'text'}", f"--workdir={folder}"]
    for argv in (
        train,
        *([command, str(folder)] for command in ("table", "plot", "runs", "gc", "dashboard")),
        ["diff", str(folder), str(finished)],
    ):
        with signals_restored():
            code = cli.main(argv)
        err = capsys.readouterr().err
        assert code in (0, 1, 2), argv
        assert code != 2 or err.count("error: ") == 1, (argv, err)


@pytest.mark.parametrize("part", ["manifest.json", "meta.json", "arrays.npz"])
def test_a_pipe_in_a_checkpoint(part, data, tmp_path):
    folder = tmp_path / "run"
    newest = folder / "checkpoints" / f"{interrupt(config(), data, folder, chunks=4):08d}"
    (newest / part).unlink()
    os.mkfifo(newest / part)
    events = []
    run(config(), data, RunFolder(folder), watch=events.append)
    assert [event["event"] for event in events[:2]] == ["note", "start"]
