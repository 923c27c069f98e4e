"""What the probe keeps of its draws: each is made once while there is room, and none is another than it was."""

import jax
import jax.numpy as jnp
import numpy as np
from bridge import architecture, decoder

from addnorm_exp.probe import draws
from addnorm_exp.residual import catalogue
from addnorm_exp.residual import init as laws


def test_the_latest_are_kept_and_no_more_bytes_than_asked():
    made = []

    def draw(number: int):
        made.append(number)
        return jnp.full(4, number, jnp.float32)  # 16 bytes

    kept = draws.KeptDraws(draw, most=40)
    for number in (1, 2, 1, 3, 1, 2):  # at 3, the one not used for longest is 2
        np.testing.assert_array_equal(kept(number), np.full(4, number))
    assert made == [1, 2, 3, 2]
    assert kept(5).shape == (4,)
    assert made == [1, 2, 3, 2, 5]
    assert sum(array.nbytes for array in kept._results.values()) == kept._size == 32


def test_one_larger_than_the_room_is_given_and_not_kept():
    made = []
    kept = draws.KeptDraws(lambda n: made.append(n) or jnp.zeros(100), most=40)
    assert kept(1).shape == kept(1).shape == (100,)
    assert made == [1, 1]
    assert kept._size == 0


def test_kept_values_are_those_that_training_starts_from():
    model = decoder(catalogue.get("deepnorm"), architecture())
    for _ in range(2):
        found = model.init_by_seed(2, draws=draws.values)
        for seed in range(2):
            for path, alone in laws.initial_values(model.specs, seed).items():
                np.testing.assert_array_equal(found[path][seed], alone)


def test_noise_goes_by_path_and_is_standard_normal():
    one, other = draws.noise((2, 50, 60), "noise/0/a"), draws.noise((2, 50, 60), "noise/0/b")
    assert abs(float(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1])) < 0.05
    assert abs(float(one.mean())) < 0.05
    assert abs(float(one.std()) - 1) < 0.05
    key = jax.random.fold_in(jax.random.key(0), laws.path_hash("noise/0/a"))
    for _ in range(2):
        np.testing.assert_array_equal(draws.noise((2, 50, 60), "noise/0/a"), jax.random.normal(key, (2, 50, 60)))
