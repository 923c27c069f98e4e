"""The optimiser step by itself, on a toy: AdamW against Optax, clipping, weight decay, divergence, chunks, lanes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy
from of_config import hypers, make_step
from training import config as tiny

from addnorm_exp.residual.init import Factors
from addnorm_exp.runs.columns import without_ratio_of_zeros
from addnorm_exp.train.step import CAUSES

FINE, LOSS, GRADIENT, BOUND = range(4)


def test_causes_are_in_the_order_that_the_step_counts_them():
    assert CAUSES == ("", "non-finite loss", "non-finite gradient", "loss above the bound")


@pytest.mark.core
@pytest.mark.parametrize(
    ("clip", "decay", "wanted"),
    [
        (0.05, 0.3, "both"),
        *(
            pytest.param(*case, marks=pytest.mark.full)
            for case in ((0.0, 0.0, "neither"), (0.05, 0.0, "clip"), (1e6, 0.3, "decay"))
        ),
    ],
)
def test_adamw_clipping_and_decay_are_optax(clip, decay, wanted):
    """Under Optax's own schedule, whose rate is on the decay too, and on batches of the data's seed."""
    del wanted
    said = {"optim__clip": clip, "optim__weight_decay": decay, "optim__beta1": 0.8, "optim__beta2": 0.9}
    said |= {"optim__warmup": 3, "steps": 8, "seed": 5, "data__seed": 2}
    numbers = hypers(tiny(**said, optim__eps=1e-3))
    step, state = toy.program(**said), toy.start()
    decayed = {"kernel": True, "table": True, "gain": False, "bias": False, "alpha": False}
    after = optax.warmup_cosine_decay_schedule(0.0, 1e-2, warmup_steps=3, decay_steps=8, end_value=1e-3)

    def rate(count):
        return after(count + 1)  # ours is that of the update, theirs would spend the first one on a rate of 0

    reference = optax.chain(
        optax.clip_by_global_norm(clip) if clip else optax.identity(),
        optax.adamw(rate, b1=0.8, b2=0.9, eps=1e-3, weight_decay=decay, mask=decayed),
    )
    data = toy.rows(2 + 24)
    theirs, memory = state.parameters, reference.init(state.parameters)
    for number in range(6):
        first = 2 + 4 * number
        loss, grads = jax.value_and_grad(toy.toy_loss)(theirs, data[first : first + 4])
        state, metrics = step(state, numbers, data)
        np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-4)
        np.testing.assert_allclose(metrics["grad_norm"], optax.global_norm(grads), rtol=1e-4)
        np.testing.assert_allclose(metrics["lr"], rate(number), rtol=1e-5)
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it
            updates, memory = reference.update(grads, memory, theirs)
        theirs = optax.apply_updates(theirs, updates)
        for name in theirs:
            np.testing.assert_allclose(state.parameters[name], theirs[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert int(state.step) == 6


class Factored(toy.Toy):
    """The toy, each tensor with factors of its own."""

    def __init__(self, batch_size: int, factors):
        super().__init__(batch_size)
        self.model = toy.Model()
        self.model.specs = {name: replace(spec, factors=factors[name]) for name, spec in self.model.specs.items()}


@pytest.mark.core
@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_factors_of_a_tensor_are_on_its_rate_its_decay_and_its_epsilon(clip):
    """Against AdamW written out in float64: lr, wd and ε of each tensor times its own factors, the gradient clipped before, as it is."""
    factors = {
        "kernel": Factors(lr=0.5, decay=3.0, eps=10.0),
        "table": Factors(eps=0.01),
        "gain": Factors(lr=2.0, decay=7.0),  # a gain is not decayed, whatever the factor
        "bias": Factors(lr=0.0),
        "alpha": Factors(),
    }
    numbers = hypers(tiny(optim__schedule="constant", optim__weight_decay=0.3, optim__clip=clip, optim__eps=1e-3))
    lr, b1, b2, eps = (float(numbers[f"optim.{name}"]) for name in ("lr", "beta1", "beta2", "eps"))
    step = toy.program(task=Factored(4, factors), optim__schedule="constant", optim__clip=clip)
    state, data = toy.start(), toy.rows(24)
    theirs = {name: np.asarray(value, np.float64) for name, value in state.parameters.items()}
    first, second = ({name: np.zeros_like(value) for name, value in theirs.items()} for _ in range(2))
    for number in range(6):
        batch = data[4 * number : 4 * number + 4]
        grads = jax.grad(toy.toy_loss)({name: jnp.asarray(v, jnp.float32) for name, v in theirs.items()}, batch)
        grads = {name: np.asarray(grad, np.float64) for name, grad in grads.items()}
        norm = np.sqrt(sum(np.sum(grad**2) for grad in grads.values()))
        for name, grad in grads.items():
            grad = grad * min(1.0, clip / norm) if clip else grad
            first[name] = b1 * first[name] + (1 - b1) * grad
            second[name] = b2 * second[name] + (1 - b2) * grad**2
            m, v = first[name] / (1 - b1 ** (number + 1)), second[name] / (1 - b2 ** (number + 1))
            decay = 0.3 * factors[name].decay * theirs[name] if name in ("kernel", "table") else 0.0
            theirs[name] = theirs[name] - lr * factors[name].lr * (m / (np.sqrt(v) + eps * factors[name].eps) + decay)
        state, _ = step(state, numbers, data)
        for name in theirs:
            np.testing.assert_allclose(state.parameters[name], theirs[name], rtol=2e-4, atol=2e-6, err_msg=name)
    np.testing.assert_array_equal(state.parameters["bias"], toy.start().parameters["bias"])


@pytest.mark.core
def test_weight_decay_is_decoupled_and_on_matrices_and_embeddings_alone():
    plain = toy.program(optim__schedule="constant")
    before, data = toy.start(), toy.rows(4)
    common = {"optim__schedule": "constant", "optim__lr": 0.01}
    without, _ = plain(before, hypers(tiny(**common, optim__weight_decay=0.0)), data)
    with_it, _ = plain(before, hypers(tiny(**common, optim__weight_decay=0.5)), data)
    for name, group in toy.GROUPS.items():
        lost = without.parameters[name] - with_it.parameters[name]
        share = 0.01 * 0.5 if group in ("matrix", "embedding") else 0.0
        np.testing.assert_allclose(lost, share * before.parameters[name], atol=2e-7, err_msg=name)


@pytest.mark.core
@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_is_one_big_batch_up_to_rounding(parts):
    data, numbers = toy.rows(16), hypers(tiny())
    one, whole = toy.program(8)(toy.start(), numbers, data)
    two, split = toy.program(8, optim__accumulate=parts)(toy.start(), numbers, data)
    for name in ("loss", "grad_norm"):
        np.testing.assert_allclose(split[name], whole[name], rtol=1e-5)
    for name in one.parameters:
        np.testing.assert_allclose(two.parameters[name], one.parameters[name], rtol=1e-4, atol=1e-6)


def broken(at: int, value: float, steps: int = 8):
    data = toy.rows(4 * steps)
    data[4 * at, 2] = value
    return data


class Cliff(toy.Toy):
    """A finite loss whose gradient is not: √|target - 5| where a target is 5."""

    def loss(self, parameters, probes, part, weight, carried, context):
        share = super().loss(parameters, probes, part, weight, carried, context)
        edge = parameters["alpha"] * (part[0, 2] - 5.0)
        return replace(share, value=share.value + jnp.sqrt(jnp.abs(edge)))


@pytest.mark.core
@pytest.mark.parametrize(
    ("value", "task", "cause"),
    [(np.nan, toy.Toy(4), LOSS), (np.inf, toy.Toy(4), LOSS), (200.0, toy.Toy(4), BOUND), (5.0, Cliff(4), GRADIENT)],
)
def test_a_run_that_diverges_ends_at_the_bad_update(value, task, cause):
    """The count, the cause and the value stay as the bad update left them, although the chunk computes on. (The arrays mean nothing
    then; what a diverged lane does to others is tested below, and that nothing is saved in test_train_divergence.py.)"""
    data, numbers = broken(3, value), hypers(tiny(divergence__bound=1e30 if cause == GRADIENT else 1000.0))
    ended, rows = toy.program(task=task, chunk=8)(toy.start(), numbers, data, np.int32(8), np.ones(8, np.bool_))
    assert (int(ended.step), int(ended.cause)) == (3, cause)
    np.testing.assert_array_equal(ended.value, rows["grad_norm" if cause == GRADIENT else "loss"][3])
    assert np.isfinite(rows["loss"][3]) == (cause != LOSS)
    assert np.all(np.isfinite(rows["loss"][:3]))


def test_the_bound_is_a_number_times_the_uniform_loss():
    data = toy.rows(4)
    loss = float(toy.toy_loss(toy.start().parameters, data))
    step = toy.program()
    for factor, cause in ((1.01, FINE), (0.99, BOUND)):
        numbers = {**hypers(tiny()), "divergence.bound": np.float32(loss * factor)}
        assert int(step(toy.start(), numbers, data)[0].cause) == cause


@pytest.mark.core
def test_a_chunk_is_its_steps_and_a_remainder_needs_no_program():
    data, numbers = toy.rows(40), hypers(tiny(steps=10))
    step, chunk = toy.program(), toy.program(chunk=4)
    state, expected = toy.start(), []
    for _ in range(7):
        state, metrics = step(state, numbers, data)
        expected.append(float(metrics["loss"]))
    ours, got = toy.start(), []
    for count in (4, 3):
        ours, rows = chunk(ours, numbers, data, np.int32(count), np.ones(4, np.bool_))
        got += [float(loss) for loss in rows["loss"][:count]]
    assert chunk._cache_size() == 1
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    for name in state.parameters:
        np.testing.assert_allclose(ours.parameters[name], state.parameters[name], rtol=1e-5, atol=1e-7)


class Counted(toy.Toy):
    """Counts how often its loss is traced."""

    traces = 0

    def loss(self, *arguments):
        self.traces += 1
        return super().loss(*arguments)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("lanes", [1, 2])
def test_a_chunk_traces_its_step_once(lanes, accumulate):
    """Tracing is up to half of what compiling a step takes. Its shapes are asked for before it is called, and lanes are mapped inside."""
    task = Counted(4)
    asked = tiny(batch_size=4, execution__diagnostics=False, optim__accumulate=accumulate)
    step, state = make_step(asked, task, lambda batch: batch), toy.start()
    if lanes > 1:
        step = jax.vmap(step, in_axes=(0, None, None, None))
        state = jax.tree.map(lambda leaf: jnp.stack([leaf] * lanes), state)
    chunk = jax.jit(toy.make_chunk(step, 8))
    chunk.lower(state, hypers(asked), toy.rows(40), np.int32(8), np.ones(8, np.bool_))
    assert task.traces == 1


@pytest.mark.core
def test_lanes_of_a_vmapped_chunk_are_their_own_runs_and_a_diverged_one_disturbs_nobody():
    data = toy.rows(40)
    configs = [tiny(seed=0), tiny(seed=1, optim__lr=3e-2), tiny(seed=2, optim__warmup=4), tiny(seed=3, optim__clip=0.3)]
    numbers = [hypers(each) for each in configs]
    numbers[2]["divergence.bound"] = np.float32(1e-6)  # ends at once
    stack = lambda *parts: jnp.stack(parts)  # noqa: E731
    states = jax.tree.map(stack, *[toy.start(seed) for seed in range(4)])
    config = tiny(batch_size=4, execution__diagnostics=False)
    chunk = toy.make_chunk(make_step(config, toy.Toy(4), lambda batch: batch), 8)
    lanes, rows = jax.jit(jax.vmap(chunk, in_axes=(0, 0, None, None, None)))(
        states, jax.tree.map(stack, *numbers), data, np.int32(8), np.ones(8, np.bool_)
    )
    alone = jax.jit(chunk)
    for lane in range(4):
        state, expected = alone(toy.start(lane), numbers[lane], data, np.int32(8), np.ones(8, np.bool_))
        assert int(lanes.step[lane]) == int(state.step) == (0 if lane == 2 else 8)
        np.testing.assert_allclose(rows["loss"][lane], expected["loss"], rtol=1e-4, err_msg=f"lane {lane}")
        for name in state.parameters:
            np.testing.assert_allclose(lanes.parameters[name][lane], state.parameters[name], rtol=1e-3, atol=1e-5)
    assert [int(cause) for cause in lanes.cause] == [FINE, FINE, BOUND, FINE]


@pytest.mark.core
def test_columns_by_tensor_are_in_the_order_of_their_names():
    """Inside jit a dict is sorted; the record names its columns by the order of the model's parameters, which is another one here."""
    assert list(toy.SHAPES) != sorted(toy.SHAPES)
    config, data = tiny(batch_size=4, optim__clip=0.0), toy.rows(4)
    state = toy.start()
    _, metrics = jax.jit(make_step(config, toy.Toy(4), lambda batch: batch))(state, hypers(config), data)
    grads = jax.grad(toy.toy_loss)(state.parameters, data)
    for column, name in enumerate(toy.SHAPES):
        np.testing.assert_allclose(metrics["grad_weight"][column], np.linalg.norm(grads[name]), rtol=1e-4, err_msg=name)
        rms = np.sqrt(np.mean(np.square(state.parameters[name])))
        np.testing.assert_allclose(metrics["weight_rms"][column], rms, rtol=1e-5, err_msg=name)


@pytest.mark.core
def test_the_update_ratio_is_of_two_states_in_a_row():
    """‖θ' - θ‖ / ‖θ‖ for each tensor, in float64 from the states; without a number where a tensor is still 0."""
    config, data = tiny(batch_size=4, optim__lr=0.1, optim__weight_decay=0.3), toy.rows(4)
    before = toy.start()
    before.parameters["bias"] = jnp.zeros_like(before.parameters["bias"])
    after, metrics = jax.jit(make_step(config, toy.Toy(4), lambda batch: batch))(before, hypers(config), data)
    assert np.isfinite(metrics["update_ratio"]).all()  # on the device, where JAX_DEBUG_NANS looks
    metrics = without_ratio_of_zeros(jax.device_get(metrics))  # as the recorder writes it
    for column, name in enumerate(toy.SHAPES):
        old, new = (np.asarray(state.parameters[name], np.float64) for state in (before, after))
        expected = np.linalg.norm(new - old) / np.linalg.norm(old) if name != "bias" else np.nan
        np.testing.assert_allclose(metrics["update_ratio"][column], expected, rtol=1e-4, err_msg=name)
