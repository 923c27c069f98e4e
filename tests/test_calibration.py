"""What a scheme sets from data before step 0: measured right, once, kept over a resume, and on record."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import of_config
import pytest
from bridge import (
    HEADS,
    VOCAB,
    B,
    T,
    architecture,
    bodies,
    decoder,
    distance,
    embedded,
    nested,
    own,
    random_parameters,
    tokens,
)
from of_config import hypers, run
from reference import admin, norms, transformer
from training import assert_equal_runs, config, interrupt, parameters

from addnorm_exp.nn.functional import Functional
from addnorm_exp.nn.models import EncoderDecoder
from addnorm_exp.residual import At, Context, Depths, Learned, Rule, catalogue, sites
from addnorm_exp.residual.versioned import Versioned, own_paths
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.train import programs
from addnorm_exp.train.calibration import calibrated, calibrated_by


def to_measured(specs, parameters, measure):
    """The skip of each site becomes the root of its stream's and its branch's variance."""
    paths = own_paths(specs, "skip")
    roots = {
        paths[label]: jnp.sqrt(at["stream_variance"] + at["branch_variance"])
        for label, at in measure(parameters).items()
    }
    return {path: jnp.full_like(value, roots[path]) if path in roots else value for path, value in parameters.items()}


SCHEME = replace(
    catalogue.get("post_ln"),
    name="measured",
    block=lambda site, norm: tuple(At(kind, Rule(skip=Learned(1.0, "vector"), post=norm)) for kind in site.sublayers),
    calibrate=Versioned(to_measured, version=1),
)


@pytest.fixture
def known(monkeypatch):
    """The scheme in the catalogue, and no program from before."""
    monkeypatch.setitem(catalogue._BY_NAME, "measured", SCHEME)
    monkeypatch.setattr(programs, "_PROGRAMS", {})
    return config(scheme="measured")


def test_variances_are_those_of_the_equations():
    """Of all elements of what each site reads and adds, against the float64 Post-LN; the diagnostics stay as they were."""
    model = decoder(catalogue.get("post_ln"))
    values = random_parameters(model.specs)
    _, stats = model.bind(values)(tokens(), Context(batch=B, variances=True))
    assert set(stats) == {"stream_variance", "branch_variance"}
    tree = nested(values)
    x, p, streams, branches = embedded(tree, tokens(), architecture()), own(tree["decoder"]), [], []
    for block, F in enumerate(transformer.bodies(bodies(tree["decoder"]), HEADS)):
        for kind in ("attention", "feed_forward"):
            b = F[kind](x)
            streams.append(x.var())
            branches.append(b.var())
            x = norms.layer_norm(x + b, p["blocks"][block][kind]["post"])
    np.testing.assert_allclose(stats["stream_variance"], streams, rtol=1e-5)
    np.testing.assert_allclose(stats["branch_variance"], branches, rtol=1e-5)


@pytest.mark.full
def test_once_before_step_0_and_on_record(known, data, tmp_path, monkeypatch):
    summary = run(known, data, RunFolder(tmp_path / "whole"))
    skips = [path for path in parameters(tmp_path / "whole") if path.endswith("/skip")]
    assert set(summary.calibrated) == set(skips)
    assert len(skips) == 2 * known.model.depth
    # What stands in the record is what the first batch gives from the drawn values.
    made = of_config.program(known)
    state = made.init(made.placed(hypers(known)))
    inputs, targets = made.task.batch(jnp.asarray(data.train), jnp.uint32(0), jnp.int32(0))
    stats = made.task.diagnostics(state.parameters, {}, (inputs, targets), Context(variances=True))
    expected = np.sqrt(np.asarray(stats["stream_variance"]) + np.asarray(stats["branch_variance"]))
    paths = own_paths(made.task.model.specs, "skip")
    found = [summary.calibrated[paths[label]] for label in made.task.labels]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.ptp(expected) > 1e-3

    # A resumed run takes them from its checkpoint: a scheme that would measure again is not asked.
    def must_not(specs, parameters, measure):
        raise AssertionError("calibrated again")

    must_not.__name__ = to_measured.__name__  # the same run by its id
    assert interrupt(known, data, tmp_path / "cut", chunks=3) == 6
    monkeypatch.setitem(catalogue._BY_NAME, "measured", replace(SCHEME, calibrate=Versioned(must_not, version=1)))
    monkeypatch.setattr(programs, "_PROGRAMS", {})
    again = run(known, data, RunFolder(tmp_path / "cut"))
    assert again.calibrated == summary.calibrated
    assert_equal_runs(tmp_path / "whole", tmp_path / "cut")


def test_a_scheme_that_sets_nothing_is_left_alone(data):
    made = of_config.program(config())
    state = made.init(hypers(config()))
    assert made.calibrate(state, made.placed(hypers(config())), made.put(data)) is state
    places = sites("decoder", Depths(decoder=3))
    assert SCHEME.digest(places) != replace(SCHEME, calibrate=None).digest(places)


# --- Admin ---


def profiled(model, parameters, *inputs, **context):
    """Admin's ω by our calibration on this batch, (sites, width) in the order of the labels; nothing else may change."""

    def statistics(values, asked):
        return model.bind(values)(*inputs, replace(asked, batch=B, **context))[1]

    labels, by_label = model.module.labels, own_paths(model.specs, "skip")
    found = jax.jit(lambda p: calibrated_by(catalogue.get("admin"), model.specs, labels, statistics, p))(parameters)
    paths = [by_label[label] for label in labels]
    for path, value in parameters.items():
        if path not in paths:
            np.testing.assert_array_equal(found[path], value, err_msg=path)
    return np.stack([found[path] for path in paths]), found


