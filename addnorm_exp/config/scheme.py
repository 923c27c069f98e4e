"""From a config to the scheme that it names, under the norm axes that it sets."""

from dataclasses import replace

from addnorm_exp.config.schema import Config, NormConfig
from addnorm_exp.residual import Depths, Scheme, SchemeError, Site, catalogue, sites
from addnorm_exp.residual.scheme import unscaled


def resolve(config: Config) -> Scheme:
    """The checked scheme of a config. Raises `residual.SchemeError` (a ValueError) where it cannot be right."""
    norm = config.norm
    scheme = catalogue.get(config.scheme).with_norm(
        kind=norm.kind, eps=norm.eps, eps_place=norm.eps_place, affine=norm.affine, gain=norm.gain
    )
    scheme.check(blocks(config))
    if config.init.depth_scaled and scheme.init is not unscaled:
        raise SchemeError(
            f"init.depth_scaled would scale what scheme '{scheme.name}' scales by its own law; leave it unset"
        )
    return scheme


def resolved(config: Config) -> Config:
    """The config with the init law that it comes to, and without the norm axes, which the resolved scheme holds."""
    law = config.init.law or catalogue.get(config.scheme).law
    return replace(config, norm=NormConfig(), init=replace(config.init, law=law))


def blocks(config: Config) -> tuple[Site, ...]:
    """The blocks of the model of a config."""
    return sites("decoder", Depths(decoder=config.model.depth))
