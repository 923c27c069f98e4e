"""The least that a decoder takes up, told from a few of its blocks, so that a depth of thousands costs no time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from addnorm_exp.nn.functional import Functional
from addnorm_exp.nn.models import flops_per_token, matrix_entries
from addnorm_exp.nn.stack import Architecture, Block
from addnorm_exp.residual import Depths, Scheme, Site, init, sites

Specs = Mapping[str, init.Spec]


@dataclass(frozen=True)
class ExampleCost:
    """Of one training example: the tokens (positions) that the model computes, padding included, and floating-point operations of the
    training step for each, by the convention of nn/models.py."""

    tokens: int
    flops_per_token: float


@dataclass(frozen=True)
class Footprint:
    """Lower bounds; what the ends and a scheme's own streams add is not counted.

    `blocks`: parameters of the first two blocks, the middle and the last one, which schemes treat apart; `tables`: those of embeddings and
    head.
    `activations`: bytes a sequence of what the backward pass has in memory as it begins: the logits and the loss's gradient with respect
    to them, both in float32; in each block what matrix products have read (a sublayer's input, queries, keys, values, attention's
    output, hidden units) and attention weights.
    """

    depth: int
    blocks: tuple[Specs, ...]
    tables: Specs
    activations: int
    cost: ExampleCost

    def least(self, measure: Callable[[Specs], int]) -> int:
        """A measure of the parameters that adds up over blocks, where every block counts as the smallest of `blocks`."""
        return self.depth * min(map(measure, self.blocks)) + measure(self.tables)

    @property
    def parameters(self) -> int:
        return self.least(lambda specs: sum(spec.size for spec in specs.values()))

    @property
    def tensors(self) -> int:
        return self.depth * min(map(len, self.blocks))


def footprint(scheme: Scheme, arch: Architecture, vocab: int, length: int, *, tied: bool, itemsize: int) -> Footprint:
    """`itemsize`: bytes of a number in the dtype of computation."""
    places = sites("decoder", Depths(decoder=arch.depth))
    chosen = sorted({0, min(1, arch.depth - 1), arch.depth // 2, arch.depth - 1})
    blocks = tuple(_specs(scheme, places[index], arch) for index in chosen)
    matrices = min(matrix_entries(specs.values()) for specs in blocks)
    attention = arch.num_heads * length**2 if arch.attention == "einsum" else 0
    return Footprint(
        depth=arch.depth,
        blocks=blocks,
        tables=_tables(arch, vocab, length, tied),
        activations=2 * 4 * length * vocab
        + arch.depth * (length * (5 * arch.width + arch.hidden) + attention) * itemsize,
        cost=ExampleCost(length, flops_per_token(arch.depth * matrices, arch, length, vocab)),
    )


def _specs(scheme: Scheme, site: Site, arch: Architecture) -> Specs:
    """By the paths that the parameters have in the model, with the index of the block."""
    block = Functional(lambda rngs: Block(scheme, site, arch, causal=True, rngs=rngs))
    return {f"{site.stack}/blocks/{site.block}/{path}": spec for path, spec in block.specs.items()}


def _tables(arch: Architecture, vocab: int, length: int, tied: bool) -> Specs:
    width, law = arch.width, init.embedding(arch.law, arch.width)
    tables = {"embedding/tokens": init.Spec((vocab, width), law, "embedding")}
    if not arch.rotary:
        tables["embedding/positions"] = init.Spec((length, width), law, "embedding")
    if not tied:
        tables["head/kernel"] = init.Spec((width, vocab), init.head(arch.law, width, vocab), "matrix")
    return tables
