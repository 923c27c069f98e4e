"""`python -m addnorm_exp COMMAND …` and the installed command `addnorm_exp COMMAND …`: the same program as `main.py`."""

import sys

from addnorm_exp import cli


def main() -> None:
    sys.exit(cli.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
