"""The scheme that a config names, with the axes that the config sets."""

from dataclasses import replace

from addnorm_exp.config.schema import AttentionConfig, Config, EmbeddingConfig, LogitsConfig, NormConfig
from addnorm_exp.residual import Depths, Scheme, SchemeError, Site, axes, catalogue, sites
from addnorm_exp.residual.scheme import RECIPE, unscaled


def resolve(config: Config) -> Scheme:
    """The checked scheme of a config. Raises `residual.SchemeError` (a ValueError) if it is invalid."""
    norm, attention, embedding, logits = config.norm, config.attention, config.embedding, config.logits
    scheme = axes.with_norm(
        catalogue.get(config.scheme),
        norm.blocks,
        kind=norm.kind,
        eps=norm.eps,
        eps_place=norm.eps_place,
        affine=norm.affine,
        gain=norm.gain,
        alpha=norm.alpha,
    )
    scheme = axes.with_attention(
        scheme, attention.blocks, qk_norm=attention.qk_norm, v_norm=attention.v_norm, soft_cap=attention.soft_cap
    )
    scheme = axes.with_around(
        scheme,
        embedding_norm=embedding.norm,
        embedding_scale=embedding.scale,
        logit_cap=logits.soft_cap,
        z_loss=logits.z_loss,
        drop_path=config.model.drop_path,
    )
    if config.init.multipliers == "none":
        scheme = axes.with_the_law_alone(scheme)
    for key, where in (("norm.blocks", norm.blocks), ("attention.blocks", attention.blocks)):
        if where is not None and not any(axes.holds(where, site) for site in blocks(config)):
            raise SchemeError(
                f"{key}='{where}' matches none of the {config.model.depth} blocks (model.depth), so the keys beside it would have "
                "no effect; name a block, or omit it"
            )
    scheme.check(blocks(config), config.model.width)
    kernel = config.execution.attention
    if kernel != "einsum" and any(
        scheme.sublayer_options(site.at(kind)).get("soft_cap") for site in blocks(config) for kind in site.sublayers
    ):
        raise SchemeError(
            f"execution.attention='{kernel}' does not support a soft-cap on its logits; use einsum, or attention.soft_cap=0"
        )
    if config.init.depth_scaled and scheme.init is not unscaled:
        remedy = (
            "set init.multipliers=none as well, or leave it unset" if scheme.multipliers == RECIPE else "leave it unset"
        )
        raise SchemeError(
            f"init.depth_scaled would scale weights that scheme '{scheme.name}' scales by its own law; {remedy}"
        )
    return scheme


def resolved(config: Config) -> Config:
    """The config with its resolved init law, and without the axes that the resolved scheme holds (init multipliers are one)."""
    law = config.init.law or catalogue.get(config.scheme).law
    return replace(
        config,
        norm=NormConfig(),
        attention=AttentionConfig(),
        embedding=EmbeddingConfig(),
        logits=LogitsConfig(),
        model=replace(config.model, drop_path=None),
        init=replace(config.init, law=law, multipliers="scheme"),
    )


def blocks(config: Config) -> tuple[Site, ...]:
    """The blocks of the model of a config."""
    return sites("decoder", Depths(decoder=config.model.depth))
