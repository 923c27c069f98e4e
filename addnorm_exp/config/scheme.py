"""From a config to the scheme that it names, under the norm axes that it sets."""

from addnorm_exp.config.schema import Config
from addnorm_exp.residual import Depths, Scheme, Site, catalogue, sites


def resolve(config: Config) -> Scheme:
    """The checked scheme of a config. Raises `residual.SchemeError` (a ValueError) where it cannot be right."""
    norm = config.norm
    scheme = catalogue.get(config.scheme).with_norm(
        kind=norm.kind, eps=norm.eps, eps_place=norm.eps_place, affine=norm.affine, gain=norm.gain
    )
    scheme.check(blocks(config))
    return scheme


def blocks(config: Config) -> tuple[Site, ...]:
    """The blocks of the model of a config."""
    return sites("decoder", Depths(decoder=config.model.depth))
