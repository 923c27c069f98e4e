"""A study that several processes train: its numbers, a process that dies, Ctrl-C, and the end of the process that started them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import NET, ROOT, wait
from studies import PLAN, sweep, write
from training import lines

from addnorm_exp.cli.stop import NOTICE
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.sweep.display import Display
from addnorm_exp.sweep.executors import here
from addnorm_exp.sweep.executors.executor import Ended
from addnorm_exp.sweep.executors.pool import WorkerPool
from addnorm_exp.sweep.executors.seats import host
from addnorm_exp.train.checkpoint import Checkpoints

pytestmark = pytest.mark.skipif(len(host.cores()) < 2, reason="has fewer than two cores to bind processes to")
LONG = {"steps": 200_000, "eval.every": 200_000, "execution.checkpoint_every": 500, "execution.chunk_steps": 100}


@pytest.fixture
def drawn(monkeypatch):
    monkeypatch.setattr("addnorm_exp.report.figures.plot.plot", lambda folder: [])


def summaries(folder: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/summary.json")}


def started(path: Path, *words: str) -> subprocess.Popen:
    """The sweep of a study file by two workers, in a process of its own."""
    command = [sys.executable, "main.py", "sweep", str(path), f"--runs={path.parent / 'runs'}", "--workers=2", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def workers_of(process: subprocess.Popen) -> list[int]:
    """The ids of the processes that this one has started."""
    return [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def alive(pids: list[int]) -> list[int]:
    """Those that have not ended; one that nobody has waited for yet has ended too."""
    states = {pid: Path(f"/proc/{pid}/stat") for pid in pids}
    return [
        pid for pid, stat in states.items() if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
    ]


def training(folder: Path) -> int:
    """How many runs have recorded a step."""
    return sum(path.stat().st_size > 0 for path in folder.glob("*/metrics.jsonl"))


@pytest.mark.core
def test_two_processes_give_the_numbers_of_one(tmp_path, drawn, capsys):
    path = write(tmp_path)
    assert sweep(path, "--workers=1") == 0
    alone = summaries(tmp_path / "runs" / "tiny")
    os.rename(tmp_path / "runs", tmp_path / "alone")
    assert sweep(path, "--workers=2") == 0
    both = summaries(tmp_path / "runs" / "tiny")
    assert both.keys() == alone.keys()
    assert len(both) == PLAN
    for name, summary in both.items():
        assert summary["attempts"][0]["threads"] == len(host.cores()) // 2
        assert summary["test"]["final"] == pytest.approx(alone[name]["test"]["final"], rel=1e-5)
    err = capsys.readouterr().err
    assert "tune 4/4" in err
    assert "report 4/4" in err


def test_a_pack_that_fails_is_tried_once_more_and_then_told(tmp_path, drawn, capsys, monkeypatch):
    """The others go on. A process that was killed leaves no record of it: it is written here."""
    begun: list[str] = []

    class Failing(here.Here):
        """A stand-in for a pool in which each process that trains one of the runs dies."""

        tries = WorkerPool.tries

        def begin(self, choose, job):
            pack = choose((), ())
            job(pack)
            begun.append(pack.runs[0].id)
            bad = pack.runs[0].label == "pre_ln optim.lr=0.001 seed=0"
            if not bad:
                assert self.trainer.train(job(pack), self.watcher, self.stop) == "trained"
            self._ended.append(
                Ended(pack, "failed", "its process was killed by signal 9") if bad else Ended(pack, "trained")
            )

    monkeypatch.setattr("addnorm_exp.sweep.launchers.local.executor_for", lambda *arguments: Failing(*arguments[-2:]))
    path = write(tmp_path)
    assert sweep(path) == 1
    assert sorted(begun.count(name) for name in set(begun)) == [1] * 5 + [2]
    err = capsys.readouterr().err
    assert err.count("failed (its process was killed by signal 9); it is tried once more") == 1
    assert err.count("failed in tune: ") == 1
    assert len(summaries(tmp_path / "runs" / "tiny")) == 5, "what has not begun has no record"


@pytest.mark.full
def test_the_run_of_a_killed_process_goes_on_in_another(tmp_path, drawn, monkeypatch, capsys):
    killed: list[int] = []
    watch = Display.watch

    def and_kill(self, event, run):
        watch(self, event, run)
        if event["event"] == "train" and event["step"] > 200 and not killed:
            (pool,) = pools
            process = next(each for each in pool.processes if each.pack and run in each.pack.runs)
            killed.append(process.popen.pid)
            process.popen.kill()

    pools: list[WorkerPool] = []
    start = WorkerPool.__init__
    monkeypatch.setattr(WorkerPool, "__init__", lambda self, *a, **k: (pools.append(self), start(self, *a, **k))[1])
    monkeypatch.setattr(Display, "watch", and_kill)
    path = write(tmp_path, **LONG | {"steps": 800, "eval.every": 800, "execution.checkpoint_every": 100})
    assert sweep(path, "--workers=2", "--filter=scheme=pre_ln") == 0
    err = capsys.readouterr().err
    assert len(killed) == 1
    assert "failed (its process was killed by signal 9); it is tried once more" in err
    attempts = [len(each["attempts"]) for each in summaries(tmp_path / "runs" / "tiny").values()]
    assert sorted(attempts) == [1, 1, 1, 2]


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_all_runs_and_ends_all_processes(number, tmp_path):
    path = write(tmp_path, **LONG)
    folder = tmp_path / "runs" / "tiny"
    process = started(path)
    wait(lambda: training(folder) == 2)
    pids = workers_of(process)
    assert len(pids) == 2
    process.send_signal(number)
    out, err = process.communicate(timeout=NET)
    assert process.returncode == (130 if number == signal.SIGINT else 0)
    assert out == ""
    assert f"stopped; run the same command again to continue ({folder})" in err
    assert "Traceback" not in err
    assert alive(pids) == []
    for name, summary in summaries(folder).items():
        checkpoints = Checkpoints(folder / name / "checkpoints", 2, LONG["steps"])
        recorded = {line["step"] for line in lines(folder / name) if line["split"] == "train"}
        assert summary["status"] == "running"
        assert max(checkpoints.states()) == summary["step"] == len(recorded)


@pytest.mark.full
def test_no_process_outlives_the_one_that_started_it(tmp_path):
    process = started(write(tmp_path, **LONG))
    folder = tmp_path / "runs" / "tiny"
    wait(lambda: training(folder) == 2)
    pids = workers_of(process)
    process.kill()
    process.communicate()
    wait(lambda: not alive(pids))
    for name in summaries(folder):
        assert not RunFolder(folder / name).is_locked()


@pytest.mark.full
def test_a_second_interrupt_ends_all_at_once(tmp_path):
    process = started(write(tmp_path, **LONG))
    folder = tmp_path / "runs" / "tiny"
    wait(lambda: len(list(folder.glob("*/config.json"))) == 2)
    pids = workers_of(process)
    process.send_signal(signal.SIGINT)
    assert process.stderr
    while NOTICE not in (line := process.stderr.readline()):
        assert line, "no notice"
    process.send_signal(signal.SIGINT)  # if all is saved by now, it has no effect
    process.communicate(timeout=NET)
    assert process.returncode == 130
    assert alive(pids) == []
