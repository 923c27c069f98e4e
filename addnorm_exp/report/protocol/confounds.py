"""What else may explain a difference: the costs of a group, and its training conditions besides its axes.

Each is a column if it differs between rows. If it is the same in every row, a note below the table has it; rows whose runs have
recorded nothing yet do not count. What no row has recorded is omitted.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from addnorm_exp.report.load import StudyRuns
from addnorm_exp.report.protocol.groups import Group, Reported
from addnorm_exp.report.protocol.outcome import NOTHING, Outcome
from addnorm_exp.report.run import UNWRITTEN, Run
from addnorm_exp.words import show, si, si_column

COSTS = ("parameters", "flops_per_token", "ms_per_step")
CONFOUNDS = (
    *("norm", "final_norm", "eps", "affine", "init", "embedding_norm", "embedding_scale"),
    *("factors", "drop_path", "warmup", "dtype", "evidence"),
)
NAMES = {
    "final_norm": "final norm",
    "eps": "ε",
    "embedding_norm": "embedding norm",
    "embedding_scale": "embedding scale",
    "factors": "optimiser factors",
    "drop_path": "stochastic depth",
}
# The axes that set them: an axis with its own column needs no second column with the same values.
AXES = {
    "norm": "norm.kind",
    "eps": "norm.eps",
    "affine": "norm.affine",
    "init": "init.law",
    "embedding_norm": "embedding.norm",
    "drop_path": "model.drop_path",
    "warmup": "optim.warmup",
    "dtype": "model.compute_dtype",
}
SPOKEN = (
    "embedding_norm",
    "embedding_scale",
    "factors",
    "drop_path",
)  # included if some row has one, and omitted otherwise
MIXED = " | "


@dataclass(frozen=True)
class Fact:
    """One cost or confound over the rows: its texts, `NOTHING` if a row has none, and its values for CSV."""

    key: str
    label: str
    texts: Sequence[str]
    values: Sequence[Any]
    right: bool
    # Its text for the note, if it is the same in every row that has recorded anything; "" if it is omitted.
    shared: str | None

    @property
    def seen(self) -> bool:
        """Whether it is a column of the printed table."""
        return self.shared is None and any(text != NOTHING for text in self.texts)


def facts(study: StudyRuns, report: Reported) -> list[Fact]:
    """Costs first, then confounds. The learning rate is a confound if it is neither tuned nor an axis."""
    silent = [all(run.summary is UNWRITTEN for run in group.runs) for group in report.groups]
    listed = _costs(report, silent)
    keys = dict.fromkeys(CONFOUNDS)
    for run in report.runs:
        keys |= dict.fromkeys(run.summary.confounds or ())
    listed += [_confound(key, NAMES.get(key, key), report, _recorded(key), silent) for key in keys]
    if "optim.lr" not in (*study.tuned, *report.varying):
        listed.append(_confound("lr", "lr", report, lambda run: run.flat.get("optim.lr", ...), silent))
    return listed


def _costs(report: Reported, silent: Sequence[bool]) -> list[Fact]:
    """The median over a group's runs that have it (including diverged ones, because the program was the same)."""
    kinds: tuple[tuple[str, str, str, Callable[[float], float], Callable[[float], str]], ...] = (
        ("parameters", "parameters", "params", round, lambda v: f"{v:,}"),
        ("flops_per_token", "flops_per_token", "FLOPs/token", round, si),
        ("ms_per_step", "step_time_s", "ms/step", lambda v: 1e3 * v, _time),
    )
    costs = []
    for name, key, label, convert, form in kinds:
        medians = [
            Outcome({i: v for i, run in enumerate(group.runs) if (v := run.number(key)) is not None}).median
            for group in report.groups
        ]
        values = [None if value is None else convert(value) for value in medians]
        texts = [NOTHING if value is None else form(value) for value in values]
        once = _once(texts, silent) if len(texts) > 1 else None
        recorded = [value for value in values if value is not None]
        if recorded and name != "parameters":
            column = iter((si_column if name == "flops_per_token" else _times)(recorded))
            texts = [NOTHING if value is None else next(column) for value in values]
        costs.append(Fact(name, label, texts, values, True, None if once is None else f"{once} {label}"))
    return costs


def _time(value: float) -> str:
    """A measured time with three figures."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _times(values: Sequence[float]) -> list[str]:
    """Measured times with one precision: three figures of the longest, at least two of the shortest."""
    finest = max(0, 1 - math.floor(math.log10(min(values)))) if min(values) > 0 else 0
    places = max(finest, min(len(_time(value).partition(".")[2]) for value in values))
    return [f"{value:,.{places}f}" for value in values]


def _confound(key: str, label: str, report: Reported, read: Callable[[Run], Any], silent: Sequence[bool]) -> Fact:
    values = [_values(group, read) for group in report.groups]
    texts = [MIXED.join(distinct) or NOTHING for distinct in values]
    # They may differ within a row although the rows' texts are equal.
    mixed = any(len(distinct) > 1 for distinct in values)
    once = None if mixed else _once(texts, silent)
    axis = AXES.get(key)
    twice = axis in report.varying and all(
        text in (NOTHING, show(group[axis])) for text, group in zip(texts, report.groups, strict=True)
    )
    if twice or (key in SPOKEN and set(texts) <= {"none", NOTHING}):
        return Fact(key, label, texts, texts, False, "")
    return Fact(key, label, texts, texts, False, None if once is None else f"{label} {once}")


def _once(texts: Sequence[str], silent: Sequence[bool]) -> str | None:
    """The common text of all rows that have recorded something; None if they differ or one of them lacks it."""
    recorded = {text for text, nothing in zip(texts, silent, strict=True) if not (nothing and text == NOTHING)}
    return recorded.pop() if len(recorded) == 1 and NOTHING not in recorded else None


def _recorded(key: str) -> Callable[[Run], Any]:
    return lambda run: (run.summary.confounds or {}).get(key, ...)


def _values(group: Group, read: Callable[[Run], Any]) -> list[str]:
    """The distinct values within a group, as text."""
    values = [read(run) for run in group.runs]
    return list(dict.fromkeys("none" if v is None else show(v) for v in values if v is not ...))
