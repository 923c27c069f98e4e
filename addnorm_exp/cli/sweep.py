"""`main.py sweep`: runs a whole study, from its file to its table and pictures."""

import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addnorm_exp.cli.cache_flag import CACHE
from addnorm_exp.cli.stop import StopSignal
from addnorm_exp.cli.wandb_flags import WANDB_FLAGS, mirror_of
from addnorm_exp.config.flags import Arguments, Flag, parse
from addnorm_exp.errors import UserError, to_stderr
from addnorm_exp.words import counted

if TYPE_CHECKING:
    from addnorm_exp.sweep.agenda import Agenda

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
    Flag(
        "workers",
        str,
        "auto",
        help="processes that train at once: on CPU each has its share of the cores, else devices of its own; auto: as many as pay",
        metavar="auto|N",
    ),
    Flag("devices_per_run", int, 1, help="GPUs of each worker", metavar="K", minimum=1),
    Flag(
        "launcher",
        str,
        "local",
        help="what carries out the runs: local (this machine), or print: prints the commands that train them (docs/clusters.md)",
        metavar="NAME",
    ),
    CACHE,
    *WANDB_FLAGS,
)
OWN = ("max_runs", "pack", "workers", "devices_per_run")  # flags that some launchers do not follow


def run(argv: list[str]) -> int:
    arguments = parse(argv, FLAGS, command="sweep", about=HELP, positionals=("FILE",), study_keys=True)

    from addnorm_exp.sweep.display import Display
    from addnorm_exp.sweep.executors import Options
    from addnorm_exp.sweep.launchers import launcher_of
    from addnorm_exp.sweep.phases import agenda_of, dry_run, plan, selected
    from addnorm_exp.sweep.planner import run_folders
    from addnorm_exp.sweep.record import check_folder
    from addnorm_exp.sweep.selection import parse_filter, select
    from addnorm_exp.sweep.study_file import read_studies

    kind, chosen = launcher_of(arguments["launcher"]), parse_filter(arguments["filter"])
    for flag in FLAGS:
        if flag.name in OWN and flag.name not in kind.follows and arguments[flag.name] != flag.default:
            raise UserError(f"--{flag.name} has no effect under --launcher={arguments['launcher']}; omit it")
    workers = _workers(arguments["workers"])
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

    options = Options(
        width=arguments["pack"],
        limit=arguments["max_runs"],
        workers=workers,
        devices=arguments["devices_per_run"],
        cache=arguments[CACHE.name],
        sweep=("sweep", os.path.abspath(studies[0].path), *_typed(arguments, FLAGS)),
        train=_typed(arguments, (CACHE, *WANDB_FLAGS)),
    )
    display, root = Display(), arguments["runs"] / studies[0].path.stem
    agendas: dict[str, Agenda] = {}
    with StopSignal(display.say) as stop, mirror_of(arguments, display.say, root, stop) as mirror:
        stop.mirror = mirror
        with display, kind(display, stop, options, mirror) as launcher:
            stop.launcher = launcher
            # All of the file is checked before anything is trained.
            plans = {study.name: plan(study, chosen) for study in studies}
            launcher.prepare(
                (run_folders(folders[name]), runs) for name, each in plans.items() for runs in (each.tune, each.report)
            )
            for study in studies:
                if stop():
                    break
                agenda = agenda_of(study, folders[study.name], chosen, plans[study.name], launcher)
                agendas[study.name] = agenda
                launcher.launch(agenda)
        stop.give_back()  # nothing is left to save: from here on, Ctrl-C ends the process
        codes = [_conclude(folders[name], agenda, stop) for name, agenda in agendas.items()]
        if len(codes) < len(studies):
            to_stderr(f"stopped; run the same command again to continue ({root})")
            codes.append(stop.code)
        return max(codes)


def _typed(arguments: Arguments, flags: Iterable[Flag]) -> tuple[str, ...]:
    """The flags that are not at their defaults, as words for a command in any folder."""
    words = []
    for flag in flags:
        value = arguments[flag.name]
        if flag.type is Path:
            words.append(f"--{flag.name}={os.path.abspath(value)}")
        elif value != flag.default:
            words.append(f"--{flag.name}={value}" if flag.type is not bool else f"--{'no' * (not value)}{flag.name}")
    return tuple(words)


def _workers(text: str) -> int | None:
    """The number of workers; None for auto."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--workers={text}: expected auto or a number of processes from 1, e.g. --workers=2")
    return int(text)


def _conclude(folder: Path, agenda: "Agenda", stop: Any) -> int:
    """Prints the table, draws the pictures and reports missing runs. 0 if every run of the plan has an outcome."""
    from addnorm_exp.report.load import load_study
    from addnorm_exp.report.tables.ablation import build
    from addnorm_exp.report.tables.render import render

    if agenda.stopped:
        to_stderr(f"stopped; run the same command again to continue ({folder})")
        return stop.code
    if agenda.summaries and not agenda.elsewhere:
        sys.stdout.write(render([build(load_study(folder))], "md"))
        sys.stdout.flush()
        to_stderr("drawing the pictures…")
        from addnorm_exp.report.figures.plot import plot  # imports Matplotlib, which the table does not need

        if pictures := plot(folder):
            print(
                f"pictures: {pictures[0].parent} ({', '.join(path.name for path in pictures if path.suffix == '.png')})"
            )
    for name, reason in agenda.failed.items():
        run = agenda.planned[name]
        log = agenda.place(run).path / "failure.log"
        to_stderr(f"failed in {run.phase}: {run.label}: {reason}" + f" (see {log})" * log.exists())
    if agenda.elsewhere:
        return 1 if agenda.failed else 0
    for phase, number in Counter(run.phase for run in agenda.busy).items():
        to_stderr(f"{phase}: another process is training {counted(number, 'run')}; run the same command again later")
    for phase, number in Counter(run.phase for run in agenda.left).items():
        to_stderr(f"{phase}: {counted(number, 'run')} to go; run the same command again to continue")
    return 1 if agenda.failed or agenda.busy else 0
