"""From the package to the references: random values for every parameter, and the parameters as the references' trees.

Here alone stands which reference a scheme of the catalogue is held against. A scheme without an entry fails its tests.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import trees
from reference import admin, hyper, norm_free, norms, schemes, streams, transformer

from addnorm_exp.nn.functional import Functional
from addnorm_exp.nn.models import Classifier, Decoder
from addnorm_exp.nn.stack import Architecture
from addnorm_exp.residual import Scheme, catalogue
from addnorm_exp.residual.init import Spec

B, T, D, HEADS, HIDDEN, VOCAB, DEPTH = 2, 8, 16, 2, 24, 11, 3

# Scheme → reference(x0, bodies, own parameters, norm=…) → y, and where the reference names a place otherwise, how to lay them out.
REFERENCES = {
    "post_ln": schemes.post_ln,
    "pre_ln": schemes.pre_ln,
    "post_rms": schemes.post_rms,
    "pre_rms": schemes.pre_rms,
    "no_norm": lambda x, bodies, own: schemes.no_norm(x, bodies),
    "sandwich_ln": schemes.sandwich_ln,
    "deepnorm": schemes.deepnorm,
    "rezero": norm_free.rezero,
    "skipinit": norm_free.skipinit,
    "layerscale": norm_free.layerscale,
    "dyt": partial(schemes.pre_ln, norm=norms.dyt),
    "derf": partial(schemes.pre_ln, norm=norms.derf),
    "fixup": norm_free.fixup,
    "t_fixup": lambda x, bodies, own: schemes.no_norm(x, bodies),
    "ds_init": schemes.post_ln,
    "depth_mup": norm_free.depth_mup,
    "completep": norm_free.completep,
    "gtrxl": norm_free.gtrxl,
    "highway": norm_free.highway,
    "branch_norm": norm_free.branch_norm,
    "simplified": norm_free.simplified,
    "value_skipinit": norm_free.value_skipinit,
}

HYBRID = partial(norms.rms_norm, eps=1e-5)  # as in the authors' configs

# Placement, and blocks that differ by depth or whose skips start elsewhere. Sub-LN's norms are inside the bodies.
REFERENCES |= {
    "peri_ln": partial(schemes.sandwich_ln, norm=norms.rms_norm),
    "res_post_norm": schemes.res_post_norm,
    "swin_v2": partial(schemes.res_post_norm, norm=norms.layer_norm),
    "normformer": schemes.normformer,
    "sub_ln": schemes.pre_ln,
    "gpt2": schemes.pre_ln,
    "mix_ln": partial(schemes.mix_ln, norm=norms.rms_norm),
    "hybrid_norm": partial(schemes.hybrid_norm, norm=HYBRID),
    "hybrid_norm_star": partial(schemes.hybrid_norm, norm=HYBRID, star=True),
    "lns": partial(schemes.lns, norm=norms.rms_norm),
    "keel": schemes.keel,
    "admin": admin.admin,
    "b2t": schemes.b2t_encoder,
    "span_norm": schemes.span_norm,
    "parallel": schemes.parallel,
}

# Several streams, depth history, recipes and controls.
REFERENCES |= {
    "no_skip": schemes.no_skip,
    "scale_norm": lambda x, F, p, norm=norms.scale_norm: schemes.pre_ln(x, F, p, norm),
    "ngpt": streams.ngpt,
    "residual_dual": streams.residual_dual,
    "siamese": streams.siamese,
    "altup": lambda x, F, p, **o: streams.altup(x, F, p, 2, **o),
    "hyper_static": hyper.hyper,
    "hyper": hyper.hyper,
    "frac": hyper.frac,
    **dict.fromkeys(("mhc", "mhc_zero"), partial(hyper.mhc, norm=partial(norms.rms_norm, eps=1e-20), eps=1e-20)),
    "laurel": hyper.laurel,
    "value_residual": partial(streams.value_residual, norm=norms.rms_norm),
    "denseformer": streams.denseformer,
    "attn_res": streams.attention_residuals,
    "attn_res_block": streams.attention_residuals_in_blocks,
}


def _last_after_the_chain(block):
    """The norm of a connection around the block is what the references call the feed-forward's."""
    return {**block, "feed_forward": block["block"]}


