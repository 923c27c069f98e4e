"""`main.py gc DIR`: lists and removes leftovers of interrupted attempts, and files that finished runs need not keep."""

from addnorm_exp.config.flags import Flag, parse
from addnorm_exp.config.keys import leaves
from addnorm_exp.errors import to_stderr
from addnorm_exp.words import size

KEEP = leaves()["execution.keep"].choices
HELP = "list leftovers of interrupted attempts in a study or a run, and remove them with --yes"
ABOUT = f"""{HELP}

DIR is a study's folder (runs/quickstart), a folder of studies (runs) or a single run. Nothing is removed without --yes. Files of
a running run are never listed. For a finished run, gc lists what its policy (execution.keep) does not keep; --keep sets another policy
for all of them. Policies: none, final (the final parameters), best (also those of the best validation), state (everything)."""

FLAGS = (
    Flag("yes", bool, False, "remove the listed files"),
    Flag(
        "keep",
        help=f"what finished runs keep in checkpoints/: {', '.join(KEEP)}; tables and pictures need none of it",
        choices=KEEP,
    ),
    Flag("former", bool, False, "also list records that `main.py rerun` has put aside, including finished runs"),
)


def run(argv: list[str]) -> int:
    """0; 1 if a listed file could not be removed because a process is now training the run."""
    arguments = parse(argv, FLAGS, command="gc", about=ABOUT, positionals=("DIR",))
    keep = arguments["keep"]
    from addnorm_exp.report.load import study_folders
    from addnorm_exp.runs.prune import leavings, remove

    folders = study_folders(arguments.positionals[0])
    leftovers = {
        left.path: left for folder in folders for left in leavings(folder, keep=keep, former=arguments["former"])
    }
    kept = 0
    for left in leftovers.values():
        if arguments["yes"] and not remove(left):
            kept += 1
            to_stderr(f"kept   {size(left.size):>8}  {left.path}  (a process is training this run)")
            continue
        print(f"{'freed' if arguments['yes'] else 'would free'}  {size(left.size):>8}  {left.path}  ({left.why})")
    total = sum(left.size for left in leftovers.values())
    if not leftovers:
        print("nothing to remove")
    elif not arguments["yes"]:
        print(f"{len(leftovers)} to remove, {size(total)}; --yes removes them")
    return 1 if kept else 0
