"""`main.py sync [DIR]`: uploads to W&B what is on disk and not on the server."""

import functools
from pathlib import Path

from addnorm_exp.cli.wandb_flags import WANDB_FLAGS, place_of
from addnorm_exp.config.flags import Flag, parse

HELP = "upload runs, or parts of runs, that W&B does not have yet"
ABOUT = f"""{HELP}

DIR is the folder of a run, of a study or of several studies; default: runs. The command first asks the server what it has, so nothing is
sent twice. Exit code: 0 if everything is on the server; 1 if a run was skipped (it is being trained or mirrored, its record is damaged, or
the server refuses it); 2 if there is no key, no server, or no run."""

FLAGS = (
    Flag("again", bool, False, help="send runs again that were deleted on the server, under a new id"),
    *(flag for flag in WANDB_FLAGS if flag.name != "wandb"),
)


def run(argv: list[str]) -> int:
    arguments = parse(argv, FLAGS, command="sync", about=ABOUT, positionals=("[DIR]",))
    from addnorm_exp.runs.mirror.sync import sync

    directory = Path(*arguments.positionals).expanduser() if arguments.positionals else Path("runs")
    say = functools.partial(print, flush=True)
    return 0 if sync(directory, place_of(arguments), say, arguments["again"]) else 1
