"""The first signal is told at once and asks to stop; a second Ctrl-C always ends the process; what is being written is finished first."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from processes import ROOT

from addnorm_exp.atomic import uncut
from addnorm_exp.cli.stop import NOTICE, QUIT, StopSignal
from addnorm_exp.runs.checkpoint_folders import prospect
from addnorm_exp.train.checkpoint import Checkpoints


class Heard:
    """Lines and exit codes, with events to wait for."""

    def __init__(self):
        self.lines: list[str] = []
        self.codes: list[int] = []
        self.said, self.left = threading.Event(), threading.Event()

    def say(self, line: str) -> None:
        self.lines.append(line)
        self.said.set()

    def leave(self, code: int) -> None:
        self.codes.append(code)
        self.left.set()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_first_signal_asks_and_is_told(number, code):
    heard = Heard()
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with StopSignal(heard.say, heard.leave) as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop(), "at once in the main thread"
        assert stop.code == code
        assert heard.said.wait(60)
    assert heard.lines == [NOTICE]
    assert heard.codes == []
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_what_comes_just_before_the_end_is_told_too():
    heard = Heard()
    with StopSignal(heard.say, heard.leave):
        signal.raise_signal(signal.SIGTERM)
    assert heard.lines == [NOTICE]


def test_from_where_a_run_that_is_quit_continues(tmp_path, capfd):
    heard = Heard()
    with StopSignal(heard.say, heard.leave) as stop:
        stop.prospect = lambda: prospect(tmp_path)
        for number in (1, 2):
            signal.raise_signal(signal.SIGINT)
            heard.left.wait(60 if number == 2 else 0)
    assert capfd.readouterr().err == f"{QUIT}there is no checkpoint yet, so the next run starts from step 0\n"
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=3)
    for step in (500, 1500):
        checkpoints.save(step, {"a": np.zeros(2)}, {})
    checkpoints.save_best(1700, {"a": np.zeros(2)})
    (tmp_path / "checkpoints" / "20261130").mkdir()  # not ours
    assert prospect(tmp_path) == "the last checkpoint is at step 1,500"


def test_a_disk_that_cannot_be_read_does_not_keep_the_process(capfd):
    heard = Heard()
    with StopSignal(heard.say, heard.leave) as stop:
        stop.prospect = lambda: 1 / 0
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert heard.left.wait(60)
    assert QUIT in capfd.readouterr().err


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_interrupt_ends_the_process_and_a_second_termination_does_not(first, capfd):
    heard = Heard()
    with StopSignal(heard.say, heard.leave):
        signal.raise_signal(first)
        signal.raise_signal(signal.SIGTERM)
        assert heard.said.wait(60)
        assert heard.codes == []
        with uncut():  # in the main thread: the end waits for it
            signal.raise_signal(signal.SIGINT)
            assert not heard.left.wait(0.2)
        assert heard.left.wait(60)
    assert heard.codes == [130]
    assert f"{QUIT}run the same command again to continue\n" in capfd.readouterr().err


def test_a_handler_that_takes_a_signal_meanwhile_has_it_alone():
    """As the mirror's wait at the end does."""
    heard, taken = Heard(), []
    with StopSignal(heard.say, heard.leave) as stop:
        former = signal.signal(signal.SIGINT, lambda number, frame: taken.append(number))
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert heard.said.wait(60)
        signal.signal(signal.SIGINT, former)
        assert stop.code == 0
    assert (taken, heard.lines, heard.codes) == ([signal.SIGINT], [NOTICE], [])


def test_outside_of_the_main_thread_it_is_never_true():
    answers = []
    thread = threading.Thread(target=lambda: answers.append(StopSignal()()))
    thread.start()
    thread.join()
    assert answers == [False]


STUCK = """
import ctypes, sys
from addnorm_exp.train.compiler import Compiler

def executable(self, call):
    print("stuck", flush=True)
    ctypes.CDLL(None).sleep(600)  # lets other threads run, and does not come back to Python for a signal
    ctypes.CDLL(None).sleep(600)

Compiler.executable = executable
from addnorm_exp import cli
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_while_the_compiler_runs_the_notice_comes_at_once_and_a_second_interrupt_ends_the_process(first, tmp_path):
    """A real process, whose compiler never comes back."""
    from training import TEXT, flags  # here, for it brings JAX

    (tmp_path / "text").write_bytes(TEXT)
    words = ["train", *flags(), f"--config.data.path={tmp_path / 'text'}", f"--workdir={tmp_path / 'run'}"]
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "stuck\n"
        assert process.stderr.readline() == "compiling…\n"
        process.send_signal(first)
        assert process.stderr.readline() == f"{NOTICE}\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert (out, err) == ("", f"{QUIT}there is no checkpoint yet, so the next run starts from step 0\n")
