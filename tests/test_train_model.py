"""Training of the real model: what may not change its numbers, what shares a compiled program, evaluation, and that it learns."""

import json
import math
import re
from dataclasses import replace

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from of_config import hypers, initial_state, make_step, make_task, program, run, shape
from processes import on_eight_devices
from training import ROOT, assert_equal_runs, config, corpus, interrupt, layers, losses

from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.tasks.lm import LanguageModelling
from addnorm_exp.tasks.task import Share
from addnorm_exp.train import programs
from addnorm_exp.train.program import Program
from addnorm_exp.train.step import make_chunk


@pytest.fixture(scope="module")
def plain(tmp_path_factory, data):
    """The tiny pre_ln run."""
    folder = tmp_path_factory.mktemp("plain")
    run(config(), data, RunFolder(folder))
    return folder


def rows(data, count=4, **changes):
    """Metrics of the first steps of a config, without a run's folder."""
    asked = config(execution__chunk_steps=count, **changes)
    compiled = program(asked)
    state, metrics = compiled.train(
        compiled.init(hypers(asked)), hypers(asked), compiled.put(data), np.ones(count, np.bool_)
    )
    return state, metrics


# --- what may not change numbers


@pytest.mark.core
@pytest.mark.parametrize("chunk", [pytest.param(1, marks=pytest.mark.full), 3])
def test_the_length_of_a_chunk_changes_no_bit(chunk, data, plain, tmp_path):
    """But for the rate as it is told: chunks of one step are compiled to another order of its few operations."""
    run(config(execution__chunk_steps=chunk), data, RunFolder(tmp_path))
    assert_equal_runs(plain, tmp_path, but=("lr",) if chunk == 1 else ())


def test_resume_is_bit_exact_with_dropout_accumulation_and_attention_statistics(data, tmp_path):
    asked = config(model__dropout=0.2, optim__accumulate=2, execution__attention_every=5)
    run(asked, data, RunFolder(tmp_path / "one"))
    assert interrupt(asked, data, tmp_path / "two", chunks=4) == 6
    run(asked, data, RunFolder(tmp_path / "two"))
    assert_equal_runs(tmp_path / "one", tmp_path / "two")
    assert layers(tmp_path / "one", "attention-")["step"].tolist() == [0, 5, 10, 12]
    assert layers(tmp_path / "one")["step"].tolist() == [1, 2, 4, 6, 8, 10, 12]


@pytest.fixture(scope="module")
def reference_rows(data):
    return rows(data)


def assert_close(ours, theirs, rtol=2e-3, atol=1e-6, but=()):
    """Metrics of the same steps up to rounding. (With biases that of an attention key would have to be left out: it cancels in the
    softmax, so that its gradient is nothing but rounding, which Adam blows up to the size of a step.)"""
    for name in theirs.keys() - set(but):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=rtol, atol=atol, err_msg=name)


def test_accumulation_is_one_batch_up_to_rounding_taps_included(data, reference_rows):
    _, metrics = rows(data, optim__accumulate=4)
    means = ("stream_rms", "branch_ratio")  # over micro-batches, of what is not linear
    assert_close(metrics, reference_rows[1], but=means)
    assert_close({name: metrics[name] for name in means}, {name: reference_rows[1][name] for name in means}, rtol=0.05)
    np.testing.assert_allclose(metrics["grad_stream"][0], reference_rows[1]["grad_stream"][0], rtol=1e-4)


@pytest.mark.full
def test_scanned_layers_train_as_unrolled_ones(data):
    """Of their gradients, taps and statistics test_schemes.py says so for every scheme; the optimiser knows nothing of a scan."""
    (_, ours), (_, theirs) = (rows(data, model__depth=2, execution__scan_layers=scan) for scan in ("on", "off"))
    assert_close(ours, theirs)


def test_diagnostics_only_watch(data, reference_rows):
    _, metrics = rows(data, execution__diagnostics=False)
    assert metrics.keys() == {"loss", "grad_norm", "lr"}
    for name in metrics:
        np.testing.assert_allclose(metrics[name], reference_rows[1][name], rtol=1e-5, err_msg=name)


