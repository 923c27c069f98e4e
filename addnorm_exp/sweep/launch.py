"""Runs a plan on this machine, one run after another, so that runs of one shape share one compiled program."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from addnorm_exp.data.corpus import Corpus, load
from addnorm_exp.errors import UserError, disk_trouble
from addnorm_exp.runs.folder import FINISHED, Busy, RunFolder
from addnorm_exp.sweep.display import Display
from addnorm_exp.sweep.study import Planned
from addnorm_exp.train.hypers import static
from addnorm_exp.train.loop import Stopped, check
from addnorm_exp.train.loop import run as train


@dataclass
class Outcome:
    """What became of the runs of a phase."""

    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: list[Planned] = field(default_factory=list)
    busy: list[Planned] = field(default_factory=list)
    left: list[Planned] = field(default_factory=list)  # beyond --max_runs
    stopped: bool = False

    @property
    def complete(self) -> bool:
        return not (self.busy or self.left or self.stopped)


class Launcher:
    """Trains what is missing of a plan. `most` bounds the runs of all phases together; None is no bound."""

    def __init__(self, folder: Path, name: str, display: Display, stop: Callable[[], bool], most: int | None = None):
        self.folder, self.name, self.display, self.stop, self.most = folder, name, display, stop, most
        self._corpora: dict[tuple[str, str | None], Corpus] = {}  # by name and path

    def finished(self, runs: Iterable[Planned]) -> dict[str, dict[str, Any]]:
        """Summaries of the finished ones."""
        found = ((run.id, RunFolder(self.folder / run.id).summary()) for run in runs)
        return {name: summary for name, summary in found if summary and summary.get("status") in FINISHED}

    def launch(self, phase: str, runs: tuple[Planned, ...]) -> Outcome:
        """Runs are taken shape by shape, in the plan's order otherwise. Raises UserError where the corpus does not fit a run."""
        outcome = Outcome(summaries=self.finished(runs))
        waiting = sorted((run for run in runs if run.id not in outcome.summaries), key=_by_shape(runs))
        for run in waiting:
            check(run.config, self._corpus(run))
        self.display.phase(phase, total=len(runs), finished=len(outcome.summaries))
        for run in waiting:
            if self.stop():
                outcome.stopped = True
                return outcome
            if self.most is not None and self.most <= 0:
                outcome.left.append(run)
                continue
            self._one(run, outcome)
        return outcome

    def _one(self, run: Planned, outcome: Outcome) -> None:
        folder = RunFolder(self.folder / run.id)
        self.display.begin(run)
        started = time.perf_counter()
        try:
            summary = train(
                run.config, self._corpus(run), folder, study=self.name, watch=self.display.watch, stop=self.stop
            )
        except Busy:
            outcome.busy.append(run)
            self.display.end(run, {"status": "busy", "reason": "another process trains it"}, 0.0)
            return
        except Stopped:
            outcome.stopped = True
            return
        except (UserError, KeyboardInterrupt):
            raise
        except Exception as error:
            if disk_trouble(error):  # which concerns every run that follows
                raise
            outcome.failed.append(run)
            self.display.end(run, folder.summary() or {}, time.perf_counter() - started)
        else:
            outcome.summaries[run.id] = summary
            self.display.end(run, summary, time.perf_counter() - started)
        if self.most is not None:
            self.most -= 1

    def _corpus(self, run: Planned) -> Corpus:
        data = run.config.data
        if (data.name, data.path) not in self._corpora:
            self._corpora[data.name, data.path] = load(data)
        return self._corpora[data.name, data.path]


def _by_shape(runs: Iterable[Planned]) -> Callable[[Planned], int]:
    order: dict[Any, int] = {}
    for run in runs:
        order.setdefault(static(run.config), len(order))
    return lambda run: order[static(run.config)]
