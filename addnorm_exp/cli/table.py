"""`main.py table DIR`: the ablation table of a study, from its records on disk."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from addnorm_exp.config.flags import Arguments, Flag, parse
from addnorm_exp.errors import UserError, to_stderr
from addnorm_exp.report.download import SOURCE, fetch
from addnorm_exp.report.load import StudyRuns, collected, load_studies
from addnorm_exp.report.protocol.metric import BUDGETS, Budget, parse_budget
from addnorm_exp.report.protocol.titles import LABELS
from addnorm_exp.report.tables.ablation import build
from addnorm_exp.report.tables.choice import brief, choose_columns, page
from addnorm_exp.report.tables.pivot import pivot
from addnorm_exp.report.tables.render import FORMATS, Table, render

HELP = "print the ablation table of a study (Markdown, LaTeX or CSV)"
ABOUT = f"""{HELP}

DIR is a study's folder (runs/quickstart), a folder of studies (runs) or a single run. Instead of DIR, --from names runs on W&B's
server, from all machines that mirror to it (docs/wandb.md). CSV has full precision. docs/protocol.md explains each number."""

FLAGS = (
    Flag("from", str, None, "runs on the server instead of DIR: those of one study, or one table per study", SOURCE),
    Flag(
        "format",
        str,
        "md",
        "Markdown (the default), LaTeX with booktabs and siunitx, or CSV",
        "|".join(FORMATS),
        choices=FORMATS,
    ),
    Flag(
        "rows",
        str,
        None,
        "the row axis of a table with one number per cell: one or more config keys, e.g. scheme,init.law",
        "KEYS",
    ),
    Flag("cols", str, None, "the column axis of such a table, e.g. optim.lr", "KEYS"),
    Flag(
        "metric",
        str,
        None,
        "a number in summary.json instead of the test metric, e.g. val.best.loss, step_time_s",
        "NAME",
    ),
    Flag(
        "match",
        str,
        None,
        "validation loss at an equal budget: the smallest that a finished run used",
        "|".join(BUDGETS),
        choices=tuple(BUDGETS),
    ),
    Flag("at", str, None, "validation loss at this budget: tokens:1e6, flops:3e15 or time:600 (seconds)", "BUDGET"),
    Flag("baseline", str, None, "the row to compare with; default: the study's baseline, else the first row", "NAME"),
    Flag(
        "columns",
        str,
        None,
        "print only the axes and these columns, e.g. test_bpb,difference,parameters; all: every column, also in LaTeX, "
        "which has those that fit a page",
        "KEYS",
    ),
    Flag("brief", bool, False, "print only the metric, its difference and p"),
    Flag(
        "labels",
        str,
        None,
        "names of rows: names (peri_ln; the default) or titles (Peri-LN; the default for LaTeX)",
        "|".join(LABELS),
        choices=LABELS,
    ),
    Flag("caption", str, None, "the LaTeX caption; default: study, data and size", "TEXT"),
    Flag("label", str, None, "the LaTeX label; default: tab:STUDY", "NAME"),
    Flag("p_values", bool, True, "print a column of p-values beside the intervals"),
    Flag("out", Path, None, "write to this file instead of printing", "FILE"),
    Flag("mix_semantics", bool, False, "allow runs of different semantics in one table"),
)


def run(argv: list[str]) -> int:
    """Prints or writes the table. 0 if every study could be read, 2 if one of several could not."""
    arguments = parse(argv, FLAGS, command="table", about=ABOUT, positionals=("[DIR]",))
    _check(arguments)
    with _place(arguments) as place:
        studies, problems = load_studies(place, mix_semantics=arguments["mix_semantics"])
        tables = collected(lambda study: _tables(study, arguments), studies, problems)
        if not tables:
            raise problems[0]
    text = render(tables, arguments["format"], caption=arguments["caption"], label=arguments["label"])
    if arguments["out"]:
        _write(arguments["out"], text)
    else:
        sys.stdout.write(text)
    if arguments["format"] == "csv":
        for note in dict.fromkeys(note for table in tables for note in (*table.warnings, *table.notes)):
            to_stderr(f"note: {note}")
    for problem in problems:
        to_stderr(f"error: {problem}")
    return 2 if problems else 0


def _check(arguments: Arguments) -> None:
    """Refuses flags that have no effect beside the others."""
    form = arguments["format"]
    for flag in ("caption", "label"):
        if arguments[flag] is not None and form != "latex":
            raise UserError(f"--{flag}: only LaTeX tables have one; add --format=latex")
    chosen = "--columns" if arguments["columns"] is not None else "--brief" if arguments["brief"] else None
    if chosen and arguments["brief"] and arguments["columns"] is not None:
        raise UserError("--columns --brief: both choose columns; omit one of them")
    if chosen and form == "csv":
        raise UserError(f"{chosen}: CSV always has every column; omit one of them")
    if chosen and (arguments["cols"] or arguments["rows"] not in (None, "scheme")):
        raise UserError(f"{chosen}: a table with --rows or --cols has one number per cell; omit one of them")


@contextlib.contextmanager
def _place(arguments: Arguments) -> Iterator[Path]:
    """DIR, or a temporary folder with the server's records. Messages about the latter name the source, not the folder."""
    source = arguments["from"]
    if bool(source) == bool(arguments.positionals):
        problem = "DIR and --from name two sources" if source else "no runs are named"
        raise UserError(f"table: {problem}; give DIR, e.g. runs/quickstart, or --from={SOURCE}")
    if not source:
        yield Path(arguments.positionals[0])
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            fetch(source, Path(folder), curves=bool(arguments["match"] or arguments["at"]))
            yield Path(folder)
        except UserError as error:
            raise UserError(str(error).replace(folder, source)) from None


def _tables(study: StudyRuns, arguments: Arguments) -> list[Table]:
    """The ablation table, or one number over the named axes."""
    rows, cols, baseline = arguments["rows"], arguments["cols"], arguments["baseline"]
    if arguments["match"] and arguments["at"]:
        raise UserError(f"--match={arguments['match']} --at={arguments['at']}: two budgets; omit one of them")
    budget = Budget(arguments["match"]) if arguments["match"] else None
    if arguments["at"]:
        budget = parse_budget(arguments["at"])
    metric = arguments["metric"]
    labels = arguments["labels"] or ("titles" if arguments["format"] == "latex" else "names")
    if not cols and rows in (None, "scheme"):
        table = build(
            study, baseline=baseline, metric=metric, budget=budget, p_values=arguments["p_values"], labels=labels
        )
        if arguments["columns"] is not None:
            if arguments["columns"].strip() == "all":
                return [table]
            names = [name.strip() for name in arguments["columns"].split(",")]
            return [choose_columns(table, names)]
        if arguments["brief"]:
            return [brief(table)]
        return [page(table, study.tuned) if arguments["format"] == "latex" else table]
    if baseline:
        raise UserError("--baseline: a table with --rows or --cols shows no differences; omit one of them")
    if rows and not cols and "scheme" not in rows.split(","):
        cols = "scheme"
    return pivot(study, rows or "scheme", cols, metric=metric, budget=budget, labels=labels)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"--out={path}: cannot be written ({error.strerror}); choose a file in an existing folder"
        ) from None
    to_stderr(f"wrote {path}")
