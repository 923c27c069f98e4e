"""What a dry run says that a plan costs: against the quickstart's known time, by its parts, and from runs that have finished."""

import json
from types import SimpleNamespace

import pytest
from of_config import experiment
from studies import read_study
from training import ROOT

from addnorm_exp.config import Config, override
from addnorm_exp.runs.metrics import DEFAULT
from addnorm_exp.sweep.estimate import Estimator, forwards
from addnorm_exp.sweep.study import Planned

# The quickstart on two cores of an Intel Xeon: its docstring's machine.
SECONDS, TRAINING, RUNS, STEPS = 155, 95, 24, 120


@pytest.fixture
def quickstart(monkeypatch, tmp_path):
    """Estimator and plan, on a machine on which the quickstart's steps take the known time. No data are needed."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("addnorm_exp.sweep.study.spec", lambda config: SimpleNamespace(sha256="0" * 64))
    study = read_study("sweeps/quickstart.py")
    tuning = study.tune()
    plan = (*tuning, *study.report(study.stand_in(tuning), tuning))
    estimator = Estimator(tmp_path)
    flops = sum(estimator.cost(run).flops for run in plan)
    monkeypatch.setattr(estimator, "_peak_flops", flops / (0.4 * TRAINING))
    return estimator, plan


def test_the_quickstart_takes_what_it_takes(quickstart):
    """Within a tenth; its training steps alone, which were all that an estimate once knew, are three fifths."""
    estimator, plan = quickstart
    total = estimator.total(plan)
    assert (total.runs, total.shapes) == (RUNS, 4)
    assert total.training == pytest.approx(TRAINING, rel=0.01)
    assert total.seconds == pytest.approx(SECONDS, rel=0.1)
    assert total.seconds == pytest.approx(total.training + total.other + total.start)
    assert "from a short matrix product on this machine" in total.basis()


def test_finished_runs_are_believed(quickstart):
    estimator, plan = quickstart
    times = {"status": "done", "attempts": [{}], "started": 100.0, "step_time_s": 0.1, "train_time_s": 12.0}
    first, second, *_ = (run for run in plan if run.config.scheme == "pre_ln")
    compiled, reused = {"finished": 140.0, "compile_time_s": 20.0}, {"finished": 117.0, "compile_time_s": 0.0}
    for run, more in ((first, compiled), (second, reused)):
        folder = estimator.folder / run.id
        folder.mkdir()
        record = {"format": 1, "scheme": "pre_ln", "step": 120, "steps": 120, "val": {"final": {"loss": 2.0}}}
        record |= {"test": {"final": {"loss": 2.0}}, "metrics": [vars(DEFAULT[-1])], "keep": "none", **times, **more}
        (folder / "summary.json").write_text(json.dumps(record))
    assert set(estimator.learn(plan)) == {first.id, second.id}
    cost = estimator.cost(first)
    assert cost.training == pytest.approx(12.0)
    assert cost.other == pytest.approx(5.0), "of the run that compiled nothing"
    total = estimator.total(run for run in plan if run.config.scheme in ("pre_ln", "no_norm"))
    assert total.start == pytest.approx(7.0 + 2 * 20.0)
    assert total.basis().startswith("from finished runs for 6 runs, else ")
    assert estimator.total([first]).basis() == "from finished runs of the same shapes"


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"execution.attention_every": 0}, (1 + 10 + 2) * 256),
        ({"execution.attention_every": 0, "eval.every": 300}, (1 + 4 + 2) * 256),
        ({"execution.attention_every": 100}, (1 + 10 + 2) * 256 + 11 * 16),
        ({"execution.diagnostics": False}, (1 + 10 + 2) * 256),
    ],
)
def test_evaluations_are_counted(changes, passes):
    """At step 0, every so many steps and at the end; the final test on two sets of weights; attention beside them."""
    assert forwards(override(Config(), changes), {"val": 256, "test": 256}) == passes


def test_more_of_anything_takes_longer(tmp_path, monkeypatch):
    estimator = Estimator(tmp_path)
    monkeypatch.setattr(estimator, "_peak_flops", 1e11)

    def seconds(**changes):
        config = override(Config(), {key.replace("__", "."): value for key, value in changes.items()})
        return estimator.cost(Planned("a", experiment(config), {})).seconds

    base = seconds()
    assert seconds(steps=2000) > base
    assert seconds(eval__sequences=1024) > base
    assert seconds(eval__every=50) > base
    assert seconds(execution__checkpoint_every=10) > base
