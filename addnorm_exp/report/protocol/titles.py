"""Names as in papers: of a scheme (from the record) and of a norm kind, instead of the record's keys."""

from collections.abc import Iterable, Mapping
from typing import Any

from addnorm_exp.report.load import StudyRuns
from addnorm_exp.residual.norm_kinds import KINDS
from addnorm_exp.words import show

LABELS = ("titles", "names")

# By key, the names of an axis's values in papers; None is a scheme's own choice.
VALUES: Mapping[str, Mapping[Any, str]] = {
    "norm.kind": {None: "scheme's norm", **{name: kind.title for name, kind in KINDS.items()}},
    "optim.name": {"adamw": "AdamW", "sgd": "SGD", "adafactor": "Adafactor", "lion": "Lion", "muon": "Muon"},
}
AXES: Mapping[str, str] = {
    "scheme": "Scheme",
    "norm.kind": "norm",
    "norm.eps": "ε",
    "norm.affine": "affine",
    "init.law": "init",
    "optim.name": "optimiser",
    "optim.lr": "learning rate",
    "optim.warmup": "warmup",
    "model.depth": "depth",
    "model.width": "width",
}

Titles = Mapping[str, str]  # a scheme's title by its name


def titles_of(study: StudyRuns) -> Titles:
    """The titles that the study's runs have recorded; runs that have not begun have none."""
    return {run.scheme: title for run in study.runs if (title := run.summary.title) is not None}


def value_title(axis: str, value: Any, titles: Titles) -> str:
    """The name of one value of an axis in papers: Peri-LN, RMSNorm. A value without a title is printed as in the record."""
    if axis == "scheme":
        return titles.get(value, str(value))
    return VALUES.get(axis, {}).get(value, show(value))


def titled(pairs: Iterable[tuple[str, Any]], titles: Titles) -> str:
    """Axes and their values for a legend: `Peri-LN, RMSNorm, init xavier`."""
    parts = []
    for axis, value in pairs:
        text = value_title(axis, value, titles)
        bare = axis == "scheme" or value in VALUES.get(axis, {})
        parts.append(text if bare else f"{AXES[axis]} {text}" if axis in AXES else f"{axis} = {text}")
    return ", ".join(parts)
