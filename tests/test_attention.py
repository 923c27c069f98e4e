"""What schemes and axes set inside sublayers, and cross-attention, against float64; the encoder–decoder that is built of them."""

import itertools
from dataclasses import replace

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
    _acting,
    architecture,
    bodies,
    distance,
    embedded,
    nested,
    own,
    random_parameters,
    tokens,
)
from reference import norms as reference_norms
from reference import schemes, transformer

from addnorm_exp.nn.attention import QK_NORMS, Attention, attention_columns, direction
from addnorm_exp.nn.feed_forward import FeedForward
from addnorm_exp.nn.functional import Functional
from addnorm_exp.nn.models import EncoderDecoder
from addnorm_exp.residual import At, Context, Rule, Sum, catalogue, norms
from addnorm_exp.residual import init as laws

M = 5  # tokens of the memory


def inits(role, fan_in, fan_out):
    return laws.linear("xavier", fan_in, fan_out)


def attention(**options) -> Functional[Attention]:
    arguments = {"causal": True, "rotary": False, "bias": True, "implementation": "einsum", **options}
    return Functional(lambda rngs: Attention(D, HEADS, inits, **arguments, rngs=rngs))


def inputs(length: int = T, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(B, length, D)).astype(np.float32)


def run(model, parameters, x, **memo):
    flat = {name: jnp.asarray(v) if v.dtype == bool else jnp.asarray(v).reshape(-1, D) for name, v in memo.items()}
    context = Context(batch=B, attention_statistics=True)
    y, after, stats = model.bind(parameters)(jnp.asarray(x).reshape(-1, D), flat, context)
    assert set(after) == set(flat)
    return np.asarray(y).reshape(x.shape), stats


OPTIONS = {
    **{f"qk {kind}": ({"qk_norm": kind}, {}) for kind in QK_NORMS},
    "v": ({"v_norm": "head"}, {}),
    "cap": ({"soft_cap": 0.7}, {"soft_cap": 0.7}),
    "out layer": ({"out_norm": norms.LAYER}, {}),
    "out rms": ({"out_norm": norms.RMS}, {"inner_norm": reference_norms.rms_norm}),
    "head scale": ({"head_scale": True}, {}),
    "all": (
        {"qk_norm": "head", "v_norm": "head", "soft_cap": 0.7, "out_norm": norms.LAYER, "head_scale": True},
        {"soft_cap": 0.7},
    ),
}


@pytest.mark.core
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_attention(name, rotary):
    """Output, largest logit and entropy; and that the option does something."""
    options, theirs = OPTIONS[name]
    model, plain = attention(**options, rotary=rotary), attention(rotary=rotary)
    parameters, x = random_parameters(model.specs), inputs()
    y, stats = run(model, parameters, x)
    rotary_base = 10_000.0 if rotary else None
    parts = transformer.attention_parts(_acting(nested(parameters)), x, HEADS, rotary_base=rotary_base, **theirs)
    assert distance(y, parts["out"]) < 1e-5
    assert stats["logit_max"][0] == pytest.approx(parts["logits"].max(), rel=1e-5)
    weights = parts["weights"]
    entropy = -np.sum(weights * np.log(np.where(weights > 0, weights, 1.0)), axis=-1).mean()
    assert stats["entropy"][0] == pytest.approx(entropy, rel=1e-5)
    if name != "qk none":
        shared = {path: parameters[path] for path in plain.specs}
        assert distance(y, run(plain, shared, x)[0]) > 0.01


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in ("cap", "all")])
def test_fused_kernel_with_options(name):
    """The same numbers through `jax.nn.dot_product_attention`, which knows no soft-cap."""
    options, _ = OPTIONS[name]
    one, two = (attention(**options, rotary=True, implementation=kind) for kind in ("einsum", "xla"))
    parameters, x = random_parameters(one.specs), inputs()
    assert distance(run(two, parameters, x)[0], run(one, parameters, x)[0]) < 1e-5


