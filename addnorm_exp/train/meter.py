"""The progress of a run from its events: the latest values of its primary metric, its speed, the time to go."""

import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from addnorm_exp.runs.metrics import DEFAULT, figure
from addnorm_exp.words import duration, si

FORECAST_SECONDS = 5.0  # a time to go is known after so much training beyond the first dispatch
WINDOW = 8  # dispatches over which the speed is the median


class Meter:
    """Receives the events of one run (runs/events.py) of `steps` steps."""

    def __init__(self, steps: int, clock: Callable[[], float] = time.monotonic):
        self.steps, self.clock = steps, clock
        self.step = 0
        self._metrics = DEFAULT
        self._values: dict[str, str] = {}  # of the primary metric, by split
        self._validated = 0  # the step of the latest validation
        self._speeds: deque[float] = deque(maxlen=WINDOW)  # tokens per second
        self._shares: deque[float] = deque(maxlen=WINDOW)  # MFU
        self._first: tuple[int, float] | None = None  # the last step of the first dispatch, and its time
        self._latest: tuple[int, float] | None = None

    def watch(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind in ("start", "train", "val"):
            self.step = event["step"]
        if kind == "start":
            self._metrics = event.get("metrics", self._metrics)
        if kind in ("train", "val"):
            self._values[kind] = figure(event, self._metrics)
        if kind == "val":
            self._validated = event["step"]
        if kind == "train":
            self._latest = event["step"], self.clock()
            if self._first is None:
                self._first = self._latest
            else:  # caches are cold in the first dispatch
                for name, values in (("tokens_per_second", self._speeds), ("mfu", self._shares)):
                    if name in event:
                        values.append(event[name])

    def step_seconds(self) -> float | None:
        """Seconds per step, including everything between two steps; None before that is known from a few seconds of training after the
        first dispatch: the first ones are short, and caches are cold."""
        if self._first is None or self._latest is None:
            return None
        steps, seconds = (latest - first for first, latest in zip(self._first, self._latest, strict=True))
        return seconds / steps if steps and seconds >= FORECAST_SECONDS else None

    def speed(self) -> str:
        """`12.3 k tokens/s  MFU 31%`; empty before the speed is known."""
        parts = [f"{si(statistics.median(self._speeds))} tokens/s"] if self._speeds else []
        parts += [f"MFU {statistics.median(self._shares):.0%}"] if self._shares else []
        return "  ".join(parts)

    def remaining(self) -> str:
        """`3 min to go`; empty if it is not known, or if nothing is left."""
        seconds = self.step_seconds()
        left = self.steps - self.step
        return f"{duration(seconds * left)} to go" if seconds is not None and left else ""

    def values(self) -> str:
        """`train 2.4513 bits/byte  val 2.5020 bits/byte`; a validation of an earlier step has its step: `val 2.5020 bits/byte (step 0)`."""
        earlier = {"val": f" (step {self._validated:,})" * (self._validated != self.step)}
        return "  ".join(
            f"{kind} {self._values[kind]}{earlier.get(kind, '')}" for kind in ("train", "val") if kind in self._values
        )

    def note(self) -> str:
        """Values, speed and time to go in one line."""
        return "  ".join(filter(None, (self.values(), self.speed(), self.remaining())))
