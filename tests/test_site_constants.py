"""What differs from site to site, under every scheme: each such constant against its formula, written once more from the paper.

A scheme without a formula here must say the same at every site. So a constant that begins to depend on depth, block, stack or kind
of sublayer fails until its formula is entered in FORMULAS.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from fnmatch import fnmatchcase
from typing import Any

import pytest
from sample import third

from addnorm_exp.residual import Depths, NormSpec, Site, catalogue, sites
from addnorm_exp.residual.digest import ModuleRecord
from addnorm_exp.residual.init import GROUPS

ROLES = {"attention": ("query", "key", "value", "out"), "feed_forward": ("gate", "up", "down")}
ROLES["cross_attention"] = ROLES["attention"]

# Encoder and decoder depths: every depth of a decoder alone, some of an encoder, and pairs of unequal depth.
MODELS = [(0, depth) for depth in (*range(1, 17), 19, 24, 25)] + [(depth, 0) for depth in (1, 5, 16)]
MODELS += [(2, 5), (6, 3), (1, 9), (12, 4)]


@dataclass(frozen=True)
class Place:
    """A block as the papers count it: `l` from 1 among the `L` of its stack, in a model of N encoder and M decoder blocks."""

    stack: str
    l: int
    L: int
    N: int
    M: int
    kinds: tuple[str, ...]

    @property
    def pair(self) -> bool:
        return self.N > 0 and self.M > 0

    @property
    def sublayers(self) -> int:
        return self.L * len(self.kinds)

    def earlier(self, kind: str) -> int:
        """Sublayers of the stack before this one."""
        return (self.l - 1) * len(self.kinds) + self.kinds.index(kind)


def outputs(p: Place) -> dict[str, Any]:
    """W_o and W_2 over the root of the stack's sublayers (GPT-2, Megatron-LM)."""
    return {"*.init.out": p.sublayers**-0.5, "*.init.down": p.sublayers**-0.5}


def branch(value: float) -> dict[str, Any]:
    return {f"*.init.{role}": value for role in ("value", "out", "up", "down")}


def deepnorm(p: Place) -> dict[str, Any]:
    """2203.00555, figure 2."""
    if not p.pair:
        alpha, beta = (2 * p.L) ** (1 / 4), (8 * p.L) ** (-1 / 4)
    elif p.stack == "encoder":
        alpha, beta = 0.81 * (p.N**4 * p.M) ** (1 / 16), 0.87 * (p.N**4 * p.M) ** (-1 / 16)
    else:
        alpha, beta = (3 * p.M) ** (1 / 4), (12 * p.M) ** (-1 / 4)
    return {"*.rule.skip": alpha, **branch(beta)}


def sub_ln(p: Place) -> dict[str, Any]:
    """2210.06423, figure 2; cross-attention is left as it is in the released code."""
    square = math.log(2 * p.L)
    if p.pair:
        square = math.log(3 * p.M) * (math.log(2 * p.N) / 3 if p.stack == "encoder" else 1)
    return {"cross_attention.init.*": 1.0, **branch(math.sqrt(square))}


def keel(p: Place) -> dict[str, Any]:
    if p.l == 1:
        return {"*.rule.skip": 1.0, "*.rule.post": None}
    return {"*.rule.skip": p.sublayers, "*.rule.post": NormSpec}


def mix_ln(p: Place) -> dict[str, Any]:
    """2412.13795, equation 7: Post-LN in the first ⌊L/4⌋ blocks."""
    post = p.l <= p.L // 4
    return {"*.rule.post": NormSpec if post else None, "*.rule.pre": None if post else NormSpec}


def hybrid_star(p: Place) -> dict[str, Any]:
    if p.l == 1:
        places = {"*.rule.pre": NormSpec, "*.rule.stream": None}
    else:
        places = {"*.rule.pre": None, "feed_forward.rule.stream": NormSpec, "*.rule.stream": None}
    return outputs(p) | places


def fixup(p: Place) -> dict[str, Any]:
    """1901.09321, section 3, and its Transformer's code: S residual branches in the whole model, 2 in a block, 3 with cross-attention."""
    branches = 2 * p.N + (3 if p.pair else 2) * p.M
    return {f"*.init.{role}": branches ** (-1 / 6) for role in ("query", "key", "value")} | {
        "*.init.up": branches**-0.5
    }


def t_fixup(p: Place) -> dict[str, Any]:
    factor = (9 * p.M) ** (-1 / 4) if p.pair and p.stack == "decoder" else 0.67 * p.L ** (-1 / 4)
    return {"ends.init.embedding": (9 * p.L) ** (-1 / 4), **branch(factor)}


def layerscale(p: Place) -> dict[str, Any]:
    """2103.17239: ε is 0.1 up to depth 18, 1e-5 for depth 24, and 1e-6 beyond."""
    return {"*.rule.scale.init": 0.1 if p.L <= 18 else 1e-5 if p.L <= 24 else 1e-6}


def over_depth(exponent: float) -> Callable[[Place], dict[str, Any]]:
    """2505.01618: the branch times (L/2)^-a, hidden layers' rate times (L/2)^(a-1) and Adam's ε times (L/2)^-a."""

    def formula(p: Place) -> dict[str, Any]:
        m = p.L / 2
        rates = {f"{kind}.factors.*.lr": m ** (exponent - 1) for kind in (*p.kinds, "block")}
        return {"*.rule.scale": m**-exponent, "*.factors.*.eps": m**-exponent, **rates}

    return formula


