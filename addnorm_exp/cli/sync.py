"""`main.py sync [DIR]`: what is on disk and not on W&B goes there."""

import sys
from pathlib import Path

from addnorm_exp.cli.wandb_flags import WANDB_FLAGS, place_of
from addnorm_exp.config.flags import Flag, parse

HELP = "upload runs to W&B that are not there, or not to their end"
ABOUT = f"""{HELP}

DIR is a run's folder, a study's or one of studies; default: runs. The server is asked what it has, so nothing is sent twice.
Exit code: 0 all is there, 1 a run was left out (it is being trained or mirrored, its record is damaged, or the server refuses it),
2 no key, no server, or no runs."""

FLAGS = (
    Flag("again", bool, False, help="send runs that were deleted on the server once more, under a new id"),
    *(flag for flag in WANDB_FLAGS if flag.name != "wandb"),
)


def run(argv: list[str]) -> int:
    arguments = parse(argv, FLAGS, command="sync", about=ABOUT, positionals=("[DIR]",))
    from addnorm_exp.runs.mirror.sync import sync

    directory = Path(*arguments.positionals).expanduser() if arguments.positionals else Path("runs")

    def say(line: str) -> None:
        print(line, file=sys.stdout, flush=True)

    return 0 if sync(directory, place_of(arguments), say, arguments["again"]) else 1
