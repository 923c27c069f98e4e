"""The catalogue: every scheme under its name. A new scheme is a record in one of this folder's files, and nothing else anywhere."""

import difflib

from addnorm_exp.residual.catalogue import norm_free, placement
from addnorm_exp.residual.scheme import Scheme, SchemeError

_ALL = (*placement.SCHEMES, *norm_free.SCHEMES)
_BY_NAME: dict[str, Scheme] = {scheme.name: scheme for scheme in _ALL}
if len(_BY_NAME) != len(_ALL):
    raise SchemeError("two schemes of the catalogue have one name")


def names() -> tuple[str, ...]:
    """All names, in the catalogue's order."""
    return tuple(_BY_NAME)


def get(name: str) -> Scheme:
    """The scheme of this name. Raises SchemeError with the nearest names where there is none."""
    if name not in _BY_NAME:
        close = difflib.get_close_matches(name, _BY_NAME, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"the catalogue has {', '.join(_BY_NAME)}"
        raise SchemeError(f"unknown scheme '{name}'; {hint}")
    return _BY_NAME[name]