def parts_of_eight(p: Place) -> dict[str, Any]:
    """2603.15031: the stack's sublayers in 8 parts, part k from number ⌈k S / 8⌉ on."""
    starts = {math.ceil(k * p.sublayers / 8) for k in range(8)}
    return {f"{kind}.rule.fresh": p.earlier(kind) in starts for kind in p.kinds} | first_sublayer(p)


def first_sublayer(p: Place) -> dict[str, Any]:
    return {f"{kind}.rule.first": p.earlier(kind) == 0 for kind in p.kinds}


def all_matrices(value: float) -> dict[str, Any]:
    roles = {role for kind in ROLES.values() for role in kind}
    return {f"*.init.{role}": value for role in roles}


FORMULAS: dict[str, Callable[[Place], dict[str, Any]]] = {
    **dict.fromkeys(("sandwich_ln", "gpt2", "derf", "hybrid_norm"), outputs),
    "hybrid_norm_star": hybrid_star,
    "deepnorm": deepnorm,
    "sub_ln": sub_ln,
    "lns": lambda p: {"*.rule.pre_scale": 1 / math.sqrt(p.l)},
    "keel": keel,
    "ds_init": lambda p: all_matrices(1 / math.sqrt(p.l)),
    "b2t": lambda p: all_matrices(1 / math.sqrt(p.L)),
    "mix_ln": mix_ln,
    "span_norm": lambda p: {
        "attention.rule.pre": NormSpec if p.l == 1 else None,
    },
    "fixup": fixup,
    "t_fixup": t_fixup,
    "layerscale": layerscale,
    "depth_mup": over_depth(0.5),
    "completep": over_depth(1.0),
    "simplified": lambda p: {"attention.options.value_map": "residual" if p.l == 1 else "dropped"},
    "value_residual": lambda p: {"attention.options.value_mix": "keep" if p.l == 1 else (0.5, 0.5)},
    "siamese": lambda p: {"*.rule.scale": 1 / math.sqrt(2 * p.l)},
    "altup": lambda p: {"*.rule.active": (p.l - 1) % 2},
    **dict.fromkeys(
        ("hyper", "hyper_static"), lambda p: {f"{kind}.rule.active": p.earlier(kind) % 4 for kind in p.kinds}
    ),
    "mhc": lambda p: {f"{kind}.rule.home": p.earlier(kind) % 4 for kind in p.kinds},
    "denseformer": lambda p: {"*.rule.block": p.l - 1},
    "attn_res": first_sublayer,
    "attn_res_block": parts_of_eight,
}


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Path and value of all that a record says; a norm counts as one value."""
    if is_dataclass(value) and not isinstance(value, NormSpec):
        yield f"{path}.type", type(value).__name__
        for field in fields(value):
            yield from leaves(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, ModuleRecord):
        yield f"{path}.type", value.module.__name__
        yield from leaves(value.fields, path)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, f"{path}.{name}")
    else:
        yield path, value


def facts(scheme, site: Site) -> dict[str, Any]:
    """All that a scheme says of one block and its sublayers, by path."""
    said: dict[str, Any] = {}
    for top in scheme.plan(site):
        for at in top.walk():
            said |= leaves(at.rule, f"{at.label}.rule")
            said |= leaves(at.fade, f"{at.label}.fade")
            said[f"{at.label}.body"] = at.body if isinstance(at.body, str) else type(at.body).__name__
    for kind in site.sublayers:
        at = site.at(kind)
        said |= {f"{kind}.init.{role}": scheme.init(at, role) for role in ROLES[kind]}
        said |= leaves(dict(scheme.sublayer_options(at)), f"{kind}.options")
    for place in (*site.sublayers, "block"):
        for group in GROUPS:
            said |= leaves(scheme.factors(site.at(place), group), f"{place}.factors.{group}")
    ends = site.at("ends")
    return said | {f"ends.init.{role}": scheme.init(ends, role) for role in ("embedding", "head")}


def places() -> Iterator[tuple[Place, Site]]:
    for encoder, decoder in MODELS:
        for stack, depth in (("encoder", encoder), ("decoder", decoder)):
            cross = ("cross_attention",) if encoder and stack == "decoder" else ()
            kinds = ("attention", *cross, "feed_forward")
            for site in sites(stack, Depths(encoder=encoder, decoder=decoder), kinds):
                yield Place(stack, site.block + 1, depth, encoder, decoder, kinds), site


PLACES = list(places())


def agrees(value: Any, expected: Any) -> bool:
    if expected is NormSpec:
        return isinstance(value, NormSpec)
    number = isinstance(expected, int | float) and not isinstance(expected, bool)
    return value == (pytest.approx(expected, rel=1e-12) if number else expected)


@functools.cache
def covering(path: str, patterns: tuple[str, ...]) -> str | None:
    """The first pattern that a path matches."""
    return next((pattern for pattern in patterns if fnmatchcase(path, pattern)), None)


@pytest.mark.parametrize("name", third("constants"))
def test_each_constant_of_a_site_is_its_formula_and_all_else_is_the_same_everywhere(name):
    scheme, formula = catalogue.get(name), FORMULAS.get(name, lambda place: {})
    first: dict[str, Any] = {}  # by path, what the first site said of that which has no formula
    met: set[str] = set()
    for place, site in PLACES:
        expected = formula(place)
        for path, value in facts(scheme, site).items():
            pattern = covering(path, tuple(expected))
            if pattern is None:
                same = first.setdefault(path, value)
                assert value == same, f"{path} depends on the site; enter its formula in FORMULAS ({place})"
            else:
                met.add(pattern)
                assert agrees(value, expected[pattern]), (path, place, value, expected[pattern])
    assert met or name not in FORMULAS
