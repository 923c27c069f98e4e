"""The look of every row of a study, the same in all pictures and on the dashboard: colour and marker show the scheme, the dash shows
the other axes."""

from collections.abc import Iterable
from dataclasses import dataclass

from addnorm_exp.report.figures import style
from addnorm_exp.report.load import StudyRuns
from addnorm_exp.report.protocol.groups import Reported, key_of, schemes
from addnorm_exp.report.run import Run
from addnorm_exp.runs.winners import Pairs


@dataclass(frozen=True)
class Looks:
    """`names` are the schemes. `variants` are the values of `axes`, which distinguish rows besides the scheme, in plan order."""

    names: tuple[str, ...]
    axes: tuple[str, ...]
    variants: tuple[Pairs, ...]

    @property
    def crossed(self) -> bool:
        """Whether colour and dash show different axes."""
        return len(self.names) > 1 and len(self.variants) > 1

    def of(self, run: Run) -> style.Look:
        """The look of a run. If there is one axis, colour, dash and marker all show it, so that grey pictures are readable."""
        scheme, variant = self.names.index(run.scheme), self.variant(run)
        return style.crossed(scheme, variant) if self.crossed else style.look(scheme + variant)

    def variant(self, run: Run) -> int:
        """The index of the run's values of the other axes."""
        key = key_of(run, self.axes)
        return self.variants.index(key) if key in self.variants else 0


def looks_of(study: StudyRuns, report: Reported, free: Iterable[str] = ()) -> Looks:
    """The looks of a study's rows; a key in `free` (an axis of the picture) has none."""
    names = schemes(study, report)
    axes = tuple(axis for axis in report.varying if axis != "scheme" and axis not in free)
    variants = dict.fromkeys(key_of(run, axes) for group in report.groups for run in group.runs)
    return Looks(tuple(names), axes, tuple(variants))
