"""Arguments of the commands that take plain flags: argparse, with its mistakes as one `UserError` line."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from addnorm_exp.errors import UserError, nearest


class Arguments(argparse.ArgumentParser):
    """An ArgumentParser that raises `UserError` instead of exiting, and knows the nearest flag to a misspelt one."""

    def __init__(self, command: str, description: str, **kwargs: Any) -> None:
        super().__init__(prog=f"main.py {command}", description=description, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse all of `argv`.

        Raises:
            UserError: an unknown flag (with the nearest), a missing or surplus argument, a value that is not a choice.
            SystemExit: after `--help`, with code 0.
        """
        known = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        for word in argv:
            if word == "--":
                break
            name = word.split("=", 1)[0]
            if name.startswith("--") and name not in known:
                raise UserError(f"{self.prog}: unknown flag {name}; {nearest(name, known)}")
        found, surplus = self.parse_known_args(argv)
        if surplus:
            raise UserError(f"{self.prog}: '{surplus[0]}' is one argument too many; see {self.prog} --help")
        return found
