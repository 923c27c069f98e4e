"""The mirror with W&B's real client against a server on the loopback: live, killed, offline and uploaded later, a study."""

import json
import signal
import subprocess

import pytest
from mirroring import LONG, assert_mirrored, command, ledger, mirrored, settle, sync
from of_config import experiment, run
from processes import wait
from training import BASE, ROOT, config, signals_restored, stop_after
from wandb_server import KEY

from addnorm_exp import cli
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.mirror.forms import about
from addnorm_exp.runs.mirror.mirror import Mirror
from addnorm_exp.runs.mirror.rows import RowReader
from addnorm_exp.runs.mirror.settings import Place
from addnorm_exp.train.lane import Member
from addnorm_exp.train.loop import Stopped, run_pack


@pytest.mark.full
def test_a_run_as_it_is_on_the_server(server, home, data, monkeypatch):
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    with signals_restored():
        assert cli.main(command(home, "--wandb_project=ablations", execution__attention_every=4)[2:]) == 0
    assert_mirrored(server, home / "run")
    told = server.run()
    record = RunFolder(home / "run").config()
    assert told.project == "ablations"
    assert told.name.startswith(record.id)
    assert (told.job_type, told.tags) == ("train", ["lm", "pre_ln"])
    assert told.values["optim"]["lr"] == 1e-2
    assert told.values["model"]["depth"] == record.science["model"]["depth"]
    assert told.values["record"]["id"] == record.id
    metrics = told.config["_wandb"]["value"][
        "m"
    ]  # the client's own form of define_metric: 1 name, 2 pattern, 5 its step
    assert {"train/*", "val/*", "layers/*"} <= {metric.get("2") for metric in metrics}
    assert all(metrics[metric["5"] - 1]["1"] == "step" for metric in metrics if "2" in metric)
    names = {name for row in told.history for name in row if name.startswith("layers/")}
    assert len(names) == 8 * min(2, record.science["model"]["depth"]) + 1  # first and last layer, and the picture


@pytest.mark.full
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
    assert RunFolder(home / "run").summary().attempts[1].from_step == 300
    assert_mirrored(server, home / "run", opened=2)


@pytest.mark.full
def test_offline_and_uploaded_twice(server, home, data):
    """On request: two attempts, two offline runs of the client's; one run on the server, however often it is uploaded."""
    said: list[str] = []
    with pytest.raises(Stopped), stop_after(config(), 2) as stop:
        mirrored(home, data, said, mode="offline", stop=stop)
    mirrored(home, data, said, mode="offline")
    assert said == ["W&B: writing 1 run; press Ctrl-C to skip"] * 2
    segments = list((home / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(segments) == 2
    run(config(seed=1), data, RunFolder(home / "unmirrored"))
    code, out, err = sync(home, server)
    assert (code, err) == (0, "")
    assert [("13 steps sent" in line, server.url in line) for line in out] == [(True, True)] * 2
    for path in segments:
        assert path.with_name(f"{path.name}.synced").exists()
    code, out, err = sync(home, server)
    assert (code, [line.endswith("already there") for line in out]) == (0, [True] * 2)
    for name in ("run", "unmirrored"):
        (home / name / "wandb" / "mirror.json").unlink()  # as on another machine
    code, out, err = sync(home, server)
    assert (code, [line.endswith("already there") for line in out]) == (0, [True] * 2)
    assert server.lines == 2 * 13
    assert {run.opened for run in server.runs.values()} == {1}


STUDY = """
from addnorm_exp.sweep import axis, product

CONFIG = "configs/lm.py"
BASE = {base!r}
BASELINE = "pre_ln"


def tune():
    return product(axis("scheme", ["pre_ln"]), axis("optim.lr", [1e-2]), axis("seed", [0]))


def report(best):
    return product(best, axis("seed", [1]))
"""


def test_a_study(server, home, monkeypatch, capsys):
    """Each run once, in its group, under its phase, while the others are trained; the finished study is not mirrored again."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("addnorm_exp.report.figures.plot.plot", lambda folder: [])
    base = {**BASE, "data.path": str(home / "text")}
    (home / "tiny.py").write_text(STUDY.replace("{base!r}", repr(base)))
    words = ["sweep", str(home / "tiny.py"), f"--runs={home / 'runs'}"]
    with signals_restored():
        assert cli.main(words) == 0
    notices = [line for line in capsys.readouterr().err.splitlines() if "W&B" in line]
    (address,) = (
        line for line in notices if not line.endswith("; press Ctrl-C to skip")
    )  # all else is the wait at the end
    assert server.url in address
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
    assert (code, [line.endswith("already there") for line in out]) == (0, [True] * 2)


def test_sync_says_what_is_wrong(home, capsys, data, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    (home / "empty").mkdir()
    assert cli.main(["sync", str(home / "empty")]) == 2
    assert "no runs here" in capsys.readouterr().err
    run(config(), data, RunFolder(home / "run"))
    with RunFolder(home / "run").claimed():  # it is being trained
        assert cli.main(["sync", str(home)]) == 1
    assert "skipped" in capsys.readouterr().out
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert cli.main(["sync", str(home)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: sync: there is no W&B API key; set WANDB_API_KEY, or run `wandb login`"


@pytest.mark.full
def test_the_runs_of_a_pack_are_mirrored_side_by_side(server, home, data, monkeypatch):
    """Each under its own id, with its own history; one that diverges ends there, and the others go on."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    configs = [config(optim__clip=0.0), config(seed=1, optim__lr=1e4, optim__clip=0.0), config(seed=2, optim__clip=0.0)]
    folders, said = [RunFolder(home / str(lane)) for lane in range(3)], []
    with Mirror("online", Place(), said.append) as mirror:
        members = [
            Member(experiment(each), folder, mirror.watch(folder.path, lambda event: None))
            for each, folder in zip(configs, folders, strict=True)
        ]
        statuses = [summary.status for summary in run_pack(members, data)]
        mirror.end()
        settle(mirror)
    assert statuses == ["done", "diverged", "done"]
    assert len(said) == 1, "the address, once"
    for folder in folders:
        told = server.run(about(folder.path).id)
        rows = RowReader(folder.path).poll(ended=True)
        assert told.steps == [step for step, _ in rows]
        assert [row["train/loss"] for row in told.history if "train/loss" in row] == [
            row["train/loss"] for _, row in rows if "train/loss" in row
        ]
        assert (told.summary["status"], told.state) == (folder.summary().status, "finished")
