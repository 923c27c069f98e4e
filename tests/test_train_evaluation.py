"""What a run says of its weights besides training: validation, test and attention statistics, by the float64 reference from the saved
parameters; and which weights are tested."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from bridge import reference_attention, reference_loss
from of_config import hypers, make_task, program, run
from training import config, layers, lines, losses, parameters

from addnorm_exp.data.batches import fixed_windows, training_batch
from addnorm_exp.runs.folder import RunFolder

# Neither period divides the number of steps, and the data have a seed of their own.
NOISY = config(model__dropout=0.3, eval__every=5, execution__attention_every=5, data__seed=3)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("noisy")
    run(NOISY, data, RunFolder(folder))
    return folder


@pytest.mark.core
def test_evaluation_is_the_mean_over_the_fixed_windows_of_its_split(data, noisy):
    """Without the dropout of training, after the last step too. 20 windows in batches of 8: the remainder of 4 counts as 4."""
    final, arch = parameters(noisy), make_task(NOISY).arch
    val, test = (reference_loss("pre_ln", final, fixed_windows(part, 20, 16), arch) for part in (data.val, data.test))
    assert abs(val - test) > 0.01, "the splits tell apart"
    summary = json.loads((noisy / "summary.json").read_text())
    assert [line["step"] for line in lines(noisy) if line["split"] == "val"] == [0, 5, 10, 12]
    assert summary["val"]["final"] == {"step": 12, **approximately(val)}
    assert summary["test"]["final"] == approximately(test)
    assert losses(noisy, "val")[-1] == summary["val"]["final"]["loss"]
    assert losses(noisy, "test")[0] == summary["test"]["final"]["loss"]


def approximately(loss: float):
    return {"loss": pytest.approx(loss, rel=1e-5), "bpb": pytest.approx(loss / math.log(2), rel=1e-5)}


@pytest.mark.core
def test_attention_is_measured_without_dropout_on_the_batch_that_comes_next(data, noisy):
    """The batch after the last is number 12, counted from 0, of the data's own seed."""
    inputs, _ = training_batch(data.train, 3, 12, NOISY.batch_size, NOISY.seq_len)
    largest, entropies = reference_attention(parameters(noisy), inputs, make_task(NOISY).arch)
    told = layers(noisy, "attention-")
    assert told["step"].tolist() == [0, 5, 10, 12]
    np.testing.assert_allclose(told["logit_max"][-1], largest, rtol=1e-4)
    np.testing.assert_allclose(told["entropy"][-1], entropies, rtol=1e-4)


@pytest.mark.core
def test_a_coefficient_that_rises_with_training_is_as_high_in_evaluation(data):
    """BranchNorm's α = t/4000 after t updates. At initial values, which say nothing of t."""
    asked = config(scheme="branch_norm")
    compiled = program(asked)
    weights, held = compiled.init(hypers(asked)).parameters, compiled.put(data)
    windows, arch = fixed_windows(data.val, 20, 16), compiled.task.arch
    for step, alpha in ((0, 0.0), (1000, 0.25), (9999, 1.0)):
        expected = reference_loss("branch_norm", weights, windows, arch, alpha=alpha)
        (values,) = compiled.evaluate(weights, held.val, step)
        assert values == approximately(expected)


@pytest.mark.core
def test_best_and_final_weights_are_tested_apart(data, tmp_path):
    """A rate that first learns and then spoils: the best validation is not the last."""
    changes = {"optim__lr": 0.5, "optim__final_lr": 1.0, "eval__every": 1, "seed": 1, "divergence__bound": 1e6}
    asked = config(model__dropout=0.3, **changes)  # of the shape of the run above
    summary = run(asked, data, RunFolder(tmp_path))
    best = summary.val.best
    assert best["loss"] == losses(tmp_path, "val").min()
    assert best["step"] < summary.step
    again = run(replace(asked, steps=best["step"]), data, RunFolder(tmp_path / "shorter"))
    assert again.test.final["loss"] == summary.test.best["loss"] != summary.test.final["loss"]
