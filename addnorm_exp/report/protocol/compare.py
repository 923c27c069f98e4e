"""Every row against its baseline: paired differences over shared seeds, Holm's correction, the minimum detectable difference."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from addnorm_exp import words
from addnorm_exp.errors import UserError, nearest
from addnorm_exp.report.protocol.groups import Reported
from addnorm_exp.report.protocol.notes import Note, note
from addnorm_exp.report.protocol.outcome import NOTHING, Outcome, shared_decimals, shared_places
from addnorm_exp.report.protocol.statistics import ENOUGH, Paired, detectable_effect, holm, minimum_detectable, paired


@dataclass(frozen=True)
class Comparison:
    """One entry per row. `against` is the row that it is compared with: itself for a baseline, or None."""

    main: Sequence[Outcome]
    labels: Sequence[str]
    against: Sequence[int | None]
    name: str  # the baseline's
    lost: str | None  # the baseline that the study names, if no row has it
    differences: Sequence[Paired | None]  # None with fewer than five shared seeds or a diverged run
    adjusted: Sequence[float | None]  # p, Holm-corrected over all of these
    within: Sequence[str] = ()  # headings of the axes that a row shares with its baseline, if there are several

    def texts(self) -> list[str]:
        """The differences, as printed."""
        tested = [(f, self.against[i]) for i, f in enumerate(self.differences) if f]
        sizes = [abs(value) for _, j in tested if j is not None for value in self.main[j].values.values()]
        places = shared_decimals([f.half for f, _ in tested], max(sizes)) if tested else shared_places(self.main)
        return [self._text(i, places) for i in range(len(self.main))]

    def _text(self, i: int, places: int | None) -> str:
        j, difference = self.against[i], self.differences[i]
        if i == j:
            return "baseline"
        if j is None or self.main[i].diverged or self.main[j].diverged:
            return NOTHING
        if difference:
            numbers = (difference.mean, difference.low, difference.high)
            mean, low, high = (words.signed(value, f",.{places}f") for value in numbers)
            return f"{mean} [{low}, {high}]"
        form = ".3g" if places is None else f",.{places}f"
        return ", ".join(words.signed(value, form) for value in self._seeds(i, j)) or NOTHING

    def reasons(self, silent: Sequence[bool]) -> list[str]:
        """Why rows have no Δ or no p. Rows that are `silent` have no finished run, which another note says."""
        why: dict[str, list[str]] = {}
        for i, (j, label) in enumerate(zip(self.against, self.labels, strict=True)):
            if j is None or i == j or silent[i] or not self.main[i].n or self.main[i].diverged:
                continue  # other notes explain these
            base = self.labels[j]
            if self.main[j].diverged:
                why.setdefault(f"no Δ, because a run of the baseline {base} diverged", []).append(label)
            elif not self.main[j].values:
                why.setdefault(f"no Δ, because the baseline {base} has no result", []).append(label)
            elif not (shared := len(self._seeds(i, j))):
                why.setdefault(f"no Δ, because no seed is shared with the baseline {base}", []).append(label)
            elif any(self.differences) and not self.differences[i]:
                reason = f"no interval and no p, because fewer than {ENOUGH} seeds ({shared}) are shared with the baseline {base}"
                why.setdefault(reason, []).append(label)
        lines = [note(f"{'; '.join(labels)}: {reason}.", "difference", "p") for reason, labels in why.items()]
        return [*lines, *([note("–: the baseline is not tested.", "p")] * any(self.differences))]

    def _seeds(self, i: int, j: int) -> list[float]:
        own, base = self.main[i].values, self.main[j].values
        return [own[seed] - base[seed] for seed in sorted(set(own) & set(base))]

    def records(self) -> list[dict[str, Any]]:
        """The differences as numbers, for CSV."""
        rows = []
        for i, (j, difference) in enumerate(zip(self.against, self.differences, strict=True)):
            each = [] if j is None or i == j else self._seeds(i, j)
            rows.append(
                {
                    "baseline": None if j is None else self.labels[j],
                    "difference": difference and difference.mean,
                    "difference_low": difference and difference.low,
                    "difference_high": difference and difference.high,
                    "difference_seeds": None if j is None else " ".join(map(repr, each)),
                    "difference_n": difference and difference.n,
                    "minimum_detectable": difference and minimum_detectable(difference.sd, difference.n),
                }
            )
        return rows

    def p_texts(self) -> list[str]:
        return [NOTHING if p is None else "<0.001" if p < 0.001 else f"{p:.3f}" for p in self.adjusted]

    def p_records(self) -> list[dict[str, Any]]:
        return [{"p": f.p if f else None, "p_holm": p} for f, p in zip(self.differences, self.adjusted, strict=True)]

    def notes(self, p_values: bool) -> list[str]:
        lines: list[str] = []
        several = f"Δ: each row minus {self.name} with the same {' and '.join(self.within)}, seed by seed" * bool(
            self.within
        )
        if any(self.differences):
            tested = [(label, f) for label, f in zip(self.labels, self.differences, strict=True) if f]
            head = f"{several}: mean" if several else f"Δ: mean paired difference to {self.name} over shared seeds"

            def delta(printed: Collection[str]) -> str | None:
                corrected = f"]; p two-sided, Holm-corrected over {len(tested)}."
                tail = corrected if p_values and "p" in printed else ", each on its own]."
                return f"{head} [95 % interval{tail}" if "difference" in printed or "p" in printed else None

            lines.append(Note(delta(("difference", "p")) or "", delta))
            effects = ", ".join(f"δ({n}) = {detectable_effect(n):.3g}" for n in sorted({f.n for _, f in tested}))
            each = "; ".join(f"{label} {minimum_detectable(f.sd, f.n):.2g}" for label, f in tested)
            lines.append(
                note(
                    "Minimum detectable difference (one two-sided paired t test, α = 0.05, power 0.8; δ(n) × standard deviation of the "
                    f"differences, {effects}): {each}.",
                    "difference",
                    "p",
                )
            )
        elif several:
            lines.append(note(f"{several}.", "difference"))
        if len(self.against) > 1 and all(i == j for i, j in enumerate(self.against)):
            text = f"Every row is a baseline ({self.name}), so there is no Δ; set --baseline to a value that distinguishes the rows."
            lines.append(note(text, "difference"))
        if self.lost is not None:
            text = f"The study's baseline {self.lost} is not a row here; Δ is to {self.name}, as in the first row."
            lines.append(note(text, "difference", "p"))
        if any(j is None for j in self.against):
            lines.append(note(f"No Δ for a row if no row {self.name} shares its other axes.", "difference"))
        return lines


def compare(report: Reported, main: Sequence[Outcome], baseline: str | None, fallback: str | None) -> Comparison:
    """Compares each row of `main` with `baseline` (which must exist), else with `fallback`, the study's, else with the first row."""
    wanted = baseline or fallback
    against, name = baselines(report, wanted, strict=baseline is not None)
    lost = wanted if wanted is not None and wanted != name and len(report.groups) > 1 else None
    differences = [None if j is None or i == j else paired_with(main[i], main[j]) for i, j in enumerate(against)]
    adjusted = iter(holm([d.p for d in differences if d]))
    return Comparison(
        main,
        [report.label(group) for group in report.groups],
        against,
        report.titled(name),
        lost,
        differences,
        [next(adjusted) if d else None for d in differences],
        _shared_axes(report, against),
    )


