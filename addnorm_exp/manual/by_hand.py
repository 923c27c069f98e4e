"""docs/pre-ln.md, generated from the plan of pre_ln: `uv run python -m addnorm_exp.manual.by_hand > docs/pre-ln.md`."""

import math

from addnorm_exp.config import Config
from addnorm_exp.residual import At, Chain, Depths, Learned, Rule, Scheme, Sum, catalogue, sites

HEAD = """\
# Pre-LN in 40 lines

The forward pass of a whole decoder in one place, without options, dropout and diagnostics. The
lines of the block are generated from the plan of `pre_ln`, and a test runs this code against the
model that is trained:

    uv run python -m addnorm_exp.manual.by_hand > docs/pre-ln.md

`p` holds the parameters as a tree: a path such as `decoder/blocks/0/attention/query/kernel` is
`p["decoder"]["blocks"]["0"]["attention"]["query"]["kernel"]`. Every weight matrix is (in, out).

```python
"""
TAIL = """\
```

| lines | file |
|---|---|
| `norm` | `addnorm_exp/residual/norms.py` |
| `attention`, `feed_forward` | `addnorm_exp/nn/attention.py`, `addnorm_exp/nn/feed_forward.py` |
| the plan of the block | `addnorm_exp/residual/catalogue/placement.py` |
| `read`, `enter`, `leave`, `write` of each sublayer | `addnorm_exp/residual/rule.py` |
| their order, dropout, diagnostics | `addnorm_exp/residual/plan.py` |
| `open`, `close` | `addnorm_exp/residual/ends.py` |
| the loop over blocks | `addnorm_exp/nn/stack.py` |
| embedding and head | `addnorm_exp/nn/embedding.py`, `addnorm_exp/nn/head.py` |
"""
NORMS = {
    "layer": """\
def norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return p["gain"] * x / jnp.sqrt((x**2).mean(-1, keepdims=True) + {eps:g}) + p["bias"]
""",
    "rms": """\
def norm(x, p):
    return p["gain"] * x / jnp.sqrt((x**2).mean(-1, keepdims=True) + {eps:g})
""",
}
SUBLAYERS = """\
def linear(x, p):
    return x @ p["kernel"] + p["bias"]


def attention(x, p, heads):
    length, width = x.shape[-2:]
    q, k, v = (linear(x, p[name]).reshape(-1, length, heads, width // heads) for name in ("query", "key", "value"))
    logits = jnp.einsum("bqhd,bkhd->bhqk", q, k) / (width // heads) ** 0.5
    seen = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(seen, logits, -jnp.inf), axis=-1)
    return linear(jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape), p["out"])


def feed_forward(x, p, heads):
    return linear(jax.nn.gelu(linear(x, p["up"])), p["down"])
"""


def document() -> str:
    """The whole page."""
    return HEAD + code(catalogue.get(Config().scheme), depth=4, width=128) + TAIL


def code(scheme: Scheme, depth: int, width: int) -> str:
    """Python that computes the logits of a decoder as configs/lm.py has it, under a scheme of rules that are alike in all blocks.

    Raises ValueError where the plan is not of that kind."""
    plans = {scheme.plan(site) for site in sites("decoder", Depths(decoder=depth))}
    if len(plans) > 1 or scheme.norm.kind not in NORMS:
        raise ValueError(f"scheme '{scheme.name}' has blocks or norms that this page does not write out")
    block = [line for at in plans.pop() for line in _connection(at)]
    factor = scheme.around.embedding_factor(scheme.law, width)
    times = "" if factor == 1.0 else " * width**0.5" if factor == math.sqrt(width) else f" * {factor:g}"
    closing = 'norm(x, p["decoder"]["ends"]["closing"])' if scheme.final_norm else "x"
    lines = [
        "def decoder(tokens, p, heads):",
        '    table, positions = p["embedding"]["tokens"], p["embedding"]["positions"]',
        *(["    width = table.shape[-1]"] if "width" in times else []),
        f"    x = (table[tokens] + positions[: tokens.shape[-1]]){times}",
        '    for number in range(len(p["decoder"]["blocks"])):',
        '        block = p["decoder"]["blocks"][str(number)]',
        '        own = block.get("connections", {}).get("nodes", {})',
        *(f"        {line}" for line in block),
        f"    y = {closing}",
        '    return y @ p["head"]["kernel"]',
    ]
    parts = (NORMS[scheme.norm.kind].format(eps=scheme.norm.eps), SUBLAYERS, "\n".join(lines) + "\n")
    return "import jax\nimport jax.numpy as jnp\n\n\n" + "\n\n".join(parts)


def _connection(at: At) -> list[str]:
    """`s = N_stream(x)`, `b = N_branch(F(N_pre(s)))`, `x = N_post(skip s + scale b)`: what of it is there."""
    rule, own = at.rule, f'own["{at.label}"]["connection"]'
    if not isinstance(rule, Rule) or isinstance(at.body, Chain) or at.fade or rule.shift or rule.pre_scale != 1.0:
        raise ValueError(f"{at.label}: no rule that this page writes out")

    def normed(place: str, x: str) -> str:
        return f'norm({x}, {own}["{place}"])' if place in rule.norms else x

    def times(name: str, x: str) -> str:
        value = getattr(rule, name)
        return f'{own}["{name}"] * {x}' if isinstance(value, Learned) else x if value == 1.0 else f"{value!r} * {x}"

    names = at.body.names if isinstance(at.body, Sum) else (at.body,)
    branch = normed("branch", " + ".join(f'{name}(h, block["{name}"], heads)' for name in names))
    total = times("scale", "b") if rule.skip == 0.0 else f"{times('skip', 'x')} + {times('scale', 'b')}"
    read = [f"x = {normed('stream', 'x')}"] if "stream" in rule.norms else []
    return [*read, f"h = {normed('pre', 'x')}", f"b = {branch}", f"x = {normed('post', total)}"]


if __name__ == "__main__":
    print(document(), end="")
