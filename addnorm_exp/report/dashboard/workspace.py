"""A saved view of a W&B project: the panels of an ablation, created by code so that every project has the same.

It needs the package wandb-workspaces (the extra `dashboard`). W&B keeps each saved view: saving again creates another one.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from addnorm_exp.config import Config as Schema
from addnorm_exp.config import flatten
from addnorm_exp.errors import UserError
from addnorm_exp.runs.metrics import DEFAULT, Metric
from addnorm_exp.runs.mirror.settings import ask_for_server
from addnorm_exp.runs.mirror.window import reason

LAYER_CURVES = ("grad_stream", "grad_weight", "stream_rms", "branch_ratio", "update_ratio", "entropy")
COORDINATES = ("scheme", "optim.lr", "optim.warmup", "model.depth", "model.width", "init.law", "norm.kind", "seed")


def workspace(
    entity: str, project: str, study: str | None = None, metrics: Sequence[Metric] = tuple(reversed(DEFAULT))
) -> Any:
    """The view (a `wandb_workspaces.workspaces.Workspace`) of a project's runs, or of one study's; not yet saved. `metrics`: of the task;
    the first is what runs are compared by."""
    try:
        wr, ws, expr = (import_module(f"wandb_workspaces.{name}") for name in ("reports.v2", "workspaces", "expr"))
    except ModuleNotFoundError:
        raise UserError(
            "--wandb: the package 'wandb-workspaces' is missing; run `uv run --extra dashboard main.py dashboard --wandb …` or "
            "`pip install wandb-workspaces`"
        ) from None

    scheme, first = wr.Config("scheme"), metrics[0]
    score, tested = (f"{split}.final.{first.name}" for split in ("val", "test"))  # of the summary (docs/record.md)
    assert set(COORDINATES) <= set(flatten(Schema()))

    def curves(title: str, *names: str, **more: Any) -> Any:
        """Curves against steps: one line per scheme, the mean of its runs, with a band from their smallest to their largest value."""
        grouped = {"groupby": scheme, "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
        return wr.LinePlot(
            title=title, x=wr.Metric("step"), y=list(names), title_x="optimiser steps", **grouped, **more
        )

    layers = [
        curves(f"{name} by layer", *(f"layers/{name}/{place}" for place in ("first", "middle", "last")), log_y=True)
        for name in LAYER_CURVES
    ]
    sections = [
        ws.Section(
            "Learning curves, by scheme",
            [
                *(curves(f"validation {_words(metric)}", f"val/{metric.name}") for metric in metrics),
                curves(
                    f"training {_words(first)}", f"train/{first.name}", smoothing_type="gaussian", smoothing_factor=10
                ),
            ],
            is_open=True,
        ),
        ws.Section(
            "Gradient norms and layers",
            [
                curves("gradient norm before clipping", "train/grad_norm", log_y=True),
                wr.MediaBrowser(title="layer × step", media_keys=["layers/heatmap"]),
                *layers,
            ],
            is_open=True,
        ),
        ws.Section(
            f"{first.name.capitalize()} against learning rate",
            [
                wr.ScatterPlot(
                    title=f"{name} against learning rate",
                    x=wr.Config("optim.lr"),
                    y=wr.SummaryMetric(name),
                    log_x=True,
                )
                for name in (score, tested)
            ],
            is_open=True,
        ),
        ws.Section(
            "All axes at once",
            [
                wr.ParallelCoordinatesPlot(
                    title="runs by their axes",
                    columns=[
                        *(
                            wr.ParallelCoordinatesPlotColumn(wr.Config(key), log=key == "optim.lr")
                            for key in COORDINATES
                        ),
                        wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(score)),
                    ],
                )
            ],
            is_open=True,
        ),
        ws.Section("Runs side by side", [wr.RunComparer(diff_only="split")], is_open=True),
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"Ablation {study}" if study else "Ablations",
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="step", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=[expr.Metric("Group") == study] if study else [],
            pinned_columns=["summary:status", f"summary:{score}", f"summary:{tested}"],
        ),
    )


def _words(metric: Metric) -> str:
    return metric.label.partition(" (")[0]


def save(entity: str | None, project: str, study: str | None = None, metrics: Sequence[Metric] = ()) -> str:
    """Saves the view and returns its address. Default entity: the user's own.

    Raises: UserError if the server is not available or refuses the view.
    """
    ask_for_server("--wandb")
    import wandb

    try:
        view = workspace(
            entity or str(wandb.Api(timeout=30).default_entity), project, study, *([metrics] if metrics else [])
        )
        view.save()
    except (wandb.Error, ValueError, OSError) as error:
        raise UserError(
            f"--wandb: the view cannot be saved ({reason(error)}); check WANDB_API_KEY (or `wandb login`), "
            "--wandb_entity, --wandb_project and the network"
        ) from None
    return str(view.url)
