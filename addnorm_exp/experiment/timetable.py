"""When a run validates, measures attention, records its layers, saves, and ends a dispatch: pure functions of the step."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from addnorm_exp.config.schema import Config
from addnorm_exp.runs.layers import is_layers_row

What = Literal["validation", "attention", "checkpoint"]


@dataclass(frozen=True)
class Timetable:
    """Periods in steps; 0 is off. Every action that is on also happens after the last step."""

    steps: int
    chunk: int
    validation: int
    attention: int
    checkpoint: int
    layers: int

    def due(self, step: int, what: What) -> bool:
        """Whether `what` happens after `step` updates. Validation and attention also happen before the first update; a state is always
        saved after the last."""
        if what == "checkpoint":
            return step > 0 and (step == self.steps or (bool(self.checkpoint) and step % self.checkpoint == 0))
        period = self.validation if what == "validation" else self.attention
        return bool(period) and (step % period == 0 or step == self.steps)

    def measurements(self, step: int) -> list[What]:
        """What is measured after `step` updates, in order."""
        ordered: tuple[What, ...] = ("validation", "attention")
        return [what for what in ordered if self.due(step, what)]

    def eventful(self, step: int) -> bool:
        """Whether anything but training happens after `step` updates."""
        return bool(self.measurements(step)) or self.due(step, "checkpoint")

    def recorded(self, first: int, count: int) -> np.ndarray:
        """bool (count,): which of `count` updates, of which `first` is the number of the first, are rows of the per-layer record."""
        return np.asarray(is_layers_row(np.arange(first, first + count), self.layers, self.steps), np.bool_)

    def boundary(self, step: int) -> int:
        """The step at which a dispatch that begins after `step` updates must end. It may end sooner (`pace.Pace`): the ends of
        dispatches do not change any number."""
        periods = (self.chunk, self.validation, self.checkpoint, self.attention)
        return min(self.steps, *((step // period + 1) * period for period in periods if period))


def timetable_of(config: Config) -> Timetable:
    execution = config.execution
    return Timetable(
        steps=config.steps,
        chunk=execution.chunk_steps,
        validation=config.eval.every,
        attention=execution.attention_every if execution.diagnostics else 0,
        checkpoint=execution.checkpoint_every,
        layers=execution.layers_every,
    )
