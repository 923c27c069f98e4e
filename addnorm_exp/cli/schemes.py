"""`main.py schemes [NAME]`: the catalogue, or the full record of one scheme."""

import sys

from addnorm_exp.config.flags import Flag, parse

HELP = "list the catalogue of schemes, or show one: equation, source, axes, traps, diagram"
ABOUT = f"""{HELP}

Without NAME: one line per scheme; long equations are cut. --format=csv has them in full.
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


def run(argv: list[str]) -> int:
    arguments = parse(argv, FLAGS, command="schemes", about=ABOUT, positionals=("[NAME]",))
    from addnorm_exp.errors import UserError
    from addnorm_exp.manual import schemes
    from addnorm_exp.report.tables.render import render
    from addnorm_exp.residual import SchemeError, catalogue

    form = arguments["format"]
    if arguments.positionals:
        (name,) = arguments.positionals
        if form != "md":
            raise UserError(f"--format={form} is for the whole catalogue; omit {name}")
        try:
            text = schemes.in_full(catalogue.get(name))
        except SchemeError as error:
            raise UserError(str(error)) from None
    else:
        text = schemes.document() if form == "doc" else render([schemes.listing()], form)
    sys.stdout.write(text)
    return 0