@pytest.mark.core
@pytest.mark.parametrize("implementation", ["einsum", "xla"])
@pytest.mark.parametrize("name", ["qk none", "qk l2", "all"])
def test_cross_attention(name, implementation):
    """Keys and values from the memory, where it is valid; no causal mask and no rotary positions."""
    options, theirs = OPTIONS[name]
    if implementation == "xla" and "soft_cap" in options:
        options, theirs = {**options, "soft_cap": 0.0}, {}
    model = attention(**options, cross=True, rotary=True, implementation=implementation)
    parameters, x, memory = random_parameters(model.specs), inputs(), inputs(M, seed=1)
    mask = np.array([[True] * M, [True, True, True, False, False]])
    y, _ = run(model, parameters, x, memory=memory, memory_mask=mask)
    expected = transformer.attention(_acting(nested(parameters)), x, HEADS, memory, key_mask=mask, **theirs)
    assert distance(y, expected) < 1e-5
    everywhere, _ = run(model, parameters, x, memory=memory)
    assert distance(everywhere, transformer.attention(_acting(nested(parameters)), x, HEADS, memory, **theirs)) < 1e-5


def test_values_are_handed_on_and_mixed_before_their_norm():
    """A later block gets the first one's values as projected, and the norm acts on the mixture."""
    first, later = attention(value_mix="keep", v_norm="head"), attention(value_mix=(0.3, 1.7), v_norm="head")
    parameters, x = random_parameters(first.specs), inputs()
    y, memo, _ = first.bind(parameters)(jnp.asarray(x).reshape(-1, D), {}, Context(batch=B))
    parts = transformer.attention_parts(nested(parameters), x, HEADS)
    assert distance(np.asarray(y).reshape(x.shape), parts["out"]) < 1e-5
    assert distance(memo["values"], parts["values"].swapaxes(1, 2)) < 1e-5
    others, h = random_parameters(later.specs, seed=1), inputs(seed=2)
    y, after, _ = later.bind(others)(jnp.asarray(h).reshape(-1, D), memo, Context(batch=B))
    assert after["values"] is memo["values"]
    mixed = transformer.attention(nested(others), h, HEADS, first_values=parts["values"], value_mix=(0.3, 1.7))
    assert distance(np.asarray(y).reshape(x.shape), mixed) < 1e-5


def test_first_values_of_options():
    """s acts as 1 and is stored as 1/√width, τ is log 10, γ is 1; none of them is decayed."""
    specs = attention(qk_norm="l2", head_scale=True).specs | attention(qk_norm="cosine").specs
    assert {path: spec.init.scale for path, spec in specs.items() if "/" not in path} == {
        "qk_scale": D**-0.5,
        "head_scale": 1.0,
        "temperature": pytest.approx(np.log(10.0)),
    }
    assert {specs[path].group for path in ("qk_scale", "temperature")} == {"coefficient"}


def test_cosine_logits_are_bounded():
    """τ beyond log 100 changes nothing: logits stay within ±100."""
    model = attention(qk_norm="cosine")
    parameters, x = random_parameters(model.specs), inputs()
    at = [run(model, {**parameters, "temperature": jnp.full(HEADS, np.log(v))}, x) for v in (100.0, 1e6)]
    np.testing.assert_allclose(at[0][0], at[1][0], rtol=1e-6)
    assert at[0][1]["logit_max"][0] <= 100.0


def test_direction_of_nothing():
    x = jnp.zeros((2, 3))
    np.testing.assert_array_equal(direction(x), x)
    np.testing.assert_array_equal(
        jax.grad(lambda x: direction(x).sum())(x), x
    )  # and not 1e12, which a zero W_q would be hit by


@pytest.mark.parametrize(("activation", "kind"), itertools.product(("gelu", "swiglu"), ("layer", "rms")))
def test_norm_of_hidden_units(activation, kind):
    spec = norms.PUBLISHED[kind]
    model = Functional(lambda rngs: FeedForward(D, HIDDEN, activation, inits, bias=True, rngs=rngs, hidden_norm=spec))
    assert model.specs["hidden_norm/gain"].shape == (HIDDEN,)
    parameters, x = random_parameters(model.specs), inputs()
    y, _, _ = model.bind(parameters)(jnp.asarray(x).reshape(-1, D), {}, Context(batch=B))
    inner = {"layer": reference_norms.layer_norm, "rms": reference_norms.rms_norm}[kind]
    expected = transformer.feed_forward(nested(parameters), x, activation, inner_norm=inner)
    assert distance(np.asarray(y).reshape(x.shape), expected) < 1e-5


