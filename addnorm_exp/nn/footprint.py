"""Size and cost of a model of one stack. A lower bound on its size is estimated from a few of its blocks, so that a depth
of thousands costs no time."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from addnorm_exp.nn.functional import Functional
from addnorm_exp.nn.stack import Architecture, Block
from addnorm_exp.residual import Depths, Scheme, Site, init, sites

Specs = Mapping[str, init.Spec]


@dataclass(frozen=True)
class ExampleCost:
    """Of one training example: the tokens (positions) that the model computes, padding included, and floating-point operations of the
    training step for each (`Outline.cost`)."""

    tokens: int
    flops_per_token: float


@dataclass(frozen=True)
class Outline:
    """What a model is built of beside its scheme: one stack, the tables of an embedding, and a head that maps `read` vectors of a
    sequence to `outputs` logits each."""

    stack: str
    arch: Architecture
    vocab: int
    length: int
    outputs: int
    read: int
    tied: bool = False
    head_bias: bool = False

    @classmethod
    def of_decoder(cls, arch: Architecture, vocab: int, length: int, *, tied: bool) -> "Outline":
        """Of `nn.models.Decoder`, whose head reads every token."""
        return cls("decoder", arch, vocab, length, vocab, length, tied=tied)

    @classmethod
    def of_classifier(cls, arch: Architecture, vocab: int, length: int, classes: int) -> "Outline":
        """Of `nn.models.Classifier`, whose head reads the mean over tokens."""
        return cls("encoder", arch, vocab, length, classes, 1, head_bias=True)

    @property
    def sites(self) -> tuple[Site, ...]:
        return sites(self.stack, Depths(**{self.stack: self.arch.depth}))

    def cost(self, in_blocks: int) -> ExampleCost:
        """Operations of one training step: three times the forward pass's matrix products, the attention matrix counted whole although
        half of a causal one is masked (the usual convention, PaLM 2204.02311, appendix B).

        `in_blocks` is `matrix_entries` of the model: every weight matrix counts once a token, a scheme's own (the gates of GTrXL, φ of
        mHC) like the sublayers'. Those of dynamic hyper-connections, which meet each stream, count once too. What norms, sums of
        streams, the queries of attention residuals and pooling cost is not counted.
        """
        width = self.arch.width
        a_token = 2 * in_blocks + self.arch.depth * 4 * self.length * width
        at_the_head = 2 * width * self.outputs * self.read
        return ExampleCost(self.length, 3.0 * (a_token + at_the_head / self.length))

    @property
    def tables(self) -> Specs:
        """Parameters of the embedding and the head, without what a scheme adds, by their paths in the model."""
        arch, vocab, outputs = self.arch, self.vocab, self.outputs
        law = init.embedding(arch.law, arch.width)
        tables = {"embedding/tokens": init.Spec((vocab, arch.width), law, "embedding")}
        if not arch.rotary:
            tables["embedding/positions"] = init.Spec((self.length, arch.width), law, "embedding")
        if not self.tied:
            tables["head/kernel"] = init.Spec((arch.width, outputs), init.head(arch.law, arch.width, outputs), "matrix")
        if self.head_bias:
            tables["head/bias"] = init.Spec((outputs,), init.Init.constant(0.0), "bias")
        return tables


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

    def minimum(self, measure: Callable[[Specs], int]) -> int:
        """A measure of the parameters that adds up over blocks, where every block counts as the smallest of `blocks`."""
        return self.depth * min(map(measure, self.blocks)) + measure(self.tables)

    @property
    def parameters(self) -> int:
        return self.minimum(lambda specs: sum(spec.size for spec in specs.values()))

    @property
    def tensors(self) -> int:
        return self.depth * min(map(len, self.blocks))


def footprint(scheme: Scheme, outline: Outline, *, itemsize: int) -> Footprint:
    """`itemsize`: bytes of a number in the dtype of computation."""
    arch, length, places = outline.arch, outline.length, outline.sites
    chosen = sorted({0, min(1, arch.depth - 1), arch.depth // 2, arch.depth - 1})
    blocks = tuple(_specs(scheme, places[index], arch) for index in chosen)
    matrices = min(matrix_entries(specs.values()) for specs in blocks)
    weights = arch.num_heads * length**2 if arch.attention == "einsum" else 0
    in_blocks = arch.depth * (length * (5 * arch.width + arch.hidden) + weights)
    return Footprint(
        depth=arch.depth,
        blocks=blocks,
        tables=outline.tables,
        activations=2 * 4 * outline.read * outline.outputs + in_blocks * itemsize,
        cost=outline.cost(arch.depth * matrices),
    )


def matrix_entries(specs: Iterable[init.Spec]) -> int:
    """Numbers in the weight matrices of blocks among these parameters."""
    return sum(spec.size for spec in specs if spec.in_block and len(spec.shape) == 2)


def _specs(scheme: Scheme, site: Site, arch: Architecture) -> Specs:
    """By the paths that the parameters have in the model, with the index of the block."""
    block = Functional(lambda rngs: Block(scheme.of(site.stack), site, arch, causal=site.stack == "decoder", rngs=rngs))
    return {f"{site.stack}/blocks/{site.block}/{path}": spec for path, spec in block.specs.items()}
