"""`main.py plot DIR`: the pictures of a study, from its records on disk."""

from pathlib import Path

from addnorm_exp.config.flags import Flag, parse
from addnorm_exp.errors import to_stderr
from addnorm_exp.report.protocol.titles import LABELS

HELP = "draw a study's pictures: learning curves, learning-rate sensitivity, gradient norms (PNG and SVG)"
ABOUT = f"""{HELP}

DIR is a study's folder (runs/quickstart), a folder of studies (runs) or a single run."""

FLAGS = (
    Flag("out", Path, None, "where to write; default: figures/ in the study's folder", "DIR"),
    Flag(
        "labels",
        str,
        "titles",
        "names of rows in legends: titles (Peri-LN, RMSNorm) or names (peri_ln, norm.kind = rms)",
        "|".join(LABELS),
        choices=LABELS,
    ),
    Flag("mix_semantics", bool, False, "allow runs of different semantics in one picture"),
)


def run(argv: list[str]) -> int:
    """Draws the pictures and prints their paths. 0, or 2 if nothing could be drawn or one of several studies could not be read."""
    arguments = parse(argv, FLAGS, command="plot", about=ABOUT, positionals=("DIR",))
    from addnorm_exp.report.figures.plot import plot  # matplotlib is slow to import; --help does not need it

    problems: list[str] = []

    def say(line: str) -> None:
        problems.append(line)
        to_stderr(line)

    written = plot(
        arguments.positionals[0],
        arguments["out"],
        mix_semantics=arguments["mix_semantics"],
        labels=arguments["labels"],
        say=say,
    )
    for path in written:
        print(path)
    return 2 if not written or any(line.startswith("error: ") for line in problems) else 0
