"""A batch is a pure function of (data seed, step), and its windows are those of the corpus."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from addnorm_exp.data.batches import fixed_windows, training_batch, training_offsets, window_count

TOKENS = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)
B, T = 8, 16

batch = jax.jit(lambda tokens, seed, step: training_batch(tokens, seed, step, B, T))


def test_windows_are_the_corpus_at_the_offsets():
    for seed, step in ((0, 0), (1, 0), (0, 7), (2**32 - 1, 2**31 - 1)):
        inputs, targets = batch(TOKENS, np.uint32(seed), np.int32(step))
        offsets = np.asarray(training_offsets(len(TOKENS), np.uint32(seed), np.int32(step), B, T))
        assert inputs.dtype == targets.dtype == jnp.int32
        assert inputs.shape == targets.shape == (B, T)
        for row, start in enumerate(offsets):
            assert inputs[row].tolist() == TOKENS[start : start + T].tolist()
            assert targets[row].tolist() == TOKENS[start + 1 : start + T + 1].tolist()


def test_the_same_bits_on_any_chunking_and_under_vmap():
    seeds, steps = np.arange(3, dtype=np.uint32), np.arange(6, dtype=np.int32)
    alone = np.array([[np.asarray(batch(TOKENS, seed, step)) for step in steps] for seed in seeds])  # [3, 6, 2, B, T]

    @jax.jit
    def chunk(tokens, seed, first):
        def body(step, _):
            return step + 1, jnp.stack(training_batch(tokens, seed, step, B, T))

        return jax.lax.scan(body, first, length=3)[1]

    halves = [np.concatenate([chunk(TOKENS, seed, np.int32(0)), chunk(TOKENS, seed, np.int32(3))]) for seed in seeds]
    np.testing.assert_array_equal(np.stack(halves), alone)
    lanes = jax.jit(
        jax.vmap(jax.vmap(training_batch, (None, None, 0, None, None)), (None, 0, None, None, None)),
        static_argnums=(3, 4),
    )
    np.testing.assert_array_equal(np.stack(lanes(TOKENS, seeds, steps, B, T), axis=2), alone)


def test_seed_and_step_matter():
    seen = {
        np.asarray(batch(TOKENS, np.uint32(seed), np.int32(step))[0]).tobytes()
        for seed in range(8)
        for step in range(8)
    }
    assert len(seen) == 64


def test_every_valid_start_is_reached_and_no_other():
    size = T + 5  # starts 0..4
    offsets = jax.vmap(lambda step: training_offsets(size, np.uint32(0), step, B, T))(jnp.arange(100))
    assert np.unique(np.asarray(offsets)).tolist() == [0, 1, 2, 3, 4]
    only = training_batch(TOKENS[: T + 1], 0, 3, B, T)  # one valid start
    assert np.asarray(only[1]).tolist() == [TOKENS[1 : T + 1].tolist()] * B


def test_starts_are_uniform():
    """Pearson's statistic over 64 bins of 64,000 draws: mean 63, standard deviation 11.2 for a uniform law."""
    size, bins = 6400 + T, 64
    offsets = jax.vmap(lambda step: training_offsets(size, np.uint32(5), step, 640, T))(jnp.arange(100))
    counts = np.bincount(np.asarray(offsets).ravel() // 100, minlength=bins)
    assert len(counts) == bins
    assert 63 - 4 * 11.2 < np.sum((counts - 1000) ** 2 / 1000) < 63 + 4 * 11.2


def test_offsets_of_the_largest_corpus_stay_in_range():
    offsets = np.asarray(training_offsets(2**31 - 1, np.uint32(1), np.int32(2), 4096, 128))
    assert offsets.min() >= 0
    assert offsets.max() <= 2**31 - 1 - 129
    assert offsets.max() > 0.99 * 2**31


@pytest.mark.core
def test_the_order_of_batches_has_not_moved():
    """If this fails, every run sees other batches than before: the generator, its key or JAX's randint changed its bits.

    That is another meaning of training; raise SEMANTICS if it is wanted.
    """
    assert training_offsets(90_000_000, 0, 0, 4, 128).tolist() == [38663112, 22080455, 21110504, 27749988]
    assert training_offsets(90_000_000, 3, 1000, 4, 128).tolist() == [28632106, 63280350, 64859399, 20797464]


@pytest.mark.parametrize(
    ("size", "sequences", "length"), [(1000, 10, 99), (1000, 7, 30), (1000, 1, 999), (1003, 100, 9)]
)
def test_fixed_windows_are_evenly_spaced_and_share_no_token(size, sequences, length):
    positions = np.arange(size) % 251  # position modulo a prime: enough to find where a window starts
    windows = fixed_windows(positions.astype(np.uint8), sequences, length)
    assert windows.shape == (sequences, length + 1)
    assert windows.dtype == np.uint8
    starts = [i * size // sequences for i in range(sequences)]
    assert windows.tolist() == [positions[start : start + length + 1].tolist() for start in starts]
    gaps = np.diff([*starts, size])
    assert gaps.min() >= length + 1
    assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(("size", "windows"), [(99, 0), (100, 1), (1000, 10), (1099, 10), (1100, 11), (5000, 11)])
def test_where_too_few_windows_fit_all_are_taken(size, windows):
    taken = fixed_windows(np.arange(size) % 251, 11, 99)
    assert taken.shape == (windows, 100)
    assert window_count(size, 11, 99) == windows
