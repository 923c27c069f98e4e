"""Which schemes of the catalogue the default run takes through the expensive tests; `pytest -m full` takes the others."""

import zlib
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


# What each scheme is held against besides the plain forward pass. The default run takes it through one of them, so that each is met by
# about seventeen schemes; `full` through all.
VARIANTS = ("another norm", "another shape", "encoder")


def variant_of(name: str, variants: int = len(VARIANTS)) -> int:
    """The same number on every machine and in every process, unlike `hash`."""
    return zlib.crc32(name.encode()) % variants


def due(variant: str) -> list[str]:
    """The schemes that the default run takes through one of VARIANTS."""
    return [name for name in catalogue.names() if VARIANTS[variant_of(name)] == variant]


def covering(variant: str, core: Iterable[str] = (), names: Iterable[str] | None = None) -> list:
    """Parameters of one of VARIANTS over the catalogue; schemes that are neither in `core` nor due for it are marked `full`."""
    return expensive(core, due(variant), names)


def third(what: str, core: Iterable[str] = ()) -> list:
    """Parameters of a test over the catalogue of which the default run takes a third of the schemes, another one for each `what`."""
    return expensive(core, [name for name in catalogue.names() if not zlib.crc32(f"{what} {name}".encode()) % 3])


def expensive(
    core: Iterable[str] = (), default: Iterable[str] = REPRESENTATIVE, names: Iterable[str] | None = None
) -> list:
    """Parameters of an expensive test over the catalogue, or over `names`: schemes that are neither in `core` nor in `default` are marked
    `full`."""
    core, default = tuple(core), tuple(default)
    return [
        pytest.param(name, marks=pytest.mark.core if name in core else [] if name in default else pytest.mark.full)
        for name in (catalogue.names() if names is None else names)
    ]
