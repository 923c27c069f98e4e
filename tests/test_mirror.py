"""The mirror with W&B's real client against a server on the loopback: live, killed, without a key, with a server that dies or hangs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from training import BASE, ROOT, TEXT, assert_equal_runs, config, flags, signals_restored, stop_after
from wandb_server import Server, wait

from addnorm_exp import cli
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.mirror.agent import REST
from addnorm_exp.runs.mirror.mirror import Mirror, mode_of
from addnorm_exp.runs.mirror.rows import Rows
from addnorm_exp.runs.mirror.window import Place, read_ledger
from addnorm_exp.train.loop import Stopped, run

REAL = sys.executable

LONG = {
    "steps": 600,
    "eval__every": 200,
    "optim__lr": 3e-3,
    "execution__checkpoint_every": 100,
    "execution__layers_every": 50,
}


@pytest.fixture
def server():
    with Server() as found:
        yield found
    assert found.refused == []


@pytest.fixture
def home(tmp_path, monkeypatch):
    """No key of the person's, wherever the client may look for one."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "20")
    (tmp_path / "home").mkdir()
    (tmp_path / "text").write_bytes(TEXT)
    return tmp_path


def command(folder: Path, *words: str, **changes) -> list[str]:
    text = f"--config.data.path={folder / 'text'}"
    return [sys.executable, "main.py", "train", *flags(**changes), text, f"--workdir={folder / 'run'}", *words]


def assert_mirrored(server: Server, folder: Path, opened: int = 1) -> None:
    """The server has what the record says: every step once, its numbers, the config, the summary, the picture."""
    told = server.run()
    rows = Rows(folder).poll(ended=True)
    assert told.steps == [step for step, _ in rows]
    for row, (_, expected) in zip(told.history, rows, strict=True):
        assert {key: row[key] for key in expected} == expected
        assert {key for key in row if not key.startswith("_")} - set(expected) <= {"layers/heatmap"}
    summary = RunFolder(folder).summary()
    for key in ("status", "val", "test", "parameters", "confounds"):
        assert told.summary[key] == summary[key]
    assert told.state == "finished"
    assert told.opened == opened
    assert server.lines == len(rows)  # nothing was sent twice
    picture = told.summary["layers/heatmap"]["path"]
    assert told.files[picture].startswith(b"\x89PNG")


def test_a_run_as_it_is_on_the_server(server, home, data, monkeypatch):
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    with signals_restored():
        assert cli.main(command(home, "--wandb_project=ablations", execution__attention_every=4)[2:]) == 0
    assert_mirrored(server, home / "run")
    told = server.run()
    record = RunFolder(home / "run").config()
    assert told.project == "ablations"
    assert told.name.startswith(record["id"])
    assert (told.job_type, told.tags) == ("train", ["lm", "pre_ln"])
    assert told.values["optim"]["lr"] == 1e-2
    assert told.values["model"]["depth"] == 2
    assert told.values["record"]["id"] == record["id"]
    metrics = told.config["_wandb"]["value"][
        "m"
    ]  # the client's own form of define_metric: 1 name, 2 pattern, 5 its step
    assert {"train/*", "val/*", "layers/*"} <= {metric.get("2") for metric in metrics}
    assert all(metrics[metric["5"] - 1]["1"] == "step" for metric in metrics if "2" in metric)
    names = {name for row in told.history for name in row if name.startswith("layers/")}
    assert len(names) == 8 * 2 + 1  # eight quantities, first and last of two layers, and the picture


def sync(directory: Path, server: Server | None = None) -> tuple[int, list[str], str]:
    """`main.py sync DIRECTORY` in a process of its own: exit code, lines, errors. Without a server: without a key."""
    environment = {**os.environ, **(server.environment if server else {"WANDB_API_KEY": ""})}
    words = [sys.executable, "main.py", "sync", str(directory)]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout.splitlines(), done.stderr


def mirrored(
    home: Path, data, said: list[str], watch=lambda event: None, mode: str = "auto", stop=lambda: False, **changes
) -> dict:
    """Trains in this process under a mirror; `said` gets its lines."""
    with Mirror(mode, Place(), said.append) as mirror:
        folder = RunFolder(home / "run")
        return run(config(**changes), data, folder, watch=mirror.watch(folder.path, watch), stop=stop)


def ledger(folder: Path) -> dict:
    return read_ledger(folder) or {"step": -1}


