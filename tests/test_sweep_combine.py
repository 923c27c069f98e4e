"""The algebra of study files."""

import pytest

from addnorm_exp.errors import UserError
from addnorm_exp.sweep import axis, chain, product, zip


@pytest.mark.core
def test_product_moves_the_last_part_fastest():
    found = product({"steps": 5}, axis("scheme", ["a", "b"]), axis("seed", range(2)))
    assert found == [
        {"steps": 5, "scheme": "a", "seed": 0},
        {"steps": 5, "scheme": "a", "seed": 1},
        {"steps": 5, "scheme": "b", "seed": 0},
        {"steps": 5, "scheme": "b", "seed": 1},
    ]
    assert product() == [{}]
    assert product(axis("seed", []), {"a": 1}) == []


@pytest.mark.core
def test_chain_and_zip():
    assert chain(axis("seed", [1]), [{"a": 2}]) == [{"seed": 1}, {"a": 2}]
    assert zip(axis("depth", [2, 4]), axis("lr", [0.1, 0.2])) == [{"depth": 2, "lr": 0.1}, {"depth": 4, "lr": 0.2}]


def test_parts_may_be_generators_and_are_copied():
    base = {"a": 1}
    found = product(base, ({"seed": n} for n in range(2)))
    found[0]["a"] = 9
    assert (base, found[1]) == ({"a": 1}, {"a": 1, "seed": 1})


@pytest.mark.core
def test_two_parts_that_set_one_key_and_parts_of_different_length():
    with pytest.raises(UserError, match="two parts set 'seed'"):
        product(axis("seed", [1]), {"seed": 2})
    with pytest.raises(UserError, match="two parts set 'seed'"):
        zip(axis("seed", [1]), axis("seed", [2]))
    with pytest.raises(UserError, match="the parts have 2, 3 elements"):
        zip(axis("seed", range(2)), axis("steps", range(3)))
