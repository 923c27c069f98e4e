"""What a scheme brings beside its method, resolved: initial values, embedding, optimiser, stochastic depth, and the constants of its norm.

Two schemes that differ in these differ in more than how the stream is read and written. Nothing here builds a model or draws a value.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from addnorm_exp.residual.contract import Site
from addnorm_exp.residual.factors import in_words
from addnorm_exp.residual.init import GROUPS, HYPERS, Init, Spec, embedding, head
from addnorm_exp.residual.scheme import Scheme, by_stack, unscaled
from addnorm_exp.residual.vocabulary import METHOD

# One number where all blocks have it, else one a block.
Deviations = Mapping[str, float | tuple[float, ...]]
Stacks = Mapping[str, tuple[Site, ...]]  # of a model, by name

IN_BLOCKS = tuple(group for group in GROUPS if group != "embedding")
PROJECTED = "set by the method (projected)"


@dataclass(frozen=True)
class Weights:
    """What a recipe depends on besides the scheme: sizes, the law of the weights and its hypers, and the kind of positions."""

    law: str
    width: int
    hidden: int
    outputs: int
    gated: bool = False
    tied: bool = False
    rotary: bool = False
    depth_scaled: bool = False
    hypers: Mapping[str, float] = field(default_factory=lambda: HYPERS)


@dataclass(frozen=True)
class Recipe:
    """`init` and `deviations` are of step 0; `law` and `law_deviations` the same without multipliers that are the scheme's method. Both are
    empty where the method projects the weights, so that their law says nothing. Deviations have six figures.

    `embedding_scale` multiplies the embedding before the first block; `embedding_scale_by_law` where neither scheme nor config sets it.
    `eps`, `eps_place`, `affine` and `gain` are None where the norm has no such axis. Where the stacks of a model differ in the norm or
    the final norm, the field says in words what each has: `encoder layer, decoder rms`.
    """

    init: str
    law: str
    deviations: Deviations
    law_deviations: Deviations
    embedding_norm: str
    embedding_scale: str
    embedding_scale_by_law: bool
    factors: str
    drop_path: float
    norm: str
    eps: float | str | None
    eps_place: str | None
    affine: str | None
    gain: str | None
    final_norm: bool | str


def recipe(scheme: Scheme, sites: Iterable[Site], weights: Weights) -> Recipe:
    """The recipe of a scheme over the blocks of a model, first to last."""
    stacks = by_stack(sites)
    alone = _unscaled(scheme, lambda each: each.multipliers == METHOD)
    of_stacks = {stack: scheme.of(stack) for stack in stacks}
    norms = {stack: each.norm for stack, each in of_stacks.items()}
    around = scheme.around
    on_embedding = around.norm_of_embedding(weights.rotary)
    learned = ", learned" if around.embedding_scale == "learned" else ""
    return Recipe(
        init=_words(scheme, stacks, weights),
        law=_words(alone, stacks, weights),
        deviations=_rounded(_deviations(scheme, stacks, weights)),
        law_deviations=_rounded(_deviations(alone, stacks, weights)),
        embedding_norm="none" if on_embedding is None else on_embedding.kind,
        embedding_scale=f"{around.embedding_factor(weights.law, weights.width):.6g}{learned}",
        embedding_scale_by_law=around.embedding_scale is None,
        factors=_joined(
            {stack: in_words(_factors(scheme.of(stack), scheme, own)) or "none" for stack, own in stacks.items()}
        ),
        drop_path=around.drop_path,
        norm=_joined({stack: norm.kind for stack, norm in norms.items()}),
        final_norm=_joined({stack: each.final_norm for stack, each in of_stacks.items()}),
        **{
            axis: _joined({stack: getattr(norm, axis) if axis in norm.axes else None for stack, norm in norms.items()})
            for axis in ("eps", "eps_place", "affine", "gain")
        },
    )


def _joined(values: Mapping[str, Any]) -> Any:
    """What all stacks have in common, or in words what each has."""
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    words = {None: "none"} | ({True: "yes", False: "no"} if isinstance(next(iter(values.values())), bool) else {})
    return ", ".join(f"{stack} {words.get(value, value)}" for stack, value in values.items())


def _unscaled(scheme: Scheme, where: Callable[[Scheme], bool]) -> Scheme:
    """The scheme, and those of its stacks, without init multipliers where the condition holds."""
    stacks = tuple((stack, _unscaled(each, where)) for stack, each in scheme.stacks)
    return replace(scheme, init=unscaled if where(scheme) else scheme.init, stacks=stacks)


def _rounded(deviations: Mapping[str, tuple[float, ...]]) -> dict[str, float | tuple[float, ...]]:
    """One number where all blocks have it."""
    rounded = {role: tuple(float(f"{value:.6g}") for value in values) for role, values in deviations.items()}
    return {role: values[0] if len(set(values)) == 1 else values for role, values in rounded.items()}


def _deviations(scheme: Scheme, stacks: Stacks, weights: Weights) -> dict[str, tuple[float, ...]]:
    """The standard deviation of each kind of weight matrix that the method does not project, block by block; one of those at the ends.
    Of several stacks each kind has the stack's name."""
    width, hidden, law = weights.width, weights.hidden, weights.law
    square, wide, narrow = (width, width), (width, hidden), (hidden, width)
    gate = {"gate": wide} if weights.gated else {}
    shapes = {
        "attention": dict.fromkeys(("query", "key", "value", "out"), square),
        "feed_forward": {**gate, "up": wide, "down": narrow},
    }
    shapes["cross_attention"] = shapes["attention"]

    def of(init: Init, shape: tuple[int, int]) -> float:
        return init.deviation(shape[0], weights.hypers)

    deviations: dict[str, tuple[float, ...]] = {}
    if scheme.project is None:
        ends = next(iter(stacks.values()))[0].at("ends")
        table = of(embedding(law, width).under(scheme.init(ends, "embedding")), (weights.outputs, width))
        deviations["embedding"] = (table,)
        if not weights.tied:
            law_of_head = head(law, width, weights.outputs).under(scheme.init(ends, "head"))
            deviations["head"] = (of(law_of_head, (width, weights.outputs)),)
    for stack, sites in stacks.items():
        each = scheme.of(stack)
        for kind in sites[0].sublayers if each.project is None else ():
            for role, shape in shapes[kind].items():
                words = (stack * (len(stacks) > 1), "cross-attention" * (kind == "cross_attention"), role)
                deviations[" ".join(filter(None, words))] = tuple(
                    of(each.matrix_law(site.at(kind), role, law, *shape, weights.depth_scaled), shape) for site in sites
                )
    return deviations


