"""What W&B stores of a run besides its curves, made from the record; and the conversion back to the record's files.

The config is the nested science config, with `execution` and `record` (the rest of config.json) beside its keys. The summary is
summary.json. Paths on this machine and the list of attempts are not sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.identity import sha256_of
from addnorm_exp.runs.reading import dotted, read_plan
from addnorm_exp.runs.records import StudyPlan, Summary

Tree = dict[str, Any]
_KEPT_BACK = ("format", "attempts", "heartbeat")  # of summary.json


@dataclass(frozen=True)
class About:
    """A run with W&B's names for its fields. `group` is the study, `job_type` the phase."""

    id: str
    name: str
    group: str | None
    job_type: str
    tags: tuple[str, ...]
    config: Tree


def about(folder: Path) -> About | None:
    """The run of a folder; None if no run has begun there."""
    config, summary = RunFolder(folder).config(), RunFolder(folder).summary()
    if config is None or summary is None:
        return None
    plan = plan_of(folder)
    phase, overrides = _planned(plan, config.id)
    study = plan.name if plan and phase else config.study
    # Two machines, or a folder that was removed and trained again, are two runs with one id of ours. W&B keeps them apart.
    started = summary.attempts[0].started if summary.attempts else summary.started
    apart = sha256_of([study, started])[:6]
    words = [config.scheme, *(f"{key}={value}" for key, value in overrides.items() if key != "scheme")]
    return About(
        id=f"{config.id}-{apart}",
        name=" ".join(words)[:120] if overrides else config.id,
        group=study,
        job_type=phase or "train",
        tags=tuple(str(tag) for tag in (dotted(config.science).get("task.name"), config.scheme) if tag),
        config=to_config(config.plain(), phase, plan),
    )


def plan_of(folder: Path) -> StudyPlan | None:
    """study.json beside the run, if there is one."""
    return read_plan(folder.resolve().parent / "study.json")


def to_plan(plan: StudyPlan) -> Tree:
    """study.json as it is sent: with only the name of the study file, and without data paths."""
    phases = {
        phase: [{**entry.plain(), "overrides": _without_path(entry.overrides)} for entry in entries]
        for phase, entries in plan.phases.items()
    }
    # The sent rows have no data path, so a published number with one would match none.
    published = [entry for entry in plan.published or () if "data.path" not in entry]
    return {**plan.plain(), "file": PurePath(plan.file).name, "phases": phases, "published": published}


def _without_path(overrides: Mapping[str, Any]) -> Tree:
    """Overrides, flat or nested, as a flat dict without `data.path`."""
    return {key: value for key, value in dotted(overrides).items() if key != "data.path"}


def _planned(plan: StudyPlan | None, name: str) -> tuple[str | None, Tree]:
    """The phase of the run, and the keys that the study file set for it, without `data.path`."""
    for phase, entries in (plan.phases if plan else {}).items():
        for entry in entries:
            if entry.id == name:
                return phase, _without_path(entry.overrides)
    return None, {}


def to_config(config: Mapping[str, Any], phase: str | None, plan: StudyPlan | None) -> Tree:
    record = {key: value for key, value in config.items() if key not in ("science", "execution")}
    record |= {"phase": phase, "plan": sha256_of(plan.plain())[:12] if plan else None}
    science = {**config["science"], "data": {**config["science"].get("data", {}), "path": None}}
    return {**science, "execution": config.get("execution", {}), "record": record}


def from_config(config: Mapping[str, Any]) -> Tree | None:
    """config.json from W&B's config, None if this is not one of our runs. `phase` and `plan` remain in it."""
    record = config.get("record")
    if not isinstance(record, Mapping) or "id" not in record:
        return None
    # A W&B sweep adds its parameters, named as flags are (`config.optim.lr`); the science config has them already.
    science = {
        key: value for key, value in config.items() if key not in ("record", "execution", "_wandb") and "." not in key
    }
    return {**record, "science": science, "execution": config.get("execution", {})}


def to_summary(summary: Summary) -> Tree:
    return {key: value for key, value in summary.plain().items() if key not in _KEPT_BACK}


def from_summary(summary: Mapping[str, Any]) -> Tree:
    """summary.json from W&B's summary, without W&B's additions (last values of curves, its own keys)."""
    return {key: value for key, value in summary.items() if "/" not in key and not key.startswith("_")}
