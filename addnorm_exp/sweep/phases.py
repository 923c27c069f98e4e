"""The protocol of a study: tune, choose the winners, report them on other seeds; or a plain sweep."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from addnorm_exp import tasks
from addnorm_exp.config.tasks.task import DataConfig
from addnorm_exp.data.spec import DataSpec
from addnorm_exp.errors import UserError
from addnorm_exp.experiment import Experiment, Shape
from addnorm_exp.runs import caveats
from addnorm_exp.runs.caveats import TableRow
from addnorm_exp.runs.folder import FINISHED, RunFolder
from addnorm_exp.runs.winners import Pairs
from addnorm_exp.sweep.agenda import Agenda, StudyAgenda
from addnorm_exp.sweep.combine import Overrides
from addnorm_exp.sweep.estimate import Estimator
from addnorm_exp.sweep.launchers.launcher import Launcher
from addnorm_exp.sweep.planner import run_folders, widths
from addnorm_exp.sweep.record import read_twins, write_plan
from addnorm_exp.sweep.selection import Filter, choose, unseeded, untuned
from addnorm_exp.sweep.study import Planned, Study
from addnorm_exp.sweep.twins import Twins, find, function_of
from addnorm_exp.train.loop import check_machine
from addnorm_exp.words import aligned, counted, duration, si


@dataclass(frozen=True)
class Plan:
    """The runs of a study as far as they are known before tuning: in the report phase each group's first candidate stands in for the
    winner. `tune` and `report` are what the filter leaves of `tuning` and `reporting`. A study without phases only reports."""

    tuning: tuple[Planned, ...]
    reporting: tuple[Planned, ...]
    tune: tuple[Planned, ...]
    report: tuple[Planned, ...]
    open_groups: int = 0  # for which no winner is known


def plan(study: Study, chosen: Filter, folder: Path | None = None) -> Plan:
    """The plan; with `folder`, the study's, groups that are tuned there have their winners.

    Raises UserError for a mistake in the plan, or if the filter leaves nothing to do.
    """
    if not study.phased:
        runs = study.sweep()
        report = choose(runs, chosen)
        _some(report, chosen)
        return Plan((), runs, (), report)
    tuning = study.tune()
    best, open_groups = _winners(study, folder, tuning) if folder else ([], study.stand_in(tuning))
    reporting = study.report([*best, *open_groups], tuning)
    tune, report = choose(tuning, unseeded(chosen)), choose(reporting, untuned(study, chosen))
    _some(tune, chosen)
    _reported(report, chosen)
    return Plan(tuning, reporting, tune, report, len(open_groups))


def selected(studies: Sequence[Study], chosen: Filter) -> tuple[Study, ...]:
    """The studies of a file of which the filter leaves runs. Raises UserError if there is none."""
    kept: list[Study] = []
    problems: list[UserError] = []
    for study in studies:
        try:
            plan(study, chosen)
            kept.append(study)
        except NothingSelected as problem:
            problems.append(problem)
    if not kept:
        raise problems[0]
    return tuple(kept)


def agenda_of(study: Study, folder: Path, chosen: Filter, planned: Plan, launcher: Launcher) -> Agenda:
    """The agenda of a checked plan. Prints the lines above the table, and writes the plan."""
    runs = (*planned.tuning, *planned.reporting)
    twins = find((run.experiment for run in runs), read_twins(folder), launcher.display.say, launcher.ask)
    for line in above(study, planned.report or planned.tune, twins):
        launcher.display.say(line)
    if study.phased:
        return StudyAgenda(study, folder, planned.tune, planned.tuning, planned.reporting, chosen, twins)
    write_plan(folder, study, {"run": planned.reporting}, twins)
    return Agenda(planned.report, run_folders(folder), study.name)


def above(study: Study, runs: Sequence[Planned], twins: Twins) -> list[str]:
    """The lines above the table of these runs (runs/caveats.py)."""
    rows: dict[Pairs, TableRow] = {}
    keys = study.axes(runs)
    for run in runs:
        axes = run.pairs(keys)
        if axes not in rows:
            rows[axes] = TableRow(
                run.config.scheme, axes, asdict(tasks.recipe(run.experiment)), function_of(run.experiment)
            )
    lines = list(caveats.lines(list(rows.values()), twins.groups))
    if twins.skipped:
        lines.append(
            f"Not checked: whether two of these {twins.skipped} schemes are the same function. The models are too deep."
        )
    return lines


def _winners(study: Study, folder: Path, tuning: tuple[Planned, ...]) -> tuple[list[Overrides], list[Overrides]]:
    """The winners of groups in which every tuning run has ended, and what stands in for those of the others.

    A winner among half of the candidates is not valid, so a group waits for its last run. A failed run has ended.
    """
    read = {run.id: RunFolder(folder / run.id).summary() for run in tuning}
    summaries = {name: summary for name, summary in read.items() if summary is not None and summary.status != "running"}
    going = {study.group(run) for run in tuning if run.id not in summaries}
    ended = [run for run in tuning if study.group(run) not in going]
    return study.select(ended, summaries), study.stand_in(run for run in tuning if study.group(run) in going)


def dry_run(study: Study, folder: Path, chosen: Filter, width: int = 1) -> str:
    """The plan with its cost, as text, where packs have up to `width` runs. A group that is not tuned yet is counted with its first
    candidate as the winner.

    The plan is checked as before training. Nothing is fetched or written. If this machine cannot train a run, a line says so; this is not
    an error, because the plan may be for another machine.
    """
    planned = plan(study, chosen, folder)
    phases = {"tune": planned.tune, "report": planned.report} if study.phased else {"run": planned.report}
    estimator = Estimator(folder)
    everything = [run for runs in phases.values() for run in runs]
    summaries = estimator.learn(everything)
    statuses = {name: summary.status for name, summary in summaries.items()}
    unfinished = (tuple(run for run in runs if statuses.get(run.id) not in FINISHED) for runs in phases.values())
    refused, remarked = _checked(
        pair for runs in unfinished for pair in zip(runs, widths(runs, width, run_folders(folder)), strict=True)
    )
    warnings = above(
        study, planned.report or planned.tune, find((run.experiment for run in everything), read_twins(folder))
    )
    lines: list[str] = []
    missing: list[Planned] = []
    for phase, runs in phases.items():
        count = planned.open_groups
        candidates = "its first candidate is" if count == 1 else "their first candidates are"
        assumption = f" ({counted(count, 'group')} not tuned yet: {candidates} listed)" if count else ""
        lines.append(f"{phase}: {counted(len(runs), 'run')}{assumption if phase == 'report' else ''}")
        rows = [("id", "run", "parameters", "FLOPs", "time", "status")]
        for run in runs:
            cost, status = estimator.cost(run), statuses.get(run.id, "to do")
            if status not in FINISHED:
                missing.append(run)
            rows.append(
                (run.id, run.label, f"{cost.parameters:,}", f"{si(cost.flops)}", duration(cost.seconds), status)
            )
        lines += [f"  {line}" for line in aligned(rows, right=(2, 3, 4))]
    to_fetch = dict.fromkeys(line for run in missing if (line := tasks.to_fetch(run.config)))
    if not missing:
        return "\n".join([*lines, *warnings, "nothing to do: every run has finished"]) + "\n"
    lines += [f"data: {line}" for line in (*to_fetch, *remarked)]
    lines += [f"this machine cannot train {counted(count, 'run')}: {reason}" for reason, count in refused.items()]
    total = estimator.total(missing)
    lines += warnings  # beside the total: above hundreds of rows, nobody sees them
    lines += [
        f"to do: {counted(total.runs, 'run')}, {si(total.flops)}FLOPs of training; about {duration(total.seconds)} on this machine",
        f"time: {total.parts()}; a rough estimate {total.basis()}",
    ]
    return "\n".join(lines) + "\n"


def _checked(runs: Iterable[tuple[Planned, int]]) -> tuple[Counter[str], dict[str, None]]:
    """The reasons why this machine cannot train some of these runs in packs of so many, with the number of runs for each; and remarks about
    the data, in order and without repetition.

    Raises UserError if the data do not suit a run.
    """
    specs: dict[tuple[str, DataConfig], DataSpec] = {}
    alike: dict[tuple[Shape, int], list[Experiment]] = {}  # they need the same of the machine
    refused: Counter[str] = Counter()
    remarked: dict[str, None] = {}
    for run, lanes in runs:
        key = run.config.task.name, replace(run.config.data, seed=None)
        if key not in specs:
            specs[key] = tasks.spec(run.config)
        alike.setdefault((run.experiment.shape, lanes), []).append(run.experiment)
        tasks.check(run.experiment, specs[key])
        remarked |= dict.fromkeys(tasks.remarks(run.experiment, specs[key]))
    for (_, lanes), experiments in alike.items():
        try:
            check_machine(experiments[0], lanes)
        except UserError as error:
            refused[str(error)] += len(experiments)
    return refused, remarked


class NothingSelected(UserError):
    """The filter leaves no run of a study."""


def _some(runs: tuple[Planned, ...], chosen: Filter, where: str = "of the plan") -> None:
    if not runs:
        text = ",".join(f"{key}={value}" for key, value in chosen.items())
        raise NothingSelected(
            f"--filter={text}: no run {where} has these values; list the runs with --dry_run and no --filter"
        )


def _reported(runs: tuple[Planned, ...], chosen: Filter) -> None:
    """A filter without a seed may select only tuning runs; one with a seed must select report runs."""
    if "seed" in chosen:
        _some(runs, chosen, "of the report phase (which the seed selects)")
