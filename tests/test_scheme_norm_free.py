"""What the papers say of schemes without a norm, of learned coefficients and gates, of init laws and of factors by depth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge import (
    DEPTH,
    HEADS,
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
    own,
    random_parameters,
    reference,
    tokens,
)
from flax import nnx
from reference import norm_free, transformer

from addnorm_exp.nn.functional import Functional
from addnorm_exp.nn.models import EncoderDecoder
from addnorm_exp.residual import Context, Depths, Learned, Site, catalogue, sites
from addnorm_exp.residual.factors import in_words
from addnorm_exp.residual.init import Factors, Init


@pytest.mark.core
@pytest.mark.parametrize(("name", "count"), [("rezero", DEPTH), ("skipinit", 2 * DEPTH)])
def test_zero_coefficients_are_the_identity_at_init(name, count):
    """The stream is x0 to the last bit; only the coefficients, the embedding and the head have a gradient."""
    model = decoder(catalogue.get(name))
    rates = [path for path in model.specs if model.specs[path].group == "coefficient"]
    assert len(rates) == count
    assert all(model.specs[path].init == Init.constant(0.0) for path in rates)
    parameters = random_parameters(model.specs) | {path: jnp.zeros(()) for path in rates}

    def run(parameters):
        bound = model.bind(parameters)
        x = bound.embedding(tokens(), Context(batch=B), jnp.float32)
        return x, bound.decoder(x, Context(batch=B))[0]

    before, after = run(parameters)
    np.testing.assert_array_equal(before, after)

    def loss(parameters):
        logits, _ = model.bind(parameters)(tokens(), Context(batch=B))
        return jnp.mean(jnp.sin(logits))

    alive = {path for path, grad in jax.jit(jax.grad(loss))(parameters).items() if np.any(grad)}
    assert alive == {*rates, "embedding/tokens", "embedding/positions", "head/kernel"}


def test_rezero_with_one_coefficient_is_skipinit_with_equal_ones():
    model, other = (decoder(catalogue.get(name).with_norm(kind="rms")) for name in ("rezero", "skipinit"))
    parameters = random_parameters(other.specs)
    shared = {path: value for path, value in parameters.items() if path in model.specs}
    for path in other.specs:
        if path.endswith("feed_forward/connection/scale"):
            parameters[path] = parameters[path.replace("feed_forward/connection", "attention/connection")]
    ours, theirs = (m.bind(p)(tokens(), Context(batch=B))[0] for m, p in ((model, shared), (other, parameters)))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("name", "a"), [("depth_mup", 0.5), ("completep", 1.0)])
def test_depth_factors(name, a):
    """At eight blocks m = 4: in the blocks lr × m^(a - 1), everywhere ε × m^-a, the decay as it is; at two blocks Pre-LN to the bit."""
    model = decoder(catalogue.get(name), architecture(depth=8))
    for path, spec in model.specs.items():
        inside = path.startswith("decoder/blocks/")
        assert spec.factors.lr == pytest.approx(4 ** (a - 1) if inside else 1.0), path
        assert spec.factors.eps == pytest.approx(4**-a), path
        assert spec.factors.decay == 1.0, path
    base, plain = (decoder(catalogue.get(each), architecture(depth=2)) for each in (name, "pre_ln"))
    assert {spec.factors for spec in base.specs.values()} == {Factors()}
    parameters = random_parameters(plain.specs)
    ours, theirs = (each.bind(parameters)(tokens(), Context(batch=B))[0] for each in (base, plain))
    np.testing.assert_array_equal(ours, theirs)


def test_factors_in_words():
    """At depth 8, of a base of 2: m = 4. Of nGPT, which decays nothing, only what would be decayed is named."""
    arch = architecture(depth=8)
    assert {
        name: in_words(decoder(catalogue.get(name), arch).specs.values()) for name in ("pre_ln", "depth_mup", "ngpt")
    } == {
        "pre_ln": "",
        "depth_mup": "in the blocks lr × 0.5, ε × 0.5; at the ends ε × 0.5",
        "ngpt": "in the blocks decay × 0 (matrix); at the ends decay × 0 (embedding, matrix)",
    }


def test_fixup_is_the_identity_at_init_and_its_head_is_zero():
    model = decoder(catalogue.get("fixup"))
    parameters = model.init(0)
    bound = model.bind(parameters)
    x = bound.embedding(tokens(), Context(batch=B), jnp.float32)
    y, _ = bound.decoder(x, Context(batch=B))
    np.testing.assert_array_equal(x, y)
    assert not np.any(bound(tokens(), Context(batch=B))[0])
    # With its scalars at their first values it is the network without norms.
    plain = random_parameters(decoder(catalogue.get("no_norm")).specs)
    scalars = {path: parameters[path] for path in model.specs if path not in plain}
    assert (
        distance(
            model.bind(plain | scalars)(tokens(), Context(batch=B))[0],
            decoder(catalogue.get("no_norm")).bind(plain)(tokens(), Context(batch=B))[0],
        )
        < 1e-6
    )


@pytest.mark.parametrize(("encoder", "decoder_"), [(0, 4), (6, 0), (6, 6), (12, 3)])
def test_fixup_and_t_fixup_constants(encoder, decoder_):
    """Both stacks of an encoder-decoder, and one by itself: the exponents by hand, m = 4 in attention and 2 in the feed-forward."""
    depths, both = Depths(encoder=encoder, decoder=decoder_), bool(encoder and decoder_)
    total = 2 * encoder + 3 * decoder_ if both else 2 * (encoder + decoder_)
    for stack, depth in (("encoder", encoder), ("decoder", decoder_)):
        kinds = (
            ("attention", "cross_attention", "feed_forward")
            if stack == "decoder" and both
            else ("attention", "feed_forward")
        )
        for site in sites(stack, depths, kinds):
            fixup, t_fixup = (catalogue.get(name).init for name in ("fixup", "t_fixup"))
            for kind in kinds[:-1]:
                assert [fixup(site.at(kind), role) for role in ("query", "key", "value", "out")] == pytest.approx(
                    [total ** (-1 / 6)] * 3 + [0.0]
                )
            last = site.at("feed_forward")
            assert [fixup(last, role) for role in ("up", "gate", "down")] == pytest.approx([total**-0.5, 1.0, 0.0])
            expected = (9 * depth) ** -0.25 if both and stack == "decoder" else 0.67 / depth**0.25
            for kind in kinds:
                assert [t_fixup(site.at(kind), role) for role in ("value", "out", "up", "down")] == pytest.approx(
                    [expected] * 4
                )
                assert [t_fixup(site.at(kind), role) for role in ("query", "key", "gate")] == [1.0] * 3
            ends = site.at("ends")
            assert t_fixup(ends, "embedding") == pytest.approx((9 * depth) ** -0.25)
            assert [t_fixup(ends, "head"), fixup(ends, "head"), fixup(ends, "embedding")] == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(("depth", "first"), [(1, 0.1), (18, 0.1), (19, 1e-5), (24, 1e-5), (25, 1e-6), (48, 1e-6)])
def test_layerscale_starts_at_its_papers_epsilon(depth, first):
    for site in sites("decoder", Depths(decoder=depth)):
        assert [at.rule.scale for at in catalogue.get("layerscale").plan(site)] == [Learned(first, "vector")] * 2


def test_layerscale_of_ones_is_pre_ln():
    model, plain = (decoder(catalogue.get(name)) for name in ("layerscale", "pre_ln"))
    parameters = random_parameters(model.specs)
    ones = {p: jnp.ones_like(v) if model.specs[p].group == "coefficient" else v for p, v in parameters.items()}
    shared = {path: parameters[path] for path in plain.specs}
    np.testing.assert_array_equal(
        model.bind(ones)(tokens(), Context(batch=B))[0], plain.bind(shared)(tokens(), Context(batch=B))[0]
    )


def encoder_decoder(name: str) -> Functional[EncoderDecoder]:
    """Two blocks beside three."""
    return Functional(
        lambda rngs: EncoderDecoder(catalogue.get(name), architecture(), VOCAB, T, source_depth=2, rngs=rngs)
    )


def test_init_laws_of_both_stacks():
    """N = 2 and M = 3 blocks: Fixup's S = 2 · 2 + 3 · 3 = 13; T-Fixup's 0.67 · 2^-¼ and 27^-¼, the shared table by the encoder's 18^-¼."""
    fixup, t_fixup, plain = (encoder_decoder(name).specs for name in ("fixup", "t_fixup", "no_norm"))
    scaled = ("value", "out", "up", "down")
    for path, spec in plain.items():
        if path == "embedding/tokens":
            assert t_fixup[path].init.scale == pytest.approx(18**-0.25 * spec.init.scale)
        if not path.endswith("/kernel"):
            continue
        stack, *_, owner, _ = path.split("/")
        one, other = (specs[path].init.scale / spec.init.scale for specs in (fixup, t_fixup))
        assert one == pytest.approx({"out": 0.0, "down": 0.0, "up": 13**-0.5}.get(owner, 13 ** (-1 / 6))), path
        assert other == pytest.approx(
            (0.67 * 2**-0.25 if stack == "encoder" else 27**-0.25) if owner in scaled else 1.0
        ), path


