"""Scheme: a named record of how sublayers read the stream and write back, with its init law, its ends and its evidence."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import jax
from flax import nnx

from addnorm_exp.residual import norms
from addnorm_exp.residual.contract import Context, Depths, Site, State
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.rule import Rule

EVIDENCE = ("paper", "code", "secondary", "memory")
ROLES = ("query", "key", "value", "out", "gate", "up", "down")  # the weight matrices of a block


class SchemeError(ValueError):
    """A record, or a scheme with these axes, that cannot be right; the message says which and the remedy."""


class EndsRecord(Protocol):
    def connect(self, width: int, rngs: nnx.Rngs) -> Any: ...


@dataclass(frozen=True)
class NormEnds:
    """`open(x0) = N_open(x0)` and `close(x) = N_close(x)`, each norm optional: the ends of a scheme of one stream."""

    opening: NormSpec | None = None
    closing: NormSpec | None = None

    def connect(self, width: int, rngs: nnx.Rngs) -> "NormEndsModule":
        return NormEndsModule(self, width, rngs)


class NormEndsModule(nnx.Module):
    def __init__(self, ends: NormEnds, width: int, rngs: nnx.Rngs):
        self.opening = norms.make(ends.opening, width, rngs)
        self.closing = norms.make(ends.closing, width, rngs)

    def open(self, x0: jax.Array, context: Context) -> State:
        del context
        return norms.apply(self.opening, x0)

    def close(self, state: State, context: Context) -> jax.Array:
        del context
        return norms.apply(self.closing, state)


def unscaled(site: Site, role: str) -> float:
    """The init multiplier of schemes that have none."""
    del site, role
    return 1.0


def no_options(site: Site) -> dict[str, Any]:
    """What schemes ask of a sublayer that need nothing special of it."""
    del site
    return {}


@dataclass(frozen=True)
class Scheme:
    """One published Add & Norm variant. Functions of the site give what differs from place to place.

    `block(site, norm)` is the plan of one block; `ends(norm)` what happens at the embedding and before the head; `init(site, role)` a
    multiplier on the law of that weight matrix. `options(site)` are keywords for the constructor of that sublayer, where a scheme
    reaches into it (QKV-norm, mixing of values); a Transformer whose sublayers do not know them cannot be made. `norm` is the
    published normaliser, which the norm axes of a config override.
    """

    name: str
    title: str
    family: str
    equation: str
    citation: str
    year: int
    evidence: str
    block: Callable[[Site, NormSpec], tuple[At, ...]]
    ends: Callable[[NormSpec], EndsRecord]
    norm: NormSpec = norms.LAYER
    law: str = "xavier"
    init: Callable[[Site, str], float] = unscaled
    options: Callable[[Site], Mapping[str, Any]] = no_options
    needs_norm: bool = False  # its constants or its init assume a norm
    plain_init: bool = False  # a skip coefficient other than 1 without an init of its own is meant (KEEL)
    traps: tuple[str, ...] = field(default=())

    def with_norm(self, **axes: Any) -> "Scheme":
        """This scheme under the norm axes of a config (`NormSpec.override`); `None` leaves an axis as published.

        Raises SchemeError where scheme and norm do not go together.
        """
        given = {key: value for key, value in axes.items() if value is not None}
        if not given:
            return self
        if self.norm.kind == "none":
            raise SchemeError(f"scheme '{self.name}' has no norm, so norm.{min(given)} has no meaning; leave it unset")
        norm = self.norm.override(**given)
        if norm.kind == "none" and self.needs_norm:
            raise SchemeError(
                f"scheme '{self.name}' needs a norm (its coefficients and init assume one), but norm.kind is 'none'; "
                "use scheme 'no_norm', or another norm.kind"
            )
        if norm.kind == "none" and len(given) > 1:
            raise SchemeError(f"norm.kind is 'none', so norm.{max(given)} has no meaning; leave it unset")
        return replace(self, norm=norm)

    def plan(self, site: Site) -> tuple[At, ...]:
        return self.block(site.at("block"), self.norm)

    def connect_ends(self, width: int, *, rngs: nnx.Rngs) -> Any:
        """The module with `open(x0, context)` and `close(state, context)`."""
        return self.ends(self.norm).connect(width, rngs)

    @property
    def final_norm(self) -> bool:
        ends = self.ends(self.norm)
        return isinstance(ends, NormEnds) and ends.closing is not None and ends.closing.kind != "none"

    def labels(self, site: Site) -> tuple[str, ...]:
        """Names of the sites of this block, `decoder.0.attention` and so on, in the order of taps and statistics."""
        return tuple(f"{site.stack}.{site.block}.{at.label}" for top in self.plan(site) for at in top.walk())

    def check(self, sites: Iterable[Site]) -> None:
        """Raises SchemeError where the record cannot be right over these blocks of one stack, first to last."""
        check(self, tuple(sites))

    def digest(self, sites: Iterable[Site]) -> str:
        """SHA-256 of all that the record says about these blocks: part of a run's identity. Prose does not enter."""
        sites = tuple(sites)
        plans = {
            f"{site.stack}.{site.block}": {
                "plan": self.plan(site),
                "init": {role: {kind: self.init(site.at(kind), role) for kind in site.sublayers} for role in ROLES},
            }
            for site in sites
        }
        facts = {"ends": self.ends(self.norm), "law": self.law, "blocks": plans}
        if self.options is not no_options:
            facts["options"] = [{kind: self.options(site.at(kind)) for kind in site.sublayers} for site in sites]
        described = _describe(facts)
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _describe(value: Any) -> Any:
    """Records as plain JSON, each dataclass under its class's name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {item.name: _describe(getattr(value, item.name)) for item in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {key: _describe(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_describe(item) for item in value]
    return value


def check(scheme: Scheme, sites: tuple[Site, ...]) -> None:
    if scheme.evidence not in EVIDENCE:
        raise SchemeError(f"scheme '{scheme.name}': evidence '{scheme.evidence}' is none of {', '.join(EVIDENCE)}")
    if scheme.needs_norm and scheme.norm.kind == "none":
        raise SchemeError(f"scheme '{scheme.name}' needs a norm, but its norm kind is 'none'")
    ends = scheme.ends(scheme.norm)
    before = "the opening norm" if isinstance(ends, NormEnds) and _acts(ends.opening) else None
    for site in sites:
        plan = scheme.plan(site)
        covered = [name for at in plan for name in _sublayers(at)]
        if sorted(covered) != sorted(site.sublayers):
            where = f"{site.stack}.{site.block}"
            raise SchemeError(f"scheme '{scheme.name}' runs {covered} in {where}, which holds {list(site.sublayers)}")
        labels = scheme.labels(site)
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice:  # parameters and records go by it
            raise SchemeError(
                f"scheme '{scheme.name}' has two sites of the name {twice}; a block holds one chain at most"
            )
        for at in plan:
            where = f"{site.stack}.{site.block}.{at.label}"
            if not isinstance(at.rule, Rule):
                before = None
                continue
            here = at.rule.norms
            if before and "stream" in here:
                raise SchemeError(
                    f"scheme '{scheme.name}': two norms at one place, {before} and the stream norm of {where}"
                )
            before = f"the post norm of {where}" if "post" in here else None
            scaled = isinstance(at.rule.skip, float | int) and at.rule.skip not in (0.0, 1.0)
            if scaled and "post" in here and scheme.init is unscaled and not scheme.plain_init:
                raise SchemeError(
                    f"scheme '{scheme.name}': skip coefficient {at.rule.skip:.4g} at {where} without the init multipliers that "
                    "belong to it; set Scheme.init, or plain_init=True where the paper has none"
                )
    if before and isinstance(ends, NormEnds) and _acts(ends.closing):
        raise SchemeError(f"scheme '{scheme.name}': two norms at one place, {before} and the final norm")


def _acts(norm: NormSpec | None) -> bool:
    return norm is not None and norm.kind != "none"


def _sublayers(at: At) -> list[str]:
    return [name for inner in at.walk() for name in _names(inner)]


def _names(at: At) -> tuple[str, ...]:
    return (at.body,) if isinstance(at.body, str) else getattr(at.body, "names", ())


def sites(stack: str, depths: Depths, sublayers: tuple[str, ...] = ("attention", "feed_forward")) -> tuple[Site, ...]:
    """The blocks of one stack, first to last."""
    count = depths.encoder if stack == "encoder" else depths.decoder
    return tuple(Site(stack, block, "block", sublayers, depths) for block in range(count))
