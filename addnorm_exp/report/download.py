"""Studies from W&B's server: their records are fetched into a folder and read like any others.

A run's record is in its config and summary on the server (runs/mirror/forms.py); the study's plan is a file of its runs. So a team's
runs from many machines form one table, which equals that of their original folders.
"""

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from addnorm_exp.errors import UserError, program
from addnorm_exp.grouping import grouped
from addnorm_exp.runs.folder import FINISHED, RunFolder, write_json
from addnorm_exp.runs.metrics import metrics_of
from addnorm_exp.runs.mirror.forms import from_config, from_summary
from addnorm_exp.runs.mirror.settings import ask_for_server
from addnorm_exp.runs.mirror.window import reason

SOURCE = "wandb:ENTITY/PROJECT[/GROUP]"
POINTS = 10_000  # of a validation curve, at most


def fetch(source: str, into: Path, *, curves: bool = False) -> None:
    """Writes one folder per study below `into`: its plan, each run's config and summary, and (`curves`) its validations.

    Runs outside a study go into one named after the project. If a run was made twice, the finished record counts, then the newest.

    Raises: UserError if `source` is invalid, not available or has no runs of ours.
    """
    match = re.fullmatch(r"wandb:([^/]+)/([^/]+?)(?:/(.+))?", source)
    if not match:
        raise UserError(f"--from={source}: expected {SOURCE}, e.g. wandb:my-team/addnorm_exp/quickstart")
    entity, project, group = match.groups()
    studies: dict[str, dict[str, Any]] = defaultdict(dict)
    for run in _runs(source, entity, project, group):
        config = from_config(run.config)
        if config is None or not _is_name(config["id"]) or not _is_name(run.group or project):
            continue  # a foreign run
        runs = studies[run.group or project]
        runs[config["id"]] = max(runs.get(config["id"], run), run, key=_counts)
    if not studies:
        raise UserError(
            f"--from={source}: contains no runs of this program; upload some ({program()} sync), or name another source"
        )
    for name, runs in studies.items():
        folder = into / name
        folder.mkdir(parents=True)
        if plan := _plan(runs.values()):
            write_json(folder / "study.json", plan)
        for run in runs.values():
            _write(folder, run, curves)


def _is_name(text: Any) -> bool:
    """Whether it may name a folder: a server's text must not be used as a path."""
    return isinstance(text, str) and re.fullmatch(r"[\w+-][\w.+ -]*", text) is not None


def _runs(source: str, entity: str, project: str, group: str | None) -> Iterable[Any]:
    ask_for_server(f"--from={source}")
    import wandb

    try:
        filters = {"group": group} if group else {}
        return list(wandb.Api(timeout=30).runs(f"{entity}/{project}", filters=filters, per_page=100, lazy=False))
    except (wandb.Error, ValueError, OSError) as error:
        raise UserError(
            f"--from={source}: cannot be read ({reason(error)}); check WANDB_API_KEY (or `wandb login`), the names "
            "and the network"
        ) from None


def _summary(run: Any) -> dict[str, Any]:
    return from_summary(dict(run.summary._json_dict))


def _counts(run: Any) -> tuple[bool, float]:
    """Finished before unfinished, then by start time."""
    summary = _summary(run)
    return summary.get("status") in FINISHED, summary.get("started") or 0.0


def _plan(runs: Iterable[Any]) -> Mapping[str, Any] | None:
    """The plan with the most runs. Entries of other plans, from machines that ran a part of the study, follow those of their phase."""
    by_plan = grouped(runs, lambda run: run.config["record"].get("plan"))
    plans = [plan for digest, (run, *_) in by_plan.items() if digest and (plan := _file(run, "study.json"))]
    plans.sort(key=lambda plan: -sum(map(len, plan["phases"].values())))
    for other in plans[1:]:
        for phase, entries in other["phases"].items():
            known = plans[0]["phases"].setdefault(phase, [])
            ids = {entry["id"] for entry in known}
            known += [entry for entry in entries if entry["id"] not in ids]
    return plans[0] if plans else None


def _file(run: Any, name: str) -> dict[str, Any] | None:
    """A JSON file of a run, or None."""
    with tempfile.TemporaryDirectory() as folder:
        file = run.file(name)
        if not file.size:
            return None
        file.download(root=folder, replace=True).close()
        return json.loads((Path(folder) / name).read_text())


def _write(folder: Path, run: Any, curves: bool) -> None:
    config, summary = from_config(run.config), _summary(run)
    assert config is not None
    place = RunFolder(folder / config["id"])
    place.path.mkdir()
    place.write_config(config)
    if summary.get("status"):
        place.write_summary(summary)
    if curves:
        names = [metric.name for metric in reversed(metrics_of(place.summary()))]
        rows = run.history(samples=POINTS, keys=[f"val/{name}" for name in names], pandas=False)
        place.append(
            {"step": row["_step"], "split": "val", **{name: row[f"val/{name}"] for name in names}} for row in rows
        )
