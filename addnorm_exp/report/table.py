"""The ablation table of a study, by the protocol: the test metric, its difference to the baseline, costs and confounds.

One row a group. Costs and confounds that differ between rows are columns, those that do not stand in one note: none is hidden, and
the table fits a terminal. CSV has every number of every row.
"""

from collections.abc import Callable, Sequence
from typing import Any

from addnorm_exp.errors import UserError, nearest
from addnorm_exp.report import notes
from addnorm_exp.report.groups import Group, Reported, reported, show
from addnorm_exp.report.load import Study
from addnorm_exp.report.outcome import NOTHING, Outcome, decimals, outcome
from addnorm_exp.report.record import Run
from addnorm_exp.report.render import Column, Table
from addnorm_exp.report.statistics import ENOUGH, Paired, holm, minimum_detectable, paired

CONFOUNDS = ("norm", "final_norm", "eps", "affine", "init", "warmup", "dtype", "evidence")
NAMES = {"final_norm": "final norm", "eps": "ε"}

Numbers = Sequence[dict[str, Any]]  # a row each, for CSV


def unit_of(runs: Sequence[Run]) -> str:
    """bpb where any run has it, else loss."""
    return "bpb" if any(run.number(s, "final", "bpb") is not None for run in runs for s in ("test", "val")) else "loss"


def metric_of(runs: Sequence[Run]) -> tuple[str, str]:
    """The headline number of these runs as (split, unit): test, or validation where no run has been tested."""
    unit = unit_of(runs)
    tested = any(run.number("test", "final", unit) is not None for run in runs)
    validated = any(run.number("val", "final", unit) is not None for run in runs)
    return ("val" if validated and not tested else "test"), unit


def measure(group: Group, *path: str) -> Outcome:
    return outcome(group.runs, lambda run: run.number(*path))


def baselines(shown: Reported, name: str | None, *, strict: bool) -> tuple[list[int | None], str]:
    """For every group the index of the group that it is compared with, and the baseline's name.

    `name` is the value of an axis (a scheme, usually): every group is compared with the one that has this value and shares its
    other axes. It may also be one group's whole label. Not given: the first row. Unknown: a `UserError` if `strict`, else the first.
    """
    groups = shown.groups
    if not groups:
        return [], ""
    labels = [shown.label(group) for group in groups]
    if name in labels and len(shown.varying) > 1:
        return [labels.index(name)] * len(groups), name
    for axis in shown.varying:
        if name is not None and any(str(group[axis]) == name for group in groups):
            value = next(group[axis] for group in groups if str(group[axis]) == name)
            index = {group.key: i for i, group in enumerate(groups)}
            twins = [tuple((a, value if a == axis else v) for a, v in group.key) for group in groups]
            return [index.get(twin) for twin in twins], name
    if name is not None and strict:
        raise UserError(
            f"--baseline={name}: no such row; {nearest(name, {*labels, *(str(g[a]) for g in groups for a in shown.varying)})}"
        )
    free = [axis for axis in shown.varying if len({repr(group[axis]) for group in groups}) > 1]
    if free and str(groups[0][free[0]]) != name:
        return baselines(shown, str(groups[0][free[0]]), strict=False)
    return [0] * len(groups), labels[0]


