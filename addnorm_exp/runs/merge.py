"""Joins folders of one study, each with some of its runs, in one.

Everything is checked before anything is written. Then the plan is written, and each run is copied under a hidden name and renamed. So a
kill leaves a study that lacks some runs, and the same command goes on.
"""

import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copy2
from typing import Any

from addnorm_exp.atomic import replacement, uncut
from addnorm_exp.errors import UserError
from addnorm_exp.grouping import grouped
from addnorm_exp.runs.checkpoint_folders import delete
from addnorm_exp.runs.folder import RunFolder, make_folder, write_json
from addnorm_exp.runs.joined_plan import joined
from addnorm_exp.runs.lock import Busy, locked, unlocked
from addnorm_exp.runs.study_part import HALF, RunCopy, StudyPart, read_parts
from addnorm_exp.runs.tickets import TICKETS
from addnorm_exp.words import counted


@dataclass
class Selection:
    """Of each run the copy to take, by id; and what the user must know, as text → ids. `left`: ids of runs that are left out because a
    process is training them."""

    taken: dict[str, RunCopy] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def note(self, text: str, name: str) -> None:
        self.notes.setdefault(text, []).append(name)

    def leave(self, text: str, name: str) -> None:
        self.left.append(name)
        self.note(text, name)


def merge(
    directories: Sequence[Path],
    into: Path,
    say: Callable[[str], None],
    *,
    move: bool = False,
    prefer: Path | None = None,
) -> bool:
    """Copies, or moves, the runs of these folders to `into`, a new folder or one of the same study. False if a run was left out because a
    process is training it. Raises UserError, before anything is written, if the folders are not parts of one study, or if they have
    different results of a run and `prefer` is none of its folders."""
    parts = read_parts(directories, into)
    preferred = next((part.path for part in parts if prefer and part.path.resolve() == prefer.resolve()), None)
    if prefer is not None and preferred is None:
        raise UserError(f"--prefer={prefer}: is none of these folders; give one of {', '.join(map(str, directories))}")
    plan = joined({part.path: part.plan for part in parts}, preferred)
    planned = list(dict.fromkeys(entry["id"] for entries in plan["phases"].values() for entry in entries))
    chosen = _chosen(planned, parts, preferred)
    _check_comparable(chosen)
    here = next((part.runs for part in parts if part.path == into), {})
    _check_places([copy for copy in chosen.taken.values() if copy.study != into], here, into, move)
    make_folder(into)
    with _alone(into):
        for half in into.glob(f".*{HALF}"):
            delete(half)
        write_json(into / "study.json", plan)
        _carry_tickets(planned, parts, into)
        for name in planned:
            try:
                if name in chosen.taken:
                    _bring(chosen.taken[name], into, move)
                elif name in here and name not in chosen.left:
                    RunFolder(into / name).put_aside()
            except Busy:
                chosen.leave("a process has begun to train it", name)
    _report(chosen, plan, planned, parts, into, say)
    return not chosen.left


def _chosen(planned: Sequence[str], parts: Sequence[StudyPart], preferred: Path | None) -> Selection:
    """Of each planned run the copy that is finished, or that has come farthest. Raises UserError if results differ and none is
    preferred."""
    chosen = Selection()
    differing: list[UserError] = []
    for name in planned:
        copies = [part.runs[name] for part in parts if name in part.runs]
        finished = [copy for copy in copies if copy.finished]
        busy = [copy for copy in copies if copy.busy and not copy.finished]
        if finished:
            best = finished[0]
            other = next((copy for copy in finished if copy.results != best.results), None)
            if other:
                differing.append(_conflict(best, other))
                for copy in (copy for copy in finished if copy.study == preferred):
                    best, _ = copy, differing.pop()
                    chosen.note(f"has different results; those of {preferred} are taken", name)
            rest = [str(copy.study) for copy in copies if not copy.finished]
            if rest:
                chosen.note(
                    f"is finished in {best.study} and not in {' and '.join(rest)}; the finished one is taken", name
                )
        elif busy:
            chosen.leave(f"is being trained in {busy[0].study}", name)
            continue
        elif copies:
            best = max(copies, key=lambda copy: copy.step)  # the first of several
            if len(copies) > 1:
                chosen.note(f"is finished nowhere; that of {best.study}, which has come farthest, is taken", name)
        else:
            continue
        chosen.taken[name] = best
    if differing:
        more = f" ({len(differing) - 1} more runs differ)" if len(differing) > 1 else ""
        raise UserError(f"{differing[0]}{more}")
    _leave_torn_packs(chosen)
    return chosen


def _conflict(first: RunCopy, second: RunCopy) -> UserError:
    ours, theirs = first.results, second.results
    key = next(key for key in (*ours, *theirs) if ours.get(key) != theirs.get(key))
    return UserError(
        f"{first.config.id}: is finished in {first.study} and in {second.study}, with other numbers ({key} is {ours.get(key)} and "
        f"{theirs.get(key)}); --prefer={first.study} or --prefer={second.study} says which to take"
    )


