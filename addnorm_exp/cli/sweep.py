"""`main.py sweep`: runs a whole study, from its file to its table and pictures."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addnorm_exp.cli.stop import StopSignal
from addnorm_exp.cli.wandb_flags import WANDB_FLAGS, mirror_of
from addnorm_exp.config.flags import Flag, parse
from addnorm_exp.errors import to_stderr
from addnorm_exp.words import counted

if TYPE_CHECKING:
    from addnorm_exp.sweep.launchers.launcher import PhaseResult

HELP = "run a study file: tune, report, table and pictures, e.g. sweeps/quickstart.py"

FLAGS = (
    Flag("dry_run", bool, False, help="list the runs with parameters, FLOPs and estimated time; run nothing"),
    Flag(
        "runs",
        Path,
        Path("runs"),
        help="the folder of all studies; this one is written to DIR/<name of the file>, of several configs to a folder each in it",
        metavar="DIR",
    ),
    Flag("filter", str, None, "only runs with these values, e.g. scheme=pre_ln,optim.lr=3e-3", "KEY=VALUE,…"),
    Flag("max_runs", int, None, help="make at most N runs", metavar="N", minimum=1),
    Flag(
        "pack",
        int,
        1,
        help="train up to N runs of equal shape in one program; their numbers differ from those of single runs in the last digits",
        metavar="N",
        minimum=1,
    ),
    Flag("launcher", str, "local", help="what carries out the runs: local (this process)", metavar="NAME"),
    *WANDB_FLAGS,
)


def run(argv: list[str]) -> int:
    arguments = parse(argv, FLAGS, command="sweep", about=HELP, positionals=("FILE",), study_keys=True)

    from addnorm_exp.sweep.display import Display
    from addnorm_exp.sweep.launchers import launcher_of
    from addnorm_exp.sweep.phases import carry_out, check, dry_run, selected
    from addnorm_exp.sweep.record import check_folder
    from addnorm_exp.sweep.selection import parse_filter, select
    from addnorm_exp.sweep.study_file import read_studies

    kind, chosen = launcher_of(arguments["launcher"]), parse_filter(arguments["filter"])
    studies = select(read_studies(arguments.positionals[0]), chosen)
    if len(studies) > 1 and chosen:
        studies = selected(studies, chosen)
    folders = {study.name: study.folder(arguments["runs"]) for study in studies}
    for study in studies:
        check_folder(folders[study.name], study)
    if arguments["dry_run"]:
        for study in studies:
            head = f"{study.config}:\n" if study.config else ""
            print(f"{head}{dry_run(study, folders[study.name], chosen, arguments['pack'])}", end="")
        return 0

    display, root = Display(), arguments["runs"] / studies[0].path.stem
    outcomes: dict[str, Mapping[str, PhaseResult]] = {}
    limit = arguments["max_runs"]
    with StopSignal(display.say) as stop, mirror_of(arguments, display.say, root, stop) as mirror:
        stop.mirror = mirror
        with display:
            launchers = [
                kind(folders[study.name], study.name, display, stop, mirror=mirror, width=arguments["pack"])
                for study in studies
            ]
            # All of the file is checked before anything is trained.
            plans = [check(study, launcher, chosen) for study, launcher in zip(studies, launchers, strict=True)]
            for study, launcher, planned in zip(studies, launchers, plans, strict=True):
                if stop():
                    break
                launcher.limit, stop.prospect = limit, launcher.prospect
                outcomes[study.name] = carry_out(study, folders[study.name], launcher, chosen, planned)
                limit = launcher.limit
        stop.give_back()  # nothing is left to save: from here on, Ctrl-C ends the process
        codes = [_conclude(folders[name], outcome, stop) for name, outcome in outcomes.items()]
        if len(codes) < len(studies):
            to_stderr(f"stopped; run the same command again to continue ({root})")
            codes.append(stop.code)
        return max(codes)


def _conclude(folder: Path, outcomes: Mapping[str, Any], stop: Any) -> int:
    """Prints the table, draws the pictures and reports missing runs. 0 if every run of the plan has an outcome."""
    from addnorm_exp.report.load import load_study
    from addnorm_exp.report.tables.ablation import build
    from addnorm_exp.report.tables.render import render
    from addnorm_exp.runs.folder import RunFolder

    if any(outcome.stopped for outcome in outcomes.values()):
        to_stderr(f"stopped; run the same command again to continue ({folder})")
        return stop.code
    if any(outcome.summaries for outcome in outcomes.values()):
        sys.stdout.write(render([build(load_study(folder))], "md"))
        sys.stdout.flush()
        to_stderr("drawing the pictures…")
        from addnorm_exp.report.figures.plot import plot  # imports Matplotlib, which the table does not need

        if pictures := plot(folder):
            print(
                f"pictures: {pictures[0].parent} ({', '.join(path.name for path in pictures if path.suffix == '.png')})"
            )
    code = 0
    for phase, outcome in outcomes.items():
        for planned in outcome.failed:
            run_folder = RunFolder(folder / planned.id)
            summary = run_folder.summary()
            reason = summary and summary.reason
            to_stderr(f"failed in {phase}: {planned.label}: {reason} (see {run_folder.path / 'failure.log'})")
            code = 1
        if outcome.busy:
            to_stderr(
                f"{phase}: another process is training {counted(len(outcome.busy), 'run')}; run the same command again later"
            )
            code = 1
        if outcome.left:
            to_stderr(f"{phase}: {counted(len(outcome.left), 'run')} to go; run the same command again to continue")
    return code
