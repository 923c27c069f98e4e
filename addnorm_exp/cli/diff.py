"""`main.py diff A B`: how two runs, or two studies, differ."""

import os
import sys
from pathlib import Path

from addnorm_exp.config.flags import parse
from addnorm_exp.errors import UserError

HELP = "list how two runs or two studies differ: config, versions, results, metrics"
ABOUT = f"""{HELP}

A and B are the folders of two runs or of two studies. For runs, the config and every recorded number are compared. For studies, the
plans and the results of each run are compared. Numbers are compared to the last bit. Exit code: 0 if they are the same, 1 if they
differ. Differences in execution, versions, device and times of two runs are listed but do not count."""

SAME_RUNS = "the same config and the same numbers, to the last bit"
SAME_STUDIES = (
    "the same plan and the same results of every run, to the last bit "
    "(`diff` of two runs also compares their metrics step by step)"
)


def run(argv: list[str]) -> int:
    arguments = parse(argv, command="diff", about=ABOUT, positionals=("A", "B"))
    from addnorm_exp.report.load import load_study
    from addnorm_exp.report.protocol import differences
    from addnorm_exp.report.run import read_run
    from addnorm_exp.runs.reading import which

    first, second = map(Path, arguments.positionals)
    for folder in (first, second):
        if not folder.is_dir():
            near = which(folder)
            hint = near if near.startswith("did you mean") else "give the folders of two runs or of two studies"
            raise UserError(f"{folder}: no such folder; {hint}")
    single = [os.path.lexists(folder / "config.json") for folder in (first, second)]
    if single[0] != single[1]:
        run_, study = (first, second) if single[0] else (second, first)
        raise UserError(f"{run_} is a run and {study} is not; give the folders of two runs or of two studies")
    if single[0]:
        parts = differences.runs(read_run(first), read_run(second))
    else:
        parts = differences.studies(*(load_study(folder, mix_semantics=True) for folder in (first, second)))
    differ = any(part.counts for part in parts)
    sys.stdout.write(differences.text(parts, _heads(first, second)))
    if not differ:
        print(SAME_RUNS if single[0] else SAME_STUDIES)
    return 1 if differ else 0


def _heads(first: Path, second: Path) -> tuple[str, str]:
    """The heads of the two columns of values: the names of the folders (of a run: its id), or their paths if the names are equal."""
    names = first.resolve().name, second.resolve().name
    return names if names[0] != names[1] else (str(first), str(second))
