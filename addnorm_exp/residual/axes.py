"""The axes of a config that go with any scheme: a scheme in, the scheme under these axes out. What is `None` stays as published."""

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from addnorm_exp.residual.checks import SchemeError
from addnorm_exp.residual.contract import ATTENDING, Depths, Site
from addnorm_exp.residual.norms import PUBLISHED, NormSpec
from addnorm_exp.residual.scheme import Scheme, unscaled
from addnorm_exp.residual.vocabulary import METHOD

OFF = ("none", 0.0)


def holds(where: str | None, site: Site) -> bool:
    """Whether a predicate over blocks holds at a site; `None` holds everywhere.

    `first:N`, `last:N` (N blocks, or that share of the stack where N < 1, rounded down), `every:N` (blocks N, 2N, …), or numbers and
    ranges, `1,4-6`. Blocks count from 1. Raises SchemeError where it cannot be read.
    """
    if where is None:
        return True
    number, word, rest = site.block + 1, *where.partition(":")[::2]
    try:
        if rest and word in ("first", "last"):
            count = math.floor(Fraction(rest) * site.depth) if 0 < float(rest) < 1 else int(rest)
            if count < 0:
                raise ValueError
            return number <= count if word == "first" else number > site.depth - count
        if rest and word == "every" and int(rest) > 0:
            return number % int(rest) == 0
        ends = [
            (int(first), int(last or first)) for first, _, last in (part.partition("-") for part in where.split(","))
        ]
    except ValueError:
        ends = []
    if not ends or rest or any(not 1 <= first <= last for first, last in ends):
        raise SchemeError(
            f"'{where}' is no choice of blocks; write first:N, last:N, every:N, or numbers from 1 as in 1,4-6"
        )
    return any(first <= number <= last for first, last in ends)


def with_norm(scheme: Scheme, blocks: str | None, **given: Any) -> Scheme:
    """The scheme under the axes of the norm; where `blocks` are named, in these alone, and the ends keep the published one."""
    changed = scheme.with_norm(**given)
    holds(blocks, Site(depths=Depths(decoder=1)))  # that it can be read
    if blocks is None:
        return changed
    if changed is scheme:
        raise SchemeError(
            "norm.blocks says where the other keys of norm hold, and none of them is set; set norm.kind, or leave it away"
        )

    def norm_at(site: Site, norm: NormSpec) -> NormSpec:
        return changed.norm if holds(blocks, site) else norm

    return replace(
        scheme,
        block=lambda site, norm: scheme.block(site, norm_at(site, norm)),
        options=lambda site, norm: scheme.options(site, norm_at(site, norm)),
    )


def with_attention(scheme: Scheme, blocks: str | None, **given: Any) -> Scheme:
    """The scheme with options of all its attention sublayers set by hand, or of those in `blocks`."""
    given = {key: value for key, value in given.items() if value is not None}
    holds(blocks, Site(depths=Depths(decoder=1)))  # that it can be read
    if not given:
        if blocks is not None:
            raise SchemeError(
                "attention.blocks says where the other keys of attention hold, and none of them is set; leave it away"
            )
        return scheme

    def options(site: Site, norm: NormSpec) -> Mapping[str, Any]:
        asked = dict(scheme.options(site, norm))
        if site.kind in ATTENDING and holds(blocks, site):
            asked |= given
        return {key: value for key, value in asked.items() if not (key in given and value in OFF)}

    return replace(scheme, options=options)


def with_around(scheme: Scheme, **given: Any) -> Scheme:
    """The scheme with what is around its blocks set by hand; a norm goes by the name of its kind."""
    given = {key: value for key, value in given.items() if value is not None}
    own = scheme.around.embedding_norm or scheme.around.positions_norm
    if own is not None and "embedding_norm" in given:
        raise SchemeError(
            f"scheme '{scheme.name}' has the norm '{own.kind}' on its embedding; leave embedding.norm unset"
        )
    if "embedding_norm" in given:
        given["embedding_norm"] = None if given["embedding_norm"] == "none" else PUBLISHED[given["embedding_norm"]]
    return replace(scheme, around=replace(scheme.around, **given)) if given else scheme


def with_the_law_alone(scheme: Scheme) -> Scheme:
    """The scheme without its init multipliers. Raises SchemeError where they are its method."""
    if scheme.multipliers == METHOD:
        raise SchemeError(
            f"init.multipliers='none': the init multipliers of scheme '{scheme.name}' are part of its method; leave it unset"
        )
    return replace(scheme, init=unscaled, multipliers=None)
