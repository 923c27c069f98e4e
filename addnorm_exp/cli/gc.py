"""`main.py gc DIR`: what dead attempts left, and what else may go."""

import sys

from addnorm_exp.config.flags import Flag, parse
from addnorm_exp.words import size

HELP = "list what dead attempts left behind in a study or a run, and remove it with --yes"
ABOUT = f"""{HELP}

DIR is a study's folder (runs/quickstart), a folder of studies (runs) or a single run. Nothing is removed without --yes. What a run
holds that is being trained is never listed; of a finished run only what --checkpoints or --former asks for."""

FLAGS = (
    Flag("yes", bool, False, "remove what is listed"),
    Flag(
        "checkpoints", bool, False, "checkpoints of finished runs too: their parameters; tables and pictures need none"
    ),
    Flag("former", bool, False, "records that `main.py rerun` has put aside, finished runs among them"),
)


def run(argv: list[str]) -> int:
    """0; 1 where something listed could not be removed because a process took the run meanwhile."""
    arguments = parse(argv, FLAGS, command="gc", about=ABOUT, positionals=("DIR",))
    from addnorm_exp.report.load import study_folders
    from addnorm_exp.runs.gc import leavings, remove

    folders = study_folders(arguments.positionals[0])
    found = {
        left.path: left
        for folder in folders
        for left in leavings(folder, checkpoints=arguments["checkpoints"], former=arguments["former"])
    }
    kept = 0
    for left in found.values():
        if arguments["yes"] and not remove(left):
            kept += 1
            print(f"kept   {size(left.size):>8}  {left.path}  (a process trains this run now)", file=sys.stderr)
            continue
        print(f"{'freed' if arguments['yes'] else 'would free'}  {size(left.size):>8}  {left.path}  ({left.why})")
    total = sum(left.size for left in found.values())
    if not found:
        print("nothing to remove")
    elif not arguments["yes"]:
        print(f"{len(found)} to remove, {size(total)}; --yes removes them")
    return 1 if kept else 0
