"""`main.py rerun DIR …`: repeat runs from step 0."""

from pathlib import Path

from addnorm_exp.cli.cache_flag import CACHE
from addnorm_exp.cli.stop import StopSignal
from addnorm_exp.cli.wandb_flags import WANDB_FLAGS, mirror_of
from addnorm_exp.config.flags import Flag, parse
from addnorm_exp.errors import UserError, to_stderr
from addnorm_exp.runs.reading import which
from addnorm_exp.words import counted

HELP = "repeat runs from step 0: by id, --failed or --diverged"
ABOUT = f"""{HELP}

DIR is the folder of a study or of a single run. An id can be shortened as long as it is unique. Each run is repeated from its own
config.json, so no study file is needed. The former records are moved to DIR/.former-…; `main.py gc DIR --former` lists and removes
them. A failed or stopped run needs no rerun: `main.py sweep` resumes it from its last checkpoint."""

REST = "some runs were moved aside and not repeated: run `sweep` or `train` again"
FLAGS = (
    Flag("failed", bool, False, "every run that failed"),
    Flag("diverged", bool, False, "every run that diverged"),
    CACHE,
    *WANDB_FLAGS,
)


def run(argv: list[str]) -> int:
    """0 if every requested run has a new outcome, 1 if one failed or another process is training it."""
    arguments = parse(argv, FLAGS, command="rerun", about=ABOUT, positionals=("DIR", "[ID…]"))
    directory, *ids = arguments.positionals
    kinds = [kind for kind in ("failed", "diverged") if arguments[kind]]
    folder = Path(directory)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; {which(folder)}")

    from addnorm_exp.runs.status import chosen, standings

    runs = standings(folder)
    if not runs:
        raise UserError(f"{folder}: no runs here; {which(folder)}")
    single = len(runs) == 1 and runs[0].path == folder
    if not (ids or kinds or single):
        raise UserError(f"rerun {folder}: no runs are named; give their ids, --failed or --diverged")
    requested = [*chosen(runs, tuple(ids)), *(run for run in runs if run.status in kinds)]
    requested = list({run.id: run for run in (runs if single else requested)}.values())
    if not requested:
        to_stderr(f"{folder}: no run has {' or '.join(kinds)}")
        return 0
    for run_ in requested:
        if run_.status == "damaged":
            raise UserError(f"{run_.path}: {run_.reason}")

    from addnorm_exp.sweep.display import Display
    from addnorm_exp.sweep.rerun import again
    from addnorm_exp.train.program_cache import keep_programs

    if arguments[CACHE.name]:
        keep_programs()

    display = Display()
    with (
        StopSignal(display.say) as stop,
        display,
        mirror_of(arguments, display.say, folder, stop) as mirror,
    ):
        stop.mirror = mirror
        stop.prospect = lambda: REST
        agenda, aside = again(requested, display, stop, mirror)
    for path in aside:
        print(f"former record: {path}")
    if stop():
        to_stderr(f"stopped; {REST}")
        return stop.code
    for planned in map(agenda.planned.__getitem__, agenda.failed):
        place = next(run_.path for run_ in requested if run_.id == planned.id)
        to_stderr(f"failed: {planned.label} (see {place / 'failure.log'})")
    if agenda.busy:
        to_stderr(f"skipped {counted(len(agenda.busy), 'run')} that another process is training")
    return 1 if agenda.failed or agenda.busy else 0
