"""A run that diverges: recorded with step and cause, ended early, nothing of it saved, scored as the uniform prediction."""

import json
import math

import numpy as np
import pytest
from of_config import run
from training import config, lines, parameters

from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.winners import score
from addnorm_exp.train.program import Program


@pytest.mark.core
@pytest.mark.parametrize("bound", [1.5, 1e30])
def test_a_huge_learning_rate(bound, data, tmp_path):
    """Above a low bound, or, the bound out of reach, not finite."""
    lr, scheme = (3.0, "no_norm") if bound == 1.5 else (1e18, "no_norm")
    events = []
    asked = config(scheme=scheme, optim__lr=lr, optim__clip=0.0, divergence__bound=bound, steps=100, eval__every=7)
    run(asked, data, RunFolder(tmp_path), watch=events.append)
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["status"] == "diverged"
    step, cause = written["diverged"]["step"], written["diverged"]["cause"]
    assert written["reason"] == f"{cause} in update {step}"
    assert written["step"] == step - 1 < 99
    assert cause == "loss above the bound" if bound == 1.5 else cause.startswith("non-finite")
    trained = [line for line in lines(tmp_path) if line["split"] == "train"]
    assert [line["step"] for line in trained] == list(range(1, step + 1)), "the bad update is the last line"
    for line in trained[:-1]:
        assert line["loss"] < bound * math.log(256)
    ended_by = trained[-1]["grad_norm" if "gradient" in cause else "loss"]
    if bound == 1.5:
        assert ended_by > bound * math.log(256)
        assert written["diverged"]["value"] == pytest.approx(ended_by)
    else:
        assert ended_by is None, "not finite is null"
        assert written["diverged"]["value"] is None
    assert written["val"]["final"] is None
    assert written["test"] is None
    assert written["finished"] >= written["started"]
    assert not [line for line in lines(tmp_path) if line["split"] == "test"]
    assert score(written) == pytest.approx(math.log(256))
    assert events[-1]["event"] == "diverged"
    again = run(asked, data, RunFolder(tmp_path))
    assert again["diverged"] == written["diverged"], "a diverged run is finished and not run again"


@pytest.mark.core
def test_the_saved_state_is_the_one_before(data, tmp_path):
    """Checkpoints at every step: the newest is of the last sound update, and all its numbers are finite."""
    asked = config(
        scheme="no_norm", optim__lr=1e18, optim__clip=0.0, divergence__bound=1e30, execution__checkpoint_every=1
    )
    summary = run(asked, data, RunFolder(tmp_path), keep="state")
    assert summary["status"] == "diverged"
    newest = max(path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit())
    assert int(newest) == summary["step"]
    for name, value in parameters(tmp_path).items():
        assert np.all(np.isfinite(value)), name


def test_a_validation_that_is_not_finite_ends_the_run_too(data, tmp_path, monkeypatch):
    """The training loss of a batch may still be finite where the validation's is not."""
    evaluate = Program.evaluate

    def broken(self, parameters, windows, step, **more):
        return np.array([math.inf]) if step == 6 else evaluate(self, parameters, windows, step, **more)

    monkeypatch.setattr(Program, "evaluate", broken)
    run(config(scheme="no_norm", optim__clip=0.0), data, RunFolder(tmp_path))
    written = json.loads((tmp_path / "summary.json").read_text())
    assert (written["status"], written["diverged"]["cause"]) == ("diverged", "non-finite validation loss")
    assert written["diverged"]["step"] == written["step"] == 6
    assert lines(tmp_path)[-1] == {"step": 6, "split": "val", "loss": None, "bpb": None}
    assert written["val"]["best"]["step"] < 6
    assert written["test"] is None