def build(study: Study, *, baseline: str | None = None) -> Table:
    """The study's table: one row a group of the reported phase."""
    shown = reported(study)
    runs = [run for group in shown.groups for run in group.runs]
    split, unit = metric_of(runs)
    wanted = baseline or study.baseline
    against, name = baselines(shown, wanted, strict=baseline is not None)
    lost = wanted if wanted is not None and wanted != name and len(shown.groups) > 1 else None
    main = [measure(group, split, "final", unit) for group in shown.groups]
    compared = [None if j is None or i == j else paired_with(main[i], main[j]) for i, j in enumerate(against)]
    adjusted = _holm(compared)

    columns: list[Column] = [Column(axis, axis, right=False) for axis in shown.varying]
    rows: list[list[str]] = [[show(group[axis]) for axis in shown.varying] for group in shown.groups]
    records: list[dict[str, Any]] = [
        {"study": study.name, "phase": shown.phase}
        | {axis: group[axis] for axis in shown.axes}
        | {"n": len(group.finished), "diverged": len(outcome(group.runs, lambda run: None).diverged)}
        | {"unfinished": len(group.runs) - len(group.finished)}
        | {"seeds": " ".join(str(run.seed) for run in group.finished)}
        for group in shown.groups
    ]

    def add(
        key: str, label: str, texts: Sequence[str], numbers: Numbers, right: bool = True, seen: bool = True
    ) -> None:
        """A column; one that is not `seen` is in CSV alone."""
        columns.extend([Column(key, label, right)] * seen)
        for row, text, record, found in zip(rows, texts, records, numbers, strict=True):
            row.extend([text] * seen)
            record.update(found)

    add(f"{split}_{unit}", f"{split} {unit}", [o.text() for o in main], [o.columns(f"{split}_{unit}") for o in main])
    if len(main) > 1:
        add(
            "difference",
            f"Δ to {name}" if name else "Δ",
            [_difference(i, against[i], main, compared[i]) for i in range(len(main))],
            [_difference_numbers(i, against[i], main, compared[i], shown) for i in range(len(main))],
        )
    if any(p is not None for p in adjusted):
        texts = [NOTHING if p is None else "<0.001" if p < 0.001 else f"{p:.3f}" for p in adjusted]
        add(
            "p",
            "p (Holm)",
            texts,
            [
                {"p": None if c is None or a is None else c.p, "p_holm": a}
                for c, a in zip(compared, adjusted, strict=True)
            ],
        )
    final, best = ([measure(group, "val", which, unit) for group in shown.groups] for which in ("final", "best"))
    for which, label, found, seen in (
        ("final", f"val {unit}", final, split != "val"),
        ("best", f"best val {unit}", best, best != final),
    ):
        side = f"val_{which}_{unit}"
        add(side, label, [o.brief() for o in found], [o.columns(side) for o in found], seen=seen)
    for key in study.tuned:
        add(key, key.removeprefix("optim."), *_tuned(shown, key))
    same = ["best validation at the last step"] * (best == final and any(o.values for o in best))
    for key, label, texts, numbers in _costs(shown):
        alike = len(set(texts)) == 1 and len(texts) > 1 and NOTHING not in texts
        same += [f"{texts[0]} {label}"] * alike
        add(key, label, texts, numbers, seen=not alike)
    for key, texts in _confounds(study, shown):
        label = NAMES.get(key, key)
        known = {text for text in texts if text != NOTHING}
        alike = len(known) == 1 and not (len(texts) > 1 and "|" in next(iter(known)))
        same += [f"{label} {known.pop()}"] * alike
        add(key, label, texts, [{key: text} for text in texts], right=False, seen=bool(known) and not alike)
    return Table(
        title=", ".join(part for part in (study.name, notes.setting(runs)) if part),
        columns=columns,
        rows=rows,
        notes=_notes(study, shown, main, compared, adjusted, same, split, name, against, lost),
        records=records,
    )


def paired_with(own: Outcome, base: Outcome) -> Paired | None:
    """The paired difference where five shared seeds and no divergence allow it."""
    if own.diverged or base.diverged or len(set(own.values) & set(base.values)) < ENOUGH:
        return None
    return paired(own.values, base.values)


def _holm(compared: Sequence[Paired | None]) -> list[float | None]:
    adjusted = iter(holm([found.p for found in compared if found]))
    return [next(adjusted) if found else None for found in compared]


def _difference(i: int, j: int | None, main: Sequence[Outcome], found: Paired | None) -> str:
    if i == j:
        return "baseline"
    if j is None or main[i].diverged or main[j].diverged:
        return NOTHING
    if found:
        places = decimals(found.half)
        return f"{found.mean:+.{places}f} [{found.low:+.{places}f}, {found.high:+.{places}f}]"
    shared = sorted(set(main[i].values) & set(main[j].values))
    return ", ".join(f"{main[i].values[s] - main[j].values[s]:+.3f}" for s in shared) or NOTHING


def _difference_numbers(
    i: int, j: int | None, main: Sequence[Outcome], found: Paired | None, shown: Reported
) -> dict[str, Any]:
    numbers: dict[str, Any] = {"baseline": None if j is None else shown.label(shown.groups[j])}
    shared = [] if j is None or i == j else sorted(set(main[i].values) & set(main[j].values))
    numbers["difference"] = found.mean if found else None
    numbers["difference_low"] = found.low if found else None
    numbers["difference_high"] = found.high if found else None
    numbers["difference_seeds"] = (
        " ".join(f"{main[i].values[s] - main[j].values[s]:.6g}" for s in shared) if j is not None else None
    )
    numbers["minimum_detectable"] = minimum_detectable(found.sd, found.n) if found else None
    return numbers


