"""A study's runs for the page: their identity, their results, their differences, and which are seeds of one another."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from addnorm_exp.report.figures import style
from addnorm_exp.report.figures.looks import Looks, looks_of
from addnorm_exp.report.load import StudyRuns
from addnorm_exp.report.protocol.groups import Reported, axes_of, groups_of
from addnorm_exp.report.protocol.statistics import ENOUGH, t_quantile
from addnorm_exp.report.protocol.titles import titles_of
from addnorm_exp.report.run import Run, flatten
from addnorm_exp.runs.status import standing

DARK = "#1b1c1f"  # the page's dark background (page/style.css), on which colours must be visible
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "triangle-left")
WIDTH = 2.0  # of a line in the page, in pixels; line styles are in units of it
STATUSES = ("done", "diverged", "running", "stopped", "failed", "missing")
FACTS = ("versions", "device", "git", "data_sha256")  # of a summary, shown beside the config in the comparison of runs


def described(study: StudyRuns, report: Reported, runs: Sequence[Run], metric: str) -> dict[str, Any]:
    """Schemes with their looks, runs with their results, configs by key, groups of seeds by phase. `runs` are the study's; a run
    is always named by its place there."""
    looks = looks_of(study, report)
    names, titles = list(looks.names), titles_of(study)
    place = {run.id: i for i, run in enumerate(runs)}
    ids = {phase: {run.id for run in members} for phase, members in study.phases.items()}
    groups = _groups(study, replace(report, titles=titles), place)
    listed = [
        _run(run, names.index(run.scheme), [phase for phase in ids if run.id in ids[phase]], metric)
        | {"variant": looks.variant(run)}
        for run in runs
    ]
    return {
        "schemes": [
            scheme_look(name, looks.of(run)) | {"title": titles.get(name, name)}
            for name in names
            for run in [next(run for run in (*report.runs, *runs) if run.scheme == name)]
        ],
        "variants": variant_looks(looks),
        "row_axes": [axis for axis in looks.axes if looks.crossed],
        "rows": [
            None if not group.runs else [names.index(group.runs[0].scheme), looks.variant(group.runs[0])]
            for group in report.groups
        ],
        "phases": list(study.phases),
        "shown": report.phase,
        "statuses": [status for status in STATUSES if any(run["status"] == status for run in listed)],
        "runs": listed,
        "config": columns([run.flat for run in runs]),
        "resolved": columns(
            [{k: v for k, v in flatten(run.resolved).items() if not k.startswith("law")} for run in runs]
        ),
        "facts": columns([flatten({key: value for key in FACTS if (value := run.summary.at(key))}) for run in runs]),
        "axes": _axes(study, runs),
        "groups": groups,
        "t": [t_quantile(0.975, n - 1) for n in range(ENOUGH, 1 + max((len(g["runs"]) for g in groups), default=0))],
    }


def scheme_look(name: str, look: style.Look) -> dict[str, Any]:
    """A scheme's light and dark colour, line and marker, in plotly's terms."""
    return {
        "name": name,
        "light": look.colour,
        "dark": lightened(look.colour),
        "dash": dash(look.line),
        "symbol": symbol(look),
    }


def variant_looks(looks: Looks) -> list[dict[str, Any]]:
    """For each variant of a crossed design, its dash and whether its markers are open; empty if the scheme's look is enough."""
    if len(looks.variants) < 2:
        return []
    rows = [style.crossed(0, i) if looks.crossed else style.look(i) for i in range(len(looks.variants))]
    return [
        {"dash": dash(row.line), "open": row.open}
        | ({"light": row.colour, "dark": lightened(row.colour), "symbol": symbol(row)} if not looks.crossed else {})
        for row in rows
    ]


def dash(line: Any) -> str:
    """A line style of the pictures in plotly's terms."""
    return "solid" if line == "-" else ",".join(f"{WIDTH * part:g}px" for part in line[1])


def symbol(look: style.Look) -> str:
    return SYMBOLS[style.MARKERS.index(look.marker)]


def lightened(colour: str, against: str = DARK, contrast: float = 4.5) -> str:
    """The colour, with as much white as it needs for contrast with a dark background (WCAG's contrast ratio)."""
    for white in range(0, 101, 5):
        mixed = [round(c + (255 - c) * white / 100) for c in _rgb(colour)]
        if (luminance(mixed) + 0.05) / (luminance(_rgb(against)) + 0.05) >= contrast:
            break
    return "#" + "".join(f"{c:02X}" for c in mixed)


def luminance(rgb: Iterable[int]) -> float:
    """Relative luminance (WCAG 2) of 8-bit sRGB."""
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _run(run: Run, scheme: int, phases: list[str], metric: str) -> dict[str, Any]:
    step = run.number("step")
    return {
        "id": run.id,
        "scheme": scheme,
        "phases": phases,
        "seed": run.seed,
        "status": _status(run),
        "reason": run.reason,
        "step": None if step is None else round(step),
        "steps": run.flat.get("steps"),
        "test": run.number("test", "final", metric),
        "val": run.number("val", "final", metric),
        "best": run.number("val", "best", metric),
        "params": run.number("parameters"),
        "ms": None if (seconds := run.number("step_time_s")) is None else 1e3 * seconds,
    }


def _status(run: Run) -> str:
    """The status as in `main.py runs`, which uses the lock to decide whether an unfinished run is being trained."""
    if run.finished:
        return run.status
    status = standing(run.path, "").status
    return status if run.recorded or status == "running" else run.status


def exact(value: Any) -> str:
    """A config value in full precision, as the command line takes it; `default` if it is not set."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(exact, value)) if isinstance(value, tuple | list) else str(value)


def columns(flats: Sequence[Any]) -> dict[str, Any]:
    """By key: one text if all runs share it, else [distinct texts, each run's index among them], with null for a run without the
    key."""
    by_key: dict[str, Any] = {}
    for key in sorted({key for flat in flats for key in flat}):
        texts = [exact(flat[key]) if key in flat else None for flat in flats]
        distinct = list(dict.fromkeys(texts))
        by_key[key] = distinct[0] if len(distinct) == 1 else [distinct, [distinct.index(text) for text in texts]]
    return by_key


def _axes(study: StudyRuns, runs: Sequence[Run]) -> list[str]:
    """Keys with a column in the list of runs: tuned keys, and axes of the study's groups that differ."""
    groups = [axis for members in study.phases.values() for axis in axes_of(study, members)]
    keys = dict.fromkeys((*study.tuned, *groups))
    differing = {key for key in keys if len({repr(run.flat.get(key)) for run in runs}) > 1}
    return [key for key in keys if key in differing and key != "scheme"]


def _groups(study: StudyRuns, report: Reported, place: dict[str, int]) -> list[dict[str, Any]]:
    """Runs that are seeds of one another, phase by phase; in the reported phase, the groups of the table."""
    listed = []
    for phase, members in study.phases.items():
        if phase == report.phase and phase != "tune":
            part = report
        else:
            axes = axes_of(study, members)
            part = Reported(phase, groups_of(members, axes), axes, {}, titles=report.titles)
        listed += [
            {"phase": phase, "label": part.label(group), "runs": [place[run.id] for run in group.runs]}
            for group in part.groups
        ]
    return listed
