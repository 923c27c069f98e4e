"""`main.py gc DIR`: what dead attempts left, and what else may go."""

import sys

from addnorm_exp.config.checks import CHOICES
from addnorm_exp.config.flags import Flag, parse
from addnorm_exp.words import size

KEEP = CHOICES["execution.keep"]
HELP = "list what dead attempts left behind in a study or a run, and remove it with --yes"
ABOUT = f"""{HELP}

DIR is a study's folder (runs/quickstart), a folder of studies (runs) or a single run. Nothing is removed without --yes. What a run
holds that is being trained is never listed. Of a finished run is listed what its own policy (execution.keep) does not keep, or what the
policy --keep does not: none, final (parameters), best (also those of the best validation) or state (everything)."""

FLAGS = (
    Flag("yes", bool, False, "remove what is listed"),
    Flag(
        "keep",
        help=f"what finished runs keep of checkpoints/: {', '.join(KEEP)}; tables and pictures need none",
        choices=KEEP,
    ),
    Flag("former", bool, False, "records that `main.py rerun` has put aside, finished runs among them"),
)


def run(argv: list[str]) -> int:
    """0; 1 where something listed could not be removed because a process took the run meanwhile."""
    arguments = parse(argv, FLAGS, command="gc", about=ABOUT, positionals=("DIR",))
    keep = arguments["keep"]
    from addnorm_exp.report.load import study_folders
    from addnorm_exp.runs.gc import leavings, remove, retained

    folders = study_folders(arguments.positionals[0])
    found = {left.path: left for folder in folders for left in leavings(folder, keep=keep, former=arguments["former"])}
    kept = 0
    for left in found.values():
        if arguments["yes"] and not remove(left):
            kept += 1
            print(f"kept   {size(left.size):>8}  {left.path}  (a process trains this run now)", file=sys.stderr)
            continue
        print(f"{'freed' if arguments['yes'] else 'would free'}  {size(left.size):>8}  {left.path}  ({left.why})")
    for folder in folders if keep is not None else ():
        for left in retained(folder, keep):
            print(f"stays  {size(left.size):>8}  {left.path}  ({left.why}; --keep=none removes it)")
    total = sum(left.size for left in found.values())
    if not found:
        print("nothing to remove")
    elif not arguments["yes"]:
        print(f"{len(found)} to remove, {size(total)}; --yes removes them")
    return 1 if kept else 0
