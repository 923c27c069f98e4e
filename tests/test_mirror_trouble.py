"""What W&B may do to training, which is nothing: no server, one that dies or hangs, an agent that does, a person who does not wait."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mirroring import LONG, assert_mirrored, command, ledger, mirrored, settle, sync
from of_config import run
from processes import wait
from training import ROOT, assert_equal_runs, config, signals_restored
from wandb_server import KEY, Server

from addnorm_exp import child, cli
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.mirror import mirror as parent
from addnorm_exp.runs.mirror.mirror import Mirror
from addnorm_exp.runs.mirror.settings import Place

REAL = sys.executable
SYNC = "; `main.py sync runs/x` uploads"


@pytest.mark.full
@pytest.mark.parametrize("trouble", ["dies", "hangs"])
def test_the_server_is_lost_midway(trouble, home, data, monkeypatch):
    """Training ends as it would have; one line says so; what was not sent is sent by sync, once."""
    with Server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)

        def watch(event):
            if event["event"] == "val" and event["step"] == 400:
                wait(lambda: ledger(home / "run")["step"] >= 300)
                server.die() if trouble == "dies" else server.hanging.set()

        said: list[str] = []
        monkeypatch.setenv("WANDB_INIT_TIMEOUT", "30")
        monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "3")
        with Mirror("online", Place(), said.append, home / "run") as mirror:
            folder = RunFolder(home / "run")
            run(config(**LONG), data, folder, watch=mirror.watch(folder.path, watch))
            settle(mirror)
        address, trouble_line = said
        assert "http" in address
        assert trouble_line.startswith("W&B: the server cannot be reached (")
        assert trouble_line.endswith(f"; `main.py sync {home / 'run'}` uploads it later")
        run(config(**LONG), data, RunFolder(home / "undisturbed"))
        assert_equal_runs(home / "run", home / "undisturbed")
        server.restart()
        monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "20")
        for expected in ("steps sent", "already there"):
            code, out, err = sync(home / "run", server)
            assert (code, err) == (0, "")
            assert [expected in line for line in out] == [True]
        assert_mirrored(server, home / "run", opened=2)
        assert server.refused == []


@pytest.mark.parametrize(
    "trouble",
    ["wrong key", *(pytest.param(trouble, marks=pytest.mark.full) for trouble in ("hanging", "nothing there"))],
)
def test_a_server_that_cannot_be_had(trouble, home, data, monkeypatch):
    """One line for all runs, and training as ever; the time-out is waited for once, and never by training."""
    with Server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        if trouble == "wrong key":
            monkeypatch.setenv("WANDB_API_KEY", "9" * 40)
        else:  # no answer comes, however long one waits
            monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
            server.hanging.set() if trouble == "hanging" else server.die()
        said: list[str] = []
        with Mirror("online", Place(), said.append, home) as mirror:
            for name in ("first", "second"):
                folder = RunFolder(home / name)
                watch = mirror.watch(folder.path, lambda event: None)
                assert run(config(), data, folder, watch=watch).status == "done"
                mirror.end()
            settle(mirror)
        (line,) = said
        reason = {"wrong key": "it refuses the API key"}.get(trouble, "")
        assert line.startswith(f"W&B: the server cannot be reached ({reason}")
        assert line.endswith(f"; `main.py sync {home}` uploads it later")
        assert server.runs == {}


@pytest.mark.full
def test_one_run_that_the_server_refuses(server, home, data, monkeypatch):
    """It was deleted there, and its id is not taken again: a line on it, the others are mirrored live."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    mirrored(home, data, [])
    server.delete()
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "20")  # so long the client tries
    (home / "run" / "wandb" / "mirror.json").unlink()
    said: list[str] = []
    with Mirror("online", Place(), said.append, home) as mirror:
        for name in ("run", "other"):
            folder = RunFolder(home / name)
            watch = mirror.watch(folder.path, lambda event: None)
            watch({"event": "start", "step": 0}) if name == "run" else run(config(seed=1), data, folder, watch=watch)
            mirror.end()
        settle(mirror)
    refusal, address = said
    assert refusal.startswith("W&B: run is skipped (HTTP 409: run lab/addnorm_exp/")
    assert server.url in address
    assert server.run().steps == list(range(13))


def test_without_a_key_nothing_is_started_and_one_line_says_so(home, data, capsys, monkeypatch):
    def start(self):
        raise AssertionError("the agent is started")

    monkeypatch.setattr(Mirror, "_start", start)
    with signals_restored():
        assert cli.main(command(home)[2:]) == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "W&B" in line)
    assert line == f"W&B: no API key, so nothing is sent; `main.py sync {home / 'run'}` uploads the runs later"
    assert not (home / "run" / "wandb").exists()
    said: list[str] = []
    with Mirror("later", Place(), said.append) as mirror:
        for name in ("a", "b"):
            mirror.watch(home / name, lambda event: None)({"event": "start", "step": 0})
            mirror.end()
    assert len(said) == 1


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
    ("code", "how"),
    [
        ("import sys; print('half', file=sys.stderr); sys.exit(1)", "its process ended with code 1: half"),
        ("raise ModuleNotFoundError('no wandb')", "its process ended with code 1: ModuleNotFoundError: no wandb"),
        ("import os; os.kill(os.getpid(), 9)", "its process was killed by signal 9"),
        ("pass", "its process ended with code 0"),
        ('print(\'{"stop": "its client hangs"}\', flush=True); raise SystemExit(1)', "its client hangs"),
        (None, "its process cannot be started: [Errno 2] No such file or directory: "),
    ],
)
def test_an_agent_that_fails_is_one_line(code, how, home, monkeypatch):
    """However it ends, and however many runs there are."""
    monkeypatch.setattr(sys, "executable", fake_python(home, code) if code else str(home / "missing"))
    said: list[str] = []
    with Mirror("online", Place(), said.append, Path("runs/x")) as mirror:
        for name in ("a", "b"):
            mirror.watch(home / name, lambda event: None)({"event": "start", "step": 0})
            mirror.end()
        wait(lambda: mirror._gone)
    (line,) = said
    assert line.startswith(f"W&B: stopped ({how}")
    assert line.endswith(f"){SYNC} what is missing")
    assert mirror.process is None or mirror.process.poll() is not None


