"""Which schemes of the catalogue the default run takes through the expensive tests; `pytest -m full` takes the others."""

from collections.abc import Iterable

import pytest

from addnorm_exp.residual import catalogue

# One of each kind of place, of body, of state and of coefficient.
REPRESENTATIVE = (
    "post_ln",
    "pre_ln",
    "deepnorm",
    "sub_ln",
    "b2t",
    "parallel",
    "rezero",
    "layerscale",
    "residual_dual",
    "hyper_static",
    "attn_res",
    "ngpt",
)
# Of these, for tests that compile a training step: a record, constants of depth, several streams, and a projection after the update.
FEW = ("pre_ln", "deepnorm", "hyper_static", "ngpt")


# Below these depths a scheme is another one: Mix-LN is Pre-LN, and attention residuals over 8 blocks are those over all sublayers.
ITSELF_FROM = {"mix_ln": 4, "attn_res_block": 5}


def depth_of(name: str, usual: int) -> int:
    """The depth at which a test over the catalogue takes this scheme."""
    return max(usual, ITSELF_FROM.get(name, 0))


def expensive(core: Iterable[str] = (), default: Iterable[str] = REPRESENTATIVE) -> list:
    """Parameters of an expensive test over the catalogue: schemes that are neither in `core` nor in `default` are marked `full`."""
    core, default = tuple(core), tuple(default)
    return [
        pytest.param(name, marks=pytest.mark.core if name in core else [] if name in default else pytest.mark.full)
        for name in catalogue.names()
    ]
