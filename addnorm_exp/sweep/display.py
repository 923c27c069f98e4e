"""What the user sees while a study runs: a live panel on a terminal, else one line per run."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from addnorm_exp.runs.records import Summary
from addnorm_exp.sweep.study import Planned
from addnorm_exp.train.display import Screen
from addnorm_exp.train.meter import Meter
from addnorm_exp.words import counted, duration, loss

EVERY = 60.0  # seconds between two lines of one run if there is no terminal


class Display(Screen):
    """Receives phases, runs and events of training. Prints to standard error, so that standard output has only the table.

    The time to go is a rough estimate: the mean time of the runs trained in this phase, times the number of runs to go, and the mean time
    of a compilation, times the number of shapes to compile. Until the first run has ended, the time of a run follows from the steps of
    the current one.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic):
        super().__init__(console)
        self.clock = clock
        self.now: list[Planned] = []  # trained together; the progress shown is the first one's
        self.meter = Meter(0, clock)

    def phase(self, name: str, total: int, finished: int, shapes: int = 1) -> None:
        """A phase of `total` runs begins. The unfinished ones have `shapes` shapes, each of which is compiled at most once."""
        for bar in list(self.bars.task_ids):
            self.bars.remove_task(bar)
        self.name, self.total, self.done, self.trained = name, total, finished, 0
        self.started = self.clock()
        self.shapes, self.compiling = shapes, 0.0  # seconds of compilation in this phase
        self.begun: set[Any] = set()  # shapes
        self._runs = self.bars.add_task(name, total=total, completed=finished, note="")
        self._steps = self.bars.add_task("", total=1, note="", visible=False)
        if finished:
            self.say(f"{name}: {finished} of {counted(total, 'run')} already finished")

    def begin(self, *runs: Planned) -> None:
        """These runs are trained together from now on."""
        steps = runs[0].config.steps
        self.now, self.meter, self._said = list(runs), Meter(steps, self.clock), self.clock()
        self.begun.add(runs[0].experiment.shape)
        self.bars.reset(self._steps, description=f"  {self._label()}", total=steps, completed=0, note="", visible=True)
        self.refresh()

    def watch(self, event: Mapping[str, Any], run: Planned | None = None) -> None:
        """An event of training (runs/events.py) of one of the runs; not given: the first."""
        kind = event["event"]
        if kind == "note":
            self.say(f"  {event['text']}")
        first = run is None or not self.now or run is self.now[0]
        if kind in ("done", "diverged") and len(self.now) > 1:
            self.now = [each for each in self.now if each is not (run or self.now[0])]
        if not first:
            return
        self.meter.watch(event)
        label = self._label()
        if kind == "compiled":
            self.compiling += event["seconds"]
        if kind == "start" and event["step"]:
            self.say(f"  {label}: resumed after step {event['step']:,}")
        if kind == "train":
            self._foresee()
            if not self.live and self.clock() - self._said >= EVERY:
                self._said = self.clock()
                self.say(f"  {label}: step {event['step']:,} of {self.meter.steps:,}  {self.meter.note()}")
        note = "compiling" if kind == "compiling" else self.meter.note()
        self.bars.update(self._steps, completed=self.meter.step, note=note)
        self.refresh()

    def end(self, run: Planned, summary: Summary | None, seconds: float) -> None:
        self.done += 1
        self.trained += 1
        each = (self.clock() - self.started - self.compiling) / self.trained
        left = (self.total - self.done) * each + self._compilations()
        remaining = f"{duration(left)} to go" if self.done < self.total else ""
        self.bars.update(self._runs, completed=self.done, note=remaining)
        self.bars.update(self._steps, visible=False)
        more = f", {remaining}" * bool(remaining)
        self.say(f"{self.name} {self.done}/{self.total}  {run.label}  {_result(summary)}  ({seconds:.1f} s{more})")
        self.refresh()

    def leave(self, run: Planned, reason: str) -> None:
        """A run that is skipped for now."""
        self.bars.update(self._steps, visible=False)
        self.say(f"{self.name}  {run.label}  {reason}")
        self.refresh()

    def _label(self) -> str:
        more = len(self.now) - 1
        return self.now[0].label + f" and {more} more" * bool(more) if self.now else ""

    def _compilations(self) -> float:
        """Seconds for the shapes that have not begun, as long as those that have."""
        return max(0, self.shapes - len(self.begun)) * self.compiling / max(1, len(self.begun))

    def _foresee(self) -> None:
        """Shows the time to go before any run has ended, from this run's steps since its first dispatch, which excludes compilation."""
        seconds = self.meter.step_seconds()
        if not self.trained and seconds is not None:
            steps = self.meter.steps
            left = (steps - self.meter.step + (self.total - self.done - 1) * steps) * seconds + self._compilations()
            self.bars.update(self._runs, note=f"{duration(left)} to go")


def _result(summary: Summary | None) -> str:
    if summary is None:
        return "failed: "
    if summary.status == "done":
        return f"val {loss(summary.at('val', 'final'))}"
    return f"{summary.status}: {summary.reason or ''}"
