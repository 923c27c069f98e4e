"""The programs of this process: one for each shape and its lanes, compiled at most once while it is in use."""

from addnorm_exp.experiment import Shape
from addnorm_exp.train.program import ALONE, Lanes, Program

_PROGRAMS: dict[tuple[Shape, Lanes], Program] = {}
_KEPT = 16  # each takes up to 150 MB (a sweep over the catalogue); a study trains its runs shape by shape anyway


def program(shape: Shape, lanes: Lanes = ALONE) -> Program:
    """The program of a shape and its lanes."""
    key = shape, lanes
    latest = _PROGRAMS.pop(key) if key in _PROGRAMS else Program(shape, lanes)
    _PROGRAMS[key] = latest  # at the end: the first in the dict is the least recently used
    while len(_PROGRAMS) > _KEPT:
        _PROGRAMS.pop(next(iter(_PROGRAMS)))
    return latest
