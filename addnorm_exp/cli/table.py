"""`main.py table DIR`: the ablation table of a study, from its records on disk."""

import sys
from pathlib import Path

from addnorm_exp.cli.arguments import Arguments
from addnorm_exp.errors import UserError
from addnorm_exp.report.grid import Table
from addnorm_exp.report.load import load_study, study_folders
from addnorm_exp.report.pivot import pivot
from addnorm_exp.report.render import FORMATS, render
from addnorm_exp.report.table import build

HELP = "print the ablation table of a study (Markdown, LaTeX or CSV)"


def parser() -> Arguments:
    found = Arguments("table", "Print the ablation table of a study, a folder of studies, or a single run.")
    found.add_argument("directory", metavar="DIR", help="e.g. runs/quickstart")
    found.add_argument("--format", default="md", choices=FORMATS, help="md (default), latex (booktabs) or csv")
    found.add_argument(
        "--rows", metavar="AXIS", help="a config key down the side, e.g. scheme (with --cols: one number a cell)"
    )
    found.add_argument("--cols", metavar="AXIS", help="a config key across the top, e.g. init.law")
    found.add_argument(
        "--baseline", metavar="NAME", help="the row to compare with; default: the study's, else the first"
    )
    found.add_argument("--out", metavar="FILE", help="write there instead of printing")
    found.add_argument("--mix_semantics", action="store_true", help="allow runs of different semantics in one table")
    return found


def run(argv: list[str]) -> int:
    """Print or write the table. 0 if every study could be shown, 2 if one of several could not."""
    args = parser().parse(argv)
    tables: list[Table] = []
    folders = study_folders(args.directory)
    problems: list[UserError] = []
    for folder in folders:
        try:
            study = load_study(folder, mix_semantics=args.mix_semantics)
            if args.cols or (args.rows and args.rows != "scheme"):
                rows, cols = args.rows or "scheme", args.cols or "scheme"
                if args.baseline:
                    raise UserError(
                        "--baseline: a table with --rows or --cols shows no differences; leave one of them out"
                    )
                tables += pivot(study, rows, cols)
            else:
                tables.append(build(study, baseline=args.baseline))
        except UserError as error:
            if len(folders) == 1:
                raise
            problems.append(error)
    if not tables:
        raise problems[0]
    text = render(tables, args.format)
    if args.out:
        _write(Path(args.out), text)
    else:
        sys.stdout.write(text)
    if args.format == "csv":
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