# --- the encoder–decoder ---


def encoder_decoder(name: str, source_depth: int = 2, **changes) -> Functional[EncoderDecoder]:
    arch = architecture(depth=DEPTH, **changes)
    return Functional(
        lambda rngs: EncoderDecoder(catalogue.get(name), arch, VOCAB, T, source_depth=source_depth, rngs=rngs)
    )


def both_stacks(name, parameters, source, target, mask):
    """(memory, y) in float64 by (encoder, decoder) functions of the reference."""
    tree, arch = nested(parameters), architecture()
    encoder = transformer.bodies(bodies(tree["encoder"]), HEADS, causal=False, key_mask=mask)
    decoder = transformer.bodies(bodies(tree["decoder"]), HEADS, memory_mask=mask)
    ours = {"encoder": own(tree["encoder"]), "decoder": own(tree["decoder"])}
    return embedded(tree, source, arch), embedded(tree, target, arch), encoder, decoder, ours, tree


MASK = np.array([[True] * T, [True] * 5 + [False] * (T - 5)])


@pytest.mark.core
@pytest.mark.parametrize("scan", ["off", "on"])
def test_deepnorm_with_the_constants_of_both_stacks(scan):
    model = encoder_decoder("deepnorm", scan_layers=scan)
    parameters = random_parameters(model.specs)
    source, target = tokens(0), tokens(1)
    logits, _ = model.bind(parameters)(source, target, Context(batch=B, mask=jnp.asarray(MASK)))
    x, y, encoder, decoder, p, tree = both_stacks("deepnorm", parameters, source, target, MASK)
    theirs, _ = schemes.deepnorm_encoder_decoder(x, y, encoder, decoder, p)
    expected = transformer.output_logits(theirs, embedding=tree["embedding"]["tokens"]).reshape(-1, VOCAB)
    assert distance(logits, expected) < 1e-5


@pytest.mark.core
def test_b2t_passes_by_the_norm_of_cross_attention_too():
    model = encoder_decoder("b2t")
    parameters = random_parameters(model.specs)
    source, target = tokens(0), tokens(1)
    logits, _ = model.bind(parameters)(source, target, Context(batch=B, mask=jnp.asarray(MASK)))
    x, y, encoder, decoder, p, tree = both_stacks("b2t", parameters, source, target, MASK)
    for stack in p.values():
        for block in stack["blocks"]:
            block["feed_forward"] = block["block"]
    memory = schemes.b2t_encoder(x, encoder, p["encoder"])
    theirs = schemes.b2t_decoder(y, decoder, p["decoder"], memory)
    expected = transformer.output_logits(theirs, embedding=tree["embedding"]["tokens"]).reshape(-1, VOCAB)
    assert distance(logits, expected) < 1e-5


@pytest.mark.core
def test_sub_ln_of_both_stacks():
    """Pre-LN with inner norms in self-attention and feed-forward; none in cross-attention, whose weights start plain."""
    model = encoder_decoder("sub_ln")
    parameters = random_parameters(model.specs)
    source, target = tokens(0), tokens(1)
    logits, _ = model.bind(parameters)(source, target, Context(batch=B, mask=jnp.asarray(MASK)))
    x, y, encoder, decoder, p, tree = both_stacks("sub_ln", parameters, source, target, MASK)
    memory = schemes.pre_ln(x, encoder, p["encoder"])
    theirs = schemes.pre_ln(y, decoder, p["decoder"], memory=memory)
    expected = transformer.output_logits(theirs, embedding=tree["embedding"]["tokens"]).reshape(-1, VOCAB)
    assert distance(logits, expected) < 1e-5
    gammas, bound = schemes.sub_ln_gammas(2, DEPTH), np.sqrt(6 / (2 * D))
    for stack in ("encoder", "decoder"):
        init = model.specs[f"{stack}/blocks/1/attention/value/kernel"].init
        assert init.scale == pytest.approx(gammas[stack] * bound)
    assert model.specs["decoder/blocks/1/cross_attention/value/kernel"].init.scale == pytest.approx(bound)
    inner = {path for path in model.specs if "out_norm" in path or "hidden_norm" in path}
    assert {path.split("/")[3] for path in inner} == {"attention", "feed_forward"}


