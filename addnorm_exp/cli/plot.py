"""`main.py plot DIR`: the pictures of a study, from its records on disk."""

from addnorm_exp.cli.arguments import Arguments

HELP = "draw a study's pictures: learning curves, learning-rate sensitivity, gradient norms (PNG and SVG)"


def parser() -> Arguments:
    found = Arguments("plot", "Draw the pictures of a study, a folder of studies, or a single run, as PNG and SVG.")
    found.add_argument("directory", metavar="DIR", help="e.g. runs/quickstart")
    found.add_argument("--out", metavar="DIR", help="where to write; default: figures/ in the study's folder")
    found.add_argument("--mix_semantics", action="store_true", help="allow runs of different semantics in one picture")
    return found


def run(argv: list[str]) -> int:
    """Draw, and print the files written. 0, or 2 if nothing could be drawn or one of several studies could not be read."""
    args = parser().parse(argv)
    from addnorm_exp.report.figures import plot  # matplotlib is slow to import, and --help needs none of it

    problems: list[str] = []

    def say(line: str) -> None:
        import sys

        problems.append(line)
        print(line, file=sys.stderr)

    written = plot(args.directory, args.out, mix_semantics=args.mix_semantics, say=say)
    for path in written:
        print(path)
    return 2 if not written or any(line.startswith("error: ") for line in problems) else 0