def _shared_axes(report: Reported, against: Sequence[int | None]) -> list[str]:
    """Headings of the axes in which baselines differ; empty if there is one baseline, or if every row is one."""
    bases = dict.fromkeys(j for i, j in enumerate(against) if j is not None and i != j)
    rows = [report.groups[j] for j in bases]
    return [report.heading(axis) for axis in report.varying if len({repr(row[axis]) for row in rows}) > 1]


def paired_with(own: Outcome, base: Outcome) -> Paired | None:
    """The paired difference; None with fewer than five shared seeds or a diverged run."""
    if own.diverged or base.diverged or len(set(own.values) & set(base.values)) < ENOUGH:
        return None
    return paired(own.values, base.values)


def baselines(report: Reported, name: str | None, *, strict: bool) -> tuple[list[int | None], str]:
    """For every group, the index of the group that it is compared with; and the baseline's name.

    `name` is the value of an axis (usually a scheme): every group is compared with the one that has this value and shares its
    other axes. It may also be one group's whole label. None: the first row. Unknown: a `UserError` if `strict`, else the first row.
    """
    groups = report.groups
    if not groups:
        return [], ""
    labels = [report.name(group) for group in groups]
    if name in labels and len(report.varying) > 1:
        return [labels.index(name)] * len(groups), name
    for axis in report.varying:
        if name is not None and any(str(group[axis]) == name for group in groups):
            value = next(group[axis] for group in groups if str(group[axis]) == name)
            index = {group.key: i for i, group in enumerate(groups)}
            twins = [tuple((a, value if a == axis else v) for a, v in group.key) for group in groups]
            return [index.get(twin) for twin in twins], words.show(value)
    if name is not None and strict:
        raise UserError(
            f"--baseline={name}: no such row; {nearest(name, {*labels, *(str(g[a]) for g in groups for a in report.varying)})}"
        )
    free = [axis for axis in report.varying if len({repr(group[axis]) for group in groups}) > 1]
    if free and str(groups[0][free[0]]) != name:
        return baselines(report, str(groups[0][free[0]]), strict=False)
    return [0] * len(groups), labels[0]
