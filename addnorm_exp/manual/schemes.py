"""What there is to read of a scheme, made of its record: a row of the listing, a page in full, and docs/schemes.md of them all."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from addnorm_exp.config import Config, override
from addnorm_exp.errors import program
from addnorm_exp.report.tables.render import Column, Table
from addnorm_exp.residual import Depths, Scheme, Site, catalogue, factors, sites
from addnorm_exp.residual.diagram import diagrams, in_words
from addnorm_exp.residual.init import Init
from addnorm_exp.residual.scheme import no_factors
from addnorm_exp.residual.vocabulary import ENDS_ROLES, METHOD, RECIPE, ROLES
from addnorm_exp.tasks import make_task, resolve
from addnorm_exp.tasks.task import Task

EVIDENCE = {
    "paper": "the paper's text",
    "code": "the authors' released code",
    "secondary": "a re-implementation or notes that cite the paper",
    "memory": "memory; no source was reached",
    "own": "none beside this record; a scheme of one's own",
}
# Of every scheme: each of these tests fails for one that it has no entry for.
TESTED = (
    "forward pass against float64 NumPy from the equations; parameters and init laws against those written by hand; resume; "
    'learning to copy. `pytest -m "" -k {name}` runs them'
)
UNTESTED = "none; the scheme is of this process alone (`catalogue.add`)"
MULTIPLIERS = {
    None: "",
    METHOD: "these multipliers are part of the method",
    RECIPE: "these multipliers are a recipe (init.multipliers=none removes them)",
}
DEPTH = 12  # of the diagrams and constants that are shown
WIDEST = 28  # characters of a cell of the listing
HEAD = f"""\
# The catalogue of schemes

This page is generated from the records of the schemes:

    uv run main.py schemes --format=doc > docs/schemes.md

- Diagrams and constants are those of a decoder of {DEPTH} blocks.
- A constant `× a … b` runs from a in the first drawn block to b in the last.
- The init law is `xavier` where no source says otherwise.
- `tests/reference` has the equations of each scheme in float64 NumPy.
- [probe.md](probe.md) says which predictions do not hold.

"""


def document() -> str:
    """docs/schemes.md."""
    return HEAD + "\n".join(in_full(catalogue.get(name)) for name in catalogue.names())


def listing() -> Table:
    """The catalogue, one row per scheme. Long equations are cut in the rows; the records have them in full."""
    added = f"parameters_vs_{Config().scheme}"
    columns = ("name", "family", "equation", added, "paper", "year", "evidence")
    records: list[dict[str, Any]] = [
        {
            "name": scheme.name,
            "family": scheme.family,
            "equation": scheme.equation,
            added: added_parameters(scheme.name),
            "paper": ", ".join(re.findall(r"\d{4}\.\d{5}", scheme.citation)[:1]),
            "year": scheme.year,
            "evidence": scheme.evidence,
        }
        for scheme in map(catalogue.get, catalogue.names())
    ]
    rows = [[_signed(value) if key == added else _cut(str(value)) for key, value in row.items()] for row in records]
    head = f"vs {Config().scheme}"
    heads = [Column(name, head if name == added else name, right=name in (added, "year")) for name in columns]
    notes = (
        f"{head}: how many more parameters than {Config().scheme}, in the model of configs/lm.py.",
        f"{program()} schemes NAME shows one in full.",
    )
    return Table("Schemes", heads, rows, notes, records)


def _cut(text: str) -> str:
    """A cell that leaves a row at 120 columns."""
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1].rstrip()}…"


def in_full(scheme: Scheme) -> str:
    """All that the record says, in Markdown."""
    norm = ", ".join(f"{axis} {getattr(scheme.norm, axis)}" for axis in ("kind", *scheme.norm.axes))
    norm = "none" if scheme.norm.kind == "none" else norm
    facts = [
        ("Family", scheme.family),
        ("Source", f"{scheme.citation} ({scheme.year})"),
        ("Evidence", f"{scheme.evidence}: {EVIDENCE[scheme.evidence]}"),
        ("Norm", norm + (" (needed)" if scheme.needs_norm else "")),
        ("Final norm", "yes" if scheme.final_norm else "no"),
        ("Init", _init(scheme)),
        ("Inside sublayers", _options(scheme)),
        ("Around the blocks", _around(scheme)),
        ("Optimiser", _factors(scheme)),
        ("Before step 0", "sets parameters from the first batch" if scheme.calibrate else ""),
        ("Parameters", _against(added_parameters(scheme.name))),
    ]
    lines = [f"## {scheme.name}: {scheme.title}", "", f"    {scheme.equation}", ""]
    lines += [f"- {label}: {text}" for label, text in facts if text]
    lines += [f"- Trap: {trap}" for trap in scheme.traps]
    lines += [f"- Predicted at init: {said.claim} ({said.source})" for said in scheme.predictions]
    published = catalogue.is_published(scheme.name)
    lines += [f"- Tests in the suite: {TESTED.format(name=scheme.name) if published else UNTESTED}"]
    if scheme.predictions:
        lines[-1] += "; `main.py probe` judges the predictions (docs/probe.md: which do not hold)"
    drawn = diagrams(scheme, DEPTH)
    for blocks, drawing in drawn:
        where = "Every block" if len(drawn) == 1 else blocks.capitalize()
        lines += ["", f"{where}:", "", "```mermaid", drawing, "```"]
    return "\n".join(lines) + "\n"


def _factors(scheme: Scheme) -> str:
    if scheme.factors is no_factors:
        return ""
    return factors.in_words(_task(scheme.name, depth=DEPTH).model.specs.values())


def added_parameters(name: str) -> int:
    """Parameters against those of the default config's scheme, in its model."""
    return _task(name).model.size - _task(Config().scheme).model.size


