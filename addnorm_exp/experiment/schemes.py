"""The scheme that a config names, with the axes that the config sets."""

from collections.abc import Sequence

from addnorm_exp.config.schema import Config
from addnorm_exp.residual import Scheme, SchemeError, Site, axes, catalogue
from addnorm_exp.residual.vocabulary import RECIPE


def scheme_of(config: Config, sites: Sequence[Site]) -> Scheme:
    """The checked scheme of a config over these blocks. Raises `residual.SchemeError` (a ValueError) if it is invalid."""
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
        if where is not None and not any(axes.holds(where, site) for site in sites):
            raise SchemeError(
                f"{key}='{where}' matches none of the {config.model.depth} blocks (model.depth), so the keys beside it would have "
                "no effect; name a block, or omit it"
            )
    scheme.check(sites, config.model.width)
    kernel = config.execution.attention
    if kernel != "einsum" and any(
        scheme.sublayer_options(site.at(kind)).get("soft_cap") for site in sites for kind in site.sublayers
    ):
        raise SchemeError(
            f"execution.attention='{kernel}' does not support a soft-cap on its logits; use einsum, or attention.soft_cap=0"
        )
    if config.init.depth_scaled and scheme.scales_init:
        remedy = (
            "set init.multipliers=none as well, or leave it unset" if scheme.multipliers == RECIPE else "leave it unset"
        )
        raise SchemeError(
            f"init.depth_scaled would scale weights that scheme '{scheme.name}' scales by its own law; {remedy}"
        )
    return scheme