def test_bfloat16_trains_with_float32_parameters(data, reference_rows):
    state, metrics = rows(data, model__compute_dtype="bfloat16")
    assert {str(value.dtype) for value in state.parameters.values()} == {"float32"}
    np.testing.assert_allclose(metrics["loss"], reference_rows[1]["loss"], rtol=0.02)
    assert metrics["loss"][-1] < metrics["loss"][0]
    assert not np.array_equal(metrics["loss"], reference_rows[1]["loss"])


@pytest.mark.core
def test_the_gradient_norm_is_recorded_before_clipping(data):
    """As docs/record.md says, of the whole and by tensor: a clip that leaves next to nothing of the gradient does not show in them."""
    compiled = program(config())
    held = compiled.put(data)
    told = {}
    for clip in (1.0, 1e-4):
        numbers = hypers(config(optim__clip=clip))
        _, told[clip] = compiled.train(compiled.init(numbers), numbers, held, np.ones(1, np.bool_))
    assert told[1.0]["grad_norm"][0] > 0.1
    for name in ("grad_norm", "grad_weight"):
        np.testing.assert_array_equal(told[1e-4][name][0], told[1.0][name][0], err_msg=name)


@pytest.mark.core
def test_the_state_is_donated_and_the_corpus_is_not(data):
    """A step needs the memory of one state, not two: the buffers that it was given are gone afterwards."""
    compiled = program(config())
    numbers, held, state = hypers(config()), compiled.put(data), compiled.init(hypers(config()))
    after, _ = compiled.train(state, numbers, held, np.ones(1, np.bool_))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((after, held.train, held.val.parts)))
    compiled.evaluate(after.weights, held.val, 1)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after)), "an evaluation takes nothing away"


@pytest.mark.core
@pytest.mark.parametrize("precision", ["highest", "high", "default"])
def test_matrix_products_have_the_precision_that_is_asked_for(precision, data, monkeypatch):
    """All of a training step's, backward pass included, in the program as it goes to the compiler. (On CPU the three compute the same.)"""

    class Enough(Exception):
        pass

    def compiled(self, *_, **__):
        texts.append(self.as_text())
        raise Enough

    texts = []
    monkeypatch.setattr(jax.stages.Lowered, "compile", compiled)
    monkeypatch.setattr(programs, "_PROGRAMS", {})
    with pytest.raises(Enough):
        rows(data, model__matmul_precision=precision)
    products = [line for line in texts[0].splitlines() if "dot_general" in line]
    assert len(products) > 3 * 6, "of one block and the head, forward and backward"
    for line in products:
        stated = re.findall(r"precision = \[(\w+), (\w+)\]", line) or [("DEFAULT", "DEFAULT")]
        assert stated == [(precision.upper(),) * 2], line


# --- one program for many runs

HYPERS = {
    "optim__lr": 3e-3,
    "seed": 5,
    "data__seed": 9,
    "steps": 9,
    "optim__warmup": 4,
    "optim__weight_decay": 0.3,
    "optim__beta2": 0.99,
    "optim__clip": 0.2,
    "optim__final_lr": 0.0,
    "init__gain": 0.5,
    "divergence__bound": 7.0,
}
STRUCTURE = {
    "optim__clip": 0.0,
    "optim__schedule": "wsd",
    "model__dropout": 0.1,
    "scheme": "post_ln",
    "batch_size": 4,
    "optim__accumulate": 2,
    "model__positions": "rotary",
    "norm__eps": 1e-3,
    "execution__diagnostics": False,
}


