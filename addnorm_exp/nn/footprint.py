"""The least that a decoder takes up, told from a few of its blocks, so that a depth of thousands costs no time."""

from dataclasses import dataclass

from addnorm_exp.nn.functional import Functional
from addnorm_exp.nn.models import flops_per_token, matrix_entries
from addnorm_exp.nn.stack import Architecture, Block
from addnorm_exp.residual import Depths, Scheme, Site, sites


@dataclass(frozen=True)
class Footprint:
    """Lower bounds; what the ends and a scheme's own streams add is not counted.

    `activations`: bytes a sequence of what the backward pass has in memory as it begins: the logits and the loss's gradient with respect
    to them, both in float32; in each block what matrix products have read (a sublayer's input, queries, keys, values, attention's
    output, hidden units) and attention weights.
    `flops_per_token`: of the training step, by the convention of nn/models.py.
    """

    parameters: int
    tensors: int
    activations: int
    flops_per_token: float


def footprint(scheme: Scheme, arch: Architecture, vocab: int, length: int, *, tied: bool, itemsize: int) -> Footprint:
    """Every block counts as the smallest of the first two, the middle and the last one, which schemes treat apart. `itemsize`: bytes
    of a number in the dtype of computation."""
    places = sites("decoder", Depths(decoder=arch.depth))
    chosen = sorted({0, min(1, arch.depth - 1), arch.depth // 2, arch.depth - 1})
    tables = [_specs(scheme, places[index], arch) for index in chosen]
    parameters = min(sum(spec.size for spec in specs.values()) for specs in tables)
    matrices = min(matrix_entries(specs.values()) for specs in tables)
    rows = vocab * (1 if tied else 2) + (0 if arch.rotary else length)
    attention = arch.num_heads * length**2 if arch.attention == "einsum" else 0
    return Footprint(
        parameters=arch.depth * parameters + rows * arch.width,
        tensors=arch.depth * min(map(len, tables)),
        activations=2 * 4 * length * vocab
        + arch.depth * (length * (5 * arch.width + arch.hidden) + attention) * itemsize,
        flops_per_token=flops_per_token(arch.depth * matrices, arch, length, vocab),
    )


def _specs(scheme: Scheme, site: Site, arch: Architecture):
    return Functional(lambda rngs: Block(scheme, site, arch, causal=True, rngs=rngs)).specs
