"""What the probe compiles: a structure that recurs in a stack, and no other."""

import jax.numpy as jnp
import numpy as np
import pytest
from probing import TEXT, compiled, values

from addnorm_exp.probe import measure, programs, settings

BLOCK = (measure._block, measure._block_gradient)


@pytest.fixture(autouse=True)
def nothing_known():
    programs.forget()
    yield
    programs.forget()


def test_the_fourth_call_of_one_structure_is_compiled():
    ran = []

    def double(static, x):
        ran.append((static, x.shape))
        return static * x

    of_stack = programs.Programs()
    for n in range(6):
        assert of_stack(double, 2.0, n * jnp.ones(3)).tolist() == [2.0 * n] * 3
    assert ran == [(2.0, (3,))] * 4  # thrice as they stand, once to be compiled
    for static, shape in ((2.0, 4), (3.0, 3)):
        assert of_stack(double, static, jnp.ones(shape)).tolist() == [static] * shape
    assert len(ran) == 6
    assert programs.Programs()(double, 2.0, jnp.ones(3)).tolist() == [2.0] * 3  # the next stack has it compiled
    assert len(ran) == 6
    programs.forget()
    assert programs.Programs()(double, 2.0, jnp.ones(3)).tolist() == [2.0] * 3
    assert len(ran) == 7


@pytest.mark.parametrize(("scheme", "recurs"), [("pre_ln", True), ("lns", False), ("attn_res", False)])
def test_blocks_of_one_kind_are_compiled_and_blocks_that_differ_are_not(scheme, recurs):
    values(settings.batch(scheme, 6, 16, 1, TEXT))
    assert [programs._compiled(function)._cache_size() > 0 for function in BLOCK] == [recurs] * 2


@pytest.mark.parametrize("scheme", ["pre_ln", "attn_res"])
def test_compiled_or_not_the_values_are_the_same(scheme, monkeypatch):
    found = []
    for patience in (0, 1000):
        monkeypatch.setattr(programs, "PATIENCE", patience)
        found.append(values(settings.batch(scheme, 3, 16, 1, TEXT)))
        assert (compiled() > 0) == (patience == 0)
        programs.forget()
    assert found[0].keys() == found[1].keys()
    np.testing.assert_allclose(list(found[0].values()), list(found[1].values()), rtol=2e-4)