def _stream_as_pre(block):
    """The references name the place before the feed-forward `pre` whether the skip sees it or not."""
    last = block["feed_forward"]
    return {**block, "feed_forward": {"pre": last["stream"]} if "stream" in last else last}


LAYOUTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "b2t": lambda own: _blocks(own, _last_after_the_chain),
    "span_norm": lambda own: _blocks(own, _last_after_the_chain),
    "parallel": lambda own: _blocks(own, lambda block: block["attention+feed_forward"]),
    **dict.fromkeys(("hybrid_norm", "hybrid_norm_star"), lambda own: _blocks(own, _stream_as_pre)),
    "rezero": lambda own: _blocks(own, lambda block: {**block, "a": block["attention"]["scale"]}),
    **trees.LAYOUTS,
}

# Sublayers that hand something on beside their output.
BODIES = {"value_residual": transformer.value_bodies}


def sublayers(name: str):
    """bodies(parameters, heads, activation, **options) as the reference of this scheme calls them."""
    return BODIES.get(name, transformer.bodies)


def _blocks(own: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    return {**own, "blocks": [change(block) for block in own["blocks"]]}


def reference(name: str):
    """reference(x0, bodies, parameters of the stack as a tree, **options)."""
    if name not in REFERENCES:
        pytest.fail(
            f"scheme '{name}' of the catalogue has no reference: write one in tests/reference/, and enter it in REFERENCES "
            "(tests/bridge.py)"
        )

    def compute(x, F, stack, **options):
        tree = LAYOUTS.get(name, lambda own: own)(own(stack))
        try:
            return REFERENCES[name](x, F, tree, **options)
        except KeyError as missing:
            pytest.fail(
                f"the reference of '{name}' asks for {missing}, which the scheme's parameters have not; they are "
                f"{sorted(_paths(tree))}. Mend one of the two, or give the tree another layout in LAYOUTS (tests/bridge.py)"
            )

    return compute


def _paths(tree: Any, prefix: str = "") -> set[str]:
    """The places of arrays in a tree of dicts and lists, blocks not told apart."""
    if isinstance(tree, Mapping):
        return {path for key, value in tree.items() for path in _paths(value, f"{prefix}/{key}".lstrip("/"))}
    return {path for value in tree for path in _paths(value, prefix)} if isinstance(tree, list) else {prefix}


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
        # A matrix that starts at 0 (hyper-connections' dynamic weights) is a departure from it, like a coefficient.
        departs = spec.group == "matrix" and spec.init.draw == "constant"
        noise = spread["coefficient" if departs else spec.group] * g.normal(size=spec.shape)
        if spec.group == "matrix" or (spec.group == "coefficient" and len(spec.shape) == 2):
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
    """The sublayers' parameters, block by block, of `nested(...)["decoder"]`; those stored under another scale as they act."""
    blocks = [stack["blocks"][str(number)] for number in range(len(stack["blocks"]))]
    return [{name: _acting(block[name]) for name in block if name != "connections"} for block in blocks]


def _acting(sublayer: dict[str, Any]) -> dict[str, Any]:
    if "qk_scale" not in sublayer:
        return sublayer
    return {**sublayer, "qk_scale": sublayer["qk_scale"] * np.sqrt(len(sublayer["qk_scale"]))}


def nodes(stack: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The connections' parameters, block by block, by label."""
    blocks = [stack["blocks"][str(number)] for number in range(len(stack["blocks"]))]
    return [block.get("connections", {}).get("nodes", {}) for block in blocks]


def own(stack: Mapping[str, Any]) -> dict[str, Any]:
    """A scheme's own parameters in the references' layout: p["blocks"][l][label][place], sites of a chain beside the chain's own.

    What a scheme lacks is left out, so that asking for it fails.
    """

    def walk(inside: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for label, node in inside.items():
            scales = {"scales": node["scales"]} if "scales" in node else {}
            found |= {label: node.get("connection", {}) | scales, **walk(node.get("inside", {}))}
        return found

    blocks = [{"attention": {}, "feed_forward": {}, **walk(block)} for block in nodes(stack)]
    ends = stack.get("ends", {})
    return {"blocks": blocks, "ends": ends, **({"final": ends["closing"]} if "closing" in ends else {})}


def embedded(tree: Mapping[str, Any], numbers, arch: Architecture) -> np.ndarray:
    """x0 by the reference. Where it enters the stream the table is multiplied by the learned scalar of DyT and Derf, or by √D under the law
    `xavier`."""
    scale = float(tree["embedding"].get("scale", np.sqrt(arch.width) if arch.law == "xavier" else 1.0))
    table = {"embedding": tree["embedding"]["tokens"]}
    if "positions" in tree["embedding"]:
        table["positions"] = scale * tree["embedding"]["positions"]
    return transformer.embed(table, numbers, scale)


def entering(name: str, tree: Mapping[str, Any], numbers, arch: Architecture) -> np.ndarray:
    """x0 as the scheme has it enter the stream: nGPT never multiplies the table, and normalises the sum with a learned position alone."""
    if name != "ngpt":
        return embedded(tree, numbers, arch)
    table = {"embedding": tree["embedding"]["tokens"]}
    return transformer.embed(table, numbers, 1.0) if arch.rotary else norms.l2_norm(embedded(tree, numbers, arch))


def as_used(name: str, tree: dict[str, Any]) -> dict[str, Any]:
    """The model's parameters with the token table as the scheme uses it: FixNorm divides each row by its length."""
    if name != "scale_norm":
        return tree
    return {**tree, "embedding": {**tree["embedding"], "tokens": norms.l2_norm(tree["embedding"]["tokens"])}}


def reference_logits(
    name: str, parameters: Mapping[str, Any], numbers, arch: Architecture, *, norm=None, **options
) -> np.ndarray:
    """The decoder in float64: (B · T, V). `options` are those of the scheme's reference."""
    tree = as_used(name, nested(parameters))
    rotary = 10_000.0 if arch.rotary else None
    inner = norm or getattr(norms, f"{catalogue.get(name).norm.kind}_norm", norms.no_norm)
    F = sublayers(name)(bodies(tree["decoder"]), arch.num_heads, arch.activation, rotary_base=rotary, inner_norm=inner)
    options |= {} if norm is None else {"norm": norm}
    y = reference(name)(entering(name, tree, numbers, arch), F, tree["decoder"], **options)
    logits = head_logits(y, tree)
    return logits.reshape(-1, logits.shape[-1])


def reference_loss(name: str, parameters: Mapping[str, Any], windows, arch: Architecture, **options) -> float:
    """The decoder's mean cross-entropy in nats over windows (N, T + 1) of tokens, in float64."""
    windows = np.asarray(windows, np.int64)
    logits = reference_logits(name, parameters, windows[:, :-1], arch, **options)
    return transformer.cross_entropy(logits, windows[:, 1:].reshape(-1))


def reference_attention(parameters: Mapping[str, Any], numbers, arch: Architecture, stack: str = "decoder", mask=None):
    """Largest logit and mean entropy in nats of each attention sublayer of Pre-LN, in float64: two lists, block by block.

    `mask` (B, T) marks the valid tokens of an encoder: of keys, and of the queries that count.
    """
    tree = nested(parameters)
    valid = np.ones(numbers.shape, bool) if mask is None else mask
    x, largest, entropies = embedded(tree, numbers, arch), [], []
    for body, site in zip(bodies(tree[stack]), nodes(tree[stack]), strict=True):
        h = norms.layer_norm(x, site["attention"]["connection"]["pre"])
        causal = stack == "decoder"
        parts = transformer.attention_parts(body["attention"], h, arch.num_heads, causal=causal, key_mask=mask)
        weights = parts["weights"]
        largest.append(np.moveaxis(parts["logits"], 1, 2)[valid].max())
        entropy = -np.sum(weights * np.log(np.where(weights > 0, weights, 1.0)), axis=-1)
        entropies.append(np.moveaxis(entropy, 1, 2)[valid].mean())
        x = x + parts["out"]
        h = norms.layer_norm(x, site["feed_forward"]["connection"]["pre"])
        x = x + transformer.feed_forward(body["feed_forward"], h)
    return largest, entropies


def head_logits(y, tree: Mapping[str, Any]) -> np.ndarray:
    """By the head's own kernel or the embedding's table; its scale, where it has one, is stored as s / √D."""
    head = tree.get("head", {})
    z = transformer.output_logits(y, head if "kernel" in head else None, tree["embedding"]["tokens"])
    return z * streams.ngpt_effective(head["scale"], init=1.0, scale=y.shape[-1] ** -0.5) if "scale" in head else z


def distance(ours, theirs) -> float:
    """Largest difference over the largest magnitude of the reference."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