def _leave_torn_packs(chosen: Selection) -> None:
    """Leaves out unfinished runs whose program trained others beside them that now come from elsewhere: they could not go on."""
    for name, copy in list(chosen.taken.items()):
        mates = () if copy.finished else RunFolder(copy.path).pack() or ()
        places = {chosen.taken[mate].study if mate in chosen.taken else None for mate in mates}
        if places - {copy.study}:
            chosen.note("is in a pack that is not taken as a whole; it is left out, and starts again from step 0", name)
            del chosen.taken[name]


def _check_comparable(chosen: Selection) -> None:
    """Raises UserError if runs have other data or other semantics than the rest: no table could have both."""
    copies = chosen.taken.values()
    by_data = grouped(copies, lambda copy: copy.config.data.sha256)
    by_semantics = grouped(copies, lambda copy: copy.config.semantics)
    for what, groups in (("data", [*by_data.values()]), ("semantics", [*by_semantics.values()])):
        if len(groups) > 1:
            first, second = (group[0].path for group in groups[:2])
            raise UserError(
                f"{first} and {second} have different {what}, so their numbers cannot be compared; merge folders of one study on one "
                "data set, trained by one version"
            )


def _check_places(coming: Sequence[RunCopy], here: Mapping[str, RunCopy], into: Path, move: bool) -> None:
    """Raises UserError if a run cannot be put in its place."""
    parent = next(path for path in (into, *into.absolute().parents) if path.exists())
    for copy in coming:
        if copy.config.id in here and here[copy.config.id].busy:
            raise UserError(f"{into / copy.config.id}: a process is training this run; wait until it has ended")
        place = into / copy.config.id
        if place.is_symlink() or place.is_file():
            raise UserError(f"{place}: is in the place of a run; move it elsewhere")
        RunFolder(place).admit()
        if move and copy.path.stat().st_dev != parent.stat().st_dev:
            raise UserError(
                f"--move: {copy.study} and {into} are on different file systems; omit --move to copy the runs"
            )


@contextmanager
def _alone(into: Path) -> Iterator[None]:
    """Inside, no other process merges into the folder."""
    lock = into / HALF
    try:
        with locked(lock):
            yield
            lock.unlink(missing_ok=True)
    except Busy:
        raise UserError(f"{into}: another process is merging into this folder; wait until it has ended") from None


def _carry_tickets(planned: Sequence[str], parts: Sequence[StudyPart], into: Path) -> None:
    """Copies the tickets of planned runs that `into` lacks."""
    for name in planned:
        ticket = Path(TICKETS) / f"{name}.json"
        source = next((part.path / ticket for part in parts if (part.path / ticket).is_file()), None)
        if source is not None and not (into / ticket).exists():
            make_folder(into / TICKETS)
            with uncut(), replacement(into / ticket) as file:
                file.write(source.read_bytes())


def _bring(copy: RunCopy, into: Path, move: bool) -> None:
    """Puts a run in its place, if it is not there; a former record of it is put aside. Raises Busy if a process is training it."""
    if copy.study == into:
        return
    place, half = into / copy.config.id, into / f".{copy.config.id}{HALF}"
    with unlocked(copy.path / "lock"):
        if not move:
            _copy(copy.path, half)
        RunFolder(place).put_aside()
        (copy.path if move else half).rename(place)


def _copy(source: Path, target: Path) -> None:
    """Copies a folder without locks, half-written files and what is neither file nor folder nor link. Links stay links."""
    target.mkdir()
    for path in source.iterdir():
        mode = path.lstat().st_mode
        if path.name == "lock" or path.name.endswith((".writing", ".removing")):
            continue
        if stat.S_ISDIR(mode):
            _copy(path, target / path.name)
        elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            copy2(path, target / path.name, follow_symlinks=False)


def _report(
    chosen: Selection,
    plan: Mapping[str, Any],
    planned: Sequence[str],
    parts: Sequence[StudyPart],
    into: Path,
    say: Callable[[str], None],
) -> None:
    by_study = grouped(
        (copy for copy in chosen.taken.values() if copy.config.id not in chosen.left), lambda copy: copy.study
    )
    for text, names in chosen.notes.items():
        say(f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {text}")
    strangers = {name for part in parts for name in part.runs if part.path != into} - set(planned)
    if strangers:
        say(f"{counted(len(strangers), 'run')} that no plan names, e.g. {min(strangers)}: left where they are")
    taken = [copy for copies in by_study.values() for copy in copies]
    origin = ", ".join(
        f"{len(copies)} {'were there' if study == into else f'from {study}'}" for study, copies in by_study.items()
    )
    waiting = f" ({plan['waiting']} not planned yet)" if plan["waiting"] else ""
    say(
        f"{into}: {len(taken)} of {counted(len(planned), 'planned run')}{waiting}, {sum(copy.finished for copy in taken)} finished"
        + (f"; {origin}" if origin else "")
    )
