"""From the package to the references: random values for every parameter, and the parameters as the references' trees.

Here alone stands which reference a scheme of the catalogue is held against. A scheme without an entry fails its tests.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from reference import schemes, transformer

from addnorm_exp.nn.functional import Functional
from addnorm_exp.nn.models import Classifier, Decoder
from addnorm_exp.nn.stack import Architecture
from addnorm_exp.residual import Scheme
from addnorm_exp.residual.init import Spec

B, T, D, HEADS, HIDDEN, VOCAB, DEPTH = 2, 8, 16, 2, 24, 11, 3

# Scheme → reference(x0, bodies, own parameters) → y.
REFERENCES = {
    "post_ln": schemes.post_ln,
    "pre_ln": schemes.pre_ln,
    "post_rms": schemes.post_rms,
    "pre_rms": schemes.pre_rms,
    "no_norm": lambda x, bodies, own: schemes.no_norm(x, bodies),
    "sandwich_ln": schemes.sandwich_ln,
    "deepnorm": schemes.deepnorm,
    "rezero": schemes.rezero,
}


def reference(name: str):
    if name not in REFERENCES:
        pytest.fail(
            f"scheme '{name}' of the catalogue has no reference: write one in tests/reference, enter it in bridge.py"
        )
    return REFERENCES[name]


def architecture(**changes) -> Architecture:
    return Architecture(**{"depth": DEPTH, "width": D, "num_heads": HEADS, "hidden": HIDDEN, **changes})


def decoder(scheme: Scheme, arch: Architecture | None = None, *, tied: bool = False) -> Functional[Decoder]:
    arch = arch or architecture()
    return Functional(lambda rngs: Decoder(scheme, arch, VOCAB, T, tied=tied, rngs=rngs))


def classifier(scheme: Scheme, arch: Architecture | None = None, classes: int = 3) -> Functional[Classifier]:
    arch = arch or architecture()
    return Functional(lambda rngs: Classifier(scheme, arch, VOCAB, T, classes, rngs=rngs))


def tokens(seed: int = 0, batch: int = B) -> jnp.ndarray:
    return jnp.asarray(np.random.default_rng(seed).integers(VOCAB, size=(batch, T)))


def random_parameters(specs: Mapping[str, Spec], seed: int = 0) -> dict[str, jnp.ndarray]:
    """Values with nothing at 0 or 1: around its first value where that is a constant, of unit gain where it is a matrix."""
    g = np.random.default_rng(seed)
    spread = {"matrix": 1.0, "embedding": 0.5, "gain": 0.3, "bias": 0.2, "coefficient": 0.5}
    values = {}
    for path, spec in specs.items():
        noise = spread[spec.group] * g.normal(size=spec.shape)
        if spec.group == "matrix":
            noise /= np.sqrt(spec.shape[0])
        first = spec.init.scale if spec.init.draw == "constant" else 0.0
        values[path] = jnp.asarray(first + noise, jnp.float32)
    return values


def nested(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a/b": x}` as `{"a": {"b": x}}`, arrays as float64."""
    tree: dict[str, Any] = {}
    for path, value in parameters.items():
        *folders, leaf = path.split("/")
        inside = tree
        for folder in folders:
            inside = inside.setdefault(folder, {})
        inside[leaf] = np.asarray(value, np.float64)
    return tree


def bodies(stack: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sublayers' parameters, block by block, of `nested(...)["decoder"]`."""
    blocks = [stack["blocks"][str(number)] for number in range(len(stack["blocks"]))]
    return [{name: block[name] for name in block if name != "connections"} for block in blocks]


def nodes(stack: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The connections' parameters, block by block, by label."""
    blocks = [stack["blocks"][str(number)] for number in range(len(stack["blocks"]))]
    return [block.get("connections", {}).get("nodes", {}) for block in blocks]


def own(stack: Mapping[str, Any], depth: int = DEPTH) -> dict[str, Any]:
    """A scheme's own parameters in the references' layout; what a scheme lacks is left out, so that asking for it fails."""
    labels = ("attention", "feed_forward")
    blocks = []
    for block in nodes(stack):
        at = {label: block.get(label, {}).get("connection", {}) for label in labels}
        shared = {"a": at["attention"]["scale"]} if "scale" in at["attention"] else {}
        blocks.append({**at, **shared})
    assert len(blocks) == depth
    ends = {"final": stack["ends"]["closing"]} if "ends" in stack else {}
    return {"blocks": blocks, **ends}


def embedded(tree: Mapping[str, Any], numbers, arch: Architecture) -> np.ndarray:
    """x0 by the reference. Under the law `xavier` the table is multiplied by √D where it enters the stream."""
    scale = np.sqrt(arch.width) if arch.law == "xavier" else 1.0
    table = {"embedding": tree["embedding"]["tokens"]}
    if "positions" in tree["embedding"]:
        table["positions"] = scale * tree["embedding"]["positions"]
    return transformer.embed(table, numbers, scale)


def reference_logits(name: str, parameters: Mapping[str, Any], numbers, arch: Architecture, *, norm=None) -> np.ndarray:
    """The decoder in float64: (B · T, V)."""
    tree = nested(parameters)
    rotary = 10_000.0 if arch.rotary else None
    F = transformer.bodies(bodies(tree["decoder"]), arch.num_heads, arch.activation, rotary_base=rotary)
    options = {} if norm is None else {"norm": norm}
    y = reference(name)(embedded(tree, numbers, arch), F, own(tree["decoder"], arch.depth), **options)
    logits = transformer.output_logits(y, tree.get("head"), tree["embedding"]["tokens"])
    return logits.reshape(-1, logits.shape[-1])


def distance(ours, theirs) -> float:
    """Largest difference over the largest magnitude of the reference."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