def test_fixup_of_both_stacks():
    model = encoder_decoder("fixup")
    parameters = random_parameters(model.specs)
    # Halved, so that without a norm the stream stays of the size of its input and rounding is not blown up.
    parameters = {p: value / 2 if model.specs[p].group == "matrix" else value for p, value in parameters.items()}
    tree, arch, source, target = nested(parameters), architecture(), tokens(0), tokens(1)
    encoder = transformer.bodies(bodies(tree["encoder"]), HEADS, causal=False)
    decoder_ = transformer.bodies(bodies(tree["decoder"]), HEADS)
    memory = norm_free.fixup(embedded(tree, source, arch), encoder, own(tree["encoder"]))
    y = norm_free.fixup(embedded(tree, target, arch), decoder_, own(tree["decoder"]), memory)
    expected = transformer.output_logits(y, embedding=tree["embedding"]["tokens"]).reshape(-1, VOCAB)
    logits, _ = model.bind(parameters)(source, target, Context(batch=B))
    assert distance(logits, expected) < 1e-5


@pytest.mark.parametrize(("step", "alpha"), [(0, 0.0), (1000, 0.25), (4000, 1.0), (9000, 1.0)])
def test_branch_norm_fades_in(step, alpha):
    """α_t by the step of the context, against the equation."""
    model = decoder(catalogue.get("branch_norm"))
    parameters = random_parameters(model.specs)
    tree = nested(parameters)
    F = transformer.bodies(bodies(tree["decoder"]), HEADS)
    theirs = reference("branch_norm")(embedded(tree, tokens(), architecture()), F, tree["decoder"], alpha=alpha)
    bound = model.bind(parameters)
    context = Context(batch=B, step=jnp.int32(step))
    ours, _ = bound.decoder(bound.embedding(tokens(), context, jnp.float32), context)
    assert distance(ours, theirs.reshape(ours.shape)) < 1e-5


