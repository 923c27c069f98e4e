"""`main.py schemes [NAME]`: the catalogue, or all that is known of one scheme."""

import dataclasses
import re
import sys
from typing import Any

from addnorm_exp.config.flags import Flag, parse

HELP = "list the catalogue of schemes, or show one: equation, source, axes, traps, diagram"
ABOUT = f"""{HELP}

Without NAME: one line per scheme; `parameters` are those it adds to pre_ln's in the model of configs/lm.py.
--format=doc writes docs/schemes.md."""

FLAGS = (
    Flag(
        "format",
        str,
        "md",
        "a table in Markdown (the default) or CSV; doc: every scheme in full",
        choices=("md", "csv", "doc"),
    ),
)
EVIDENCE = {
    "paper": "the paper's text",
    "code": "the authors' released code",
    "secondary": "a re-implementation or notes that cite the paper",
    "memory": "memory; no source was reached",
}
# Of every scheme: each of these tests fails for one that it has no entry for.
VERIFIED = (
    "the forward pass against float64 NumPy from the equations, parameters and init laws against those written by hand, resume, "
    "learning to copy (tests; `pytest -m full` for all of it)"
)
OWN = "nothing here: the scheme is of this process alone (`catalogue.add`)"
DEPTH = 12  # of the diagrams and constants that are shown


def run(argv: list[str]) -> int:
    arguments = parse(argv, FLAGS, command="schemes", about=ABOUT, positionals=("[NAME]",))
    from addnorm_exp.errors import UserError
    from addnorm_exp.residual import SchemeError, catalogue

    if arguments.positionals:
        if arguments["format"] != "md":
            raise UserError(
                f"--format={arguments['format']} is for the whole catalogue; leave out {arguments.positionals[0]}"
            )
        try:
            text = in_full(catalogue.get(arguments.positionals[0]))
        except SchemeError as error:
            raise UserError(str(error)) from None
    elif arguments["format"] == "doc":
        text = document()
    else:
        from addnorm_exp.report.render import render

        text = render([listing()], arguments["format"])
    sys.stdout.write(text)
    return 0


def listing() -> Any:
    """The catalogue as a `report.render.Table`, a row a scheme."""
    from addnorm_exp.report.render import Column, Table
    from addnorm_exp.residual import catalogue

    columns = ("name", "family", "equation", "parameters", "paper", "year", "evidence")
    records: list[dict[str, Any]] = [
        {
            "name": scheme.name,
            "family": scheme.family,
            "equation": scheme.equation,
            "parameters": added_parameters(scheme.name),
            "paper": ", ".join(re.findall(r"\d{4}\.\d{5}", scheme.citation)[:1]),
            "year": scheme.year,
            "evidence": scheme.evidence,
        }
        for scheme in map(catalogue.get, catalogue.names())
    ]
    rows = [[_signed(value) if key == "parameters" else str(value) for key, value in row.items()] for row in records]
    heads = [Column(name, name, right=name in ("parameters", "year")) for name in columns]
    return Table("Schemes", heads, rows, ("`main.py schemes NAME` shows one in full.",), records)


def added_parameters(name: str) -> int:
    """Parameters against those of the default config's scheme, in its model."""
    from addnorm_exp.config import Config

    return _task(name).model.size - _task(Config().scheme).model.size


def _task(name: str, depth: int | None = None) -> Any:
    """The task of the default config under another scheme, and of another depth where one is given."""
    from addnorm_exp.config import Config, override
    from addnorm_exp.tasks import make_task

    return make_task(override(Config(), {"scheme": name} | ({"model.depth": depth} if depth else {}), "schemes"))


def _signed(count: int) -> str:
    return f"{count:+,}" if count else "0"


def document() -> str:
    """docs/schemes.md."""
    from addnorm_exp.residual import catalogue

    head = (
        "# The catalogue of schemes\n\n"
        "Written by `uv run main.py schemes --format=doc > docs/schemes.md`; a test fails where it is stale. Diagrams and "
        f"constants are those of a decoder of {DEPTH} blocks; a constant `× a … b` goes from a in the first to b in the last of the blocks "
        "drawn. The references are in tests/reference; which predictions were measured not to hold is in probe.md.\n\n"
    )
    return head + "\n".join(in_full(catalogue.get(name)) for name in catalogue.names())


def in_full(scheme: Any) -> str:
    """All that the record says, in Markdown."""
    from addnorm_exp.residual import catalogue
    from addnorm_exp.residual.diagram import diagrams

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
        ("Parameters", f"{_signed(added_parameters(scheme.name))} against pre_ln in the model of configs/lm.py"),
    ]
    lines = [f"## {scheme.name}: {scheme.title}", "", f"    {scheme.equation}", ""]
    lines += [f"- {label}: {text}" for label, text in facts if text]
    lines += [f"- Trap: {trap}" for trap in scheme.traps]
    lines += [f"- Predicted at init: {said.claim} ({said.source})" for said in scheme.predictions]
    lines += [f"- Verified: {VERIFIED if catalogue.is_published(scheme.name) else OWN}"]
    if scheme.predictions:
        lines[-1] += "; `main.py probe` judges the predictions (docs/probe.md: which do not hold)"
    drawn = diagrams(scheme, DEPTH)
    for blocks, drawing in drawn:
        where = "Every block" if len(drawn) == 1 else blocks.capitalize()
        lines += ["", f"{where}:", "", "```mermaid", drawing, "```"]
    return "\n".join(lines) + "\n"


def _first_and_last(scheme: Any, ask: Any) -> str:
    """What `ask(site)` says of the stack's first block, and of its last where that differs."""
    from addnorm_exp.residual import Depths, sites

    first, *_, last = sites("decoder", Depths(decoder=DEPTH))
    told, ended = ask(first), ask(last)
    return told if told == ended else f"first block {told or 'plain'}; last block {ended or 'plain'}"


def _init(scheme: Any) -> str:
    from addnorm_exp.residual.scheme import ENDS_ROLES, ROLES

    def multipliers(site: Any) -> str:
        by_role = {
            role: scheme.init(site.at("feed_forward" if role in ("gate", "up", "down") else "attention"), role)
            for role in ROLES
        }
        return ", ".join(f"{role} {_factor(factor)}" for role, factor in by_role.items() if factor != 1.0)

    from addnorm_exp.residual import Depths, Site

    ends = Site(kind="ends", depths=Depths(decoder=DEPTH))
    outside = [f"{role} × {scheme.init(ends, role):.4g}" for role in ENDS_ROLES if scheme.init(ends, role) != 1.0]
    told = [f"law {scheme.law}", _first_and_last(scheme, multipliers), ", ".join(outside)]
    return "; ".join(filter(None, told))


def _factor(given: Any) -> str:
    return f"× {given:.4g}" if isinstance(given, float) else given.draw


def _factors(scheme: Any) -> str:
    from addnorm_exp.residual.factors import told

    return told(_task(scheme.name, depth=DEPTH).model.specs)


def _options(scheme: Any) -> str:
    from addnorm_exp.residual.diagram import told

    def said(site: Any) -> str:
        options = {kind: scheme.sublayer_options(site.at(kind)) for kind in site.sublayers}
        return "; ".join(f"{kind}: {told(given)}" for kind, given in options.items() if given)

    return _first_and_last(scheme, said)


def _around(scheme: Any) -> str:
    from addnorm_exp.residual.diagram import told

    asked = {item.name: getattr(scheme.around, item.name) for item in dataclasses.fields(scheme.around)}
    return told({name: value for name, value in asked.items() if value})
