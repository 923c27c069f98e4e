"""One plan of several: those of the folders in which a study was carried out."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from addnorm_exp.errors import UserError
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.reading import FORMAT, dotted
from addnorm_exp.runs.records import PlannedRun, StudyPlan


def joined(plans: Mapping[Path, StudyPlan], preferred: Path | None = None) -> dict[str, Any]:
    """The content of study.json for the runs of all plans, which are given by their folders. Of a group that was tuned in several
    folders, with different winners, the report runs are those of `preferred`.

    Raises UserError if the plans are not of one study, or if two winners differ and none is preferred.
    """
    (first, plan), *others = plans.items()
    for folder, other in others:
        for what, ours, theirs in zip(FACTS, _facts(plan), _facts(other), strict=True):
            if ours != theirs:
                raise _strangers(first, folder, f"{what} {ours} and {theirs}")
    _check_ids(plans)
    _check_winners(plans, preferred)
    chosen = _winners(plans[preferred]) if preferred else {}
    phases: dict[str, dict[str, PlannedRun]] = {}
    for folder, each in plans.items():
        for phase, entries in each.phases.items():
            for entry in entries:
                group, tuned = _split(entry, each.tuned)
                if phase != "report" or folder == preferred or tuned in chosen.get(group, {tuned}):
                    phases.setdefault(phase, {}).setdefault(entry.id, entry)
    report = phases.get("report", {})
    wanted = max(len(each.phases.get("report", ())) + (each.waiting or 0) for each in plans.values())
    twins = max((each.twins for each in plans.values() if each.twins), key=lambda twins: len(twins.among), default=None)
    return {
        "format": FORMAT,
        **plan.plain(),
        "file": next((each.file for each in plans.values() if Path(each.file).is_file()), plan.file),
        "phases": {
            phase: [
                entry.plain() for entry in (_in_order(phases, plan.tuned) if phase == "report" else entries.values())
            ]
            for phase, entries in phases.items()
        },
        "group": list(dict.fromkeys(key for each in plans.values() for key in each.group)),
        "waiting": max(0, wanted - len(report)),
        "twins": twins.plain() if twins else None,
        "published": _distinct(entry for each in plans.values() for entry in each.published or ()),
    }


FACTS = ("the names are", "the phases begin with", "the baselines are", "the tuned keys are")


def _facts(plan: StudyPlan) -> tuple[Any, ...]:
    return plan.name, next(iter(plan.phases), None), plan.baseline, " ".join(plan.tuned) or None


def _strangers(first: Path, second: Path, difference: str) -> UserError:
    return UserError(f"{first} and {second} are not parts of one study: {difference}; merge folders of one study file")


def _check_ids(plans: Mapping[Path, StudyPlan]) -> None:
    """Raises UserError if what the study file sets for a run is another run in another folder."""
    known: dict[str, tuple[Path, str]] = {}
    for folder, plan in plans.items():
        for entries in plan.phases.values():
            for entry in entries:
                other, name = known.setdefault(_text(entry.overrides), (folder, entry.id))
                if name != entry.id:
                    words = " ".join(f"{key}={value}" for key, value in entry.overrides.items())
                    raise _strangers(
                        other,
                        folder,
                        f"the run {words} is {name} and {entry.id}, {_why(other / name, folder / entry.id)}",
                    )


def _why(first: Path, second: Path) -> str:
    """What makes two runs of the same overrides different runs, as far as their configs are there."""
    ours, theirs = RunFolder(first).config(), RunFolder(second).config()
    if ours and theirs:
        a, b = dotted(ours.science), dotted(theirs.science)
        for key in (key for key in (*a, *b) if key not in ("data.name", "data.path")):
            if a.get(key) != b.get(key):
                return f"with {key}={a.get(key)} and {b.get(key)}"
        if ours.data.sha256 != theirs.data.sha256:
            return f"on other data ({ours.data.name} and {theirs.data.name})"
        if ours.semantics != theirs.semantics:
            return f"under the semantics {ours.semantics} and {theirs.semantics}"
    return "by another BASE, other data or another version of the program"


def _check_winners(plans: Mapping[Path, StudyPlan], preferred: Path | None) -> None:
    """Raises UserError if two folders report a group under different values of the tuned keys, and none of them is preferred."""
    known: dict[str, tuple[Path, set[str]]] = {}
    decided = _winners(plans[preferred]) if preferred else {}
    for folder, plan in plans.items():
        for group, tuned in _winners(plan).items():
            other, former = known.setdefault(group, (folder, tuned))
            if former != tuned and group not in decided:
                raise UserError(
                    f"{other} and {folder}: tuning chose {' '.join(sorted(former))} and {' '.join(sorted(tuned))} for {group}; "
                    f"--prefer={other} or --prefer={folder} says which to take"
                )


def _winners(plan: StudyPlan) -> dict[str, set[str]]:
    """The values of the tuned keys in the report runs of each group."""
    winners: dict[str, set[str]] = {}
    for entry in plan.phases.get("report", ()):
        group, tuned = _split(entry, plan.tuned)
        winners.setdefault(group, set()).add(tuned)
    return winners


def _split(entry: PlannedRun, tuned: Iterable[str]) -> tuple[str, str]:
    """The group of a run, and its values of the tuned keys, as texts."""
    apart = set(tuned)
    group = {key: value for key, value in entry.overrides.items() if key not in {*apart, "seed"}}
    return _text(group), _text({key: value for key, value in entry.overrides.items() if key in apart})


def _in_order(phases: Mapping[str, Mapping[str, PlannedRun]], tuned: Iterable[str]) -> list[PlannedRun]:
    """The report runs, group by group as in tuning: where each folder reports some of the groups, no folder has the study's order."""
    places: dict[tuple[str, ...], dict[str, int]] = {}  # by keys of a group, its place among the groups
    for number, entry in enumerate(phases.get("tune", {}).values()):
        keys = tuple(sorted(key for key in entry.overrides if key not in {*tuned, "seed"}))
        places.setdefault(keys, {}).setdefault(_part(entry, keys), number)

    def place(entry: PlannedRun) -> int:
        known = (groups.get(_part(entry, keys)) for keys, groups in places.items())
        return min((number for number in known if number is not None), default=len(phases.get("tune", ())))

    return sorted(phases["report"].values(), key=place)


def _part(entry: PlannedRun, keys: Iterable[str]) -> str:
    return _text({key: entry.overrides.get(key) for key in keys})


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _distinct(entries: Iterable[Any]) -> list[Any]:
    return list({_text(entry): entry for entry in entries}.values())
