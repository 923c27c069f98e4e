"""What the person sees on stderr while a dataset is fetched: a line, and on a terminal a bar below it."""

import sys
from types import TracebackType
from typing import Any


class FetchProgress:
    """Used by sources: `begin` a stage, then `at` so many bytes. Only a terminal shows more than the opening line."""

    def __init__(self, opening: str) -> None:
        self._opening = opening
        self._bar: Any = None  # rich.progress.Progress, imported only when something is fetched
        self._task: Any = None

    def __enter__(self) -> "FetchProgress":
        print(self._opening, file=sys.stderr, flush=True)
        if sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.SpinnerColumn(),
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(bar_width=24),
                progress.TextColumn("{task.fields[amount]}", markup=False),
                progress.TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, stage: str, total: int | None = None) -> None:
        """A new stage, e.g. one source; `total` in bytes where known, else the bar only shows that work goes on."""
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(stage, total=total, amount="")

    def at(self, done: int) -> None:
        """Bytes of this stage so far."""
        if self._bar is not None and self._task is not None:
            total = self._bar.tasks[0].total
            of = f" of {total / 1e6:.1f}" if total else ""
            self._bar.update(self._task, completed=done, amount=f"{done / 1e6:.1f}{of} MB")

    def close(self, line: str) -> None:
        """The good end, said on a terminal only (elsewhere the opening line is the one line)."""
        if self._bar is not None:
            self._bar.stop()
            print(line, file=sys.stderr, flush=True)
