"""The positions of sublayers and matrices in the depth of a model: their names, their places in blocks, the ticks of such an axis."""

import itertools
from collections.abc import Callable, Sequence

from addnorm_exp.grouping import grouped
from addnorm_exp.runs.columns import within

Ticks = tuple[list[float], list[str]]  # places and labels
SHORT = {"attention": "attn", "self_attention": "attn", "cross_attention": "cross", "feed_forward": "ff"}


def last_matrices(tensors: Sequence[str]) -> tuple[list[int], list[str]]:
    """For each block, the index of `feed_forward/down/kernel`, or of its last matrix if that does not exist; and the block names."""
    placed = [(index, place) for index, name in enumerate(tensors) if (place := within(name))]
    blocks = grouped(placed, lambda pair: (pair[1].stack, pair[1].block))
    stacks = {stack for stack, _ in blocks}
    indices, names = [], []
    for (stack, block), members in sorted(blocks.items()):
        matrices = [m for m in members if m[1].rest.endswith("kernel")] or members
        down = [m for m in matrices if m[1].rest.endswith("feed_forward/down/kernel")]
        indices.append((down or matrices)[-1][0])
        names.append(f"{stack[:3]} {block}" if len(stacks) > 1 else str(block))
    return indices, names


def site_names(sites: Sequence[str], short: Callable[[str], str] = lambda name: SHORT.get(name, name)) -> list[str]:
    """decoder.0.attention -> 0 attn; with the stack's first letters if there are several stacks. `short`: of the name within a block."""
    places = [within(site) for site in sites]
    several = len({place.stack for place in places if place}) > 1
    return [
        f"{place.stack[:3] + ' ' if several else ''}{place.block} {short(place.rest)}" if place else site
        for site, place in zip(sites, places, strict=True)
    ]


def blocks(names: Sequence[str]) -> list[str]:
    """The part of each site's name that names its block: 0 attn -> 0."""
    return [name.rpartition(" ")[0] or name for name in names]


def places(names: Sequence[str]) -> list[float]:
    """The position of each site in blocks: the second of two sites is half a block after the first, whatever other rows' blocks contain."""
    positions: list[float] = []
    for number, (_, members) in enumerate(itertools.groupby(blocks(names))):
        count = len(list(members))
        positions += [number + index / count for index in range(count)]
    return positions


def block_ticks(at: Sequence[float], names: Sequence[str], most: int = 12) -> Ticks:
    """Ticks at the beginning of each block, with its number, for sites `at` these positions."""
    starts = [(place, block) for place, block in zip(at, blocks(names), strict=True) if place == int(place)]
    stride = max(1, -(-len(starts) // most))
    return [place for place, _ in starts[::stride]], [block for _, block in starts[::stride]]


def sparse(ticks: Ticks, most: int = 13) -> Ticks:
    """At most `most` of the ticks, evenly spaced."""
    stride = max(1, -(-len(ticks[0]) // most))
    if stride > 1:
        stride += stride % 2  # land on the same sublayer of each block
    return ticks[0][::stride], ticks[1][::stride]
