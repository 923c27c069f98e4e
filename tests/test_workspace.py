"""The saved view of a W&B project, as the real packages send it and as they read it again."""

import json
import os
import re
import subprocess
import sys

import pytest
from processes import NET
from test_report_study import summary_of, write_plan, write_run
from training import ROOT
from wandb_server import ENTITY, Server

from addnorm_exp.config import Config, leaves
from addnorm_exp.report.run import flatten
from addnorm_exp.runs.columns import COLUMNS
from addnorm_exp.train.recorder import SCALARS

pytest.importorskip("wandb_workspaces", reason="the extra `dashboard` is not installed")

READ = """
import sys, wandb_workspaces.workspaces as ws
found = ws.Workspace.from_url(sys.argv[1])
print(found.name, [section.name for section in found.sections], [type(p).__name__ for s in found.sections for p in s.panels])
"""


def call(server: Server, *words: str, **more: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, **server.environment, **more}
    environment.pop("WANDB_MODE")
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=NET
    )


def test_the_view_that_is_saved():
    with Server() as server:
        done = call(server, "main.py", "dashboard", "--wandb", "--wandb_project=ablations")
        assert (done.returncode, done.stderr) == (0, "")
        (view,) = server.views.values()
        assert (view["entityName"], view["projectName"], view["displayName"]) == (ENTITY, "ablations", "Ablations")
        url = done.stdout.strip()
        assert url.startswith(f"{server.url}/{ENTITY}/ablations?nw=")
        read = call(server, "-c", READ, url)
        assert read.returncode == 0, read.stderr
        for panel in ("LinePlot", "MediaBrowser", "ScatterPlot", "ParallelCoordinatesPlot", "RunComparer"):
            assert panel in read.stdout
        assert server.refused == []
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    panels = [panel for section in sections for panel in section["panels"]]
    by_kind = {kind: [p["config"] for p in panels if p["viewType"] == kind] for kind in {p["viewType"] for p in panels}}
    drawn = by_kind["Run History Line Plot"]
    assert all(panel["groupBy"] == "scheme.value" and panel["xAxis"] == "step" for panel in drawn)
    known = {f"train/{name}" for name in (*SCALARS, "loss", "bpb")} | {"val/loss", "val/bpb"}
    known |= {f"layers/{name}/{place}" for name in COLUMNS for place in ("first", "middle", "last")}
    assert {name for panel in drawn for name in panel["metrics"]} <= known  # nothing that no run has
    assert {"train/grad_norm", "val/loss"} <= {name for panel in drawn for name in panel["metrics"]}
    assert all(
        panel["xAxis"] == "config:optim.value.lr" and panel["xAxisLogScale"] for panel in by_kind["Scatter Plot"]
    )
    (coordinates,) = by_kind["Parallel Coordinates Plot"]
    for column in coordinates["columns"]:
        if column["accessor"].startswith("config:"):
            assert column["accessor"].removeprefix("config:").replace(".value", "") in leaves(Config)
    assert [column["accessor"] for column in coordinates["columns"] if column.get("log")] == ["config:optim.value.lr"]
    assert [panel["yAxis"] for panel in by_kind["Scatter Plot"]] == [
        "summary:val.final.loss",
        "summary:test.final.loss",
    ]
    (runs,) = view["spec"]["section"]["runSets"]
    pinned = {"run:displayName", "summary:status", "summary:val.final.loss", "summary:test.final.loss"}
    assert {name for name, on in runs["runFeed"]["columnPinned"].items() if on} == pinned
    summary = flatten(summary_of("pre_ln", 2.4))
    for name in re.findall(r'"summary:([^"]+)"', json.dumps(view["spec"])):
        assert name in summary, "nothing that no run has"
    assert by_kind["Run Comparer"]
    assert by_kind["Media Browser"] == [{"chartTitle": "layer × step", "mediaKeys": ["layers/heatmap"]}]


@pytest.mark.full
def test_a_view_of_one_study(tmp_path):
    write_plan(
        tmp_path / "placement",
        {"run": [write_run(tmp_path / "placement" / "a", "pre_ln", 0, summary_of("pre_ln", 2.4))]},
    )
    with Server() as server:
        done = call(server, "main.py", "dashboard", str(tmp_path / "placement"), "--wandb", f"--wandb_entity={ENTITY}")
        assert done.returncode == 0, done.stderr
        (view,) = server.views.values()
        assert view["displayName"] == "Ablation placement"
        assert "placement" in str(view["spec"]["section"]["runSets"])
        done = call(server, "main.py", "dashboard", "--wandb", f"--wandb_entity={ENTITY}", WANDB_API_KEY="9" * 40)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "WANDB_API_KEY" in line
