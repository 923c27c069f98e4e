"""The contract of a task: neither micro-batches nor devices nor lanes change its statistics, of
whichever kind; what it carries is saved.

The task is `toy.Ranked`: examples of unequal weight, sums, rows, and a primary metric that is
better higher.
"""

import json

import numpy as np
import pytest
import toy
from of_config import experiment, run
from processes import on_eight_devices
from studies import STUDY, sweep, write
from training import ROOT, assert_equal_runs, config, interrupt, lines, parameters

from addnorm_exp import tasks
from addnorm_exp.errors import UserError
from addnorm_exp.report.dashboard.page import data as data_of
from addnorm_exp.report.load import load_study
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.tasks.metrics import Metric
from addnorm_exp.train.loop import Member, run_pack

RANKED = {"eval__every": 3, "steps": 6, "execution__checkpoint_every": 3, "optim__lr": 0.05}
SPLITS = ("train", "val", "test")


@pytest.fixture
def ranked(monkeypatch):
    toy.take_the_place_of_lm(monkeypatch)


def assert_close_records(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert value == (pytest.approx(other[name], rel=1e-4) if isinstance(value, float) else other[name]), name


@pytest.mark.core
def test_neither_micro_batches_nor_the_size_of_an_evaluation_change_a_statistic(ranked, data, tmp_path):
    """33 examples by 8 and by 2: both leave a remainder."""
    whole = run(config(**RANKED), data, RunFolder(tmp_path / "whole"))
    split = run(config(**RANKED, optim__accumulate=4), data, RunFolder(tmp_path / "split"))
    assert_close_records(lines(tmp_path / "split"), lines(tmp_path / "whole"))
    assert whole.at("examples") == split.at("examples") == {"val": 33, "test": 33}
    assert {line["split"]: set(line) for line in lines(tmp_path / "whole")} == {
        "train": {"step", "split", "loss", "near", "grad_norm", "lr"},
        "val": {"step", "split", "loss", "near", "order"},
        "test": {"step", "split", "weights", "loss", "near", "order"},
    }


@pytest.mark.core
def test_an_evaluation_is_that_of_all_examples_at_once_added_up_by_numpy(ranked, data, tmp_path):
    run(config(**RANKED), data, RunFolder(tmp_path))
    weights = parameters(tmp_path)
    examples = toy.numbers(data.test[:99])
    prediction, weight = (
        np.asarray(values, np.float64) for values in (toy.predictions(weights, examples), toy.weights(examples))
    )
    squares = (prediction - examples[:, 2]) ** 2
    tested = next(line for line in lines(tmp_path) if line["split"] == "test")
    assert tested["loss"] == pytest.approx(np.sum(weight * squares) / np.sum(weight), rel=1e-5)
    assert tested["near"] == pytest.approx(np.sum(weight * (weight * squares < 1)) / np.sum(weight), rel=1e-5)
    assert tested["order"] == toy.in_order(np.stack([prediction, examples[:, 2]], axis=-1))


@pytest.mark.core
def test_a_lane_has_the_statistics_of_its_run_alone(ranked, data, tmp_path):
    members = [
        Member(experiment(config(**RANKED, seed=seed)), RunFolder(tmp_path / f"lane{seed}")) for seed in (0, 1, 2)
    ]
    run_pack(members, data)
    for seed in (0, 1, 2):
        run(config(**RANKED, seed=seed), data, RunFolder(tmp_path / f"alone{seed}"))
        assert_close_records(lines(tmp_path / f"lane{seed}"), lines(tmp_path / f"alone{seed}"))


DEVICES = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from pathlib import Path
import jax, toy
from of_config import run
from training import config, corpus
from addnorm_exp import tasks
from addnorm_exp.report.dashboard.page import data as data_of
from addnorm_exp.report.load import load_study
from addnorm_exp.runs.folder import RunFolder
assert jax.local_device_count() == 8
tasks.TASKS["lm"] = toy.Ranked
run(config(**{changes!r}), corpus(Path({folder!r})), RunFolder(Path({folder!r}) / "eight"))
"""


@pytest.mark.full
def test_eight_devices_do_not_change_a_statistic(ranked, data, tmp_path):
    on_eight_devices(DEVICES.format(tests=str(ROOT / "tests"), root=str(ROOT), folder=str(tmp_path), changes=RANKED))
    run(config(**RANKED), data, RunFolder(tmp_path / "one"))
    assert_close_records(lines(tmp_path / "eight"), lines(tmp_path / "one"))


@pytest.mark.core
def test_what_a_step_carries_goes_through_micro_batches_checkpoints_and_the_saved_weights(ranked, data, tmp_path):
    asked = config(**RANKED, optim__accumulate=2)
    run(asked, data, RunFolder(tmp_path / "whole"))
    assert parameters(tmp_path / "whole")["seen"] == 6 * 8
    assert interrupt(asked, data, tmp_path / "resumed", chunks=1) == 3
    assert parameters(tmp_path / "resumed").keys() == toy.SHAPES.keys(), "a state has it apart from its parameters"
    run(asked, data, RunFolder(tmp_path / "resumed"))
    assert_equal_runs(tmp_path / "whole", tmp_path / "resumed")


@pytest.mark.core
def test_the_best_validation_is_that_of_the_primary_metric_in_its_direction(ranked, data, tmp_path):
    """Of equal ones the first: the order of so few pairs changes rarely."""
    summary = run(config(**{**RANKED, "eval__every": 1, "steps": 12}), data, RunFolder(tmp_path))
    validations = [line for line in lines(tmp_path) if line["split"] == "val"]
    highest = max(line["order"] for line in validations)
    first = next(line for line in validations if line["order"] == highest)
    assert summary.at("val", "best") == {name: value for name, value in first.items() if name != "split"}
    assert first["loss"] > min(line["loss"] for line in validations), "by the loss it is another"
    assert json.loads((tmp_path / "summary.json").read_text())["val"]["best"]["step"] == first["step"]


def test_a_study_is_tuned_and_reported_by_the_primary_metric(ranked, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("addnorm_exp.report.figures.plot.plot", lambda folder: [])
    source = STUDY.replace('("pre_ln", "no_norm")', '("pre_ln",)').replace("(1e-3, 1e-2)", "(1e-4, 1e-1)")
    assert sweep(write(tmp_path, source)) == 0
    out, err = capsys.readouterr()
    study = load_study(tmp_path / "runs" / "tiny")
    orders = {run.flat["optim.lr"]: run.number("val", "final", "order") for run in study.phases["tune"]}
    assert len(set(orders.values())) == 2
    assert {run.flat["optim.lr"] for run in study.phases["report"]} == {max(orders, key=orders.__getitem__)}
    assert "test order ↑" in out
    assert f"val order {orders[1e-4]:.4f}" in err
    assert data_of(study)["sign"] == -1.0


def test_micro_batches_of_a_loss_that_is_no_sum_are_refused(monkeypatch):
    monkeypatch.setattr(toy.Ranked, "coupled", "the loss of task pairs compares all pairs of a batch")
    monkeypatch.setitem(tasks.TASKS, "lm", toy.Ranked)
    config()
    with pytest.raises(UserError) as error:
        config(optim__accumulate=2)
    assert str(error.value) == (
        "test: optim.accumulate=2, but the loss of task pairs compares all pairs of a batch; use 1"
    )


@pytest.mark.parametrize(("better", "best", "worst"), [("lower", 1.0, 3.0), ("higher", 3.0, 1.0)])
def test_a_metric_knows_its_direction(better, best, worst):
    metric = Metric("m", "m", "", better)
    assert metric.best([2.0, 1.0, 3.0]) == best
    assert metric.improves(best, worst)
    assert not metric.improves(worst, best)
    assert not metric.improves(best, best)
    assert metric.improves(worst, metric.hopeless)
