"""What the person sees while a study runs: a live panel on a terminal, one line a run elsewhere."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from addnorm_exp.sweep.study import Planned
from addnorm_exp.train.display import Screen
from addnorm_exp.train.meter import Meter
from addnorm_exp.words import counted, duration, loss

EVERY = 60.0  # seconds between two lines of one run where there is no terminal


class Display(Screen):
    """Told of phases, runs and events of training; prints to standard error, so that standard output holds the table alone.

    The time to go is the time that the runs made in this phase took a run, times the runs to go: rough on purpose. Until the first has
    ended it is that of the current one's steps, as if the others were as long.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic):
        super().__init__(console)
        self.clock = clock
        self.now: Planned | None = None
        self.meter = Meter(0, clock)

    def phase(self, name: str, total: int, finished: int) -> None:
        for bar in list(self.bars.task_ids):
            self.bars.remove_task(bar)
        self.name, self.total, self.done, self.made = name, total, finished, 0
        self.started = self.clock()
        self._runs = self.bars.add_task(name, total=total, completed=finished, note="")
        self._steps = self.bars.add_task("", total=1, note="", visible=False)
        if finished:
            self.say(
                f"{name}: {finished} of {counted(total, 'run')} {'was' if finished == 1 else 'were'} finished before"
            )

    def begin(self, run: Planned) -> None:
        self.now, self.meter, self._said = run, Meter(run.config.steps, self.clock), self.clock()
        self.bars.reset(
            self._steps, description=f"  {run.label}", total=run.config.steps, completed=0, note="", visible=True
        )
        self.refresh()

    def watch(self, event: Mapping[str, Any]) -> None:
        """An event of training (runs/events.py)."""
        kind = event["event"]
        self.meter.watch(event)
        label = self.now.label if self.now else ""
        if kind == "note":
            self.say(f"  {event['text']}")
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

    def end(self, run: Planned, summary: Mapping[str, Any], seconds: float) -> None:
        self.done += 1
        self.made += 1
        left = (self.total - self.done) * (self.clock() - self.started) / self.made
        told = f"{duration(left)} to go" if self.done < self.total else ""
        self.bars.update(self._runs, completed=self.done, note=told)
        self.bars.update(self._steps, visible=False)
        more = f", {told}" * bool(told)
        self.say(f"{self.name} {self.done}/{self.total}  {run.label}  {_result(summary)}  ({seconds:.1f} s{more})")
        self.refresh()

    def leave(self, run: Planned, reason: str) -> None:
        """A run that is not made now."""
        self.bars.update(self._steps, visible=False)
        self.say(f"{self.name}  {run.label}  {reason}")
        self.refresh()

    def _foresee(self) -> None:
        """The time to go while no run has been made, from the steps since the first dispatch of this one: compilation lies before them."""
        seconds = self.meter.step_seconds()
        if not self.made and seconds is not None:
            steps = self.meter.steps
            left = (steps - self.meter.step + (self.total - self.done - 1) * steps) * seconds
            self.bars.update(self._runs, note=f"{duration(left)} to go")


def _result(summary: Mapping[str, Any]) -> str:
    if summary.get("status") == "done":
        return f"val {loss(summary['val']['final'])}"
    return f"{summary.get('status', 'failed')}: {summary.get('reason') or ''}"