@pytest.mark.core
@pytest.mark.parametrize("scan", ["off", "on"])
def test_admins_omegas_are_those_of_the_equations(scan):
    """From random gains and biases, so that a stream behind a norm has no unit variance; whatever the skips were before."""
    model = decoder(catalogue.get("admin"), architecture(scan_layers=scan))
    drawn = random_parameters(model.specs)
    ours, _ = profiled(model, drawn, tokens())
    tree = nested(drawn)
    F = transformer.bodies(bodies(tree["decoder"]), HEADS)
    theirs, _ = admin.profile(embedded(tree, tokens(), architecture()), F, own(tree["decoder"]))
    np.testing.assert_allclose(ours, np.repeat(np.array(theirs)[:, None], ours.shape[1], 1), rtol=1e-5)
    assert theirs[0] == 1
    assert np.ptp(theirs) > 1


def test_admin_measures_until_nothing_changes():
    """Statistics that do not depend on ω are right at once, and the second pass says so; of ω's that never rest, one pass a sublayer."""
    model = decoder(catalogue.get("admin"), architecture(depth=4))
    parameters = model.init(0)
    for restless, expected in ((False, 2), (True, 8)):
        passes = []

        def measure(values, restless=restless, passes=passes):
            passes.append(values)
            variance = jnp.float32(1.0 + restless * len(passes))
            return {label: {"stream_variance": variance, "branch_variance": variance} for label in model.module.labels}

        with jax.disable_jit():
            catalogue.get("admin").calibrate(model.specs, parameters, measure)
        assert len(passes) == expected


