"""Properties for kinds of slip that no other test notices: the regime of ε, the place and the independence of random masks, histories
longer than a group, a seed that only one of two rows has."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge import B, D, architecture, decoder, distance, random_parameters, reference_logits, tokens
from flax import nnx
from reference import norms as reference
from sample import REPRESENTATIVE, expensive
from test_report_study import summary_of, write_plan, write_run

from addnorm_exp.report.load import load_study
from addnorm_exp.report.tables.ablation import build
from addnorm_exp.residual import BlockConnections, Context, Depths, catalogue, sites
from addnorm_exp.residual.catalogue.history import GROUP
from addnorm_exp.residual.norms import PUBLISHED, Norm
from addnorm_exp.residual.rule import RuleConnection

# --- the regime of ε ---

NORMS = {
    "layer": reference.layer_norm,
    "layer_no_affine": reference.layer_norm,
    "rms": reference.rms_norm,
    "gemma_rms": functools.partial(reference.rms_norm, unit_offset=True),
    "prms": reference.p_rms_norm,
    "crms": reference.crms_norm,
    "scale": reference.scale_norm,
    "l2": reference.l2_norm,
    "ada": reference.ada_norm,
    "detach": reference.detach_norm,
    "dyt": reference.dyt,
    "derf": reference.derf,
}


@pytest.mark.core
@pytest.mark.parametrize("width", [7, 33, 96])
@pytest.mark.parametrize("kind", [kind for kind in PUBLISHED if kind != "none"])
def test_rows_far_below_epsilon_to_far_above_its_root(kind, width):
    """Each row against the equation by its own size, at widths that no share and no power of two divides."""
    norm = Norm(PUBLISHED[kind], width, rngs=nnx.Rngs(0))
    g = np.random.default_rng(width)
    sizes = 10.0 ** np.arange(-9, 4, 0.5)
    x = (sizes[:, None] * (g.normal(size=(len(sizes), width)) + 0.3)).astype(np.float32)
    names = ("gain", "bias", "alpha", "shift")
    parameters = {name: np.asarray(getattr(norm, name)[...], np.float64) for name in names if hasattr(norm, name)}
    ours, theirs = np.asarray(jax.jit(norm)(jnp.asarray(x)), np.float64), NORMS[kind](x, parameters)
    for size, row, expected in zip(sizes, ours, theirs, strict=True):
        np.testing.assert_allclose(row, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max(), err_msg=f"{size:.0e}")


# --- random masks ---


def noisy(drop_path: float | None, key: int = 1) -> Context:
    return Context(key=jax.random.key(key), dropout=0.3, drop_path=drop_path, batch=B, train=True)


@pytest.mark.parametrize("name", expensive(core=("pre_ln", "b2t"), default=("parallel", "hyper_static")))
def test_any_two_masks_of_a_step_are_drawn_from_keys_of_their_own(name, monkeypatch):
    """Whatever draws them (units or paths, embedding or sublayer, this block or another): one key never serves twice."""
    keys: list[tuple[int, ...]] = []
    bernoulli = jax.random.bernoulli

    def recorded(key, *rest):
        keys.append(tuple(np.asarray(jax.random.key_data(key)).tolist()))
        return bernoulli(key, *rest)

    model = decoder(catalogue.get(name), architecture(depth=2))
    with monkeypatch.context() as patched:
        patched.setattr(jax.random, "bernoulli", recorded)
        model.bind(random_parameters(model.specs))(tokens(), noisy(0.4))
    units = 1 + 2 * 2
    assert len(keys) > units, "stochastic depth draws nothing"
    assert len(set(keys)) == len(keys)


def branches_written(scheme, drop_path: float | None, monkeypatch) -> np.ndarray:
    """What the first site of a block adds, one row a sequence: constant bodies, so that nothing else is random."""
    site = sites("decoder", Depths(decoder=2))[1]
    block = BlockConnections(scheme.plan(site), site, D, rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(64 * 3, D)), jnp.float32)
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=(D, D)), jnp.float32)
    written: list[np.ndarray] = []
    write = RuleConnection.write

    def recorded(self, state, branch, kept):
        written.append(np.asarray(branch).reshape(64, -1))
        return write(self, state, branch, kept)

    bodies = {kind: lambda h, memo, context: (h @ kernel, memo, {}) for kind in site.sublayers}
    context = Context(key=jax.random.key(0), drop_path=drop_path, batch=64, train=True)
    with monkeypatch.context() as patched:
        patched.setattr(RuleConnection, "write", recorded)
        block(x, {}, context, bodies)
    return written[0]


ONE_STREAM = [
    name
    for name in catalogue.names()
    if all(
        type(inner.rule).__name__ == "Rule"
        for site in sites("decoder", Depths(decoder=2))
        for at in catalogue.get(name).plan(site)
        for inner in at.walk()
    )
]


@pytest.mark.parametrize(
    "name",
    [
        name if name in (*REPRESENTATIVE, "sandwich_ln") else pytest.param(name, marks=pytest.mark.full)
        for name in ONE_STREAM
    ],
)
def test_a_kept_branch_is_the_whole_branch_over_its_probability(name, monkeypatch):
    """Of a sequence the branch is dropped behind its norm and coefficient: exactly 0, or b / (1 - p)."""
    scheme, p = catalogue.get(name), 0.4
    whole, noisy_ = (branches_written(scheme, rate, monkeypatch) for rate in (None, p))
    kept = np.any(noisy_ != 0, axis=1)
    assert np.any(whole != 0) or not kept.any()  # a gate that starts at 0 writes nothing
    np.testing.assert_allclose(noisy_[kept], whole[kept] / (1 - p), rtol=1e-6)
    if np.any(whole != 0):
        assert 0.3 < kept.mean() < 0.9


# --- histories longer than a group ---


def keeps_outputs(scheme) -> bool:
    """Whether the state is a history, which starts with the embedding alone and grows."""
    ends = scheme.connect_ends(D, rngs=nnx.Rngs(0))
    return scheme.family == "history" and isinstance(ends.open(jnp.zeros((1, D))), tuple)


@pytest.mark.parametrize(
    "name",
    expensive(
        default=("denseformer",), names=[name for name in catalogue.names() if keeps_outputs(catalogue.get(name))]
    ),
)
def test_a_history_longer_than_two_groups_equals_the_reference(name):
    """From random weights: what follows a whole group of outputs takes part with its own."""
    arch = architecture(depth=2 * GROUP + 2)
    model = decoder(catalogue.get(name), arch)
    parameters = random_parameters(model.specs)
    logits, _ = model.bind(parameters)(tokens(), Context(batch=B))
    assert distance(logits, reference_logits(name, parameters, tokens(), arch)) < 3e-5


# --- statistics with a hole ---


def test_an_interval_counts_what_is_paired(tmp_path):
    """Two rows of five seeds that share three: neither interval nor p of the difference, and the table says how many are shared."""
    plan = [
        write_run(tmp_path / f"{scheme}{seed}", scheme, seed, summary_of(scheme, level + 0.01 * seed))
        for scheme, level, first in (("pre_ln", 2.4, 0), ("post_ln", 2.6, 2))
        for seed in range(first, first + 5)
    ]
    write_plan(tmp_path, {"run": plan}, tuned=[])
    table = build(load_study(tmp_path))
    difference = dict(zip(table["scheme"], table["difference"], strict=True))["post_ln"]
    assert difference == "+0.200, +0.200, +0.200"
    record = next(record for record in table.records if record["scheme"] == "post_ln")
    assert record["difference_n"] is None
    assert record["difference"] is None
    assert "p" not in record or record["p"] is None


def test_an_interval_over_shared_seeds_is_that_of_as_many_pairs(tmp_path):
    """Seven seeds each, five shared: n is 5, and mean and bounds are scipy's over these."""
    from scipy import stats

    g = np.random.default_rng(0)
    values = {("pre_ln", seed): 2.4 + 0.05 * g.normal() for seed in range(7)} | {
        ("post_ln", seed): 2.6 + 0.05 * g.normal() for seed in range(2, 9)
    }
    plan = [
        write_run(tmp_path / f"{scheme}{seed}", scheme, seed, summary_of(scheme, value))
        for (scheme, seed), value in values.items()
    ]
    write_plan(tmp_path, {"run": plan}, tuned=[])
    record = next(r for r in build(load_study(tmp_path)).records if r["scheme"] == "post_ln")
    pairs = [values["post_ln", seed] - values["pre_ln", seed] for seed in range(2, 7)]
    bounds = stats.t.interval(0.95, 4, loc=np.mean(pairs), scale=stats.sem(pairs))
    assert record["difference_n"] == 5
    assert (record["difference_low"], record["difference_high"]) == pytest.approx(bounds, rel=1e-4)
