"""Runs that one program trains together: resume, train, validate, checkpoint, test. A run alone is a pack of one."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np

from addnorm_exp.data.spec import Data
from addnorm_exp.train.calibration import means_of_changed
from addnorm_exp.train.checkpoint import like
from addnorm_exp.train.evaluation import Split
from addnorm_exp.train.lane import Lane, Member, Summary
from addnorm_exp.train.pace import CHECKPOINT_SECONDS, DeviceTimer, Pace
from addnorm_exp.train.program import lanes_of, never
from addnorm_exp.train.programs import program
from addnorm_exp.train.recorder import Dispatch
from addnorm_exp.train.step import CAUSES, TrainState
from addnorm_exp.words import counted


class Stopped(Exception):
    """The user asked the runs to stop; their states are saved, and the same command continues them."""


class Computed(NamedTuple):
    """What one dispatch has computed, of all lanes. `steps` and `causes` are those of the states after it; the rest is as in
    `recorder.Dispatch`."""

    first: int
    recorded: np.ndarray
    steps: Any
    causes: Any
    metrics: Any
    seconds: float
    device_seconds: float | None


class Pack:
    """One attempt at the runs of a pack, which have one shape and one timetable, from the newest step that all of them have saved (or step
    0) to the end.

    A lane that has ended stays in its place, and its numbers are computed on and not looked at: the others must keep their bits.
    """

    def __init__(
        self,
        members: Sequence[Member],
        data: Data,
        keep: str,
        stop: Callable[[], bool] = never,
        clock: Callable[[], float] = time.perf_counter,
    ):
        started, self.begun = time.time(), clock()
        self.stop, self.clock = stop, clock
        self.lanes = [Lane(member, keep, number) for number, member in enumerate(members)]
        self.times = members[0].experiment.timetable
        self.steps_pace, self.evaluation_pace, self.timer = Pace(), Pace(), DeviceTimer()
        hypers = [member.experiment.hypers for member in members]
        self.program = program(members[0].experiment.shape, lanes_of(hypers))
        self.compiled_before = self.program.compile_seconds
        self.data = self.program.put(data)
        self.compiles = not self.program.is_prepared(self.data, train=True, attention=bool(self.times.attention))
        if self.compiles:
            self._tell({"event": "compiling"})
        self.step = self._common_step()
        self.state: TrainState = self.program.stacked([self._start(lane, hypers[lane.number]) for lane in self.lanes])
        self.hypers = self.program.joined(hypers)
        pending = any(lane.totals.pending for lane in self.living)
        self.saved = self.step > 0 and not pending  # whether the states on disk are these
        for lane in self.living:
            place = {"width": len(members), "lane": lane.number}
            examples = {"val": self.data.val.count, "test": self.data.test.count}
            lane.begin(data.spec, self.program.task, examples, self.step, started, place, clock)

    @property
    def living(self) -> list[Lane]:
        """The lanes that have not ended."""
        return [lane for lane in self.lanes if lane.ended is None]

    def train(self) -> list[Summary]:
        """Returns the summaries of the runs, each done or diverged. Raises Stopped if `stop()` becomes true before."""
        self._compile()
        self.saved_at = self.clock()  # when the latest states were saved; nothing is unsaved before
        self._tell({"event": "start", "step": self.step, "metrics": self.program.task.metrics})
        while self.living:
            self._measure()
            if self.living and (self.times.due(self.step, "checkpoint") or self._overdue()) and not self.saved:
                self._save()
            if self.step == self.times.steps:
                self._test()
            else:
                self._advance()
        return [lane.ended for lane in self.lanes if lane.ended is not None]

    def _common_step(self) -> int:
        """The newest step of which every living lane has a sound state; 0 if there is none."""
        saved = [lane.checkpoints.states() for lane in self.living]
        for step in sorted(set.intersection(*saved), reverse=True):
            sound = [lane.checkpoints.is_sound(step) for lane in self.living]  # of all: each tells its own faults
            if all(sound):
                return step
        return 0

    def _start(self, lane: Lane, hypers: Any) -> TrainState:
        """The state in which a lane starts. One that has ended starts anywhere: nobody looks at its numbers."""
        placed = self.program.placed(hypers)
        state = self.program.init(placed)
        if lane.ended is not None:
            return state
        if self.step:
            return lane.resume(self.step, like(state))
        calibrated = self.program.calibrate(state, placed, self.data)
        lane.restart(means_of_changed(state.parameters, calibrated.parameters))
        return calibrated

    def _compile(self) -> None:
        """Compiles everything that the runs need while there is no progress to lose: compilation cannot be interrupted."""
        wanted = {"train": self.step < self.times.steps, "attention": bool(self.times.attention)}
        self.program.prepare(self.state, self.hypers, self.data, **wanted, stop=self.stop)
        if self.stop():
            self._leave()
        if self.compiles:
            self._tell({"event": "compiled", "seconds": self.clock() - self.begun})

    def _advance(self) -> None:
        """Trains until something is due or overdue, `stop()` is true, or a run diverges.

        While the device computes a dispatch, the previous one is recorded.
        """
        waiting: Computed | None = None  # not recorded yet
        self.saved = False
        while True:
            if waiting and self.timer.alone():
                self._record(waiting)
                waiting = None
            beside, first = waiting is not None, self.step + 1
            recorded = self.times.recorded(first, self.steps_pace.count(self.times.boundary(self.step) - self.step))
            begun = self.clock()
            self.state, metrics = self.program.train(self.state, self.hypers, self.data, recorded)
            if waiting:
                self._record(waiting)
            seen = not beside or not is_ready(self.state.step)
            steps, causes = jax.device_get((self.state.step, self.state.cause))
            seconds = self.clock() - begun
            self.timer.ended(seen)
            self.steps_pace.took(len(recorded), seconds)
            self.step += len(recorded)
            waiting = Computed(first, recorded, steps, causes, metrics, seconds, seconds if seen else None)
            ended = any(self.program.lane(causes, lane.number) for lane in self.living)
            if ended or self.times.eventful(self.step) or self._overdue() or self.stop():
                break
        self._record(waiting)
        for lane in self.living:
            step, cause, value = self.program.lane((steps, causes, self.state.value), lane.number)
            if cause:
                lane.diverge(CAUSES[cause], float(value), int(step), True, self._costs())
            lane.totals.pending = list(self.times.measurements(self.step))
        if self.living and self.stop():
            self._leave()

    def _record(self, computed: Computed) -> None:
        """Records a dispatch in the living lanes. The metrics of all lanes come from the device at once."""
        metrics = jax.device_get(computed.metrics)
        for lane in self.living:
            step, cause, rows = self.program.lane((computed.steps, computed.causes, metrics), lane.number)
            updates = int(step) - computed.first + 1 + bool(cause)
            dispatch = Dispatch(
                computed.first, updates, bool(cause), computed.recorded, rows, computed.seconds, computed.device_seconds
            )
            lane.recorder.chunk(dispatch)

    def _measure(self) -> None:
        """Makes the measurements that are still due at this step; a validation may show that a lane has diverged."""
        for what in self.times.measurements(self.step):
            due = [lane for lane in self.living if what in lane.totals.pending]
            if not due:
                continue
            if self.stop():
                self._leave()
            if what == "attention":
                rows = self.program.attention(self.state.weights, self.hypers, self.data, self.step)
                for lane in due:
                    lane.recorder.attention(self.step, self.program.lane(rows, lane.number))
            else:
                self._validate(due)
            for lane in due:
                lane.totals.pending.remove(what)
            self.saved = False

    def _validate(self, due: Sequence[Lane]) -> None:
        values = self._evaluate(self.state.weights, self.data.val)
        for lane in due:
            number = lane.number
            weights = functools.partial(self.program.lane, self.state.weights, number)
            broken = lane.validated(self.step, values[number], weights)
            if broken is not None:
                cause = f"non-finite validation {broken}"
                lane.diverge(cause, values[number][broken], self.step, False, self._costs())

    def _evaluate(self, weights: Any, split: Split) -> list[dict[str, float]]:
        """The metrics of each lane. Leaves the runs if `stop()` becomes true before the end."""
        values = self.program.evaluate(
            weights, split, self.step, pace=self.evaluation_pace, stop=self.stop, clock=self.clock
        )
        return self._leave() if values is None else values

    def _save(self) -> None:
        """Saves the state of every living lane. Former ones are removed after all are saved: a kill in between must leave a step that all
        have."""
        for lane in self.living:
            lane.save(self.step, self.program.lane(self.state, lane.number))
        for lane in self.living:
            lane.prune()
        self.saved, self.saved_at = True, self.clock()

    def _overdue(self) -> bool:
        """Whether a state must be saved between two that are due: a slow run would lose too much."""
        return bool(self.times.checkpoint) and self.clock() - self.saved_at > CHECKPOINT_SECONDS

    def _leave(self) -> NoReturn:
        """Saves the states if they are not saved yet, and raises Stopped. Before the first step there is nothing to save."""
        if self.step and not self.saved:
            self._save()
        for lane in self.living:
            lane.recorder.summary("running", self.step)
        done = f"stopped after {self.step:,} of {counted(self.times.steps, 'step')}"
        raise Stopped(f"{self.living[0].folder.path}: {done}; run the same command again to continue")

    def _test(self) -> None:
        tested = {"final": self.state.weights, "best": self._best()}
        values = {
            name: self._evaluate(weights, self.data.test) for name, weights in tested.items() if weights is not None
        }
        for lane in self.living:
            results = {
                name: each[lane.number] for name, each in values.items() if name == "final" or lane.best is not None
            }
            own = self.program.lane(self.state.weights, lane.number)
            lane.test(self.step, results, own, self._costs())

    def _best(self) -> Any | None:
        """The best weights of all lanes, the last ones in lanes that have none; None if no lane has any."""
        if not any(lane.best is not None for lane in self.living):
            return None
        last = self.state.weights
        return self.program.stacked(
            [self.program.lane(last, lane.number) if lane.best is None else lane.best for lane in self.lanes]
        )

    def _costs(self) -> dict[str, Any]:
        """What the pack as a whole has cost, for the summary of each lane."""
        return {
            "compile_time_s": self.program.compile_seconds - self.compiled_before,
            "peak_memory_bytes": self.program.planned_bytes,
        }

    def _tell(self, event: dict[str, Any]) -> None:
        for lane in self.living:
            lane.watch(event)


def is_ready(array: Any) -> bool:
    """Whether the device has computed the array."""
    return array.is_ready()
