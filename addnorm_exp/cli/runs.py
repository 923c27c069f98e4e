"""`main.py runs DIR`: the status of every run of a study."""

import sys

from addnorm_exp.config.flags import Flag, parse
from addnorm_exp.errors import UserError, nearest

HELP = "list a study's runs: id, phase, scheme, settings, status, age, step and reason"
ABOUT = f"""{HELP}

DIR is a study's folder (runs/quickstart), a folder of studies (runs) or a single run. Settings are what the study file sets for a run;
age is the time since the run's summary was last written. Report runs are planned when their tuning has ended; until then the heading
counts them as not planned yet. docs/runs.md explains each status."""

FLAGS = (
    Flag("status", str, None, "only runs with this status; separate several with commas", "STATUS,…"),
    Flag("format", str, "md", "Markdown (the default), LaTeX or CSV", "md|latex|csv", choices=("md", "latex", "csv")),
)
COLUMNS = ("id", "phase", "scheme", "settings", "status", "age", "step", "reason")


def run(argv: list[str]) -> int:
    """Prints the list. 0, even if it is empty."""
    arguments = parse(argv, FLAGS, command="runs", about=ABOUT, positionals=("DIR",))
    from addnorm_exp.report.load import study_folders
    from addnorm_exp.report.tables.render import Column, Table, render
    from addnorm_exp.runs.status import STANDINGS, Standing, standings, waiting
    from addnorm_exp.words import duration

    wanted = tuple(word.strip() for word in (arguments["status"] or ",".join(STANDINGS)).split(","))
    for word in wanted:
        if word not in STANDINGS:
            raise UserError(f"--status={word}: unknown; {nearest(word, STANDINGS)}")

    def row(run: Standing) -> list[str]:
        step = "" if run.step is None else f"{run.step}/{run.steps}"
        age = "" if run.age is None else duration(run.age)
        return [run.id, run.phase, run.scheme, run.settings, run.status, age, step, run.reason or ""]

    tables = []
    for folder in study_folders(arguments.positionals[0]):
        every = standings(folder)
        runs = [run for run in every if run.status in wanted]
        counts = {status: sum(run.status == status for run in every) for status in STANDINGS}
        counts["not planned yet"] = waiting(folder)
        summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        rows = [row(run) for run in runs]
        records = [
            {"study": str(folder), **dict(zip(COLUMNS, cells, strict=True)), "age": run.age, "step": run.step}
            for run, cells in zip(runs, rows, strict=True)
        ]
        columns = [Column(name, name, right=name in ("age", "step")) for name in COLUMNS]
        tables.append(Table(f"{folder} ({summary})", columns, rows, records=records))
    sys.stdout.write(render(tables, arguments["format"]))
    return 0