HANGS = "import sys; sys.stdin.read(); import time; time.sleep(3600)"


def begin(mirror: Mirror, *names: str) -> None:
    for name in names:
        mirror.watch(Path(name), lambda event: None)({"event": "start", "step": 0})
        mirror.end()


def test_an_agent_that_hangs_is_not_waited_for_without_end(home, monkeypatch):
    monkeypatch.setattr(sys, "executable", fake_python(home, HANGS))
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "0")
    monkeypatch.setattr(parent, "MARGIN", 0.1)
    said: list[str] = []
    with Mirror("online", Place(), said.append, Path("runs/x")) as mirror:
        begin(mirror, "a", "b")
    assert said == ["W&B: sending 2 runs; press Ctrl-C to skip", f"W&B: 2 runs not done in time{SYNC} the rest"]
    assert mirror.process.poll() is not None


def test_a_command_that_was_asked_to_stop_waits_a_moment_alone(home, monkeypatch):
    """Not for the client's time-out, which is longer than the notice that a cluster gives."""
    monkeypatch.setattr(sys, "executable", fake_python(home, HANGS))
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "100000")
    monkeypatch.setattr(parent, "HURRY", 0.1)
    said: list[str] = []
    with Mirror("online", Place(), said.append, Path("runs/x"), lambda: True) as mirror:
        begin(mirror, "a")
    assert said[1:] == [f"W&B: 1 run not done in time{SYNC} the rest"]
    said.clear()
    mirror = Mirror("online", Place(), said.append, Path("runs/x"))
    begin(mirror, "a")
    mirror.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert said == [f"W&B: 1 run skipped{SYNC} the rest"]


def test_one_run_after_the_other_is_waited_for(home, monkeypatch):
    """As long as one is sent before the time-out has passed again; by a clock of the test's own."""
    clock, waits = [0.0], []

    class Changed:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def wait(self, seconds):
            waits.append(seconds)
            clock[0] += 50.0
            return bool(mirror.pending and (mirror.pending.pop(), True)[1]) if len(waits) < 4 else False

    monkeypatch.setattr(parent.time, "monotonic", lambda: clock[0])
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "60")
    said: list[str] = []
    mirror = Mirror("online", Place(), said.append, Path("runs/x"))
    mirror._changed = Changed()
    mirror.pending = {"a", "b", "c", "d", "e"}
    mirror._wait(None)
    assert waits == [70.0] * 4
    assert said == ["W&B: sending 5 runs; press Ctrl-C to skip", f"W&B: 2 runs not done in time{SYNC} the rest"]
    waits.clear()
    mirror._wait(60.0)
    assert waits == [60.0, 10.0]
    assert mirror.pending == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_skips_the_wait_and_nothing_else(number, home, data, capsys, monkeypatch):
    """The result is printed before; the code is that of the run; the handlers are as they were."""
    monkeypatch.setattr(sys, "executable", fake_python(home, HANGS))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "100000")
    result = ""
    say = Mirror.say

    def interrupt(self, line):
        nonlocal result
        say(self, line)
        if "press Ctrl-C to skip" in line:
            result = capsys.readouterr().out
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Mirror, "say", interrupt)
    with signals_restored():
        assert cli.main(command(home)[2:]) == 0
    assert "pre_ln: test " in result
    assert capsys.readouterr().err == f"W&B: 1 run skipped; `main.py sync {home / 'run'}` uploads the rest\n"


POISON = ("queue", "json", "socket", "wandb", "addnorm_exp")


def test_files_in_the_current_folder_are_no_libraries(home, monkeypatch):
    """The agent works, whatever the files here are called, and finds what PYTHONPATH has."""
    (home / "here").mkdir()
    for name in POISON:
        (home / "here" / f"{name}.py").write_text("raise SystemExit('a file of the current folder is imported')\n")
    monkeypatch.chdir(home / "here")
    said: list[str] = []
    (home / "none").mkdir()
    with Mirror("offline", Place(), said.append, Path("runs/x")) as mirror:
        begin(mirror, str(home / "none"))
        settle(mirror)
    assert said == [f"W&B: none is skipped ({home / 'none'}: no run has begun here){SYNC} it later"]
    (home / "lib").mkdir()
    (home / "lib" / "sitecustomize.py").write_text("raise SystemExit('PYTHONPATH counts')\n")
    monkeypatch.setenv("PYTHONPATH", str(home / "lib"))
    words = [REAL, "-P", "-c", child.BOOT, str(ROOT), "addnorm_exp.runs.mirror.agent", "{}"]
    done = subprocess.run(words, cwd=home, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert "PYTHONPATH counts" in done.stderr


def fake_python(home: Path, code: str) -> str:
    path = home / "python"
    path.write_text(f"#!{REAL}\n{code}\n")
    path.chmod(0o755)
    return str(path)
