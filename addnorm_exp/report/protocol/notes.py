"""The notes under a table: the number of seeds, the phase, what is missing, what was not controlled."""

import functools
from collections.abc import Callable, Collection, Iterable, Sequence

from addnorm_exp.grouping import grouped
from addnorm_exp.report.load import StudyRuns
from addnorm_exp.report.protocol.groups import Group, Reported
from addnorm_exp.report.protocol.statistics import ENOUGH
from addnorm_exp.report.run import Run, progress
from addnorm_exp.runs import caveats
from addnorm_exp.runs.identity import SEMANTICS
from addnorm_exp.words import counted, show

EDGE = "†"
PHASES = {
    "report": "report phase (winners of tuning, re-run on fresh seeds)",
    "run": "all runs of the study (no tuning)",
    "tune": "tuning phase, each group's winner; its seeds chose it, so its numbers are optimistic",
}
LISTED = 12  # failed or unfinished runs that a note names


class Note(str):
    """A note on columns of the table. `within` has its text if only the columns with these keys are printed, or None."""

    within: Callable[[Collection[str]], str | None]

    def __new__(cls, text: str, within: Callable[[Collection[str]], str | None]) -> "Note":
        note = super().__new__(cls, text)
        note.within = within
        return note


def note(text: str, *keys: str) -> Note:
    """A note that is printed with any of these columns."""
    return Note(text, lambda printed: text if any(key in printed for key in keys) else None)


def setting(runs: Sequence[Run]) -> str:
    """Data, length and size, if all runs share them."""
    parts = []
    corpora = {(str(run.data.get("name")), str(run.data.get("sha256"))[:12]) for run in runs if run.data}
    if len(corpora) == 1:
        ((name, checksum),) = corpora
        parts.append(f"data {name} (sha256 {checksum})")
    facts = {key: {run.flat.get(key) for run in runs} for key in ("steps", "batch_size", "seq_len")}
    one = {key: next(iter(values)) for key, values in facts.items() if len(values) == 1}
    if len(one) == 3 and None not in one.values():
        parts.append(f"{counted(int(one['steps'] or 0), 'step')} of {one['batch_size']} × {one['seq_len']} tokens")
    for key, form in (("model.depth", lambda depth: counted(depth, "block")), ("model.width", "width {}".format)):
        values = {run.flat.get(key) for run in runs}
        if len(values) == 1 and None not in values:
            parts.append(form(int(values.pop() or 0)))
    return ", ".join(parts)


def above(study: StudyRuns, report: Reported) -> tuple[str, ...]:
    """The lines above the table: what differs between rows besides methods and axes, and which rows are the same function."""
    rows = []
    for group in report.groups:
        first = next((run for run in group.runs if run.resolved), None)
        if first is not None:
            axes = tuple((axis, group[axis]) for axis in report.varying)
            function = caveats.function_id(first.digest, first.flat) if first.digest else ""
            rows.append(caveats.TableRow(first.scheme, axes, first.resolved, function, report.words))
    return caveats.lines(rows, study.twins)


def phase_notes(report: Reported) -> list[str]:
    if report.phase == "run" and sum(len(group.runs) for group in report.groups) == 1:
        return ["A single run."]
    text = PHASES[report.phase]
    if report.phase == "tune" and not report.winners:
        text = "tuning phase; nothing has been chosen yet"
    if report.waiting:
        text += "; no run of the report phase has finished yet"
    return [f"Runs: {text}."]


def semantics_notes(study: StudyRuns) -> list[str]:
    """Whether all or some of the runs were made under other semantics of training."""
    if study.mixed_semantics:
        versions = ", ".join(str(v) for v in study.mixed_semantics)
        return [f"Runs of different semantics ({versions}) are mixed on request; their numbers cannot be compared."]
    if study.semantics in (None, SEMANTICS):
        return []
    return [
        f"Made under semantics {study.semantics}; this version trains under {SEMANTICS}, so new runs cannot be compared with these."
    ]


def seed_notes(groups: Sequence[Group]) -> list[str]:
    if not any(group.finished for group in groups):
        return []
    seeds = {tuple(run.seed for run in group.finished) for group in groups}
    if len(seeds) == 1:
        (used,) = seeds
        text = f"Seeds: {', '.join(map(str, used))} (n = {len(used)})"
    else:
        counts = sorted({len(used) for used in seeds})
        text = (
            f"Seeds: n = {counts[0]} to {counts[-1]}, by row"
            if len(counts) > 1
            else f"Seeds differ by row (n = {counts[0]})"
        )
    if min(len(used) for used in seeds) >= ENOUGH:
        return [f"{text}; mean ± half-width of the 95 % t interval."]
    return [f"{text}; below n = {ENOUGH} each seed's number is printed, in order of seed, and no ranking is claimed."]


