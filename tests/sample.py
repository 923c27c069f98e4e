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
    "hyper",
    "attn_res",
    "ngpt",
)


def expensive(core: Iterable[str] = (), names: Iterable[str] | None = None) -> list:
    """Parameters of an expensive test over the catalogue: those that represent no other scheme are marked `full`."""
    core = tuple(core)
    return [
        pytest.param(
            name, marks=pytest.mark.core if name in core else [] if name in REPRESENTATIVE else pytest.mark.full
        )
        for name in (catalogue.names() if names is None else names)
    ]
