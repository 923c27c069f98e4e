"""What goes on inside a model of one stack: the stream and what each sublayer reads and returns, by the name of the place."""

from collections.abc import Iterator
from typing import Any

import jax

from addnorm_exp.nn.models import Model
from addnorm_exp.nn.stack import Block
from addnorm_exp.residual import Body, Context, Memo, State

Activations = dict[str, jax.Array]


def places(model: Model) -> tuple[str, ...]:
    """The names, in the order of computation:

    embedding                     the stream before the first block
    decoder.0.attention.input     what the sublayer reads, after any norm before it; so for each sublayer of each block
    decoder.0.attention.output    what the sublayer returns, before any norm behind it
    decoder.0                     the stream after the block, if the scheme has one stream
    closed                        what the head reads, after any final norm

    `decoder` is the name of the stack; a classifier's is `encoder`.
    """
    names = ["embedding"]
    ((name, stack),) = model.stacks.items()
    for number, block in enumerate(stack.blocks):
        for kind in block.kinds:
            names += [f"{name}.{number}.{kind}.input", f"{name}.{number}.{kind}.output"]
        names.append(f"{name}.{number}")
    return (*names, "closed")


def activations(model: Model, tokens: jax.Array, context: Context, dtype: Any) -> Activations:
    """Name → (tokens, width), of tokens int (batch, length) in one row after another; without `decoder.N` where the state is no single
    stream. The blocks are run one by one, also where training scans them."""
    x = model.embedding(tokens, context, dtype)
    values: Activations = {"embedding": x}
    ((name, stack),) = model.stacks.items()
    state: State = stack.ends.open(x)
    memo: Memo = {}
    for number, block in enumerate(stack.blocks):
        place = f"{name}.{number}"
        inside = context.into(number, len(stack.blocks))
        state, memo, _ = block(state, memo, inside, None, dict(_observed(block, place, values)))
        if isinstance(state, jax.Array):
            values[place] = state
    values["closed"] = stack.ends.close(state)
    return values


def _observed(block: Block, place: str, values: Activations) -> Iterator[tuple[str, Body]]:
    """The block's sublayers, which note what they read and return."""
    for kind, body in block.bodies.items():

        def observed(h: jax.Array, memo: Memo, context: Context, body: Body = body, kind: str = kind) -> Any:
            values[f"{place}.{kind}.input"] = h
            out, memo, stats = body(h, memo, context)
            values[f"{place}.{kind}.output"] = out
            return out, memo, stats

        yield kind, observed