def _words(scheme: Scheme, stacks: Stacks, weights: Weights) -> str:
    """The law, and what multiplies it: `normal, out and down × 0.3536`."""
    deviations = _deviations(scheme, stacks, weights)
    if not deviations:
        return PROJECTED
    plain = _deviations(_unscaled(scheme, lambda each: True), stacks, replace(weights, depth_scaled=False))
    roles: dict[str, list[str]] = {}
    for role, by_block in deviations.items():
        if by_block != plain[role]:
            first, last = (f"{by_block[end] / plain[role][end]:.4g}" for end in (0, -1))
            factor = first if len(set(by_block)) == 1 else f"{first} … {last}"
            roles.setdefault(factor, []).append(role)
    gain = weights.hypers["gain"]
    parts = [weights.law, *([f"gain {gain:g}"] if gain != 1.0 else [])]
    for factor, names in roles.items():
        *rest, last_name = names
        parts.append(f"{', '.join(rest)} and {last_name} × {factor}" if rest else f"{last_name} × {factor}")
    projected = [stack for stack in stacks if scheme.of(stack).project is not None]
    return ", ".join([*parts, *(f"{stack} {PROJECTED}" for stack in projected)])


def _factors(scheme: Scheme, model: Scheme, sites: tuple[Site, ...]) -> list[Spec]:
    """A tensor of each group at each place, for `in_words`: in the blocks of a stack under its scheme, at the ends under the model's."""

    def tensor(scheme: Scheme, site: Site, part: str, group: str) -> Spec:
        return Spec((), Init.constant(0.0), group, scheme.factors(site, group), site, part)

    blocks = [
        tensor(scheme, site.at(kind), "connection" if kind == "block" else "sublayer", group)
        for site in sites
        for kind in (*site.sublayers, "block")
        for group in IN_BLOCKS
    ]
    return blocks + [tensor(model, sites[0].at("ends"), "ends", group) for group in ("embedding", *IN_BLOCKS)]
