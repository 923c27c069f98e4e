"""The one exception for people: what is wrong, where, and the remedy, in one line."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something that the person at the command line can mend. `main.py` prints it as one line and exits with code 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint `; did you mean X?` or the valid names, to end a `UserError` about an unknown name."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"valid names: {', '.join(names)}"
