"""The front door: `main.py COMMAND …`; `main.py --help` lists the commands (addnorm_exp/cli)."""

import sys

from addnorm_exp.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