def test_killed_and_gone_on_with(server, home, monkeypatch):
    """kill -9 between checkpoints: the server has the run once, each step once, though the record went back and came again."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    process = subprocess.Popen(command(home, **LONG), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    metrics = home / "run" / "metrics.jsonl"
    wait(lambda: metrics.exists() and metrics.read_bytes().count(b'"train"') > 330)
    process.send_signal(signal.SIGSTOP)  # for the mirror to come so far
    wait(lambda: ledger(home / "run")["step"] >= 300)
    process.kill()
    process.communicate()
    wait(lambda: server.run().state == "preempted")
    assert 300 <= len(server.run().history) < 600
    with signals_restored():
        assert cli.main(command(home, **LONG)[2:]) == 0
    assert RunFolder(home / "run").summary()["attempts"][1]["from_step"] == 300
    assert_mirrored(server, home / "run", opened=2)


@pytest.mark.full
def test_the_server_dies_midway(home, data, monkeypatch):
    """Training ends as it would have; one line says so; what was not sent is sent by sync, once."""
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "3")
    with Server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)

        def watch(event):
            if event["event"] == "val" and event["step"] == 400:
                wait(lambda: ledger(home / "run")["step"] >= 300)
                server.die()

        said: list[str] = []
        mirrored(home, data, said, watch, **LONG)
        assert len(said) == 2
        assert "http" in said[0]
        assert "did not take all" in said[1]
        assert "main.py sync" in said[1]
        run(config(**LONG), data, RunFolder(home / "undisturbed"))
        assert_equal_runs(home / "run", home / "undisturbed")
        server.start()
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


def test_offline_and_uploaded_twice(server, home, data):
    """Without a key: two attempts, two offline runs of the client's; one run on the server, however often it is uploaded."""
    said: list[str] = []
    with pytest.raises(Stopped):
        mirrored(home, data, said, stop=stop_after(2))
    mirrored(home, data, said)
    assert said == [f"W&B: offline (no API key); {REST}"] * 2
    segments = list((home / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(segments) == 2
    run(config(seed=1), data, RunFolder(home / "unmirrored"))
    code, out, err = sync(home, server)
    assert (code, err) == (0, "")
    assert [("13 steps sent" in line, server.url in line) for line in out] == [(True, True)] * 2
    code, out, err = sync(home, server)
    assert (code, [line.endswith("is there already") for line in out]) == (0, [True] * 2)
    for path in segments:
        assert path.with_name(f"{path.name}.synced").exists()
    for path in (home / "run" / "wandb" / "mirror.json", home / "unmirrored" / "wandb" / "mirror.json"):
        path.unlink()  # as on another machine: then the server itself is asked
    code, out, err = sync(home, server)
    assert (code, [" 0 steps sent" in line for line in out]) == (0, [True] * 2)
    assert server.lines == 2 * 13
    assert {run.opened for run in server.runs.values()} == {2}


STUDY = """
from addnorm_exp.sweep import axis, product

CONFIG = "configs/lm.py"
BASE = {base!r}
BASELINE = "pre_ln"


def tune():
    return product(axis("scheme", ["pre_ln"]), axis("optim.lr", (1e-3, 1e-2)), axis("seed", [0]))


def report(best):
    return product(best, axis("seed", [1]))
"""


def test_a_study(server, home, monkeypatch, capsys):
    """Each run once, in its group, under its phase, while the others are trained; the finished study is not mirrored again."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    base = {**BASE, "data.path": str(home / "text")}
    (home / "tiny.py").write_text(STUDY.replace("{base!r}", repr(base)))
    words = ["sweep", str(home / "tiny.py"), f"--runs={home / 'runs'}"]
    with signals_restored():
        assert cli.main(words) == 0
    assert len([line for line in capsys.readouterr().err.splitlines() if "W&B" in line]) == 1
    ids = {path.parent.name for path in (home / "runs" / "tiny").glob("*/config.json")}
    assert {run.name.rpartition("-")[0] for run in server.runs.values()} == ids
    for told in server.runs.values():
        tuning = told.values["seed"] == 0
        assert (told.group, told.job_type) == ("tiny", "tune" if tuning else "report")
        assert told.display_name == f"pre_ln optim.lr={told.values['optim']['lr']} seed={told.values['seed']}"
        assert (told.steps, told.state, told.opened) == (list(range(13)), "finished", 1)
        plan = json.loads(told.files["study.json"])
        assert set(plan["phases"]) >= ({"tune"} if tuning else {"tune", "report"})
    operations = len(server.operations)
    with signals_restored():
        assert cli.main(words) == 0
    assert len(server.operations) == operations
    code, out, _ = sync(home / "runs", server)
    assert (code, [line.endswith("is there already") for line in out]) == (0, [True] * 3)


def test_sync_says_what_is_wrong(home, capsys, data):
    (home / "empty").mkdir()
    assert cli.main(["sync", str(home / "empty")]) == 2
    assert "no runs here" in capsys.readouterr().err
    run(config(), data, RunFolder(home / "run"))
    with RunFolder(home / "run").claimed():  # it is being trained
        assert cli.main(["sync", str(home)]) == 1
    assert "left out" in capsys.readouterr().out
    code, out, err = sync(home)
    assert (code, out) == (2, [])
    assert "WANDB_API_KEY" in err
    assert len(err.splitlines()) == 1


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