def _task(name: str, depth: int | None = None) -> Task:
    """The task of the default config under another scheme, and of another depth where one is given."""
    config = override(Config(), {"scheme": name} | ({"model.depth": depth} if depth else {}), "schemes")
    return make_task(resolve(config, "schemes").shape)


def _signed(count: int) -> str:
    return f"{count:+,}" if count else "0"


def _against(added: int) -> str:
    """Parameters against those of the default config's scheme, in words."""
    model = "in the model of configs/lm.py"
    return f"{added:+,} against {Config().scheme} {model}" if added else f"the same as {Config().scheme} {model}"


def _first_and_last(ask: Callable[[Site], str]) -> str:
    """What `ask(site)` says of the stack's first block, and of its last where that differs."""
    first, *_, last = sites("decoder", Depths(decoder=DEPTH))
    begins, ends = ask(first), ask(last)
    return begins if begins == ends else f"first block {begins or 'plain'}; last block {ends or 'plain'}"


def _init(scheme: Scheme) -> str:
    def multipliers(site: Site) -> str:
        by_role = {
            role: scheme.init(site.at("feed_forward" if role in ("gate", "up", "down") else "attention"), role)
            for role in ROLES
        }
        return ", ".join(f"{role} {_factor(factor)}" for role, factor in by_role.items() if factor != 1.0)

    ends = Site(kind="ends", depths=Depths(decoder=DEPTH))
    outside = [f"{role} {_factor(factor)}" for role in ENDS_ROLES if (factor := scheme.init(ends, role)) != 1.0]
    return "; ".join(
        filter(
            None,
            [f"law {scheme.law}", _first_and_last(multipliers), ", ".join(outside), MULTIPLIERS[scheme.multipliers]],
        )
    )


def _factor(given: float | Init) -> str:
    return given.draw if isinstance(given, Init) else f"× {given:.4g}"


def _options(scheme: Scheme) -> str:
    def said(site: Site) -> str:
        options = {kind: scheme.sublayer_options(site.at(kind)) for kind in site.sublayers}
        return "; ".join(f"{kind}: {in_words(given)}" for kind, given in options.items() if given)

    return _first_and_last(said)


def _around(scheme: Scheme) -> str:
    asked = {item.name: getattr(scheme.around, item.name) for item in dataclasses.fields(scheme.around)}
    return in_words({name: value for name, value in asked.items() if value})
