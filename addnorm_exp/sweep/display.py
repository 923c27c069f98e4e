"""What the person sees while a study runs: a live panel on a terminal, one line a run elsewhere."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from addnorm_exp.sweep.study import Planned
from addnorm_exp.words import counted, duration, loss


class Display(AbstractContextManager):
    """Told of phases, runs and events of training; prints to standard error, so that standard output holds the table alone.

    The time to go is the time that the runs made in this phase took a run, times the runs to go: rough on purpose. Until the first has
    ended it is that of the current one's steps, as if the others were as long.
    """

    def __init__(self, console: Console | None = None):
        self.console = console or Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self.bars = Progress(*columns, console=self.console, auto_refresh=False)
        self.live = (
            Live(self.bars, console=self.console, refresh_per_second=4, transient=True) if self._terminal else None
        )
        self.now: Planned | None = None
        self.losses: dict[str, float] = {}
        self.pace: tuple[int, float] | None = None  # a step of the current run, and when it was told

    @property
    def _terminal(self) -> bool:
        return self.console.is_terminal

    def __enter__(self) -> "Display":
        if self.live:
            self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live:
            self.live.__exit__(*error)

    def phase(self, name: str, total: int, finished: int) -> None:
        for bar in list(self.bars.task_ids):
            self.bars.remove_task(bar)
        self.name, self.total, self.done, self.made = name, total, finished, 0
        self.started = time.monotonic()
        self._runs = self.bars.add_task(name, total=total, completed=finished, note="")
        self._steps = self.bars.add_task("", total=1, note="", visible=False)
        if finished:
            self.say(
                f"{name}: {finished} of {counted(total, 'run')} {'was' if finished == 1 else 'were'} finished before"
            )

    def say(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True, highlight=False)

    def begin(self, run: Planned) -> None:
        self.now, self.losses, self.pace = run, {}, None
        self.bars.update(
            self._steps,
            description=f"  {run.label}",
            total=run.config.steps,
            completed=0,
            note="compiling",
            visible=True,
        )
        self._refresh()

    def watch(self, event: Mapping[str, Any]) -> None:
        """An event of training (runs/events.py)."""
        kind = event["event"]
        if kind == "note":
            self.say(f"  {event['text']}")
        if kind == "start" and event["step"]:
            self.say(f"  {self.now.label if self.now else ''}: resumed after step {event['step']}")
        if kind in ("train", "val"):
            self.losses[kind] = event.get("bpb", event["loss"])
            note = "  ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
            self.bars.update(self._steps, completed=event["step"], note=note)
            if kind == "train":
                self._foresee(event["step"])
            self._refresh()

    def end(self, run: Planned, summary: Mapping[str, Any], seconds: float) -> None:
        self.done += 1
        self.made += 1
        left = (self.total - self.done) * (time.monotonic() - self.started) / self.made
        told = f"{duration(left)} to go" if self.done < self.total else ""
        self.bars.update(self._runs, completed=self.done, note=told)
        self.bars.update(self._steps, visible=False)
        more = f", {told}" * bool(told)
        self.say(f"{self.name} {self.done}/{self.total}  {run.label}  {_result(summary)}  ({seconds:.1f} s{more})")
        self._refresh()

    def leave(self, run: Planned, reason: str) -> None:
        """A run that is not made now."""
        self.bars.update(self._steps, visible=False)
        self.say(f"{self.name}  {run.label}  {reason}")
        self._refresh()

    def _foresee(self, step: int) -> None:
        """The time to go while no run has been made, from the steps since the first chunk of this one: compilation lies before its end."""
        now = time.monotonic()
        if self.pace is None:
            self.pace = step, now
        elif self.now and not self.made and step > self.pace[0]:
            steps = self.now.config.steps
            left = (steps - step + (self.total - self.done - 1) * steps) * (now - self.pace[1]) / (step - self.pace[0])
            self.bars.update(self._runs, note=f"{duration(left)} to go")

    def _refresh(self) -> None:
        if self.live:
            self.live.update(Group(self.bars))


def _result(summary: Mapping[str, Any]) -> str:
    if summary.get("status") == "done":
        return f"val {loss(summary['val']['final'])}"
    return f"{summary.get('status', 'failed')}: {summary.get('reason') or ''}"
