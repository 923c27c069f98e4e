"""Nine published schemes that the catalogue does not have yet, written on the contract (spikes/) and held against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge import (
    DEPTH,
    HEADS,
    HIDDEN,
    VOCAB,
    B,
    D,
    T,
    architecture,
    bodies,
    decoder,
    distance,
    embedded,
    nested,
    nodes,
    random_parameters,
    tokens,
)
from reference import schemes, streams, transformer
from reference.norms import l2_norm, layer_norm
from spikes import altup, attention_residuals, b2t, hybrid_norm, mix_ln, ngpt, parallel, value_residual
from spikes import bodies as ours
from spikes.model import Connections

from addnorm_exp.nn.functional import Functional
from addnorm_exp.residual import Context, Depths, catalogue, sites

M = 5  # tokens of the memory that cross-attention reads
PAIR = ("attention", "feed_forward")
TRIPLE = ("attention", "cross_attention", "feed_forward")


def rng(seed=0):
    return np.random.default_rng(seed)


def linear(g, fan_in, fan_out):
    return {"kernel": g.normal(size=(fan_in, fan_out)) / np.sqrt(fan_in), "bias": 0.1 * g.normal(size=fan_out)}


def block_parameters(g, kinds=PAIR, gated=False):
    made = {}
    for kind in kinds:
        if kind == "feed_forward":
            made[kind] = {"up": linear(g, D, HIDDEN), "down": linear(g, HIDDEN, D)}
            if gated:
                made[kind]["gate"] = linear(g, D, HIDDEN)
        else:
            made[kind] = {name: linear(g, D, D) for name in ("query", "key", "value", "out")}
    return made


def float32(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def stack(scheme, places, parameters, **options):
    """Connections with random parameters, these as a tree, and our bodies with the options that the scheme asks for."""
    scheme.check(places)
    functional = Functional(lambda rngs: Connections(scheme, places, D, rngs))
    own = random_parameters(functional.specs, seed=7)
    around = []
    for site, block in zip(places, float32(parameters), strict=True):
        block_options = {kind: scheme.options(site.at(kind)) for kind in block}
        around.append(
            {
                kind: ours.feed_forward(p, **block_options[kind])
                if kind == "feed_forward"
                else ours.attention(p, HEADS, cross=kind == "cross_attention", **block_options[kind], **options)
                for kind, p in block.items()
            }
        )
    tree = nested(own)
    blocks = [tree.get("blocks", {}).get(str(number), {"nodes": {}})["nodes"] for number in range(len(places))]
    return functional.bind(own), blocks, tree.get("ends", {}), around


def flat(x):
    return jnp.asarray(x, jnp.float32).reshape(-1, x.shape[-1])


def run(bound, around, x, **memo):
    memo = {name: jnp.asarray(value) if value.dtype == bool else flat(value) for name, value in memo.items()}
    y, memo = bound(flat(x), around, Context(batch=len(x)), memo)
    return np.asarray(y).reshape(x.shape), memo


def at(blocks, *kinds):
    """[{kind: connection}] of plain sites."""
    return [{kind: block.get(kind, {}).get("connection", {}) for kind in kinds} for block in blocks]


def inside(blocks, *kinds):
    """[{kind: connection}] of sites in a chain."""
    return [{kind: block["block"]["inside"].get(kind, {}).get("connection", {}) for kind in kinds} for block in blocks]


# --- schemes of plain bodies: in the real decoder, taps and scan included ---


def b2t_tree(blocks, ends):
    outer = [block["block"]["connection"] for block in blocks]
    return {
        "blocks": [
            {**part, "feed_forward": last} for part, last in zip(inside(blocks, "attention"), outer, strict=True)
        ]
    }


def altup_tree(blocks, ends):
    outer = [block["block"]["connection"] for block in blocks]
    return {
        "blocks": [
            {**part, "predict": np.eye(len(own["predict"])) + own["predict"], "correct": own["correct"]}
            for part, own in zip(inside(blocks, *PAIR), outer, strict=True)
        ],
        "final": ends["closing"],
    }


def history_tree(blocks, ends):
    def reader(p):
        return {"pre": p["norm"], "query": p["query"], "key_norm": p["key_norm"]}

    return {
        "blocks": [{kind: reader(p) for kind, p in block.items()} for block in at(blocks, *PAIR)],
        "readout": reader(ends),
        "final": ends["norm"],
    }


PLAIN = {
    "b2t": (b2t.scheme, schemes.b2t_encoder, b2t_tree, ("block", "attention", "feed_forward")),
    "parallel": (
        parallel.scheme,
        schemes.parallel,
        lambda blocks, ends: {
            "blocks": [block["attention+feed_forward"]["connection"] for block in blocks],
            "final": ends["closing"],
        },
        ("attention+feed_forward",),
    ),
    "altup": (
        altup.scheme,
        lambda x, F, p: streams.altup(x, F, p, streams=2),
        altup_tree,
        ("block", "attention", "feed_forward"),
    ),
    "mix_ln": (
        mix_ln.scheme,
        schemes.mix_ln,
        lambda blocks, ends: {"blocks": at(blocks, *PAIR), "final": ends["closing"]},
        PAIR,
    ),
    "attention_residuals": (attention_residuals.scheme, streams.attention_residuals, history_tree, PAIR),
}
BLOCKS = 5  # so that Mix-LN has one Post-LN block and a rest to scan, and AltUp both streams twice


@pytest.mark.core
@pytest.mark.parametrize("name", PLAIN)
def test_plain_bodies(name):
    scheme, reference, tree_of, labels = PLAIN[name]
    scheme.check(sites("decoder", Depths(decoder=BLOCKS)))
    arch = architecture(depth=BLOCKS)
    model = decoder(scheme, arch)
    parameters = random_parameters(model.specs)
    tree = nested(parameters)
    F = transformer.bodies(bodies(tree["decoder"]), HEADS)
    y = reference(embedded(tree, tokens(), arch), F, tree_of(nodes(tree["decoder"]), tree["decoder"].get("ends", {})))
    theirs = transformer.output_logits(y, tree["head"]).reshape(-1, VOCAB)
    logits, _ = model.bind(parameters)(tokens(), Context(batch=B))
    assert distance(logits, theirs) < 1e-5
    assert model.module.labels == tuple(f"decoder.{block}.{label}" for block in range(BLOCKS) for label in labels)

    scanned = decoder(scheme, architecture(depth=BLOCKS, scan_layers="on"))
    probes = jnp.zeros(len(model.module.labels))
    context = Context(batch=B, diagnostics=True)
    logits, stats = jax.jit(lambda p: scanned.bind(p)(tokens(), context, probes))(parameters)
    assert distance(logits, theirs) < 1e-5
    assert {name: value.shape for name, value in stats.items()} == dict.fromkeys(stats, probes.shape)


def test_altup_with_three_streams():
    places = sites("decoder", Depths(decoder=4))
    g = rng()
    parameters, x = [block_parameters(g) for _ in places], g.normal(size=(B, T, D))
    bound, blocks, ends, around = stack(altup.record(3), places, parameters)
    y, _ = run(bound, around, x)
    p = altup_tree(blocks, ends)
    assert distance(y, streams.altup(x, transformer.bodies(parameters, HEADS), p, streams=3)) < 1e-5


# --- schemes that reach into the bodies, or have a second stack ---


@pytest.mark.core
def test_b2t_decoder():
    """Three sublayers: the skip passes by the norms of self- and of cross-attention."""
    places, g = sites("decoder", Depths(encoder=1, decoder=3), TRIPLE), rng()
    parameters = [block_parameters(g, TRIPLE) for _ in places]
    x, memory = g.normal(size=(B, T, D)), g.normal(size=(B, M, D))
    bound, blocks, _, around = stack(b2t.scheme, places, parameters)
    p = {
        "blocks": [
            {**part, "feed_forward": block["block"]["connection"]}
            for part, block in zip(inside(blocks, *TRIPLE[:2]), blocks, strict=True)
        ]
    }
    y, _ = run(bound, around, x, memory=memory)
    assert distance(y, schemes.b2t_decoder(x, transformer.bodies(parameters, HEADS), p, memory)) < 1e-5


@pytest.mark.core
@pytest.mark.parametrize("scheme", [hybrid_norm.scheme, hybrid_norm.starred], ids=["plain", "starred"])
def test_hybrid_norm(scheme):
    places, g = sites("decoder", Depths(decoder=DEPTH)), rng()
    parameters = [block_parameters(g) for _ in places]
    for block in parameters:
        for name in ("query_norm", "key_norm", "value_norm"):
            block["attention"][name] = {"gain": 1 + 0.3 * g.normal(size=D // HEADS)}
    x = g.normal(size=(B, T, D))
    bound, blocks, ends, around = stack(scheme, places, parameters)
    for number, block in enumerate(blocks):  # the reference names the place `pre`
        if scheme is hybrid_norm.scheme or number > 0:
            block["feed_forward"]["connection"] = {"pre": block["feed_forward"]["connection"]["stream"]}
    p = {"blocks": at(blocks, *PAIR), "final": ends["closing"]}
    y, _ = run(bound, around, x)
    theirs = schemes.hybrid_norm(x, transformer.bodies(parameters, HEADS), p, star=scheme is hybrid_norm.starred)
    assert distance(y, theirs) < 1e-5


@pytest.mark.core
def test_value_residual():
    places, g = sites("decoder", Depths(decoder=4)), rng()
    parameters = [block_parameters(g) for _ in places]
    for block in parameters[1:]:
        block["attention"]["value_mix"] = g.normal(size=2)
    x = g.normal(size=(B, T, D))
    bound, blocks, ends, around = stack(value_residual.scheme, places, parameters)
    mixes = [{"value_mix": block["attention"].get("value_mix")} for block in parameters]
    p = {
        "blocks": [{**own, **mix} for own, mix in zip(at(blocks, *PAIR), mixes, strict=True)],
        "final": ends["closing"],
    }
    y, memo = run(bound, around, x)
    assert distance(y, streams.value_residual(x, transformer.value_bodies(parameters, HEADS), p)) < 1e-5
    first = transformer.linear(parameters[0]["attention"]["value"], layer_norm(x, p["blocks"][0]["attention"]["pre"]))
    assert distance(memo["values"].reshape(x.shape), first) < 1e-5  # never mixed


@pytest.mark.core
def test_deepnorm_encoder_decoder():
    """The catalogue's own record in two stacks of different depth; the encoder's last output crosses in the memo."""
    depths, g, scheme = Depths(encoder=3, decoder=2), rng(), catalogue.get("deepnorm")
    encoder, decoder_ = sites("encoder", depths), sites("decoder", depths, TRIPLE)
    parameters = {
        "encoder": [block_parameters(g) for _ in encoder],
        "decoder": [block_parameters(g, TRIPLE) for _ in decoder_],
    }
    source, target = g.normal(size=(B, M, D)), g.normal(size=(B, T, D))
    mask = np.array([[True] * M, [True, True, True, False, False]])
    one, blocks, _, around = stack(scheme, encoder, parameters["encoder"], causal=False)
    p = {"encoder": {"blocks": at(blocks, *PAIR)}}
    memory, _ = run(one, around, source)
    two, blocks, _, around = stack(scheme, decoder_, parameters["decoder"])
    p["decoder"] = {"blocks": at(blocks, *TRIPLE)}
    y, _ = run(two, around, target, memory=memory, memory_mask=mask)
    theirs, memory_theirs = schemes.deepnorm_encoder_decoder(
        source,
        target,
        transformer.bodies(parameters["encoder"], HEADS, causal=False),
        transformer.bodies(parameters["decoder"], HEADS, memory_mask=mask),
        p,
    )
    assert distance(memory, memory_theirs) < 1e-5
    assert distance(y, theirs) < 1e-5


@pytest.mark.core
def test_ngpt():
    places, g = sites("decoder", Depths(decoder=DEPTH)), rng()
    parameters = [block_parameters(g, gated=True) for _ in places]
    for block in parameters:
        block["attention"]["qk_scale"] = 1 + 0.3 * g.normal(size=D)
        block["feed_forward"] |= {name: 1 + 0.3 * g.normal(size=HIDDEN) for name in ("up_scale", "gate_scale")}
    x = l2_norm(g.normal(size=(B, T, D)))
    bound, blocks, _, around = stack(ngpt.scheme, places, parameters)
    p = {
        "blocks": [
            {
                kind: {"rate": streams.ngpt_effective(own["rate"], init=0.05, scale=D**-0.5)}
                for kind, own in block.items()
            }
            for block in at(blocks, *PAIR)
        ]
    }
    y, _ = run(bound, around, x)
    assert distance(y, streams.ngpt(x, transformer.bodies(parameters, HEADS, "swiglu"), p)) < 1e-5
    np.testing.assert_allclose(np.linalg.norm(y, axis=-1), 1.0, rtol=1e-5)


def test_ngpt_projection_of_the_real_parameters():
    """By role, on the flat dict that training holds."""
    arch = architecture(activation="swiglu", rotary=True, bias=False)
    model = decoder(catalogue.get("no_norm"), arch)
    parameters = random_parameters(model.specs)
    projected = nested(ngpt.project(parameters))
    tree = nested(parameters)
    theirs = streams.ngpt_project(
        {"embedding": tree["embedding"]["tokens"], "head": tree["head"], "blocks": bodies(tree["decoder"])}
    )
    found = {
        "embedding": projected["embedding"]["tokens"],
        "head": projected["head"],
        "blocks": bodies(projected["decoder"]),
    }
    for ours_leaf, leaf in zip(jax.tree.leaves(found), jax.tree.leaves(theirs), strict=True):
        assert distance(ours_leaf, leaf) < 1e-6


def test_options_that_the_sublayers_do_not_know_are_refused():
    """A scheme that reaches into attention can never run on an attention that would pass over it in silence."""
    with pytest.raises(TypeError, match="head_norm"):
        decoder(hybrid_norm.scheme)


def test_spikes_have_distinct_digests():
    places = sites("decoder", Depths(decoder=4))
    records = [record for record, *_ in PLAIN.values()] + [
        hybrid_norm.scheme,
        hybrid_norm.starred,
        value_residual.scheme,
        ngpt.scheme,
    ]
    digests = {record.digest(places) for record in [*records, *map(catalogue.get, catalogue.names())]}
    assert len(digests) == len(records) + len(catalogue.names())
    assert value_residual.scheme.digest(iter(places)) == value_residual.scheme.digest(places)
    assert catalogue.get("pre_ln").with_norm(eps=1e-3).digest(places) not in digests
