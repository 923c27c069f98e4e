"""The ablation table of a study, by the protocol: the test metric, its difference to the baseline, costs and confounds.

There is one row per group. Costs and confounds that differ between rows are columns; the others are in one note, so that none is hidden
and the table fits a terminal. CSV has every number of every row.
"""

from collections.abc import Sequence
from typing import Any

from addnorm_exp.report.load import StudyRuns
from addnorm_exp.report.protocol import notes
from addnorm_exp.report.protocol.best import best_rows
from addnorm_exp.report.protocol.compare import Comparison, compare
from addnorm_exp.report.protocol.confounds import COSTS, facts
from addnorm_exp.report.protocol.groups import Group, Reported, labelled, reported
from addnorm_exp.report.protocol.learning_rates import Sensitivity, sensitivity
from addnorm_exp.report.protocol.metric import Budget, Measure, choose, primary_of
from addnorm_exp.report.protocol.outcome import NOTHING, Outcome, outcome, shared_places
from addnorm_exp.report.protocol.statistics import ENOUGH
from addnorm_exp.report.run import UNWRITTEN
from addnorm_exp.report.tables import published_column
from addnorm_exp.report.tables.empty_cells import dash_notes
from addnorm_exp.report.tables.render import Column, Table
from addnorm_exp.runs.metrics import Metric
from addnorm_exp.words import show

Numbers = Sequence[dict[str, Any]]  # one entry per row, for CSV


def build(
    study: StudyRuns,
    *,
    baseline: str | None = None,
    metric: str | None = None,
    budget: Budget | None = None,
    p_values: bool = True,
    labels: str = "names",
) -> Table:
    """The study's table: one row per group of the reported phase.

    `baseline` names the row to compare with (default: the study's), `metric` a number in the summaries instead of the protocol's,
    `budget` reads the validation loss at an equal budget instead.
    Without `p_values`, only intervals are printed (CSV has both). `labels` sets the names of rows: names (keys) or titles.

    Raises:
        UserError: the baseline or the metric does not exist; no run reaches the budget.
    """
    report = labelled(reported(study), study, labels)
    chosen = choose(report, metric, budget, validation=report.phase == "tune")
    main = [chosen.of(group) for group in report.groups]
    compared = compare(report, main, baseline, study.baseline)
    rows = _Rows(study, report)

    rows.add(chosen.key, chosen.label, [o.text(shared_places(main)) for o in main], _numbers(chosen, report, main))
    for side in published_column.sides(study.published, report):
        rows.add(f"published_{side.metric}", f"published {side.metric}", side.texts, side.records)
    if len(main) > 1:
        label = f"Δ to {compared.name}" if compared.name else "Δ"
        rows.add("difference", label, compared.texts(), compared.records())
    if any(p is not None for p in compared.adjusted):
        rows.add("p", "p (Holm)", compared.p_texts(), compared.p_records(), seen=p_values)
    primary = primary_of(report.runs)
    unit = primary.name
    final, best = ([_validation(group, which, primary) for group in report.groups] for which in ("final", "best"))
    final_texts, best_texts = ([o.brief(shared_places(final)) for o in outcomes] for outcomes in (final, best))
    for which, label, outcomes, texts, seen in (
        ("final", f"val {unit}{primary.arrow}", final, final_texts, chosen.split != "val" and any(o.n for o in final)),
        ("best", f"best val {unit}{primary.arrow}", best, best_texts, best_texts != final_texts),
    ):
        side_key = f"val_{which}_{unit}"
        numbers = [o.columns(side_key) for o in outcomes]
        rows.add(side_key, label, texts, numbers, seen=seen and chosen.headline)
    for key in study.tuned:
        rows.add(key, key.removeprefix("optim."), *_tuned(report, key))
    sensitive = sensitivity(study, report, primary)
    if sensitive and sensitive.rates:
        scores = [sensitive.scores.get(group.key) for group in report.groups]
        texts = [NOTHING if score is None else f"{score:.3f}" for score in scores]
        numbers = [{"lr_sensitivity": score} for score in scores]
        rows.add("lr_sensitivity", "LR sens.", texts, numbers, seen=sensitive.printed)
    context = facts(study, report)
    for fact in context:
        rows.add(fact.key, fact.label, fact.texts, [{fact.key: v} for v in fact.values], fact.right, fact.seen)
    same = ["best validation at the last step"] * (best == final and any(o.values for o in best))
    same += [fact.shared for fact in context if fact.shared]
    bold, bold_note = best_rows(chosen, main)
    explained = {"lr_sensitivity": sensitive.untrained if sensitive else ()}
    if chosen.steps is not None:  # the metric's own note names the runs that ended before the budget
        explained[chosen.key] = tuple(compared.labels)
    dashes = dash_notes(report, rows.columns, rows.rows, compared, explained)
    return Table(
        name=study.name,
        bold={chosen.key: bold} if bold else {},
        bold_note=bold_note,
        title=", ".join(part for part in (study.name, notes.setting(report.runs)) if part),
        columns=rows.columns,
        rows=rows.rows,
        notes=_notes(study, report, chosen, main, compared, same, sensitive, p_values, dashes, rows.columns),
        records=rows.records,
        warnings=notes.above(study, report),
    )