@pytest.mark.core
def test_hypers_share_one_program(data, plain, tmp_path):
    """All at once, counted where XLA compiles: a second run with other hypers compiles nothing whatever."""
    run(config(), data, RunFolder(tmp_path / "warm"))
    compiled = []
    listen = lambda name, *_, **__: compiled.append(name) if "backend_compile" in name else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.jit(lambda x: x * 3.25 + 1)(1.0)
        assert compiled, "the counter counts nothing"
        compiled.clear()
        summary = run(config(**HYPERS), data, RunFolder(tmp_path / "other"))
        assert summary.compile_time_s == 0.0
        assert not compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert summary.step == 9
    assert losses(tmp_path / "other")[1] != losses(plain)[1]


@pytest.mark.core
@pytest.mark.parametrize("key", HYPERS)
def test_each_hyper_is_data(key):
    assert shape(config(**{key: HYPERS[key]})) == shape(config())
    ours, theirs = hypers(config(**{key: HYPERS[key]})), hypers(config())
    assert any(ours[name] != theirs[name] for name in ours), "and the program sees it"


def test_dropout_rates_share_a_program():
    assert shape(config(model__dropout=0.1)) == shape(config(model__dropout=0.3))


@pytest.mark.core
@pytest.mark.parametrize("key", STRUCTURE)
def test_structure_has_a_program_of_its_own(key):
    assert program(config(**{key: STRUCTURE[key]})) is not program(config())


@pytest.mark.full
def test_lanes_of_the_real_step_are_their_own_runs(data):
    """Of metrics and parameters; of losses the default run sees it in test_train_pack.py."""
    configs = [config(), config(seed=1, optim__lr=3e-3), config(seed=2, optim__warmup=3, optim__weight_decay=0.0)]
    task = make_task(configs[0])
    chunk = make_chunk(make_step(configs[0], task, lambda batch: batch), 4)
    numbers = [hypers(each) for each in configs]
    states = [initial_state(task, each) for each in numbers]
    tokens = jnp.asarray(data.train)

    def stack(*parts):
        return jnp.stack(parts)

    lanes, metrics = jax.jit(jax.vmap(chunk, in_axes=(0, 0, None, None, None)))(
        jax.tree.map(stack, *states), jax.tree.map(stack, *numbers), tokens, np.int32(4), np.ones(4, np.bool_)
    )
    compiled = program(configs[0])
    for lane, each in enumerate(configs):
        state, expected = compiled.train(
            compiled.init(hypers(each)), hypers(each), compiled.put(data), np.ones(4, np.bool_)
        )
        assert_close({name: value[lane] for name, value in metrics.items()}, expected, rtol=5e-3, atol=1e-5)
        for name, value in state.parameters.items():
            np.testing.assert_allclose(lanes.parameters[name][lane], value, rtol=1e-2, atol=1e-4, err_msg=name)


# --- dropout


def test_each_step_drops_other_units(tmp_path):
    """On a text of one byte every batch is the same, and at a rate of 1e-30 the weights stay: only dropout tells steps apart."""
    data = corpus(tmp_path, b"a" * 20_000)
    still = {"optim__lr": 1e-30, "optim__weight_decay": 0.0}
    for dropout, distinct in ((0.0, 1), (0.2, 4)):
        _, metrics = rows(data, model__dropout=dropout, **still)
        assert len(set(np.asarray(metrics["loss"]).tolist())) == distinct


# --- devices

DEVICES = """
import json, sys
sys.path[:0] = [{tests!r}, {root!r}]
import jax, numpy as np
from pathlib import Path
from of_config import program, run
from training import config, corpus
from addnorm_exp.errors import UserError
from addnorm_exp.runs.folder import RunFolder
assert jax.local_device_count() == 8
data = corpus(Path({folder!r}))
summary = run(config(optim__accumulate=1), data, RunFolder(Path({folder!r}) / "eight"))
try:
    run(config(batch_size=12), data, RunFolder(Path({folder!r}) / "twelve"))
except UserError as error:
    refused, made = str(error), (Path({folder!r}) / "twelve").exists()
flops = {{key[0]: each.cost_analysis()["flops"] for key, each in program(config()).compiler.executables.items()}}
print(json.dumps({{"refused": refused, "device": summary.device, "made": made, "flops": flops}}))
"""


