"""Whatever is slow, a run that is asked to stop has saved its state in time, and resumes to the same bits. Time is a clock of the test's:
each call of a compiled program takes as long as the test says."""

import contextlib
import itertools
from dataclasses import replace

import numpy as np
import pytest
from of_config import hypers, program, run
from training import TEXT, assert_equal_runs, config, flags, lines, signals_restored

from addnorm_exp import cli
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.train.checkpoint import Checkpoints, like
from addnorm_exp.train.compiler import Compiler
from addnorm_exp.train.loop import Stopped
from addnorm_exp.train.pack import Pack

NOTICE = 30.0  # seconds from the signal to the end
ASKED = config(steps=8, eval__every=4, execution__attention_every=4, execution__checkpoint_every=0, eval__sequences=36)
SLOW = {  # what is slow → the programs that are, with the work of a call by its arguments
    "step": {"train": lambda arguments: int(arguments[3])},
    "evaluation": {"evaluate": lambda arguments: int(arguments[4]) - int(arguments[3])},
    "attention": {"attention": lambda arguments: 1},
}


class Clock:
    """Seconds that pass as programs run, and a signal that comes at a given one."""

    def __init__(self, slow: str, seconds: float, signal: float = np.inf):
        self.now, self.signal, self.work, self.seconds = 0.0, signal, SLOW[slow], seconds
        self.busy: list[tuple[float, float]] = []  # from when to when each slow program ran

    def __call__(self) -> float:
        return self.now

    def stop(self) -> bool:
        return self.now >= self.signal

    def ran(self, name: str, arguments) -> None:
        if name in self.work and (count := self.work[name](arguments)):
            self.busy.append((self.now, self.now + self.seconds * count))
            self.now = self.busy[-1][1]


@contextlib.contextmanager
def slowed(clock: Clock, monkeypatch):
    """Programs of this run take the clock's time."""
    executable_of = Compiler.executable

    def timed(self, call):
        executable = executable_of(self, call)

        def execute(*arguments):
            result = executable(*arguments)
            clock.ran(call.name, arguments)
            return result

        return execute

    with monkeypatch.context() as patch:
        patch.setattr(Compiler, "executable", timed)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("undisturbed")
    run(ASKED, data, RunFolder(folder))
    return folder


def stopped(folder, data, clock, monkeypatch) -> bool:
    """Trains under that clock; whether it was stopped."""
    with slowed(clock, monkeypatch):
        try:
            run(ASKED, data, RunFolder(folder), stop=clock.stop, clock=clock)
        except Stopped:
            return True
    return False


LESS = {("step", 2.0), ("evaluation", 2.0), ("attention", 0.1), ("attention", 20.0)}  # in `full`


