"""Batches by epochs: each example once an epoch, in an order that looks random and depends on seed and step alone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from addnorm_exp.data.epochs import _round_keys, example_numbers, shuffled

numbers = jax.jit(example_numbers, static_argnums=(0, 3))
of_steps = jax.jit(jax.vmap(example_numbers, (None, None, 0, None)), static_argnums=(0, 3))


def order(count: int, batch: int, batches: int, seed: int = 0) -> np.ndarray:
    """The examples of the first batches, one after another."""
    return np.asarray(of_steps(count, np.uint32(seed), jnp.arange(batches, dtype=jnp.int32), batch)).ravel()


@pytest.mark.parametrize(("count", "batch"), [(10, 3), (7, 7), (97, 16), (1, 1)])
def test_each_epoch_has_each_example_once(count, batch):
    epochs = order(count, batch, 4 * count).reshape(-1, count)  # 4 · batch of them
    assert (np.sort(epochs) == np.arange(count)).all()
    if count > 5:
        assert len({tuple(epoch) for epoch in epochs[:4].tolist()}) == 4


def test_the_same_numbers_alone_in_a_loop_and_under_vmap():
    whole = order(100, 16, 12, seed=3).reshape(12, 16)
    for step in (0, 6, 11):
        assert numbers(100, np.uint32(3), np.int32(step), 16).tolist() == whole[step].tolist()
    lanes = jax.vmap(lambda seed, step: example_numbers(100, seed, step, 16))
    assert lanes(np.array([3, 4], np.uint32), np.array([6, 6], np.int32))[0].tolist() == whole[6].tolist()


def test_seeds_differ():
    assert len({tuple(order(97, 16, 8, seed=seed).tolist()) for seed in (0, 1, 2, 2**32 - 1)}) == 4


def test_late_steps_are_exact():
    """Step · B is beyond int32, and an epoch's end is met where it should be."""
    count, batch = 8_456, 64
    step = 50_000_000
    first = step * batch % count
    epochs: dict[int, list[int]] = {}
    for number in range(step - first // batch - 1, step - first // batch + count // batch + 3):
        for place, example in enumerate(numbers(count, np.uint32(0), np.int32(number), batch).tolist(), number * batch):
            epochs.setdefault(place // count, []).append(example)
    (whole,) = [examples for examples in epochs.values() if len(examples) == count]
    assert sorted(whole) == list(range(count))


def test_all_orders_of_four_are_equally_likely():
    """Pearson's statistic over 24 orders of 4,800 draws: mean 23, standard deviation 6.8."""
    keys = jax.vmap(lambda seed: _round_keys(jax.random.key(seed, impl="threefry2x32"), 4))(jnp.arange(4_800))
    draws = jax.jit(jax.vmap(lambda key: shuffled(jnp.arange(4), jnp.broadcast_to(key, (4, *key.shape)), 4)))(keys)
    counts = dict.fromkeys(itertools.permutations(range(4)), 0)
    for draw in np.asarray(draws).tolist():
        counts[tuple(draw)] += 1
    assert 23 - 4 * 6.8 < sum((count - 200) ** 2 / 200 for count in counts.values()) < 23 + 4 * 6.8


def test_neighbours_in_an_epoch_are_unrelated():
    """The correlation of neighbours over 20 epochs of 1,000 has a standard deviation of 0.007."""
    epochs = order(1_000, 1_000, 20)
    assert abs(np.corrcoef(epochs[:-1], epochs[1:])[0, 1]) < 0.03


@pytest.mark.core
def test_the_order_has_not_moved():
    """If this fails, every run by epochs sees other batches than before: raise SEMANTICS if that is wanted."""
    assert numbers(8_456, np.uint32(0), np.int32(0), 4).tolist() == [4554, 175, 4477, 8223]
    assert numbers(8_456, np.uint32(7), np.int32(2_113), 4).tolist() == [7071, 5666, 2842, 8378]
