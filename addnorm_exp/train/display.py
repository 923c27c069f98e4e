"""What the user sees while training runs, on standard error: bars on a terminal, lines elsewhere. Standard output is for results."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from addnorm_exp.train.meter import Meter
from addnorm_exp.words import duration

EVERY = 10.0  # seconds between two lines of one run


class Screen(AbstractContextManager):
    """Lines, with bars below them if standard error is a terminal."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self.bars = Progress(*columns, console=self.console, auto_refresh=False)
        # Standard output is not redirected, because it need not be a terminal.
        self.live = (
            Live(self.bars, console=self.console, refresh_per_second=4, transient=True, redirect_stdout=False)
            if self.console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self.live:
            self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live:
            self.live.__exit__(*error)

    def say(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True, highlight=False)

    def refresh(self) -> None:
        if self.live:
            self.live.update(Group(self.bars))


class RunDisplay(Screen):
    """Shows one run of `steps` steps by its events: one line per validation. Without a terminal, there is also a line as soon as the time
    to go is known, and whenever none was printed for `EVERY` seconds. `validates`: whether a validation follows a step; its line is
    enough then."""

    def __init__(
        self,
        label: str,
        steps: int,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        validates: Callable[[int], bool] = lambda step: False,
    ):
        super().__init__(console)
        self.meter, self.clock, self.validates = Meter(steps, clock), clock, validates
        self._said = self.clock()  # when the latest line about steps was printed
        self.begun = False  # whether the run has been trained
        self._foretold = False  # whether the time to go has been printed
        self._bar = self.bars.add_task(label, total=steps, note="")

    def watch(self, event: Mapping[str, Any]) -> None:
        """An event of training (runs/events.py)."""
        kind = event["event"]
        self.meter.watch(event)
        if kind == "note":
            self.say(event["text"])
        if kind == "compiling":
            self.say("compiling…")
        if kind == "compiled":
            self.say(f"compiled in {duration(event['seconds'])}")
        if kind == "start":
            self._said, self.begun = self.clock(), True
            if event["step"]:
                self.say(f"resumed after step {event['step']:,}")
        due = kind == "train" and not self.live and not self.validates(event["step"]) and self._due()
        if kind == "val" or due:
            self._said, self._foretold = self.clock(), bool(self.meter.remaining())
            steps = str(self.meter.steps)
            self.say(f"step {event['step']:>{len(steps)}}/{steps}  {self.meter.note()}")
        note = "compiling" if kind == "compiling" else self.meter.note()
        self.bars.update(self._bar, completed=self.meter.step, note=note)
        self.refresh()

    def _due(self) -> bool:
        return self.clock() - self._said >= EVERY or (not self._foretold and bool(self.meter.remaining()))