def _tuned(shown: Reported, key: str) -> tuple[list[str], list[dict[str, Any]]]:
    texts, numbers = [], []
    for group in shown.groups:
        values = list(dict.fromkeys(run.flat.get(key) for run in group.runs if key in run.flat))
        edge = group.key in shown.winners and key in shown.winners[group.key].edge
        texts.append((" | ".join(show(v) for v in values) or NOTHING) + notes.EDGE * edge)
        numbers.append({key: values[0] if len(values) == 1 else texts[-1], f"{key}_edge": edge})
    return texts, numbers


def _costs(shown: Reported) -> list[tuple[str, str, list[str], Numbers]]:
    """Key, label, texts and numbers of each cost: the median over a group's runs that have it (diverged ones too: the program was
    the same)."""
    kinds: tuple[tuple[str, str, str, Callable[[float], float], Callable[[float], str]], ...] = (
        ("parameters", "parameters", "params", round, lambda v: f"{v:,}"),
        ("flops_per_token", "flops_per_token", "FLOPs/token", round, _si),
        ("ms_per_step", "step_time_s", "ms/step", lambda v: 1e3 * v, lambda v: f"{v:.3g}"),
    )
    found: list[tuple[str, str, list[str], Numbers]] = []
    for name, key, label, convert, form in kinds:
        medians = [
            Outcome({i: v for i, run in enumerate(group.runs) if (v := run.number(key)) is not None}).median
            for group in shown.groups
        ]
        values = [None if value is None else convert(value) for value in medians]
        texts = [NOTHING if value is None else form(value) for value in values]
        found.append((name, label, texts, [{name: value} for value in values]))
    return found


def _si(value: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def _confounds(study: Study, shown: Reported) -> list[tuple[str, list[str]]]:
    """Each confound with its text in every row; the learning rate belongs to them where it is neither tuned nor an axis."""
    keys = dict.fromkeys(CONFOUNDS)
    for group in shown.groups:
        for run in group.runs:
            keys |= dict.fromkeys(run.summary.get("confounds") or ())
    found = [(key, [_values(group, _confound(key)) for group in shown.groups]) for key in keys]
    if "optim.lr" not in (*study.tuned, *shown.varying):
        found.append(("lr", [_values(group, lambda run: run.flat.get("optim.lr", ...)) for group in shown.groups]))
    return found


def _confound(key: str) -> Callable[[Run], Any]:
    return lambda run: (run.summary.get("confounds") or {}).get(key, ...)


def _values(group: Group, read: Callable[[Run], Any]) -> str:
    values = [read(run) for run in group.runs]
    return " | ".join(dict.fromkeys("none" if v is None else show(v) for v in values if v is not ...)) or NOTHING


def _notes(
    study: Study,
    shown: Reported,
    main: Sequence[Outcome],
    compared: Sequence[Paired | None],
    adjusted: Sequence[float | None],
    same: Sequence[str],
    split: str,
    name: str,
    against: Sequence[int | None],
    lost: str | None,
) -> list[str]:
    """The table's notes. `name` is the baseline's, `lost` that of the study's plan where no row has it."""
    lines = [f"Same for all: {', '.join(same)}."] if same else []
    lines += [*notes.phase_notes(shown), *notes.semantics_notes(study)]
    lines += notes.seed_notes(shown.groups) if shown.groups else []
    lines.append(
        "The metric is that of the final weights"
        + ("." if split == "test" else "; no run was tested, so it is of the validation split.")
    )
    if any(o.diverged for o in main):
        lines.append("Where a run diverged: how many, and the median with those as worst; no mean, no difference.")
    if any(0 < o.n < ENOUGH for o in main) or any(o.diverged for o in main):
        lines.append("Side columns without ± are medians over seeds.")
    if any(compared):
        found = [
            f"{shown.label(g)} {minimum_detectable(c.sd, c.n):.2g}"
            for g, c in zip(shown.groups, compared, strict=True)
            if c
        ]
        family = sum(p is not None for p in adjusted)
        lines.append(
            f"Δ: mean paired difference to {name} over shared seeds [95 % interval]; p two-sided, Holm-corrected over {family}."
        )
        lines.append(f"Minimum detectable difference (paired, α = 0.05, power 0.8): {', '.join(found)}.")
    if lost is not None:
        lines.append(f"The study's baseline {lost} is no row here; Δ is to {name}, which the first row has.")
    if any(j is None for j in against):
        lines.append(f"No Δ where no row {name} shares the other axes.")
    return [
        *lines,
        *notes.tuning_notes(study, shown),
        *notes.run_notes(study),
        *notes.device_notes([run for group in shown.groups for run in group.runs]),
    ]