@pytest.mark.core
def test_admin_profiles_each_stack_from_one():
    """Encoder and decoder in float64, the decoder behind what the profiled encoder says, with padding in the source."""
    mask = np.array([[True] * T, [True] * 5 + [False] * (T - 5)])
    model = Functional(
        lambda rngs: EncoderDecoder(catalogue.get("admin"), architecture(), VOCAB, T, source_depth=2, rngs=rngs)
    )
    drawn, source, target = random_parameters(model.specs), tokens(0), tokens(1)
    ours, found = profiled(model, drawn, source, target, mask=jnp.asarray(mask))
    tree = nested(drawn)
    encoder = transformer.bodies(bodies(tree["encoder"]), HEADS, causal=False, key_mask=mask)
    decoder_ = transformer.bodies(bodies(tree["decoder"]), HEADS, memory_mask=mask)
    read, memory = admin.profile(embedded(tree, source, architecture()), encoder, own(tree["encoder"]))
    wrote, _ = admin.profile(embedded(tree, target, architecture()), decoder_, own(tree["decoder"]), memory=memory)
    assert read[0] == wrote[0] == 1
    np.testing.assert_allclose(ours[:, 0], [*read, *wrote], rtol=1e-5)
    # And the model that is so set is the equation's.
    tree = nested(found)
    memory = admin.admin(embedded(tree, source, architecture()), encoder, own(tree["encoder"]))
    y = admin.admin(embedded(tree, target, architecture()), decoder_, own(tree["decoder"]), memory=memory)
    expected = transformer.output_logits(y, embedding=tree["embedding"]["tokens"]).reshape(-1, VOCAB)
    logits, _ = model.bind(found)(source, target, Context(batch=B, mask=jnp.asarray(mask)))
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.core
def test_admin_uncalibrated_is_post_ln():
    model = decoder(catalogue.get("admin"))
    ones = {
        path: jnp.ones_like(x) if path.endswith("/skip") else x for path, x in random_parameters(model.specs).items()
    }
    plain = decoder(catalogue.get("post_ln"))
    assert plain.specs == {path: spec for path, spec in model.specs.items() if not path.endswith("/skip")}
    expected, _ = plain.bind(ones)(tokens(), Context(batch=B))
    np.testing.assert_array_equal(model.bind(ones)(tokens(), Context(batch=B))[0], expected)


def test_admin_folds_into_a_post_ln():
    """N(ω ⊙ x + F(x)) is N(z + F(z / ω)) of z = ω ⊙ x: ω goes into gain and bias of the norm before it (the first one into the embedding),
    and its inverse into the rows of the weights that read x."""
    model, plain = decoder(catalogue.get("admin")), decoder(catalogue.get("post_ln"))
    values = random_parameters(model.specs)
    folded = {path: np.asarray(value) for path, value in values.items() if not path.endswith("/skip")}
    readers = {"attention": ("query", "key", "value"), "feed_forward": ("up",)}
    before = ["embedding/tokens", "embedding/positions"]
    skips, gains, biases = (own_paths(model.specs, name) for name in ("skip", "post/gain", "post/bias"))
    for label in model.module.labels:
        omega = np.asarray(values[skips[label]])
        for path in before:
            folded[path] = folded[path] * jnp.broadcast_to(omega, folded[path].shape)
        _, block, kind = label.split(".")
        for role in readers[kind]:
            path = f"decoder/blocks/{block}/{kind}/{role}/kernel"
            folded[path] = folded[path] / omega[:, None]
        before = [gains[label], biases[label]]
    expected, _ = model.bind(values)(tokens(), Context(batch=B))
    found, _ = plain.bind(jax.tree.map(jnp.asarray, folded))(tokens(), Context(batch=B))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.full
def test_a_run_of_admin_starts_from_its_omegas(data, tmp_path):
    """The same in every coordinate, 1 at first and rising; the record says so."""
    asked = config(scheme="admin", model__depth=2)
    summary = run(asked, data, RunFolder(tmp_path))
    task = of_config.program(asked).task
    paths = own_paths(task.model.specs, "skip")
    omegas = [summary.calibrated.get(paths[label], 1.0) for label in task.labels]
    assert len(summary.calibrated) == 3  # ω_1 was 1 already
    assert omegas[0] == 1
    assert np.all(np.diff(omegas) > 0)


def test_admin_measures_the_first_micro_batch(data):
    """As its record says: of a step in two micro-batches the first, and not the whole batch."""
    asked = config(scheme="admin", optim__accumulate=2, data__seed=0)
    compiled = of_config.program(asked)
    hypers_, held = compiled.placed(hypers(asked)), compiled.put(data)
    state = compiled.init(hypers_)
    ours = compiled.calibrate(state, hypers_, held).parameters
    batch = compiled.task.batch(jnp.asarray(data.train), jnp.uint32(asked.data.seed), jnp.int32(0))
    half = jax.tree.map(lambda x: x[: asked.batch_size // 2], batch)
    first, whole = (calibrated(compiled.task, state.parameters, part) for part in (half, batch))
    skips = [path for path in ours if path.endswith("/skip")]
    assert any(distance(whole[path], first[path]) > 1e-3 for path in skips)
    for path in skips:
        np.testing.assert_allclose(ours[path], first[path], rtol=1e-5)
