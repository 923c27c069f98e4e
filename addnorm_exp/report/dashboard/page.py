"""One self-contained page of one or more studies, written by `dashboard(directory)`.

All content of records is JSON in which `<`, `>` and `&` are escaped, so that no name can end its element. The scripts insert names as
text, never as markup. A content security policy forbids network access.
"""

import html
import json
import re
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from addnorm_exp.atomic import replace
from addnorm_exp.errors import UserError
from addnorm_exp.report.dashboard.heat import heat
from addnorm_exp.report.dashboard.pack import Pool
from addnorm_exp.report.dashboard.rates import rates
from addnorm_exp.report.dashboard.runs import described
from addnorm_exp.report.dashboard.scalars import curves
from addnorm_exp.report.load import StudyRuns, collected, load_studies
from addnorm_exp.report.protocol.groups import reported
from addnorm_exp.report.protocol.metric import primary_of
from addnorm_exp.report.tables.ablation import build

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
) -> tuple[Path, list[UserError]]:
    """Writes the page of every study under `directory` to `out`, by default `dashboard.html` in `directory`; returns its path, and the
    errors of studies that it lacks.

    Raises:
        UserError: no study can be shown; plotly is missing; the file cannot be written.
    """
    loaded, problems = load_studies(directory, mix_semantics=mix_semantics)
    plotly = plotly_script()
    studies = collected(lambda study: [data(study, baseline=baseline)], loaded, problems)
    if not studies:
        raise problems[0]
    path = Path(directory) / NAME if out is None else Path(out)
    if path.exists() and not path.is_file():  # a device would be replaced by the page
        raise UserError(f"{path}: cannot be written (it is not a regular file); choose a file with --out=FILE")
    text = page(studies, plotly, datetime.now(UTC))
    try:
        replace(path, text)  # a reload shows the old page or the new one
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose a file with --out=FILE") from None
    return path, problems


def data(study: StudyRuns, *, baseline: str | None = None) -> dict[str, Any]:
    """The page's data of one study, ready for JSON."""
    report = reported(study)
    runs = study.runs
    metric = primary_of(runs)
    table = build(study, baseline=baseline)
    pool = Pool()
    return {
        "name": study.name,
        "metric": metric.name,
        "arrow": metric.arrow,
        "sign": metric.sign,
        "table": {
            "title": table.title,
            "columns": [[column.label, column.right] for column in table.columns],
            "rows": [list(row) for row in table.rows],
            "warnings": list(table.warnings),
            "notes": list(table.notes),
        },
        **described(study, report, runs, metric.name),
        "curves": curves(runs, pool),
        "layers": heat(runs, [run.id for run in report.runs], pool),
        "rates": rates(study, report, runs),
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
    """JSON for use inside a script element: no character in it can end the element or open a comment."""
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
    """A script's source, escaped so that nothing in it ends its element."""
    return re.sub(r"</(script)", r"<\\/\1", script, flags=re.IGNORECASE)


def _file(name: str) -> str:
    return resources.files("addnorm_exp.report.dashboard").joinpath("page", name).read_text(encoding="utf-8")
