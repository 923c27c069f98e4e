"""What a record must satisfy. Each check raises a SchemeError that says which record it is, and the remedy."""

from typing import TYPE_CHECKING

from addnorm_exp.residual.contract import ConnectionRecord, Site, Topology
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.rule import Rule
from addnorm_exp.residual.variables import Coefficient
from addnorm_exp.residual.versioned import Versioned
from addnorm_exp.residual.vocabulary import EVIDENCE, METHOD, RECIPE

if TYPE_CHECKING:
    from addnorm_exp.residual.scheme import Scheme


class SchemeError(ValueError):
    """A record, or a scheme with these axes, that cannot be right; the message says which and the remedy."""


def check_record(scheme: "Scheme") -> None:
    if scheme.evidence not in EVIDENCE:
        raise SchemeError(f"scheme '{scheme.name}': evidence '{scheme.evidence}' is none of {', '.join(EVIDENCE)}")
    for name in ("calibrate", "project"):
        function = getattr(scheme, name)
        if function is not None and not isinstance(function, Versioned):
            raise SchemeError(
                f"scheme '{scheme.name}': {name} is a plain function, and a run's id needs its version too; write "
                f"{name}=Versioned(function, version=1), and raise the version when you change what it computes"
            )
    if scheme.needs_norm and scheme.norm.kind == "none":
        raise SchemeError(f"scheme '{scheme.name}' needs a norm, but its norm kind is 'none'")
    if scheme.scales_init and scheme.multipliers not in (METHOD, RECIPE):
        raise SchemeError(
            f"scheme '{scheme.name}' has init multipliers; say what they are: multipliers='method' or 'recipe'"
        )


def check_sublayers(scheme: "Scheme", site: Site) -> None:
    """Each sublayer of a block is run once, and sites have names of their own: parameters and records go by them."""
    covered = [name for at in scheme.plan(site) for name in _sublayers(at)]
    if sorted(covered) != sorted(site.sublayers):
        where = f"{site.stack}.{site.block}"
        raise SchemeError(f"scheme '{scheme.name}' runs {covered} in {where}, which holds {list(site.sublayers)}")
    labels = scheme.labels(site)
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise SchemeError(f"scheme '{scheme.name}' has two sites of the name {twice}; a block holds one chain at most")


def check_skip(scheme: "Scheme", where: str, rule: ConnectionRecord) -> None:
    """Of the outer connections: inside a chain a sublayer may go without, for the chain's own skip stands in (SpanNorm)."""
    if scheme.around.drop_path and isinstance(rule, Rule) and rule.skip == 0.0:
        raise SchemeError(
            f"scheme '{scheme.name}' has no skip at {where}: stochastic depth, which drops branches, would leave nothing of a "
            "sequence; set model.drop_path=0"
        )


def check_connection(scheme: "Scheme", where: str, rule: ConnectionRecord, width: int | None) -> None:
    """What one connection asks of the width, of the norm's axes and of the init."""
    if isinstance(rule, Topology) and width is not None and width % (parts := rule.said("fractions")):
        raise SchemeError(
            f"scheme '{scheme.name}' splits the stream in {parts}; set model.width to a multiple of {parts}, not {width}"
        )
    if not isinstance(rule, Rule):
        return
    idle = next((norm for norm in rule.norms.values() if norm.gain_init != 1.0 and norm.affine == "none"), None)
    if idle:
        raise SchemeError(
            f"scheme '{scheme.name}' starts the gain of its norm at {idle.gain_init:g} at {where}, and the norm '{idle.kind}' has "
            "none here; take a norm.kind with a gain, and leave norm.affine unset"
        )
    skip = rule.skip.default if isinstance(rule.skip, Coefficient) else rule.skip
    scaled = isinstance(skip, float | int) and skip not in (0.0, 1.0)
    if scaled and "post" in rule.norms and not scheme.scales_init and not scheme.plain_init:
        raise SchemeError(
            f"scheme '{scheme.name}': skip coefficient {skip:.4g} at {where} without the init multipliers that belong to it; "
            "set Scheme.init, or plain_init=True where the paper has none"
        )


def check_places(scheme: "Scheme", sites: tuple[Site, ...]) -> None:
    """No two norms stand at one place of the stream: behind the embedding, between two sublayers, before the head."""
    # `last`: what has just normalised the stream.
    last = "that of the embedding" if acts(scheme.around.embedding_norm or scheme.around.positions_norm) else None
    for site in sites:
        for at in scheme.plan(site):
            here = at.rule.norms if isinstance(at.rule, Rule) else {}
            where = site.at(at.label).label
            if last and "stream" in here:
                raise SchemeError(
                    f"scheme '{scheme.name}': two norms at one place, {last} and the stream norm of {where}"
                )
            last = f"the post norm of {where}" if "post" in here else None
    if last and scheme.final_norm:
        raise SchemeError(f"scheme '{scheme.name}': two norms at one place, {last} and the final norm")


def acts(norm: NormSpec | None) -> bool:
    return norm is not None and norm.kind != "none"


def _sublayers(at: At) -> list[str]:
    return [name for inner in at.walk() for name in _names(inner)]


def _names(at: At) -> tuple[str, ...]:
    return (at.body,) if isinstance(at.body, str) else getattr(at.body, "names", ())
