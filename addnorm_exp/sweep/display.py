"""What the user sees while a study runs: a live panel on a terminal, else one line per run."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import Progress

from addnorm_exp.experiment import Shape
from addnorm_exp.runs.metrics import figure, metrics_of
from addnorm_exp.runs.records import Summary
from addnorm_exp.sweep.agenda import Agenda
from addnorm_exp.sweep.study import Planned
from addnorm_exp.train.display import Screen
from addnorm_exp.train.meter import Meter
from addnorm_exp.words import counted, duration

EVERY = 60.0  # seconds between two lines of one pack if there is no terminal


class PackRow:
    """A pack that is being trained: its runs that have not ended, and the progress of the first one."""

    def __init__(self, runs: list[Planned], bars: Progress, clock: Callable[[], float]):
        self.runs = runs
        self.meter, self.said = Meter(runs[0].config.steps, clock), clock()
        self.bar = bars.add_task(f"  {self.label}", total=self.meter.steps, note="")

    @property
    def label(self) -> str:
        more = len(self.runs) - 1
        return self.runs[0].label + f" and {more} more" * bool(more)


class Display(Screen):
    """Receives an agenda, its packs, and events of training. Prints to standard error, so that standard output has only the table.

    The time to go is a rough estimate: the runs to go take as long as those that were trained, side by side as far as they were, and so
    do compilations of shapes. Until the first run has ended, its time follows from the steps of the first pack.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic):
        super().__init__(console)
        self.clock = clock
        self.rows: list[PackRow] = []  # one for each pack that is being trained

    def study(self, agenda: Agenda) -> None:
        """An agenda is carried out from now on."""
        for bar in list(self.bars.task_ids):
            self.bars.remove_task(bar)
        self.agenda, self.rows, self.trained, self.at_once = agenda, [], 0, 1
        self.started = self.clock()
        self.compiling = 0.0  # seconds of compilation
        self.begun: set[Shape] = set()
        self._runs = self.bars.add_task(agenda.name or "runs", total=len(agenda.planned), completed=self.done, note="")

    def joined(self, runs: list[Planned]) -> None:
        """These runs have joined the agenda."""
        for phase in dict.fromkeys(run.phase for run in runs):
            of_phase = [run for run in runs if run.phase == phase]
            if finished := sum(run.id in self.agenda.summaries for run in of_phase):
                self.say(f"{phase}: {finished} of {counted(len(of_phase), 'run')} already finished")
        self.bars.update(self._runs, total=len(self.agenda.planned), completed=self.done)

    @property
    def done(self) -> int:
        """How many runs have an outcome."""
        return len(self.agenda.planned) - len(self.agenda.open)

    def begin(self, *runs: Planned) -> None:
        """These runs are trained together from now on."""
        self.rows.append(PackRow(list(runs), self.bars, self.clock))
        self.at_once = max(self.at_once, len(self.rows))
        self.begun.add(runs[0].experiment.shape)
        self.refresh()

    def watch(self, event: Mapping[str, Any], run: Planned) -> None:
        """An event of training (runs/events.py) of one of the runs."""
        row = next((row for row in self.rows if run in row.runs), None)
        kind = event["event"]
        if row is None:
            return
        if kind == "note":
            self.say(f"  {run.label}: {event['text']}")
        first = run is row.runs[0]
        if kind in ("done", "diverged") and len(row.runs) > 1:
            row.runs.remove(run)
        if not first:
            return
        row.meter.watch(event)
        if kind == "compiled":
            self.compiling += event["seconds"]
        if kind == "start" and event["step"]:
            self.say(f"  {row.label}: resumed after step {event['step']:,}")
        if kind == "train":
            self._foresee(row.meter)
            if not self.live and self.clock() - row.said >= EVERY:
                row.said = self.clock()
                self.say(f"  {row.label}: step {event['step']:,} of {row.meter.steps:,}  {row.meter.note()}")
        note = "compiling" if kind == "compiling" else row.meter.note()
        self.bars.update(row.bar, completed=row.meter.step, note=note)
        self.refresh()

    def end(self, run: Planned, summary: Summary | None, seconds: float, reason: str = "") -> None:
        """The run has an outcome; `reason`: why it has no summary."""
        self._remove(run)
        self.trained += 1
        phase = [each.id for each in self.agenda.planned.values() if each.phase == run.phase]
        done = sum(name not in self.agenda.open for name in phase)
        remaining = f"{duration(self._remaining())} to go" if self.agenda.open else ""
        self.bars.update(self._runs, completed=self.done, note=remaining)
        more = f", {remaining}" * bool(remaining)
        self.say(f"{run.phase} {done}/{len(phase)}  {run.label}  {_result(summary, reason)}  ({seconds:.1f} s{more})")
        self.refresh()

    def leave(self, run: Planned, reason: str = "") -> None:
        """A run that is no longer trained and has no outcome."""
        self._remove(run)
        if reason:
            self.say(f"{run.phase}  {run.label}  {reason}")
        self.refresh()

    def _remove(self, run: Planned) -> None:
        for row in [row for row in self.rows if run in row.runs]:
            self.rows.remove(row)
            self.bars.remove_task(row.bar)

    def _remaining(self) -> float:
        """Seconds to go, once a run has ended."""
        parts = sum(len(row.runs) * row.meter.step / row.meter.steps for row in self.rows)
        each = (self.clock() - self.started - self.compiling / self.at_once) / (self.trained + parts)
        return (len(self.agenda.open) - parts) * each + self._compilations()

    def _compilations(self) -> float:
        """Seconds for the shapes that have not begun, as long as those that have."""
        to_begin = {run.experiment.shape for run in self.agenda.open.values()} - self.begun
        return len(to_begin) * self.compiling / max(1, len(self.begun)) / self.at_once

    def _foresee(self, meter: Meter) -> None:
        """Shows the time to go before any run has ended, from this run's steps since its first dispatch, which excludes compilation."""
        seconds = meter.step_seconds()
        if not self.trained and seconds is not None:
            left = len(self.agenda.open) * meter.steps - sum(len(row.runs) * row.meter.step for row in self.rows)
            together = sum(len(row.runs) for row in self.rows)
            self.bars.update(self._runs, note=f"{duration(left * seconds / together + self._compilations())} to go")


def _result(summary: Summary | None, reason: str) -> str:
    if summary is None:
        return f"failed: {reason}"
    if summary.status == "done":
        return f"val {figure(summary.at('val', 'final'), metrics_of(summary))}"
    return f"{summary.status}: {summary.reason or ''}"
