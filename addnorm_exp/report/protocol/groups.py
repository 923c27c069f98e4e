"""Which runs are seeds of one another, and which phase is reported.

A group is a set of runs that differ only in their seed. The study names the axes that distinguish groups. An axis that it does not name
but that differs (e.g. loose runs with several learning rates in one folder) is added; otherwise different experiments would count as
seeds of one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from addnorm_exp.grouping import grouped
from addnorm_exp.report.load import StudyRuns
from addnorm_exp.report.protocol.titles import AXES, Titles, titled, titles_of, value_title
from addnorm_exp.report.run import Run
from addnorm_exp.runs.caveats import in_keys
from addnorm_exp.runs.metrics import primary
from addnorm_exp.runs.winners import Candidate, Pairs, Winner, final_value, score, winners
from addnorm_exp.words import show


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed, by rising seed. `key` has the axes with their values."""

    key: Pairs
    runs: tuple[Run, ...]

    def __getitem__(self, axis: str) -> Any:
        return dict(self.key)[axis]

    @property
    def finished(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.finished)


@dataclass(frozen=True)
class Reported:
    """What the table and the pictures show: groups of one phase, in the order of the plan."""

    phase: str
    groups: tuple[Group, ...]
    axes: tuple[str, ...]  # of every group's key
    winners: dict[Pairs, Winner]  # of the tuning phase, by group key
    waiting: bool = False  # the report phase exists, but none of its runs has finished
    titles: Titles | None = None  # if set, rows are labelled by titles, else by keys

    @property
    def runs(self) -> list[Run]:
        return [run for group in self.groups for run in group.runs]

    @property
    def varying(self) -> tuple[str, ...]:
        """The axes that differ between groups; the scheme is always included and first."""
        rest = [a for a in self.axes if a != "scheme" and len({repr(g[a]) for g in self.groups}) > 1]
        return ("scheme", *rest) if "scheme" in self.axes else tuple(rest)

    def name(self, group: Group) -> str:
        """A short name in keys, unique within the report: the scheme, and other axes if they differ."""
        return in_keys((axis, group[axis]) for axis in self.varying)

    def label(self, group: Group) -> str:
        """The printed name: in titles if these are set."""
        return self.words((axis, group[axis]) for axis in self.varying)

    def words(self, pairs: Iterable[tuple[str, Any]]) -> str:
        """Axes and their values as printed."""
        return in_keys(pairs) if self.titles is None else titled(pairs, self.titles)

    def edge(self, group: Group) -> tuple[str, ...]:
        """The tuned keys of the group's winner that are at an edge of their grid."""
        return self.winners[group.key].edge if group.key in self.winners else ()

    def cell(self, axis: str, group: Group) -> str:
        """A row's value of one axis, as printed in the table."""
        return show(group[axis]) if self.titles is None else value_title(axis, group[axis], self.titles)

    def heading(self, axis: str) -> str:
        """The table's name of an axis."""
        return axis if self.titles is None else AXES.get(axis, axis)

    def titled(self, name: str) -> str:
        """The printed form of the name of a scheme, of a row, or of another axis's value."""
        if self.titles is None:
            return name
        rows = {self.name(group): self.label(group) for group in self.groups}
        values = {str(g[a]): value_title(a, g[a], self.titles) for g in self.groups for a in self.varying}
        return (values | rows).get(name, name)


def labelled(report: Reported, study: StudyRuns, labels: str) -> Reported:
    """The report with rows labelled by `titles` (Peri-LN) or by `names` (peri_ln)."""
    return replace(report, titles=titles_of(study)) if labels == "titles" else report


def schemes(study: StudyRuns, report: Reported) -> list[str]:
    """A study's schemes in the order of their looks: reported schemes first."""
    return list(dict.fromkeys(run.scheme for run in (*report.runs, *study.runs)))


def value_of(run: Run, axis: str) -> Any:
    return run.scheme if axis == "scheme" else run.flat.get(axis)


def key_of(run: Run, axes: Iterable[str]) -> Pairs:
    return tuple((axis, value_of(run, axis)) for axis in axes)


def axes_of(study: StudyRuns, runs: Sequence[Run], free: Iterable[str] = ()) -> tuple[str, ...]:
    """The study's group axes and those that differ within its groups besides the seed and the keys in `free`."""
    axes = [axis for axis in study.group if axis not in (*free, "seed")]
    while True:
        groups = groups_of(runs, axes)
        more = {key for group in groups for key in _differing(group.runs)} - {"seed", *free, *axes}
        if not any(len({run.seed for run in group.runs}) < len(group.runs) for group in groups):
            more.discard("data.seed")  # it varies with the seed, so it is part of the replication
        if not more:
            return tuple(axes)
        axes += sorted(more)


def _differing(runs: Sequence[Run]) -> set[str]:
    keys = {key for run in runs if run.status != "missing" for key in run.flat} - {"scheme"}
    present = [run for run in runs if run.status != "missing"]
    return {key for key in keys if len({repr(run.flat.get(key)) for run in present}) > 1}


def groups_of(runs: Iterable[Run], axes: Sequence[str]) -> tuple[Group, ...]:
    by_key = grouped(runs, lambda run: key_of(run, axes))
    return tuple(Group(key, tuple(sorted(members, key=lambda run: run.seed))) for key, members in by_key.items())


def reported(study: StudyRuns) -> Reported:
    """The report phase. Before any of its runs has finished: the plain runs, or else each group's winner of tuning."""
    tune, report = study.phases.get("tune", ()), study.phases.get("report", ())
    axes = axes_of(study, tune, study.tuned)
    candidates = (
        Candidate(
            key_of(run, axes),
            key_of(run, study.tuned),
            run.seed,
            score(run.summary),
            run.status,
            final_value(run.summary),
        )
        for run in tune
    )
    best = winners(candidates, primary(run.summary for run in tune))
    if any(run.finished for run in report) or (report and not tune):
        wide = tuple(dict.fromkeys((*axes, *axes_of(study, report, study.tuned))))
        rows = groups_of(report, wide)
        chosen = {g.key: best[key] for g in rows if (key := tuple(p for p in g.key if p[0] in axes)) in best}
        return Reported("report", rows, wide, chosen)
    plain = [run for phase, runs in study.phases.items() if phase not in ("tune", "report") for run in runs]
    if plain or not tune:
        axes = axes_of(study, plain)
        return Reported("run", groups_of(plain, axes), axes, {}, bool(report))
    won = {key: winner.tuned for key, winner in best.items()}
    groups = tuple(
        Group(group.key, tuple(run for run in group.runs if key_of(run, study.tuned) == won.get(group.key)))
        for group in groups_of(tune, axes)
    )
    return Reported("tune", groups, axes, best, bool(report))
