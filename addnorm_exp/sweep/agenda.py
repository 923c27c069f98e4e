"""What is to be trained and what has become of it: runs without an outcome, and those that have one.

An agenda of a study grows: the report runs of a group join it once the last tuning run of the group has ended.
"""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

from addnorm_exp.errors import UserError
from addnorm_exp.runs.finish import complete
from addnorm_exp.runs.folder import FINISHED
from addnorm_exp.runs.records import Summary
from addnorm_exp.runs.winners import Pairs
from addnorm_exp.sweep.combine import Overrides
from addnorm_exp.sweep.planner import FolderOf, run_folders
from addnorm_exp.sweep.record import write_plan
from addnorm_exp.sweep.selection import Filter, choose, untuned
from addnorm_exp.sweep.study import Planned, Study
from addnorm_exp.sweep.twins import Twins


class Agenda:
    """Runs to train, in order. `name` is the study's; `place` gives the folder of a run.

    `open` are the runs without an outcome, by id. Those that another process is training are in `busy`, and stay open.
    """

    def __init__(self, runs: Iterable[Planned], place: FolderOf, name: str | None = None):
        self.name, self.place = name, place
        self.planned: dict[str, Planned] = {}
        self.open: dict[str, Planned] = {}
        self.summaries: dict[str, Summary] = {}  # of finished runs
        self.failed: dict[str, str] = {}  # why, by id
        self.busy: list[Planned] = []
        self.stopped = False
        self.elsewhere = False  # whether other processes train what is open, and this command does not wait for them
        self._joined: list[Planned] = []
        self._add(runs)

    def _add(self, runs: Iterable[Planned]) -> None:
        for run in runs:
            self.planned[run.id] = run
            self._joined.append(run)
            if summary := self.finished(run):
                self.summaries[run.id] = summary
                complete(self.place(run), summary)
            else:
                self.open[run.id] = run

    def take(self) -> list[Planned]:
        """The runs that have joined the agenda since the last call, finished ones included."""
        joined, self._joined = self._joined, []
        return joined

    def finished(self, run: Planned) -> Summary | None:
        """The summary of the run if it is finished."""
        summary = self.place(run).summary()
        return summary if summary and summary.status in FINISHED else None

    def end(self, run: Planned, summary: Summary) -> None:
        """The run is finished."""
        self.summaries[run.id] = summary
        self.open.pop(run.id, None)

    def fail(self, run: Planned, reason: str = "") -> None:
        """The run has failed, and is not tried again."""
        self.failed[run.id] = reason
        self.open.pop(run.id, None)

    @property
    def waiting(self) -> int:
        """How many runs are not planned yet."""
        return 0

    @property
    def left(self) -> list[Planned]:
        """The open runs that nobody is training."""
        busy = {run.id for run in self.busy}
        return [run for run in self.open.values() if run.id not in busy]


class StudyAgenda(Agenda):
    """The agenda of a study with phases: `tune` are the tuning runs that are wanted, of all `tuning` runs; `reporting` are the report runs
    if each group's first candidate wins, and `chosen` is the filter.

    A group that is tuned may be reported while others are not, if the study's `report` treats each group by itself: then the report
    runs of all first candidates, group by group, are those of all groups at once. Otherwise the report waits for all groups.
    """

    def __init__(
        self,
        study: Study,
        folder: Path,
        tune: Sequence[Planned],
        tuning: tuple[Planned, ...],
        reporting: tuple[Planned, ...],
        chosen: Filter,
        twins: Twins,
    ):
        self.study, self.folder, self.tuning, self.reporting = study, folder, tuning, reporting
        self.twins, self.chosen = twins, untuned(study, chosen)
        self.report: dict[str, Planned] = {}  # the report runs that are planned, by id
        self._ticketed: set[str] = set()  # ids of runs with a ticket
        self._groups: dict[Pairs, list[Planned]] = {}
        for run in tuning:
            self._groups.setdefault(study.group(run), []).append(run)
        # Tuning runs that have ended, also in failure, and those that are not wanted.
        self._tried: dict[str, Summary] = {}
        self._best: dict[Pairs, Overrides | None] = {}  # of tuned groups; None: no run of the group has a score
        super().__init__(tune, run_folders(folder), study.name)
        for run in tuning:
            summary = self.place(run).summary()
            if summary and summary.status != "running" and run.id not in self.open:
                self._tried[run.id] = summary
        self._grow([group for group in self._groups if self._is_tuned(group)])

    def end(self, run: Planned, summary: Summary) -> None:
        super().end(run, summary)
        self._ended(run)

    def fail(self, run: Planned, reason: str = "") -> None:
        super().fail(run, reason)
        self._ended(run)

    def _ended(self, run: Planned) -> None:
        if run.phase != "tune":
            return
        if summary := self.place(run).summary():
            self._tried[run.id] = summary
        group = self.study.group(run)
        if self._is_tuned(group) or self._tuned:
            self._grow([group] if self._is_tuned(group) else [])

    def _is_tuned(self, group: Pairs) -> bool:
        """Whether the last run of a group has ended: the best of half of the candidates is no winner."""
        return all(run.id in self._tried for run in self._groups[group])

    @property
    def _tuned(self) -> bool:
        """Whether all wanted tuning runs have ended."""
        return not any(run.phase == "tune" for run in self.open.values())

    def _grow(self, tuned: Sequence[Pairs]) -> None:
        """Chooses the winners of these groups, adds the report runs that are known by now, and writes the plan."""
        for group in tuned:
            self._best[group] = next(iter(self.study.select(self._groups[group], self._tried)), None)
        best = {group: each for group in self._groups if (each := self._best.get(group)) is not None}
        if best and self._tuned:
            runs = self.study.report(list(best.values()), self.tuning)
            self.report = {run.id: run for run in runs}
        elif self._expected:
            runs = tuple(
                run for group in tuned if group in best for run in self.study.report([best[group]], self.tuning)
            )
            self.report |= {run.id: run for run in runs}
        else:
            runs = ()
        new = [run for run in runs if run.id not in self._ticketed]
        if not self._ticketed:
            new = [*self.tuning, *new]
        self._ticketed |= {run.id for run in new}
        self._add(run for run in choose(runs, self.chosen) if run.id not in self.planned)
        phases: dict[str, Iterable[Planned]] = {"tune": self.tuning}
        if self.report:
            phases["report"] = self.report.values()
        write_plan(self.folder, self.study, phases, self.twins, self.waiting, new)

    @property
    def waiting(self) -> int:
        """How many report runs are not planned yet."""
        open_groups = self._groups.keys() - self._best.keys()
        if self._expected:
            return sum(self._expected[group] for group in open_groups)
        return max(0, len(self.reporting) - len(self.report)) if open_groups else 0

    @functools.cached_property
    def _expected(self) -> dict[Pairs, int]:
        """How many report runs each group has; empty if `report` does not treat each group by itself."""
        runs: dict[Pairs, tuple[Planned, ...]] = {}
        try:
            for group, candidates in self._groups.items():
                runs[group] = self.study.report(self.study.stand_in(candidates), self.tuning)
        except UserError:  # it needs more than one winner
            return {}
        apart = {run.id for of_group in runs.values() for run in of_group}
        if apart != {run.id for run in self.reporting}:
            return {}
        return {group: len(of_group) for group, of_group in runs.items()}