@pytest.mark.parametrize(
    ("slow", "seconds"),
    [
        pytest.param(slow, seconds, marks=pytest.mark.full if (slow, seconds) in LESS else [])
        for slow in SLOW
        for seconds in (0.1, 2.0, 20.0)
    ],
)
def test_a_notice_suffices_and_the_run_resumes_to_the_same_bits(
    slow, seconds, data, undisturbed, tmp_path, monkeypatch
):
    """The signal comes while a slow program runs: one in the middle of the run, and the last but one (of evaluation: in the test)."""
    whole = Clock(slow, seconds)
    assert not stopped(tmp_path / "whole", data, whole, monkeypatch)
    assert_equal_runs(undisturbed, tmp_path / "whole")
    for place in {len(whole.busy) // 2, len(whole.busy) - 2 if seconds == 20.0 else len(whole.busy) // 2}:
        folder = tmp_path / f"run{place}"
        begun, ended = whole.busy[place]
        clock = Clock(slow, seconds, signal=(begun + ended) / 2)
        assert stopped(folder, data, clock, monkeypatch)
        assert clock.now - clock.signal < NOTICE
        saved = Checkpoints(folder / "checkpoints", keep=1).latest(like(state()))
        assert saved is not None
        assert int(saved[0].step) == lines(folder)[-1]["step"] > 0, "all that was trained is saved"
        assert run(ASKED, data, RunFolder(folder)).status == "done"
        assert_equal_runs(undisturbed, folder)


def state():
    compiled = program(ASKED)
    return compiled.init(compiled.placed(hypers(ASKED)))


@pytest.mark.core
def test_nothing_is_evaluated_between_the_signal_and_the_saved_state(data, undisturbed, tmp_path, monkeypatch):
    """Asked to stop in the dispatch that ends at a validation: the state is saved before it, and says what is pending."""
    clock = Clock("step", 1.0, signal=3.5)
    called = []
    monkeypatch.setattr(
        Clock, "ran", lambda self, name, arguments, ran=Clock.ran: (called.append(name), ran(self, name, arguments))
    )
    assert stopped(tmp_path, data, clock, monkeypatch)
    assert called[-1] == "train"
    saved = Checkpoints(tmp_path / "checkpoints", keep=1).latest(like(state()))
    assert saved is not None
    assert (int(saved[0].step), saved[1]["pending"]) == (4, ["validation", "attention"])
    # A kill during what is pending: it is done anew, once.
    with monkeypatch.context() as patch:
        patch.setattr(Pack, "_advance", lambda pack: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(Pack, "_save", lambda pack: None)
        with pytest.raises(KeyboardInterrupt):
            run(ASKED, data, RunFolder(tmp_path))
    assert [line["split"] for line in lines(tmp_path) if line["step"] == 4] == ["train", "val"]
    summary = run(ASKED, data, RunFolder(tmp_path))
    assert [each.pending for each in summary.attempts] == [[], *[["validation", "attention"]] * 2]
    assert_equal_runs(undisturbed, tmp_path)


@pytest.mark.core
@pytest.mark.parametrize(("seconds", "saved"), [(70.0, [5]), (400.0, [1, 2, 3, 4, 5, 6, 7]), (30.0, [])])
def test_a_slow_run_saves_every_five_minutes(seconds, saved, data, undisturbed, tmp_path, monkeypatch):
    """A kill after the last of them loses what came after it, and no bit of the record is another."""
    asked = replace(ASKED, execution=replace(ASKED.execution, checkpoint_every=1000))
    steps, save = [], Pack._save

    def killed(attempt):
        save(attempt)
        if attempt.step < 8:
            steps.append(attempt.step)
        if saved and steps == saved:
            raise KeyboardInterrupt

    clock = Clock("step", seconds)
    with slowed(clock, monkeypatch), monkeypatch.context() as patch:
        patch.setattr(Pack, "_save", killed)
        with contextlib.suppress(KeyboardInterrupt):
            run(asked, data, RunFolder(tmp_path), clock=clock)
    assert steps == saved
    summary = run(asked, data, RunFolder(tmp_path))
    assert summary.attempts[-1].from_step == (saved or [0])[-1]
    assert_equal_runs(undisturbed, tmp_path)


def test_steps_without_a_checkpoint_are_said_to_be_discarded(data, tmp_path, monkeypatch):
    asked, notes = config(eval__every=12, execution__checkpoint_every=0), []
    with monkeypatch.context() as patch:
        patch.setattr(Pack, "_validate", lambda pack, due: None)
        patch.setattr(Pack, "_save", lambda pack: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(asked, data, RunFolder(tmp_path))

    def watch(event):
        if event["event"] == "note":
            notes.append(event["text"])

    run(asked, data, RunFolder(tmp_path), watch=watch)
    assert notes == ["no checkpoint; starting again from step 0 (12 recorded steps are discarded)"]


def test_a_finished_run_is_said_to_be_so(data, tmp_path, capsys):
    (tmp_path / "text").write_bytes(TEXT)
    words = ["train", *flags(), f"--config.data.path={tmp_path / 'text'}", f"--workdir={tmp_path / 'run'}"]
    with signals_restored():
        assert cli.main(words) == 0
        first, err = capsys.readouterr()
        assert "already finished" not in err
        assert cli.main(words) == 0
    assert capsys.readouterr() == (first, f"{tmp_path / 'run'} is already finished; nothing was run\n")


def test_before_the_first_step_there_is_nothing_to_save(data, tmp_path):
    for after in range(4):  # questions: before and between the first evaluation's dispatches
        asked = itertools.count()
        with pytest.raises(Stopped, match="stopped after 0 of 8 steps"):
            run(ASKED, data, RunFolder(tmp_path), stop=lambda asked=asked, after=after: next(asked) >= after)
        assert not (tmp_path / "checkpoints").exists()


def test_a_stop_during_compilation_compiles_no_more(data, tmp_path, monkeypatch):
    """Each program is asked for once before anything runs, and the stop comes with the first."""
    compiled = []
    monkeypatch.setattr(Compiler, "executable", lambda self, call: compiled.append(call.name))
    with pytest.raises(Stopped):
        run(ASKED, data, RunFolder(tmp_path), stop=lambda: bool(compiled))
    assert compiled == ["train"]
