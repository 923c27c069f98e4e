"""`main.py merge DIR… --into=DIR`: joins folders of one study, each with some of its runs, in one."""

from pathlib import Path

from addnorm_exp.config.flags import Flag, parse
from addnorm_exp.errors import UserError, program

HELP = "join folders of one study from several machines in one"
ABOUT = f"""{HELP}

Each DIR is a folder of the same study, with some of its runs. The runs are copied to --into, a new folder or one of the same study.
A run that several folders have is taken once: the finished one, or the one that has come farthest. If two folders have different results
of a run, nothing is copied, and --prefer must say which to take. If the command is interrupted, the same command goes on. Exit code: 0;
1 if a run was left out because a process is training it; 2 if nothing was copied."""

FLAGS = (
    Flag(
        "into", Path, None, "the folder for all runs, e.g. runs/quickstart, where `sweep` trains what is missing", "DIR"
    ),
    Flag("move", bool, False, "move the runs instead of copying them; needs one file system"),
    Flag("prefer", Path, None, "the folder whose results are taken where others have different ones", "DIR"),
)


def run(argv: list[str]) -> int:
    arguments = parse(argv, FLAGS, command="merge", about=ABOUT, positionals=("DIR", "[DIR…]"))
    if arguments["into"] is None:
        raise UserError(f"merge needs --into=DIR: {program()} merge {' '.join(arguments.positionals)} --into=runs/all")
    from addnorm_exp.runs.merge import merge

    directories = [Path(word).expanduser() for word in arguments.positionals]
    return 0 if merge(directories, arguments["into"], print, move=arguments["move"], prefer=arguments["prefer"]) else 1