def test_eight_devices_are_one_up_to_rounding(plain, tmp_path):
    """20 evaluation windows in batches of 8 leave a remainder that no eight devices can share."""
    code = DEVICES.format(tests=str(ROOT / "tests"), root=str(ROOT), folder=str(tmp_path))
    said = json.loads(on_eight_devices(code))
    assert said["device"]["count"] == 8
    assert "batch_size=12" in said["refused"]
    assert "8 devices" in said["refused"]
    assert not said["made"]
    # Each device computes its share of the batch, not the whole of it: operations of one device's program, by XLA's count.
    assert said["flops"].keys() == {"train", "evaluate"}
    for name in ("train", "evaluate"):
        flops = said["flops"][name]
        whole = [
            each for key, each in program(config()).compiler.executables.items() if key[0] == name
        ]  # one for each size of data
        assert flops < 0.3 * max(each.cost_analysis()["flops"] for each in whole), f"{name}: the batch is not split"
    for split in ("train", "val", "test"):
        np.testing.assert_allclose(losses(tmp_path / "eight", split), losses(plain, split), rtol=1e-4)
    assert_close(layers(tmp_path / "eight"), layers(plain), rtol=1e-2, atol=1e-5)


# --- and it learns

PREFIX, LETTERS = 6, 8


class Copy(LanguageModelling):
    """A random prefix, a separator, the same prefix: the second half is certain for a model that looks back, chance for all others."""

    def batch(self, corpus, seed, step):
        key = jax.random.fold_in(jax.random.key(seed), step)
        prefix = jax.random.randint(key, (self.batch_size, PREFIX), 1, 1 + LETTERS)
        whole = jnp.concatenate([prefix, jnp.zeros_like(prefix[:, :1]), prefix], axis=1)
        return whole[:, :-1], whole[:, 1:]

    def loss(self, parameters, probes, part, weight, carried, context):
        inputs, targets = part
        context = replace(context, batch=inputs.shape[0])
        logits, stats = self.model.bind(parameters)(inputs, context, probes, self.dtype)
        logits = logits.reshape(*inputs.shape, -1)[:, PREFIX:]
        chosen = jnp.take_along_axis(logits, targets[:, PREFIX:, None], axis=-1)[..., 0]
        del weight  # one micro-batch
        return Share(jnp.mean(jax.nn.logsumexp(logits, axis=-1) - chosen), diagnostics=stats, carried=carried)


@pytest.mark.full
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_model_learns_to_copy_a_prefix(positions):
    """Within 300 steps to a tenth of chance, by the task's own model. The default run has test_scheme_training.py's, a smaller one."""
    asked = config(
        model__depth=2,
        model__positions=positions,
        model__width=32,
        model__num_heads=2,
        batch_size=32,
        steps=300,
        optim__lr=1e-2,
        optim__warmup=20,
        execution__diagnostics=False,
    )
    task = Copy(shape(asked))
    chunk = jax.jit(make_chunk(make_step(asked, task, lambda batch: batch), 300))
    _, metrics = chunk(
        initial_state(task, hypers(asked)), hypers(asked), jnp.zeros(1), np.int32(300), np.ones(300, np.bool_)
    )
    chance = math.log(LETTERS)
    assert metrics["loss"][0] > chance
    assert np.mean(metrics["loss"][-20:]) < 0.1 * chance


def test_training_pins_the_generator():
    """Batches and dropout too are drawn by the partitionable threefry, whatever the environment asks for."""
    jax.config.update("jax_threefry_partitionable", False)
    try:
        Program(shape(config()))
        assert jax.config.jax_threefry_partitionable
    finally:
        jax.config.update("jax_threefry_partitionable", True)


def test_the_rate_of_stochastic_depth_is_data():
    """As that of dropout: runs of any two rates share a program, and one without has its own."""
    of = {rate: program(config(model__drop_path=rate)) for rate in (0.0, 0.1, 0.2)}
    assert of[0.1] is of[0.2]
    assert of[0.0] is not of[0.1]
