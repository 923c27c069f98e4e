"""Stacks of free names: labels and paths begin with the name, and a stack is what it is, whatever its name and whatever else there is;
but for an encoder and a decoder in one model, for which papers have constants of their own (test_site_constants.py)."""

import pytest
from bridge import architecture
from flax import nnx
from sample import depth_of, third

from addnorm_exp.nn.functional import Functional
from addnorm_exp.nn.stack import Stack
from addnorm_exp.residual import Depths, catalogue, sites


class Stacks(nnx.Module):
    """A stack for each name."""

    def __init__(self, scheme, depths: Depths, rngs: nnx.Rngs):
        for name in depths:
            setattr(self, name, Stack(scheme, sites(name, depths), architecture(), causal=False, rngs=rngs))


def specs_of(scheme, depths: Depths):
    return Functional(lambda rngs: Stacks(scheme, depths, rngs)).specs


@pytest.mark.parametrize("name", third("stacks"))
def test_a_stack_of_any_name_is_that_of_an_encoder_alone(name):
    scheme, depth = catalogue.get(name), depth_of(name, 2)
    towers = Depths(left=depth, right=depth + 3)
    specs = specs_of(scheme, towers)
    scheme.check(sites("right", towers))
    for tower in towers:
        alone = Depths(encoder=towers[tower])
        ours = {
            path.removeprefix(f"{tower}/"): (spec.shape, spec.init, spec.group, spec.factors, spec.part, spec.name)
            for path, spec in specs.items()
            if path.startswith(f"{tower}/")
        }
        assert ours == {
            path.removeprefix("encoder/"): (spec.shape, spec.init, spec.group, spec.factors, spec.part, spec.name)
            for path, spec in specs_of(scheme, alone).items()
        }
        labels = [label for site in sites(tower, towers) for label in scheme.labels(site)]
        assert labels == [
            f"{tower}.{label.partition('.')[2]}" for site in sites("encoder", alone) for label in scheme.labels(site)
        ]


def test_depths():
    assert Depths(encoder=0, decoder=4) == Depths(decoder=4)
    assert Depths(decoder=4)["encoder"] == 0
    assert list(Depths(encoder=6, decoder=3)) == ["encoder", "decoder"]
    assert len({Depths(left=1, right=2), Depths(left=1, right=2), Depths(left=2, right=1)}) == 2