class _Rows:
    """Columns, texts and CSV records, extended column by column."""

    def __init__(self, study: StudyRuns, report: Reported):
        self.columns = [Column(axis, report.heading(axis), right=False, axis=True) for axis in report.varying]
        self.rows = [[report.cell(axis, group) for axis in report.varying] for group in report.groups]
        self.records: list[dict[str, Any]] = [
            {"study": study.name, "phase": report.phase}
            | {axis: group[axis] for axis in report.axes}
            | {"n": len(group.finished), "diverged": len(outcome(group.runs, lambda run: None).diverged)}
            | {"unfinished": len(group.runs) - len(group.finished)}
            | {"seeds": " ".join(str(run.seed) for run in group.finished)}
            for group in report.groups
        ]

    def add(
        self, key: str, label: str, texts: Sequence[str], numbers: Numbers, right: bool = True, seen: bool = True
    ) -> None:
        """Adds a column; if it is not `seen`, it is only in CSV."""
        self.columns += [Column(key, label, right)] * seen
        for row, text, record, entry in zip(self.rows, texts, self.records, numbers, strict=True):
            row += [text] * seen
            record.update(entry)


def _validation(group: Group, which: str, metric: Metric) -> Outcome:
    return outcome(group.runs, lambda run: run.number("val", which, metric.name), metric.hopeless)


def _numbers(chosen: Measure, report: Reported, main: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The metric's numbers for CSV, with the step of each seed's reading if that is not the last one."""
    rows = [outcome.columns(chosen.key) for outcome in main]
    if chosen.steps is not None:
        for row, group in zip(rows, report.groups, strict=True):
            steps = [chosen.steps(run) for run in group.runs if run.status == "done"]
            row[f"{chosen.key}_steps"] = " ".join(str(step) for step in steps if step is not None)
    return rows


def _tuned(report: Reported, key: str) -> tuple[list[str], list[dict[str, Any]]]:
    texts, numbers = [], []
    for group in report.groups:
        values = list(dict.fromkeys(run.flat.get(key) for run in group.runs if key in run.flat))
        edge = key in report.edge(group)
        texts.append((" | ".join(show(v) for v in values) or NOTHING) + notes.EDGE * edge)
        numbers.append({key: values[0] if len(values) == 1 else texts[-1], f"{key}_edge": edge})
    return texts, numbers


def _notes(
    study: StudyRuns,
    report: Reported,
    chosen: Measure,
    main: Sequence[Outcome],
    compared: Comparison,
    same: Sequence[str],
    sensitive: Sensitivity | None,
    p_values: bool,
    dashes: Sequence[str],
    columns: Sequence[Column],
) -> list[str]:
    silent = any(all(run.summary is UNWRITTEN for run in group.runs) for group in report.groups)
    lines = [f"Same for all{' that have run' * silent}: {', '.join(same)}."] if same else []
    lines += [*notes.phase_notes(report), *notes.semantics_notes(study), *notes.seed_notes(report.groups)]
    lines += [notes.note(text, chosen.key) for text in chosen.notes]
    if any(o.diverged for o in main):
        text = "A row with diverged runs shows their number and the median that counts them as worst; no mean, no difference."
        lines.append(notes.note(text, chosen.key))
    keys = [column.key for column in columns]
    if chosen.headline and any(1 < o.n < ENOUGH or (o.diverged and o.n > 1) for o in main):
        medians = [key for key in keys if key in COSTS or key.startswith("val_")]
        lines += [notes.note("Numbers without ±, apart from the metric, are medians over seeds.", *medians)] * bool(
            medians
        )
    lines += [*compared.notes(p_values), *dashes]
    lines += [notes.note(sensitive.note, "lr_sensitivity")] if sensitive and sensitive.note else []
    return [
        *lines,
        *(
            notes.note(text, *(key for key in keys if key.startswith("published_")))
            for text in published_column.notes(study.published, report)
        ),
        *notes.tuning_notes(study, report, chosen.key),
        *notes.run_notes(study),
        *notes.device_notes(report.runs, column="ms_per_step" in keys),
    ]
