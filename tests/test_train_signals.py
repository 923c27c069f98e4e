"""Real processes: SIGTERM saves and ends well, kill -9 at any moment loses at most what was not saved."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from of_config import run
from training import ROOT, TEXT, assert_equal_runs, config, flags, lines

from addnorm_exp.cli.stop import NOTICE
from addnorm_exp.runs.folder import RunFolder

# Of 375 chunks, 15 end at a checkpoint: a signal hardly ever comes just before one.
LONG = {
    "steps": 1500,
    "eval__every": 500,
    "optim__lr": 3e-3,
    "execution__checkpoint_every": 100,
    "execution__layers_every": 50,
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("undisturbed")
    run(config(**LONG), data, RunFolder(folder))
    return folder


def start(folder: Path) -> subprocess.Popen:
    """`main.py train` of that run in a process of its own."""
    text = folder.parent / "text"
    text.write_bytes(TEXT)
    words = [*flags(**LONG), f"--config.data.path={text}", f"--workdir={folder}"]
    return subprocess.Popen(
        [sys.executable, "main.py", "train", *words],
        cwd=ROOT,
        env=os.environ.copy(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_training(process: subprocess.Popen, folder: Path, beyond: int) -> None:
    metrics, deadline = folder / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and metrics.read_bytes().count(b'"train"') > beyond):
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.full
def test_sigterm_saves_and_the_same_command_goes_on(undisturbed, tmp_path):
    folder = tmp_path / "run"
    process = start(folder)
    wait_for_training(process, folder, beyond=10)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in out + err
    *_, notice, line = err.splitlines()
    assert notice == NOTICE
    stopped = lines(folder)[-1]["step"]
    assert f"stopped after {stopped:,} of 1,500 steps" in line
    assert out == ""
    assert stopped < 1500
    assert RunFolder(folder).summary().status == "running"
    process = start(folder)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"resumed after step {stopped:,}\n" in err
    assert_equal_runs(undisturbed, folder)


@pytest.mark.full
def test_kills_at_random_moments(data, undisturbed, tmp_path):
    """Nothing that is left is half written, and the run ends as the undisturbed one."""
    seed = random.randrange(10**6)  # told where this fails
    print(f"random.Random({seed})")
    delays, folder, beyond = random.Random(seed), tmp_path / "run", 0
    for _ in range(2):
        process = start(folder)
        wait_for_training(process, folder, beyond)
        time.sleep(delays.uniform(0.0, 0.8))
        process.kill()
        process.communicate()
        beyond = (folder / "metrics.jsonl").read_bytes().count(b'"train"')
        assert RunFolder(folder).config() is not None
        assert RunFolder(folder).summary() is not None
    run(config(**LONG, data__path=str(tmp_path / "text")), data, RunFolder(folder))
    assert_equal_runs(undisturbed, folder)