def test_labels_probes_and_dropout_of_both_stacks(monkeypatch):
    model = encoder_decoder("pre_ln")
    labels = model.module.labels
    assert labels[:2] == ("encoder.0.attention", "encoder.0.feed_forward")
    assert labels[4:7] == ("decoder.0.attention", "decoder.0.cross_attention", "decoder.0.feed_forward")
    parameters = random_parameters(model.specs)
    context = Context(batch=B, diagnostics=True, mask=jnp.asarray(MASK))

    def loss(probes):
        logits, stats = model.bind(parameters)(tokens(0), tokens(1), context, probes)
        return jnp.mean(jnp.sin(logits)), stats

    taps, stats = jax.grad(loss, has_aux=True)(jnp.zeros(len(labels)))
    assert np.all(taps > 0)
    assert stats["stream_rms"].shape == (len(labels),)
    noisy = Context(key=jax.random.key(1), dropout=0.3, batch=B, train=True)
    # A block of either stack, and the two embeddings, have keys of their own, though their numbers are the same.
    keys: list[tuple[int, ...]] = []
    bernoulli = jax.random.bernoulli

    def recorded(key, *rest):
        keys.append(tuple(np.asarray(jax.random.key_data(key)).tolist()))
        return bernoulli(key, *rest)

    monkeypatch.setattr(jax.random, "bernoulli", recorded)
    one, two = (model.bind(parameters)(tokens(0), tokens(0), context)[0] for context in (noisy, Context(batch=B)))
    assert distance(one, two) > 0.01
    assert len(keys) == len(set(keys)) == 2 + len(labels)


def beside(site, norm):
    """Self- and cross-attention of a decoder side by side, then the feed-forward."""
    *attending, last = site.sublayers
    return At(Sum(tuple(attending)), Rule(pre=norm)), At(last, Rule(pre=norm))


@pytest.mark.core
@pytest.mark.parametrize(
    ("scheme", "decoder"),
    [
        (catalogue.get("pre_ln"), ["decoder.0.attention", "decoder.0.cross_attention"]),
        (
            replace(catalogue.get("pre_ln"), name="beside", block=beside),
            ["decoder.0.attention+cross_attention:attention", "decoder.0.attention+cross_attention:cross_attention"],
        ),
    ],
    ids=["one after the other", "side by side"],
)
def test_each_statistic_of_attention_has_a_column_of_its_own(scheme, decoder):
    """In an encoder–decoder too: as many columns as values, in their order."""
    model = Functional(lambda rngs: EncoderDecoder(scheme, architecture(depth=1), VOCAB, T, source_depth=1, rngs=rngs))
    context = Context(batch=B, attention_statistics=True, mask=jnp.asarray(MASK))
    _, stats = model.bind(random_parameters(model.specs))(tokens(0), tokens(1), context)
    columns = attention_columns(model.module.labels)
    assert columns == ["encoder.0.attention", *decoder]
    assert stats["logit_max"].shape == stats["entropy"].shape == (len(columns),)


def test_a_later_target_token_changes_no_earlier_logit():
    model = encoder_decoder("pre_ln", rotary=True)
    parameters = random_parameters(model.specs)
    target = tokens(1)
    later = target.at[:, 5].set((target[:, 5] + 1) % VOCAB)
    one, two = (
        np.asarray(model.bind(parameters)(tokens(0), t, Context(batch=B))[0]).reshape(B, T, VOCAB)
        for t in (target, later)
    )
    np.testing.assert_array_equal(one[:, :5], two[:, :5])
    moved = tokens(0).at[:, 7].add(1) % VOCAB
    other = np.asarray(model.bind(parameters)(moved, target, Context(batch=B))[0]).reshape(B, T, VOCAB)
    assert np.all(np.abs(other - one).max(-1) > 1e-5)  # the whole source is seen from everywhere
