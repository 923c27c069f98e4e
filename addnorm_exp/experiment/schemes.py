"""The scheme that a config names, with the axes that the config sets."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from addnorm_exp.config.optimisers import OPTIMISERS
from addnorm_exp.config.schema import Config
from addnorm_exp.experiment.kernels import capped
from addnorm_exp.residual import Scheme, SchemeError, Site, axes, catalogue
from addnorm_exp.residual.around import NOTHING
from addnorm_exp.residual.init import GROUPS
from addnorm_exp.residual.scheme import by_stack, no_factors
from addnorm_exp.residual.vocabulary import RECIPE

FACTORS = {"lr": "the learning rate", "decay": "weight decay", "eps": "Adam's ε"}
# The keys that set what is around the blocks.
AROUND = {
    "embedding_norm": "embedding.norm",
    "embedding_scale": "embedding.scale",
    "logit_cap": "logits.soft_cap",
    "z_loss": "logits.z_loss",
    "drop_path": "model.drop_path",
}


def scheme_of(config: Config, sites: Sequence[Site]) -> Scheme:
    """The checked scheme of a config over these blocks. Raises `residual.SchemeError` (a ValueError) if it is invalid."""
    scheme = _under_axes(config, config.scheme)
    apart = {stack: name for stack, name in vars(config.schemes).items() if name not in (None, config.scheme)}
    scheme = replace(scheme, stacks=tuple((stack, _of_stack(config, stack, name)) for stack, name in apart.items()))
    for stack, other in scheme.stacks:
        _check_agreement(config, stack, other, scheme)
    stacks = by_stack(sites)
    if stacks.keys() <= apart.keys():
        raise SchemeError(
            f"{' and '.join(f'schemes.{stack}' for stack in apart)} leave no stack to scheme='{config.scheme}'; set scheme to one of "
            "them, and leave its key unset"
        )
    norm, attention = config.norm, config.attention
    for key, where in (("norm.blocks", norm.blocks), ("attention.blocks", attention.blocks)):
        if where is not None and not any(axes.holds(where, site) for site in sites):
            raise SchemeError(
                f"{key}='{where}' matches none of the {config.model.depth} blocks (model.depth), so the keys beside it would have "
                "no effect; name a block, or omit it"
            )
    for stack, own in stacks.items():
        with _blamed(stack, apart.get(stack)):
            scheme.of(stack).check(own, config.model.width)
            _check_execution(config, scheme.of(stack), own)
    # What is around the blocks is that of the model.
    return replace(scheme, stacks=tuple((stack, replace(each, around=NOTHING)) for stack, each in scheme.stacks))


def _under_axes(config: Config, name: str) -> Scheme:
    """The scheme of this name with the axes that the config sets."""
    norm, attention, embedding, logits = config.norm, config.attention, config.embedding, config.logits
    scheme = axes.with_norm(
        catalogue.get(name),
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
    return axes.with_the_law_alone(scheme) if config.init.multipliers == "none" else scheme


def _of_stack(config: Config, stack: str, name: str) -> Scheme:
    with _blamed(stack, name):
        return _under_axes(config, name)


@contextmanager
def _blamed(stack: str, own: str | None) -> Iterator[None]:
    """If the stack has a scheme of its own, errors of that scheme begin with its key."""
    try:
        yield
    except SchemeError as error:
        raise (SchemeError(f"schemes.{stack}='{own}': {error}") if own else error) from None


def _check_agreement(config: Config, stack: str, other: Scheme, scheme: Scheme) -> None:
    """Raises SchemeError if the scheme of a stack asks for another init law, or another embedding, head or loss, than that of the model."""
    what = f"schemes.{stack}='{other.name}' and scheme='{scheme.name}'"
    if config.init.law is None and other.law != scheme.law:
        raise SchemeError(
            f"{what} have the init laws '{other.law}' and '{scheme.law}'; set init.law, which is for both"
        )
    ours, theirs = vars(scheme.around), vars(other.around)
    for name in (name for name in ours if ours[name] != theirs[name]):
        remedy = f"set {AROUND[name]}, which is for both" if name in AROUND else "only one of them can be in a model"
        raise SchemeError(f"{what} differ in {name.replace('_', ' ')}, which is that of the whole model; {remedy}")


def _check_execution(config: Config, scheme: Scheme, sites: Sequence[Site]) -> None:
    """Raises SchemeError if the config asks for a kernel, scaled outputs or an optimiser that the scheme cannot have."""
    kernel = config.execution.attention
    if kernel not in ("auto", "einsum") and capped(scheme, sites):
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
    _check_factors(config, scheme, sites)


def _check_factors(config: Config, scheme: Scheme, sites: Sequence[Site]) -> None:
    """Raises SchemeError if the scheme puts a factor on something that the optimiser does not have."""
    without = set(FACTORS) - set(config.optim.factors)
    for site in sites if scheme.factors is not no_factors and without else ():
        for kind in (*site.sublayers, "ends"):
            for group in GROUPS:
                factors = scheme.factors(site.at(kind), group)
                for name in sorted(without):
                    if getattr(factors, name) != 1.0:
                        able = [other for other, optimiser in OPTIMISERS.items() if name in optimiser.factors]
                        raise SchemeError(
                            f"scheme '{scheme.name}' multiplies {FACTORS[name]} by a factor, which has no meaning with "
                            f"optim.name='{config.optim.name}'; use optim.name={' or '.join(able)}, or another scheme"
                        )
