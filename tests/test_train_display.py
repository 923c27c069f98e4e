"""What a person sees of a run: a line soon, then at a sensible pace; losses, speed, utilisation and the time to go."""

import io
from dataclasses import replace

from of_config import experiment
from rich.console import Console

from addnorm_exp.config import Config, override
from addnorm_exp.runs.records import Summary
from addnorm_exp.sweep.agenda import Agenda
from addnorm_exp.sweep.display import Display
from addnorm_exp.sweep.planner import run_folders
from addnorm_exp.sweep.study import Planned
from addnorm_exp.train.display import RunDisplay
from addnorm_exp.train.meter import Meter
from addnorm_exp.train.peaks import peak_of


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def train_event(step: int, **more):
    return {"event": "train", "step": step, "loss": 2.0, "bpb": 3.0, "tokens_per_second": 1000.0, **more}


def screen(clock: Clock, steps: int = 1000, **more) -> tuple[RunDisplay, io.StringIO]:
    text = io.StringIO()
    return RunDisplay("pre_ln", steps, Console(file=text, width=200, **more), clock), text


def test_speed_and_time_to_go():
    """The first dispatch holds cold caches: its speed does not count, and the time to go is from its end on."""
    clock = Clock()
    meter = Meter(100, clock)
    meter.watch({"event": "start", "step": 0})
    assert meter.note() == ""
    clock.now = 50.0
    meter.watch(train_event(10, tokens_per_second=1.0, mfu=0.01))
    assert meter.note() == "train 3.0000 bits/byte"
    for step, now, speed, share in ((20, 60.0, 12_345.0, 0.3), (30, 70.0, 12_300.0, 0.31), (40, 80.0, 90.0, 0.02)):
        clock.now = now
        meter.watch(train_event(step, tokens_per_second=speed, mfu=share))
    assert meter.step_seconds() == 1.0
    meter.watch({"event": "val", "step": 40, "loss": 1.0, "bpb": None})
    assert meter.note() == "train 3.0000 bits/byte  val loss 1.0000  12.3 k tokens/s  MFU 30%  60 s to go"
    meter.watch(train_event(100))
    assert meter.remaining() == ""
    assert "val loss 1.0000 (step 40)" in meter.note()


def test_short_first_dispatches_tell_no_time_to_go():
    clock = Clock()
    meter = Meter(1000, clock)
    for step, now in ((1, 1.0), (4, 1.6), (10, 5.9)):
        clock.now = now
        meter.watch(train_event(step))
        assert meter.remaining() == ""
    clock.now = 6.0
    meter.watch(train_event(11))
    assert meter.remaining() == "8 min to go"


def test_a_step_with_a_validation_has_one_line():
    clock = Clock()
    text = io.StringIO()
    shown = RunDisplay("pre_ln", 1000, Console(file=text, width=200), clock, validates=lambda step: step % 40 == 0)
    clock.now = 60.0
    shown.watch({"event": "start", "step": 22})
    shown.watch(train_event(23))
    for step in (40, 41):
        clock.now += 20.0
        shown.watch(train_event(step))
        if step == 40:
            shown.watch({"event": "val", "step": step, "loss": 5.5, "bpb": 8.0})
    assert [line.split()[:2] for line in text.getvalue().splitlines()] == [
        ["resumed", "after"],
        ["step", "40/1000"],
        ["step", "41/1000"],
    ]


def test_without_a_terminal_a_line_comes_soon_and_then_every_ten_seconds():
    clock = Clock()
    shown, text = screen(clock)
    with shown:
        shown.watch({"event": "compiling"})
        assert text.getvalue() == "compiling…\n", "at once"
        shown.watch({"event": "compiled", "seconds": 40.0})
        shown.watch({"event": "start", "step": 0})
        shown.watch({"event": "val", "step": 0, "loss": 5.5, "bpb": 8.0})
        for step in range(1, 31):  # a second a step
            clock.now = step
            shown.watch(train_event(step))
    lines = text.getvalue().splitlines()
    assert lines[1:3] == ["compiled in 40 s", "step    0/1000  val 8.0000 bits/byte"]
    assert [line.split("/")[0].split()[-1] for line in lines[3:]] == ["6", "16", "26"]
    assert lines[3].endswith("val 8.0000 bits/byte (step 0)  1 k tokens/s  17 min to go")


def test_steps_of_minutes_have_a_line_each():
    clock = Clock()
    shown, text = screen(clock)
    for step in range(1, 5):
        clock.now = 120.0 * step
        shown.watch(train_event(step))
    assert len(text.getvalue().splitlines()) == 4


def test_on_a_terminal_there_is_a_bar_and_a_line_for_each_validation():
    clock = Clock()
    shown, text = screen(clock, force_terminal=True)
    with shown:
        shown.watch({"event": "compiling"})
        assert shown.bars.tasks[0].fields["note"] == "compiling"
        for step in (1, 500):
            clock.now += 60.0
            shown.watch(train_event(step))
        assert (shown.bars.tasks[0].completed, shown.bars.tasks[0].total) == (500, 1000)
        assert "to go" in shown.bars.tasks[0].fields["note"]
        assert "step  500/1000" not in text.getvalue()
        shown.watch({"event": "val", "step": 500, "loss": 1.0, "bpb": None})
    assert "step  500/1000" in text.getvalue()


def test_a_sweep_without_a_terminal_has_a_line_of_a_long_run_every_minute(tmp_path):
    clock, text = Clock(), io.StringIO()
    shown = Display(Console(file=text, width=200), clock)
    run, _ = runs = [Planned(name, experiment(replace(Config(), steps=1000)), {}) for name in "ab"]
    shown.study(Agenda(runs, run_folders(tmp_path)))
    shown.begin(run)
    for step in range(1, 200):
        clock.now = float(step)
        shown.watch(train_event(step), run)
    lines = [line for line in text.getvalue().splitlines() if "step " in line]
    assert [line.split("step ")[1].split()[0] for line in lines] == ["60", "120", "180"]
    assert all("to go" in line for line in lines)


def test_the_time_to_go_of_a_sweep_has_each_compilation_once(tmp_path):
    """Four runs of 10 s in two shapes, of which each takes 100 s to compile."""
    clock, text = Clock(), io.StringIO()
    shown = Display(Console(file=text, width=200), clock)
    runs = [
        Planned(str(depth + seed), experiment(override(Config(), {"model.depth": depth, "seed": seed})), {})
        for depth in (2, 4)
        for seed in (0, 1)
    ]
    agenda = Agenda(runs, run_folders(tmp_path))
    shown.study(agenda)
    for number, run in enumerate(runs):
        shown.begin(run)
        if number % 2 == 0:
            clock.now += 100.0
            shown.watch({"event": "compiled", "seconds": 100.0}, run)
        clock.now += 10.0
        agenda.fail(run)
        shown.end(run, Summary(status="failed", reason="x"), 10.0)
    remaining = [line.rpartition(", ")[2] for line in text.getvalue().splitlines()[:3]]
    assert remaining == ["2 min to go)", "2 min to go)", "10 s to go)"]


def test_the_peak_of_a_device_by_the_name_that_jax_gives_it():
    assert peak_of("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_of("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_of("NVIDIA L40S") == 362e12
    assert peak_of("NVIDIA L4") == 121e12
    assert peak_of("TPU v5 lite") == 197e12
    assert peak_of("TPU v5") == 459e12
    assert peak_of("cpu") is None
    assert peak_of("NVIDIA L400") is None
