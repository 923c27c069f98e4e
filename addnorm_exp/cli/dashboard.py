"""`main.py dashboard DIR`: a page that shows a study in a browser, from its records on disk."""

from pathlib import Path

from addnorm_exp.cli.wandb_flags import WANDB_FLAGS, place_of
from addnorm_exp.config.flags import Arguments, Flag, parse
from addnorm_exp.errors import UserError, program, to_stderr

HELP = "write an HTML page of a study: table, runs, curves, per-layer heatmaps, in one file that needs no network"
ABOUT = f"""{HELP}

DIR is a study's folder (runs/quickstart), a folder of studies (runs) or a single run. Runs may be unfinished.
Open DIR/dashboard.html in a browser. With --wandb, the command saves a view in the W&B project that runs are mirrored to, and prints
its address. The view shows the study in DIR, or without DIR all runs of the project (needs the extra `dashboard`)."""

FLAGS = (
    Flag("out", Path, None, "where to write; default: dashboard.html in DIR", "FILE"),
    Flag("baseline", str, None, "the row to compare with; default: the study's baseline, else the first row", "NAME"),
    Flag("mix_semantics", bool, False, "allow runs of different semantics in one study"),
    Flag("wandb", bool, False, "save a view of the W&B project instead of a page"),
    *(flag for flag in WANDB_FLAGS if flag.name != "wandb"),
)


def run(argv: list[str]) -> int:
    """Write the page and print its path. 0, or 2 if one of several studies could not be read."""
    arguments = parse(argv, FLAGS, command="dashboard", about=ABOUT, positionals=("[DIR]",))
    if arguments["wandb"]:
        return _save(arguments)
    if not arguments.positionals:
        raise UserError(f"dashboard needs DIR: {program()} dashboard DIR")
    # Its libraries are slow to import, and --help does not need them.
    from addnorm_exp.report.dashboard.page import dashboard

    path, problems = dashboard(
        arguments.positionals[0],
        arguments["out"],
        baseline=arguments["baseline"],
        mix_semantics=arguments["mix_semantics"],
    )
    for problem in problems:
        to_stderr(f"error: {problem}")
    print(path)
    return 2 if problems else 0


def _save(arguments: Arguments) -> int:
    from addnorm_exp.report.dashboard.workspace import save
    from addnorm_exp.report.load import load_study
    from addnorm_exp.runs.metrics import DEFAULT, metrics_of
    from addnorm_exp.runs.mirror.settings import check_place

    check_place(place_of(arguments))
    project, entity = place_of(arguments).of({})
    if not arguments.positionals:
        print(save(entity, project))
        return 0
    study = load_study(arguments.positionals[0], mix_semantics=True)
    listed = max((metrics_of(run.summary) for run in study.runs if run.summary), key=len, default=DEFAULT)
    print(save(entity, project, study.name, sorted(listed, key=lambda metric: metric.rescales is not None)))
    return 0
