"""One self-contained page of one study or several: `dashboard(directory)` writes it.

Whatever comes from a record reaches the page as JSON in which `<`, `>` and `&` are written as escapes, so that no name can end the
element that holds it; the scripts put names into the page as text, never as markup. A content security policy forbids it any network.
"""

import contextlib
import html
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from addnorm_exp.errors import UserError
from addnorm_exp.report.dashboard.curves import curves
from addnorm_exp.report.dashboard.heat import heat
from addnorm_exp.report.dashboard.pack import Pool
from addnorm_exp.report.dashboard.rates import rates
from addnorm_exp.report.dashboard.runs import described
from addnorm_exp.report.groups import reported
from addnorm_exp.report.load import Study, load_study, study_folders
from addnorm_exp.report.metric import unit_of
from addnorm_exp.report.table import build

NAME = "dashboard.html"
SCRIPTS = (
    "base.js",
    "table.js",
    "runs.js",
    "smooth.js",
    "curves.js",
    "heat.js",
    "rates.js",
    "differences.js",
    "main.js",
)


def dashboard(
    directory: Path | str,
    out: Path | str | None = None,
    *,
    baseline: str | None = None,
    mix_semantics: bool = False,
    say: Callable[[str], None],
) -> Path:
    """Write the page of every study under `directory` to `out`, by default `dashboard.html` in `directory`; returns its path.

    Raises:
        UserError: what `load_study` refuses (of several studies the others are still shown, and `say` hears of it); no plotly; a file
            that cannot be written.
    """
    folders = study_folders(directory)
    plotly = plotly_script()
    found: list[dict[str, Any]] = []
    problems: list[UserError] = []
    for folder in folders:
        try:
            found.append(data(load_study(folder, mix_semantics=mix_semantics), baseline=baseline))
        except UserError as error:
            problems.append(error)
    if not found:
        raise problems[0]
    for problem in problems:
        say(f"error: {problem}")
    path = Path(directory) / NAME if out is None else Path(out)
    if path.exists() and not path.is_file():  # a device would be replaced by the page
        raise UserError(f"{path}: cannot be written (it is no regular file); choose a file by --out=FILE")
    text = page(found, plotly, datetime.now(UTC))
    made = path.parent / f".{path.name}-{os.getpid()}"
    try:
        made.write_text(text, encoding="utf-8")
        made.replace(path)  # at once: who reloads the page sees the old one or the new
    except OSError as error:
        with contextlib.suppress(OSError):
            made.unlink()
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose a file by --out=FILE") from None
    return path


def data(study: Study, *, baseline: str | None = None) -> dict[str, Any]:
    """All that the page holds of one study, ready for JSON."""
    shown = reported(study)
    runs = study.runs
    unit = unit_of(runs)
    table = build(study, baseline=baseline)
    pool = Pool()
    return {
        "name": study.name,
        "unit": unit,
        "table": {
            "title": table.title,
            "columns": [[column.label, column.right] for column in table.columns],
            "rows": [list(row) for row in table.rows],
            "warnings": list(table.warnings),
            "notes": list(table.notes),
        },
        **described(study, shown, runs, unit),
        "curves": curves(runs, pool),
        "layers": heat(runs, [run.id for group in shown.groups for run in group.runs], pool),
        "rates": rates(study, shown, runs),
        "pool": pool.texts,
    }


def page(studies: list[dict[str, Any]], plotly: str, now: datetime) -> str:
    """The HTML text. `plotly` is the source of plotly.js."""
    names = [study["name"] for study in studies]
    title = names[0] if len(names) == 1 else f"{len(names)} studies"
    parts = {
        "title": html.escape(title),
        "when": html.escape(f"{now:%Y-%m-%d %H:%M} UTC"),
        "style": _file("style.css"),
        "plotly": _closed(plotly),
        "data": as_json(studies),
        "scripts": _closed("\n".join(_file(name) for name in SCRIPTS)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _file("page.html"))


_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def as_json(value: Any) -> str:
    """JSON that can stand inside a script element: no character in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda match: _ESCAPES[match[0]], text)


def plotly_script() -> str:
    """The source of plotly.js, from the plotly package."""
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError:
        raise UserError(
            "dashboard: the package 'plotly' is missing; run `uv run --extra dashboard main.py dashboard …` or `pip install plotly`"
        ) from None
    return get_plotlyjs()


def _closed(script: str) -> str:
    """A script's source with nothing in it that would end its element."""
    return re.sub(r"</(script)", r"<\\/\1", script, flags=re.IGNORECASE)


def _file(name: str) -> str:
    return resources.files("addnorm_exp.report.dashboard").joinpath("page", name).read_text(encoding="utf-8")
