"""Packs: runs that one program trains together, and the order in which a study trains them. No device is needed for it.

A pack has runs of one phase, one shape, one timetable and the same data. Longer packs come first, so that no worker is left with a
long one at the end; packs of one phase come before those of the next.
"""

import functools
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from addnorm_exp.errors import UserError
from addnorm_exp.experiment import Shape
from addnorm_exp.nn.footprint import ExampleCost
from addnorm_exp.residual.catalogue import is_published
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.sweep.study import PHASES, Planned
from addnorm_exp.tasks import minimum_footprint

FolderOf = Callable[[Planned], RunFolder]


@dataclass(frozen=True)
class PlannedPack:
    """Runs that are trained together; `begun`: they were before, and continue as they began. `tries` counts how often it failed."""

    runs: tuple[Planned, ...]
    begun: bool = False
    tries: int = 0

    @property
    def phase(self) -> str:
        return self.runs[0].phase

    @property
    def shape(self) -> Shape:
        return self.runs[0].experiment.shape

    @functools.cached_property
    def operations(self) -> float:
        """Floating-point operations of its training steps."""
        return sum(map(operations, self.runs))


def run_folders(folder: Path) -> FolderOf:
    """The folders of the runs of the study in this folder."""
    return lambda run: RunFolder(folder / run.id)


def unpublished(run: Planned) -> str | None:
    """The name of a scheme of the run that is not in the catalogue: another process does not know it."""
    names = (run.config.scheme, *asdict(run.config.schemes).values())
    return next((name for name in names if name is not None and not is_published(name)), None)


def operations(run: Planned) -> float:
    """Floating-point operations of a run's training steps."""
    cost = _cost(run.experiment.shape)
    return cost.flops_per_token * cost.tokens * run.config.batch_size * run.config.steps


@functools.lru_cache(maxsize=1024)
def _cost(shape: Shape) -> ExampleCost:
    return minimum_footprint(shape).cost


def kind_of(run: Planned) -> tuple[Hashable, ...]:
    """What the runs of a pack have in common: phase, shape, timetable and data."""
    return run.phase, run.experiment.shape, run.experiment.timetable, run.sha256


def packs(waiting: Iterable[Planned], planned: Mapping[str, Planned], width: int, place: FolderOf) -> list[PlannedPack]:
    """The waiting runs in packs of up to `width`, longest first, phase by phase. `planned`: all runs of the plan by id. A run that has
    begun continues as it began: alone, or in its pack, some of whose runs may have ended since.

    Raises UserError if the plan lacks a run of such a pack.
    """
    single: list[PlannedPack] = []  # and those that have begun
    fresh: dict[Hashable, list[list[Planned]]] = {}  # packs of each kind; only the last one has room
    packed: set[str] = set()  # ids of runs in packs that have begun
    for run in waiting:
        folder = place(run)
        if run.id in packed:
            continue
        if ids := folder.pack():
            if missing := [name for name in ids if name not in planned]:
                raise UserError(
                    f"{folder.path}: is trained together with {missing[0]}, which is not among these runs; run the sweep without "
                    "--filter, or delete this folder to train the run anew"
                )
            single.append(PlannedPack(tuple(planned[name] for name in ids), begun=True))
            packed |= set(ids)
        elif (begun := folder.recorded() > 0) or width == 1:
            single.append(PlannedPack((run,), begun))
        else:
            of_kind = fresh.setdefault(kind_of(run), [[]])
            if len(of_kind[-1]) == width:
                of_kind.append([])
            of_kind[-1].append(run)
    return ordered([*single, *(PlannedPack(tuple(runs)) for of_kind in fresh.values() for runs in of_kind)])


def ordered(packs: Iterable[PlannedPack]) -> list[PlannedPack]:
    """Those that have begun first; then longest first, phase by phase. Packs of one shape follow each other, for they share a program."""
    packs = list(packs)
    shapes = {shape: place for place, shape in enumerate(dict.fromkeys(pack.shape for pack in packs))}
    return sorted(
        packs, key=lambda pack: (not pack.begun, PHASES.index(pack.phase), -pack.operations, shapes[pack.shape])
    )


def choose(packs: Sequence[PlannedPack], compiled: Collection[Shape], taken: Collection[Shape]) -> PlannedPack:
    """The pack that a free worker trains next. `compiled`: the shapes that it has compiled; `taken`: those of the other workers.

    One that has begun; else, of the earliest phase, one of a shape that it has compiled, or of a shape that nobody has, or of the shape
    with the most left to do, whose program it compiles again.
    """
    first = [pack for pack in packs if pack.phase == packs[0].phase]
    for choice in (
        [pack for pack in packs if pack.begun],
        [pack for pack in first if pack.shape in compiled],
        [pack for pack in first if pack.shape not in taken],
    ):
        if choice:
            return choice[0]
    left: Counter[Shape] = Counter()
    for pack in first:
        left[pack.shape] += int(pack.operations)
    most = max(left.values())
    return next(pack for pack in first if left[pack.shape] == most)


def widths(runs: Sequence[Planned], width: int, place: FolderOf) -> list[int]:
    """For each of these unfinished runs of one phase, how many runs the widest pack has that it may be trained in."""
    kinds = Counter(kind_of(run) for run in runs if not place(run).recorded())

    def lanes(run: Planned) -> int:
        folder = place(run)
        if ids := folder.pack():
            return len(ids)
        return 1 if folder.recorded() else min(width, kinds[kind_of(run)])

    return [lanes(run) for run in runs]