@pytest.mark.parametrize("name", ["gtrxl", "highway"])
def test_gates_start_near_the_identity(name):
    """With its matrices at 0 a gate takes in σ(-2): of the candidate, which is 0 then, or of the branch."""
    x, y = (jnp.asarray(np.random.default_rng(seed).normal(size=(4, 16)), jnp.float32) for seed in (0, 1))
    (at, *_) = catalogue.get(name).plan(Site(depths=Depths(decoder=1)))
    connection = at.rule.connect(16, nnx.Rngs(0), {})
    parameters = nnx.state(connection, nnx.Param)
    nnx.update(connection, jax.tree.map(lambda value: jnp.zeros_like(value) if value.ndim == 2 else value, parameters))
    taken = 1 / (1 + np.exp(2.0))
    expected = (1 - taken) * x + (taken * y if name == "highway" else 0.0)
    np.testing.assert_allclose(connection.write(x, y, None), expected, rtol=1e-5, atol=1e-6)


def test_simplified_attention_is_the_identity_at_init():
    """W_q = 0 makes the softmax uniform, so that A = I and the block is β_a N(x) + β_f F_f(N(x)): no token sees another."""
    model = decoder(catalogue.get("simplified"))
    bound = model.bind(model.init(0))
    h = jnp.asarray(np.random.default_rng(0).normal(size=(B * T, D)), jnp.float32)
    for block in bound.decoder.blocks:
        for mask in (None, jnp.asarray([[True] * T, [True] * 5 + [False] * (T - 5)])):
            out, _, _ = block.attention(h, {}, Context(batch=B, mask=mask))
            np.testing.assert_allclose(out, h, atol=1e-5)


def test_value_skipinit_hands_the_values_on_at_init():
    """b = 0: A = I, and W_v W_o is orthogonal."""
    model = decoder(catalogue.get("value_skipinit"))
    values = model.init(0)
    bound = model.bind(values)
    h = jnp.asarray(np.random.default_rng(0).normal(size=(B * T, D)), jnp.float32)
    out, _, _ = bound.decoder.blocks[1].attention(h, {}, Context(batch=B))
    path = "decoder/blocks/1/attention"
    np.testing.assert_allclose(out, h @ values[f"{path}/value/kernel"] @ values[f"{path}/out/kernel"], atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(out, axis=-1), jnp.linalg.norm(h, axis=-1), rtol=1e-5)


@pytest.mark.parametrize("implementation", ["xla"])
def test_shaped_attention_by_the_fused_path(implementation):
    model, fused = (
        decoder(catalogue.get("simplified"), architecture(attention=kind)) for kind in ("einsum", implementation)
    )
    parameters = random_parameters(model.specs)
    ours, theirs = (each.bind(parameters)(tokens(), Context(batch=B))[0] for each in (fused, model))
    assert distance(ours, np.asarray(theirs, np.float64)) < 1e-5
