"""Schemes probed by several processes: the rows of one, and an end that leaves nobody behind."""

import contextlib
import functools
import os
import signal
import subprocess
import sys

import pytest
from probing import TEXT
from processes import NET, wait
from training import ROOT

from addnorm_exp.config.tasks.task import DataConfig
from addnorm_exp.errors import UserError
from addnorm_exp.probe import pictures, workers
from addnorm_exp.probe.measurements import Probed
from addnorm_exp.residual.predictions import QUANTITIES

NAMES = ["pre_ln", "rezero"]


@pytest.fixture
def job(tmp_path):
    (tmp_path / "text").write_bytes(TEXT.tobytes())
    return workers.Job((2,), 16, 1, DataConfig(path=str(tmp_path / "text")))


@pytest.mark.full
def test_two_processes_measure_and_draw_what_one_does(job, tmp_path):
    found, images = [], []
    for processes in (2, 1):
        with workers.pool(processes) as each:
            found.append(list(each(functools.partial(workers.measured, job), NAMES)))
            probed = Probed(row for of_scheme in found[-1] for row in of_scheme)
            images.append([path.read_bytes() for path in pictures.draw(probed, tmp_path / str(processes), each)])
    assert images[0] == images[1]
    assert len(images[0]) == 2 * len(QUANTITIES)
    apart, alone = found
    assert apart == alone
    assert [of_scheme[0].scheme for of_scheme in apart] == NAMES


@pytest.mark.full
def test_what_stops_the_reader_stops_the_processes(job):
    stack = contextlib.ExitStack()
    each = stack.enter_context(workers.pool(2))
    next(each(functools.partial(workers.measured, job), NAMES * 20))
    children = [child.pid for child in workers.multiprocessing.active_children()]
    assert len(children) == 2
    with pytest.raises(ValueError, match="the reader's own"), stack:
        raise ValueError("the reader's own")
    wait(lambda: not any(map(lives, children)))


def begun_by(pid: int) -> int:
    """How many processes of the probe's pool the command has, which leads a session."""
    found = subprocess.run(
        ["ps", "-ww", "-eo", "sid=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return sum(line.split()[0] == str(pid) and "multiprocessing.spawn" in line for line in found)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.full
def test_an_interrupt_is_one_line_and_leaves_nobody(job, tmp_path):
    """Ctrl-C reaches all processes of a terminal at once."""
    names = "pre_ln,post_ln,pre_rms,post_rms,rezero,no_norm,gpt2,parallel"
    words = [
        "probe",
        f"--schemes={names}",
        "--depths=2",
        "--width=16",
        f"--data={job.data.path}",
        f"--out={tmp_path / 'out'}",
    ]
    command = subprocess.Popen(
        [sys.executable, "main.py", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert command.stderr is not None
    assert command.stderr.readline().startswith("probe 1/8")
    assert begun_by(command.pid) >= min(2, workers.usable_cores())
    os.killpg(command.pid, signal.SIGINT)
    _, rest = command.communicate(timeout=NET)  # to its end: as long as a child lives, it holds the other end
    assert command.returncode == 130
    assert [line for line in rest.splitlines() if not line.startswith("probe ")] == ["interrupted"]


def test_as_many_processes_as_pay_and_fit(job, monkeypatch):
    monkeypatch.setattr(workers, "usable_cores", lambda: 4)
    monkeypatch.setattr(workers, "memory", lambda: 10**12)
    assert [workers.processes(["pre_ln"] * count, job) for count in (1, 7, 8, 15, 52)] == [1, 1, 2, 3, 4]
    for there, expected in ((10**9, 1), (7 * 10**9, 2), (None, 1)):
        monkeypatch.setattr(workers, "memory", lambda there=there: there)
        assert workers.processes(["pre_ln"] * 52, job) == expected
    monkeypatch.setattr(workers.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(workers, "memory", lambda: 10**12)
    assert workers.processes(["pre_ln"] * 52, job) == 1


@pytest.mark.full
def test_files_in_the_current_folder_are_no_libraries(tmp_path, monkeypatch):
    for name in ("queue", "socket", "pickle", "struct"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    before = os.environ.get("PYTHONSAFEPATH")
    with workers.pool(2) as each:
        assert list(each(abs, [-1, 2, -3])) == [1, 2, 3]
    assert os.environ.get("PYTHONSAFEPATH") == before


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ([-9, -15], "was killed, probably for lack of memory"),
        ([None, None], "was killed, probably for lack of memory"),
        ([-15, 3], "ended with code 3 before its work was done"),
        ([-11, -15], "was killed by signal 11 before its work was done"),
    ],
)
def test_how_a_process_ended_is_in_the_line(codes, words):
    assert words in workers._why_broken(codes)


def test_a_process_that_cannot_be_started_is_one_line(monkeypatch):
    class Executor:
        def __init__(self, *options):
            pass

        def submit(self, function, item):
            raise FileNotFoundError(2, "No such file or directory", "python")

        def shutdown(self, **options):
            pass

    monkeypatch.setattr(workers, "ProcessPoolExecutor", Executor)
    with pytest.raises(UserError, match="cannot start a process of the probe"), workers.pool(2) as each:
        each(abs, [1])
