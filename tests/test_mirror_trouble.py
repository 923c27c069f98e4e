"""What W&B may do to training, which is nothing: no key, no server, one that dies or hangs, a client that does, modes that ask for none."""

import sys
from pathlib import Path

import pytest
from mirroring import LONG, assert_mirrored, command, ledger, mirrored, sync
from training import assert_equal_runs, config, signals_restored
from wandb_server import Server, wait

from addnorm_exp import cli
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.mirror.mirror import Mirror, mode_of
from addnorm_exp.runs.mirror.window import Place
from addnorm_exp.train.loop import run

REAL = sys.executable


@pytest.mark.full
@pytest.mark.parametrize("trouble", ["dies", "hangs"])
def test_the_server_is_lost_midway(trouble, home, data, monkeypatch):
    """Training ends as it would have; one line says so; what was not sent is sent by sync, once."""
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "3")
    with Server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)

        def watch(event):
            if event["event"] == "val" and event["step"] == 400:
                wait(lambda: ledger(home / "run")["step"] >= 300)
                server.die() if trouble == "dies" else server.hanging.set()

        said: list[str] = []
        mirrored(home, data, said, watch, **LONG)
        assert len(said) == 2
        assert "http" in said[0]
        assert "did not take all" in said[1]
        assert "main.py sync" in said[1]
        run(config(**LONG), data, RunFolder(home / "undisturbed"))
        assert_equal_runs(home / "run", home / "undisturbed")
        server.restart()
        for expected in ("steps sent", "is there already"):
            code, out, err = sync(home / "run", server)
            assert (code, err) == (0, "")
            assert [expected in line for line in out] == [True]
        assert_mirrored(server, home / "run", opened=2)
        assert server.refused == []


@pytest.mark.parametrize("trouble", ["wrong key", "hanging", "nothing there"])
def test_a_server_that_cannot_be_had(trouble, home, data, monkeypatch):
    """One line, an offline run, and training as ever; the time-out is waited for once, and never by training."""
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    with Server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        if trouble == "wrong key":
            monkeypatch.setenv("WANDB_API_KEY", "9" * 40)
        if trouble == "hanging":
            server.hanging.set()
        if trouble == "nothing there":
            server.die()
        said: list[str] = []
        with Mirror("online", Place(), said.append) as mirror:
            for name in ("first", "second"):
                folder = RunFolder(home / name)
                assert (
                    run(config(), data, folder, watch=mirror.watch(folder.path, lambda event: None))["status"] == "done"
                )
                mirror.end()
        (line,) = said
        assert line.startswith("W&B: offline (" + {"wrong key": "the API key is refused"}.get(trouble, ""))
        assert "main.py sync" in line
        for name in ("first", "second"):
            assert len(list((home / name / "wandb").glob("offline-run-*/run-*.wandb"))) == 1
            assert ledger(home / name)["step"] == 12
        assert server.runs == {}


def test_library_and_disabled_mirror_nothing(home, data, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(Mirror, "_start", lambda self: said.append("started"))
    mirrored(home, data, said, mode="disabled")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with signals_restored():
        assert cli.main(command(home)[2:]) == 0
    assert said == []
    assert not (home / "run" / "wandb").exists()


@pytest.mark.parametrize(
    ("flag", "variable", "expected"),
    [
        (None, "", "auto"),
        (None, "offline", "offline"),
        (None, "dryrun", "offline"),
        ("online", "disabled", "online"),
        (None, "disabled", "disabled"),
    ],
)
def test_the_flag_goes_before_the_variable(flag, variable, expected, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", variable)
    assert mode_of(flag) == expected


def test_an_agent_that_hangs_or_dies_stops_nothing(home, data, monkeypatch):
    """Whatever the other process does: training ends, one line at most, and no process is left."""
    for code, lines in (
        ("import time; time.sleep(600)", 1),
        ("raise SystemExit(1)", 0),
        ("import os; os.kill(os.getpid(), 9)", 0),
    ):
        monkeypatch.setattr(sys, "executable", fake_python(home, code))
        monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "0")
        monkeypatch.setattr("addnorm_exp.runs.mirror.mirror.MARGIN", 1.0)
        said: list[str] = []
        with Mirror("auto", Place(), said.append) as mirror:
            for seed in range(2):
                folder = RunFolder(home / f"{len(code)}-{seed}")
                run(config(seed=seed), data, folder, watch=mirror.watch(folder.path, lambda event: None))
                mirror.end()
        assert len(said) == lines
        assert mirror.process.poll() is not None


def fake_python(home: Path, code: str) -> str:
    path = home / "python"
    path.write_text(f"#!{REAL}\n{code}\n")
    path.chmod(0o755)
    return str(path)