def tuning_notes(study: StudyRuns, report: Reported, metric: str = "") -> list[str]:
    """Winners at the edge of the grid, incomplete candidates, and report runs that no longer belong to the winner. `metric` is the key
    of the column that has the mark of the edge if that of the tuned key is omitted."""
    lines: list[str] = []
    tune = study.phases.get("tune", ())
    for key in study.tuned:
        at_edge = [group for group in report.groups if key in report.edge(group)]
        for grid, groups in grouped(at_edge, functools.partial(_grid, tune, key)).items():
            rows = "all rows" if len(groups) == len(report.groups) > 1 else "; ".join(map(report.label, groups))
            text = f"{EDGE} {key} at the edge of its grid ({grid}) for {rows}: a wider grid may do better."
            lines.append(note(text, key, metric) if metric else text)
    without = [report.label(group) for group in report.groups if group.key not in report.winners]
    if tune and without and report.winners:  # if no group has a winner, the note on phases says so
        lines.append(f"{'; '.join(without)}: no tuning run has a score, so nothing was chosen.")
    for group in report.groups:
        winner = report.winners.get(group.key)
        if winner is None:
            continue
        chosen = caveats.in_keys(winner.tuned)
        if winner.incomplete:
            lines.append(f"{report.label(group)}: every candidate lacks a tuning run; {chosen} is the best of them.")
        elif winner.left_out:
            left = "; ".join(caveats.in_keys(tuned) for tuned in winner.left_out)
            lines.append(f"{report.label(group)}: not eligible, because a tuning run is missing: {left}.")
        if winner.diverged == winner.n:
            lines.append(f"{report.label(group)}: every tuning run of {chosen} diverged.")
        used = {tuple((k, run.flat.get(k)) for k in study.tuned) for run in group.runs}
        if report.phase == "report" and used != {winner.tuned}:
            lines.append(
                f"{report.label(group)}: the tuning runs now favour {chosen}; run the study again to report it."
            )
    return lines


def _grid(tune: Sequence[Run], key: str, group: Group) -> str:
    """The values of a tuned key that were tried for a group."""
    tried = {run.flat.get(key) for run in tune if all(run.flat.get(k) == v for k, v in group.key)}
    return ", ".join(show(v) for v in sorted(tried, key=lambda v: (str(type(v)), v)))


def run_notes(study: StudyRuns) -> list[str]:
    """Diverged, failed and unfinished runs of every phase, with their reasons."""
    lines = []
    for phase, runs in study.phases.items():
        where = f" in {phase}" if len(study.phases) > 1 else ""
        bad = [run for run in runs if run.status not in ("done", "missing")]
        for kind in ("diverged", "failed", *sorted({run.status for run in bad} - {"diverged", "failed"})):
            affected = [run for run in bad if run.status == kind]
            if not affected:
                continue
            word = "unfinished" if kind == "running" else kind
            named = list(
                dict.fromkeys(_named(run, study, reason=phase != "tune" or kind == "failed") for run in affected)
            )
            more = f"; and {len(named) - LISTED} more" if len(named) > LISTED else ""
            lines.append(
                f"{len(affected)} of {counted(len(runs), 'run')} {word}{where}: {'; '.join(named[:LISTED])}{more}."
            )
        if missing := sum(run.status == "missing" for run in runs):
            lines.append(f"{missing} of {counted(len(runs), 'run')} not run yet{where}.")
    if study.strangers:
        verb = "is" if study.strangers == 1 else "are"
        lines.append(f"{counted(study.strangers, 'run folder')} here {verb} not in the study's plan; omitted.")
    return lines + copy_notes(study)


def copy_notes(study: StudyRuns) -> list[str]:
    """Runs that are in two folders."""
    return [
        f"The same run is in {' and '.join(map(str, (first, *rest)))}; only {first} is shown."
        for first, *rest in study.copies
    ]


def nothing_finished(runs: Sequence[Run]) -> str | None:
    """Why these runs have no results if none of them has finished: their status."""
    if any(run.finished for run in runs):
        return None
    return "no run has finished yet" + (f" ({how_far(runs)})" if how_far(runs) else "")


def how_far(runs: Sequence[Run]) -> str:
    """The status of the runs that have not finished; empty if all have. `main.py runs` says whether one is being trained."""
    parts = []
    if begun := [run for run in runs if run.status == "running"]:
        first = max(begun, key=lambda run: run.number("step") or 0)
        parts.append(f"{len(begun)} unfinished, {'the most advanced ' * (len(begun) > 1)}{progress(first.summary)}")
    for status, word in (("failed", "failed"), ("missing", "to go")):
        count = sum(run.status == status for run in runs)
        parts += [f"{count} {word}"] * bool(count)
    return ", ".join(parts)


def _named(run: Run, study: StudyRuns, *, reason: bool) -> str:
    """A run by the axes of its study, with its seed and reason; without them in tuning, where divergence is a result."""
    facts = [run.scheme]
    facts += [f"{k} {show(run.flat[k])}" for k in (*study.group, *study.tuned) if k in run.flat and k != "scheme"]
    if not reason:
        return " ".join(facts)
    why = (run.reason or "no reason recorded").replace("\n", " ").removeprefix("unfinished, ").rstrip(".")
    return f"{' '.join(facts)} seed {run.seed} ({why[:160]})"


def device_notes(runs: Iterable[Run], *, column: bool = False) -> list[str]:
    """The devices on which ms/step was measured. `column`: whether it is a column, with which the note goes."""
    kinds = {f"{d.get('count', 1)} × {d.get('kind')}" for run in runs if (d := run.summary.device) is not None}
    if not kinds:
        return []
    if len(kinds) > 1:
        text = f"ms/step was measured on different devices ({', '.join(sorted(kinds))}) and cannot be compared."
    else:
        text = f"Device: {kinds.pop()}; ms/step includes the effect of other load at the time."
    return [note(text, "ms_per_step") if column else text]
