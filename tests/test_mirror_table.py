"""Tables from W&B's runs are those of the folders that the runs came from, whichever machines mirrored them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import NET
from test_report_study import curve, summary_of, write_plan, write_run
from training import ROOT
from wandb_server import Server

from addnorm_exp import cli


@pytest.fixture(scope="module")
def server():
    with Server() as found:
        yield found
    assert found.refused == []


@pytest.fixture(scope="module")
def study(tmp_path_factory, server) -> Path:
    """A study with all kinds of outcomes, uploaded in two parts by two machines."""
    folder = tmp_path_factory.mktemp("study") / "placement"
    rng = np.random.default_rng(0)
    tune = [
        write_run(folder / f"{scheme}-{lr}", scheme, 0, summary_of(scheme, bpb + lr), lr=lr, metrics=curve(rng, bpb))
        for scheme, bpb in (("post_ln", 2.62), ("pre_ln", 2.45))
        for lr in ([1e-3, 3e-3] if scheme == "pre_ln" else [1e-3])
    ]
    report = [
        write_run(
            folder / f"{scheme}-{seed}",
            scheme,
            seed,
            summary_of(scheme, bpb + 0.01 * rng.standard_normal()),
            metrics=curve(rng, bpb),
        )
        for scheme, bpb in (("post_ln", 2.62), ("pre_ln", 2.45))
        for seed in range(1, 6)
    ]
    report.append(write_run(folder / "no_norm-1", "no_norm", 1, summary_of("no_norm", 3.0, "diverged", 70)))
    report.append(write_run(folder / "no_norm-2", "no_norm", 2, summary_of("no_norm", 3.0, "running", 70)))
    report.append({"id": "no_norm-3", "overrides": {"scheme": "no_norm", "seed": 3, "optim.lr": 1e-3}})
    write_plan(folder, {"tune": tune, "report": report})
    for machine, phases in (("one", {"tune": tune, "report": report[:5]}), ("other", {"tune": tune, "report": report})):
        part = folder.parents[1] / f"{folder.parent.name}-{machine}" / folder.name
        names = [entry["id"] for entry in (tune if machine == "one" else report)]
        for name in names:
            if (folder / name).exists():
                shutil.copytree(folder / name, part / name)
        write_plan(part, phases)
        code, out, err = command(server, "sync", str(part))
        assert (code, err) == (0, "")
        assert len(out.splitlines()) == len([name for name in names if name != "no_norm-3"])
    return folder


def command(server: Server, *words: str) -> tuple[int, str, str]:
    environment = {**os.environ, **server.environment}
    done = subprocess.run(
        [sys.executable, "main.py", *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=NET
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.full
@pytest.mark.parametrize("words", [("--format=csv",), (), ("--match=tokens",)])
def test_the_same_table(server, study, words, capsys):
    assert cli.main(["table", str(study), *words]) == 0
    expected = capsys.readouterr().out
    code, out, err = command(server, "table", "--from=wandb:lab/addnorm_exp/placement", *words)
    assert code == 0, err
    assert out == expected
    assert "no_norm" in out


@pytest.mark.full
def test_two_machines_with_plans_of_their_own(server, tmp_path):
    """Each run of either plan is in the table; of one that both made the finished record counts, here the elder."""
    for machine, status, started in (("one", "done", 100.0), ("two", "running", 200.0)):
        folder, own = tmp_path / machine / "twice", 1 + (machine == "two")
        shared = summary_of("pre_ln", 2.125, status, started=started, attempts=[{"started": started}])
        plan = [write_run(folder / "a", "pre_ln", 0, shared)]
        plan.append(write_run(folder / machine, "pre_ln", own, summary_of("pre_ln", 2.125 + own / 8)))
        write_plan(folder, {"run": plan}, tuned=[])
        assert command(server, "sync", str(folder))[0] == 0
    assert len([run for run in server.runs.values() if run.group == "twice"]) == 4
    code, out, err = command(server, "table", "--from=wandb:lab/addnorm_exp/twice")
    assert (code, "| 2.125, 2.250, 2.375 |" in out) == (0, True), out + err


@pytest.mark.full
def test_what_cannot_be_had_is_said(server, study, capsys):
    for words, said in (
        (["table"], "give DIR"),
        (["table", str(study), "--from=wandb:a/b"], "two sources"),
        (["table", "--from=lab/addnorm_exp"], "expected wandb:ENTITY/PROJECT[/GROUP]"),
    ):
        assert cli.main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    for source in ("wandb:lab/addnorm_exp/other", "wandb:lab/elsewhere", "wandb:nobody/addnorm_exp"):
        code, _, err = command(server, "table", f"--from={source}")
        assert code == 2
        (line,) = err.splitlines()
        assert source in line


@pytest.mark.full
def test_a_name_from_the_server_is_no_path(server, study, tmp_path):
    """A run that says it is `../../evil` is nobody's."""
    run = server.run("no_norm-1")
    run.config["record"]["value"]["id"] = f"../../..{tmp_path}/evil"
    try:
        code, out, _ = command(server, "table", "--from=wandb:lab/addnorm_exp")
    finally:
        run.config["record"]["value"]["id"] = "no_norm-1"
    assert code == 0
    assert not list(tmp_path.iterdir())
    assert "post_ln" in out
