"""What a scheme sets from data before step 0: measured right, once, kept over a resume, and on record."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from bridge import HEADS, B, architecture, bodies, decoder, embedded, nested, own, random_parameters, tokens
from reference import norms, transformer
from training import assert_equal_runs, config, interrupt, parameters

from addnorm_exp.residual import At, Context, Depths, Learned, Rule, catalogue, sites
from addnorm_exp.residual.scheme import own_path
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.train import program
from addnorm_exp.train.hypers import hypers
from addnorm_exp.train.loop import run


def to_measured(parameters, measure):
    """The skip of each site becomes the root of its stream's and its branch's variance."""
    found = measure(parameters)
    roots = {
        own_path(label, "skip"): jnp.sqrt(at["stream_variance"] + at["branch_variance"]) for label, at in found.items()
    }
    return {path: jnp.full_like(value, roots[path]) if path in roots else value for path, value in parameters.items()}


SCHEME = replace(
    catalogue.get("post_ln"),
    name="measured",
    block=lambda site, norm: tuple(At(kind, Rule(skip=Learned(1.0, "vector"), post=norm)) for kind in site.sublayers),
    calibrate=to_measured,
)


@pytest.fixture
def known(monkeypatch):
    """The scheme in the catalogue, and no program from before."""
    monkeypatch.setitem(catalogue._BY_NAME, "measured", SCHEME)
    monkeypatch.setattr(program, "_PROGRAMS", {})
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


def test_once_before_step_0_and_on_record(known, data, tmp_path, monkeypatch):
    summary = run(known, data, RunFolder(tmp_path / "whole"))
    skips = [path for path in parameters(tmp_path / "whole") if path.endswith("/skip")]
    assert set(summary["calibrated"]) == set(skips)
    assert len(skips) == 4
    # What stands in the record is what the first batch gives from the drawn values.
    made = program.program(known)
    state = made.init(made.hypers(known))
    inputs, targets = made.task.batch(jnp.asarray(data.train), jnp.uint32(0), jnp.int32(0))
    _, stats = made.task.loss(state.parameters, jnp.zeros(4), (inputs, targets), Context(variances=True))
    expected = np.sqrt(np.asarray(stats["stream_variance"]) + np.asarray(stats["branch_variance"]))
    found = [summary["calibrated"][own_path(label, "skip")] for label in made.task.labels]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.ptp(expected) > 1e-3

    # A resumed run takes them from its checkpoint: a scheme that would measure again is not asked.
    def must_not(parameters, measure):
        raise AssertionError("calibrated again")

    must_not.__name__ = to_measured.__name__  # the same run by its id
    assert interrupt(known, data, tmp_path / "cut", chunks=3) == 6
    monkeypatch.setitem(catalogue._BY_NAME, "measured", replace(SCHEME, calibrate=must_not))
    monkeypatch.setattr(program, "_PROGRAMS", {})
    again = run(known, data, RunFolder(tmp_path / "cut"))
    assert again["calibrated"] == summary["calibrated"]
    assert_equal_runs(tmp_path / "whole", tmp_path / "cut")


def test_a_scheme_that_sets_nothing_is_left_alone(data):
    made = program.program(config())
    state = made.init(hypers(config()))
    assert made.calibrate(state, made.hypers(config()), made.hold(data)) is state
    places = sites("decoder", Depths(decoder=3))
    assert SCHEME.digest(places) != replace(SCHEME, calibrate=None).digest(places)
