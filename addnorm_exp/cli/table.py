"""`main.py table DIR`: the ablation table of a study, from its records on disk."""

import sys
from pathlib import Path

from addnorm_exp.config.flags import Flag, parse
from addnorm_exp.errors import UserError
from addnorm_exp.report.load import load_study, study_folders
from addnorm_exp.report.pivot import pivot
from addnorm_exp.report.render import FORMATS, Table, render
from addnorm_exp.report.table import build

HELP = "print the ablation table of a study (Markdown, LaTeX or CSV)"
ABOUT = f"""{HELP}

DIR is a study's folder (runs/quickstart), a folder of studies (runs) or a single run. CSV holds every number in full."""

FLAGS = (
    Flag(
        "format", str, "md", "Markdown (the default), LaTeX with booktabs, or CSV", "|".join(FORMATS), choices=FORMATS
    ),
    Flag("rows", str, None, "the axis down the side, e.g. scheme; with --cols: one number a cell", "AXIS"),
    Flag("cols", str, None, "the axis across the top, e.g. init.law", "AXIS"),
    Flag("baseline", str, None, "the row to compare with; default: the study's, else the first", "NAME"),
    Flag("out", Path, None, "write there instead of printing", "FILE"),
    Flag("mix_semantics", bool, False, "allow runs of different semantics in one table"),
)


def run(argv: list[str]) -> int:
    """Print or write the table. 0 if every study could be shown, 2 if one of several could not."""
    arguments = parse(argv, FLAGS, command="table", about=ABOUT, positionals=("DIR",))
    rows, cols, baseline = arguments["rows"], arguments["cols"], arguments["baseline"]
    tables: list[Table] = []
    folders = study_folders(arguments.positionals[0])
    problems: list[UserError] = []
    for folder in folders:
        try:
            study = load_study(folder, mix_semantics=arguments["mix_semantics"])
            if cols or (rows and rows != "scheme"):
                if baseline:
                    raise UserError(
                        "--baseline: a table with --rows or --cols shows no differences; leave one of them out"
                    )
                tables += pivot(study, rows or "scheme", cols or "scheme")
            else:
                tables.append(build(study, baseline=baseline))
        except UserError as error:
            if len(folders) == 1:
                raise
            problems.append(error)
    if not tables:
        raise problems[0]
    text = render(tables, arguments["format"])
    if arguments["out"]:
        _write(arguments["out"], text)
    else:
        sys.stdout.write(text)
    if arguments["format"] == "csv":
        for note in dict.fromkeys(note for table in tables for note in table.notes):
            print(f"note: {note}", file=sys.stderr)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 2 if problems else 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"--out={path}: cannot be written ({error.strerror}); give a file in a folder that exists"
        ) from None
    print(f"wrote {path}", file=sys.stderr)
