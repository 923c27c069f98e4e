"""When a run does what, and how long a dispatch may be: pure functions, without a device."""

import itertools

from of_config import timetable
from training import config

from addnorm_exp.experiment.timetable import Timetable
from addnorm_exp.train.pace import DISPATCH_SECONDS, DeviceTimer, Pace


def test_the_timetable_is_the_configs():
    asked = config(eval__every=3, execution__attention_every=7, execution__checkpoint_every=4)
    assert timetable(asked) == Timetable(steps=12, chunk=4, validation=3, attention=7, checkpoint=4, layers=2)
    assert timetable(config(execution__diagnostics=False, execution__attention_every=7)).attention == 0


def test_what_is_due_at_each_step():
    times = Timetable(steps=10, chunk=20, validation=4, attention=6, checkpoint=0, layers=1)
    due = {step: times.measurements(step) for step in range(11)}
    assert {step: what for step, what in due.items() if what} == {
        0: ["validation", "attention"],
        4: ["validation"],
        6: ["attention"],
        8: ["validation"],
        10: ["validation", "attention"],
    }
    assert [step for step in range(11) if times.due(step, "checkpoint")] == [10], "the last state is always saved"
    every = Timetable(steps=10, chunk=20, validation=4, attention=0, checkpoint=5, layers=1)
    assert [step for step in range(11) if every.due(step, "checkpoint")] == [5, 10]
    assert not any("attention" in every.measurements(step) for step in range(11))


def test_a_dispatch_ends_at_the_latest_where_anything_is_due():
    """Whatever the pace: nobody passes a step at which something happens, and every dispatch makes a step at least."""
    for chunk, validation, attention, checkpoint in itertools.product((1, 4), (3, 5), (0, 2), (0, 7)):
        times = Timetable(23, chunk, validation, attention, checkpoint, layers=1)
        for step in range(23):
            end = times.boundary(step)
            assert step < end <= min(23, step + chunk)
            assert not any(times.eventful(between) for between in range(step + 1, end))


def test_rows_of_the_layers_record_are_the_first_the_last_and_every_so_many():
    times = Timetable(steps=10, chunk=20, validation=4, attention=0, checkpoint=0, layers=4)
    assert [step for step, row in enumerate(times.recorded(1, 10), start=1) if row] == [1, 4, 8, 10]
    assert list(times.recorded(7, 2)) == [False, True]
    assert times.recorded(3, 0).shape == (0,)


def test_a_dispatch_is_short_at_first_and_then_takes_its_seconds():
    pace = Pace()
    assert pace.count(1000) == 1
    pace.took(1, DISPATCH_SECONDS / 10)
    assert pace.count(1000) == 10
    assert pace.count(4) == 4, "no more than there is"
    pace.took(10, 20 * DISPATCH_SECONDS)  # the machine has become twenty times slower
    assert pace.count(1000) == 1
    pace.took(1, 10 * DISPATCH_SECONDS)
    assert pace.count(1000) == 1, "never less than one"
    pace.took(1, 0.0)
    assert pace.count(1000) == 1000


def test_a_dispatch_is_timed_alone_now_and_then_where_the_host_is_slower():
    """The first is; then, of those whose end is not seen, one after one, one after two, … and at last one of nine."""
    timer, alone = DeviceTimer(), []
    for number in range(200):
        if timer.alone():
            alone.append(number)
            timer.ended(seen=True)
        else:
            timer.ended(seen=False)
    assert alone[:5] == [0, 2, 5, 9, 14]
    assert set(itertools.starmap(lambda a, b: b - a, itertools.pairwise(alone[10:]))) == {DeviceTimer.RARELY + 1}
    quick = DeviceTimer()
    for _ in range(50):
        quick.ended(seen=True)
        assert not quick.alone(), "a device that is slower than the host is always seen"
