"""What the probe compiles, and what it runs once for stacks of several depths."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from probing import TEXT, compiled, values

from addnorm_exp.probe import measure, settings
from addnorm_exp.residual import catalogue


@pytest.fixture
def nothing_known():
    """For tests that count; the others share the programs of blocks that are alike."""
    measure.forget()
    yield
    measure.forget()


@pytest.mark.usefixtures("nothing_known")
@pytest.mark.parametrize(
    ("scheme", "programs"),
    [
        ("pre_ln", (1, 1)),
        pytest.param(
            "hybrid_norm_star", (2, 2), marks=pytest.mark.full
        ),  # the first block is of a structure of its own
        pytest.param("lns", (2, 2), marks=pytest.mark.full),  # likewise; the others differ in a constant, which is data
        ("denseformer", (0, 0)),  # each is
        pytest.param("attn_res", (1, 0), marks=pytest.mark.full),  # a state that grows, as the first block shows
    ],
)
def test_blocks_of_few_structures_are_compiled_and_blocks_that_all_differ_are_not(scheme, programs):
    values(settings.batch(scheme, 5, 16, 1, TEXT))
    assert tuple(measure.compiled(function)._cache_size() for function in (measure._block, measure._pull)) == programs
    measure.forget()
    assert compiled() == 0


@pytest.mark.usefixtures("nothing_known")
@pytest.mark.parametrize("scheme", ["pre_ln", pytest.param("value_residual", marks=pytest.mark.full)])
def test_compiled_or_not_the_values_are_the_same(scheme, monkeypatch):
    found = []
    for most in (4, 0):
        monkeypatch.setattr(measure, "MOST_STRUCTURES", most)
        found.append(values(settings.batch(scheme, 3, 16, 1, TEXT)))
        assert (compiled() > 0) == (most > 0)
        measure.forget()
    assert found[0].keys() == found[1].keys()
    np.testing.assert_allclose(list(found[0].values()), list(found[1].values()), rtol=2e-4)


def blocks_run(monkeypatch) -> list[int]:
    """The numbers of the blocks that run from now on, each once: perturbed it does not count."""
    ran = []
    go_on = measure._Run._go_on
    monkeypatch.setattr(
        measure._Run, "_go_on", lambda self, number, block: ran.append(number) or go_on(self, number, block)
    )
    return ran


@pytest.mark.parametrize(
    ("scheme", "setting"),
    [
        ("pre_ln", "batch"),
        *(
            pytest.param(*both, marks=pytest.mark.full)
            for both in (
                ("hyper_static", "theory"),
                ("denseformer", "batch"),
                ("denseformer", "theory"),
                ("attn_res", "batch"),
                ("attn_res", "theory"),
            )
        ),
    ],
)
def test_a_stack_that_begins_as_a_deeper_one_gives_what_it_gives_alone(scheme, setting, monkeypatch):
    def problem(depth):
        return of_setting(setting, scheme, depth)

    alone = values(problem(2))
    ran = blocks_run(monkeypatch)
    _, found = measure.measure([problem(4), problem(2)])
    assert ran == [0, 1, 2, 3]
    for one in found:
        assert one.value == pytest.approx(alone.pop((one.quantity, one.block)), rel=1e-5)
    assert not alone


def of_setting(setting, scheme, depth):
    if setting == "theory":
        return settings.theory(catalogue.get(scheme), depth, 16, 2)
    return settings.batch(scheme, depth, 16, 2, TEXT)


@pytest.mark.parametrize(
    "scheme",
    [pytest.param("completep", marks=pytest.mark.full), "gpt2"],  # in a constant, and in initial values
)
def test_blocks_that_differ_with_the_depth_run_again(scheme, monkeypatch):
    alone = values(settings.batch(scheme, 2, 16, 1, TEXT))
    ran = blocks_run(monkeypatch)
    _, found = measure.measure([settings.batch(scheme, depth, 16, 1, TEXT) for depth in (4, 2)])
    assert ran == [0, 1, 2, 3, 0, 1]
    for one in found:
        assert one.value == pytest.approx(alone[one.quantity, one.block], rel=1e-5)


def test_one_value_makes_a_block_another(monkeypatch):
    """Of the second block; what comes after it, from the first depth on, runs again."""
    deep, shallow = (settings.batch("pre_ln", depth, 16, 2, TEXT) for depth in (4, 3))
    kernel = shallow.stack.blocks[1].feed_forward.up.kernel
    kernel[...] = kernel[...].at[1, 0, 0].add(1e-3)
    ran = blocks_run(monkeypatch)
    list(measure.measure([deep, shallow]))
    assert ran == [0, 1, 2, 3, 1, 2]
    other = replace(shallow, inputs=jax.numpy.flip(shallow.inputs, 1))
    ran.clear()
    list(measure.measure([shallow, other]))
    assert ran == [0, 1, 2, 0, 1, 2]
