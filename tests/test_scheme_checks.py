"""Records that cannot be right are refused, with a message that says which and the remedy; those that can are carried out as written."""

import re
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge import decoder, nested, random_parameters
from flax import nnx
from reference.norms import layer_norm, rms_norm

from addnorm_exp import residual
from addnorm_exp.nn.functional import Functional
from addnorm_exp.residual import (
    At,
    BlockConnections,
    Chain,
    Connection,
    Context,
    Depths,
    Learned,
    Ramp,
    Rule,
    SchemeError,
    Site,
    Sum,
    Topology,
    catalogue,
    digest,
    norms,
    sites,
)
from addnorm_exp.residual.catalogue import recipes
from addnorm_exp.residual.init import Factors, Init
from addnorm_exp.residual.versioned import Versioned

PLACES = sites("decoder", Depths(decoder=4))
PRE, POST, DEEP, NONE = (catalogue.get(name) for name in ("pre_ln", "post_ln", "deepnorm", "no_norm"))


def with_rule(rule, scheme=PRE, **changes):
    """A scheme that puts one rule at every site."""
    return replace(scheme, block=lambda site, norm: tuple(At(kind, rule) for kind in site.sublayers), **changes)


def with_plan(*plan):
    return replace(PRE, block=lambda site, norm: plan)


@pytest.mark.parametrize("name", catalogue.names())
def test_the_catalogue_passes(name):
    scheme = catalogue.get(name)
    for depths in (Depths(decoder=1), Depths(decoder=5), Depths(encoder=6, decoder=3)):
        for stack in ("encoder", "decoder"):
            scheme.check(sites(stack, depths))
    assert scheme.title
    assert scheme.equation
    assert scheme.citation
    assert scheme.traps
    assert scheme.year > 2010


REFUSED = {
    "alpha without beta": (replace(DEEP, init=NONE.init), "skip coefficient 1.682 .*without the init multipliers"),
    "no norm but norm-dependent init": (replace(DEEP, norm=norms.NONE), "needs a norm"),
    "post norm and final norm": (replace(POST, ends=PRE.ends), "two norms at one place.*post norm of.*final norm"),
    "post norm and stream norm": (with_rule(Rule(stream=norms.RMS, post=norms.LAYER), POST), "two norms.*stream norm"),
    "embedding norm and stream norm": (
        residual.axes.with_around(with_rule(Rule(stream=norms.RMS)), embedding_norm="rms"),
        "two norms at one place, that of the embedding and the stream norm of decoder.0.attention",
    ),
    "a gain that starts at 0 and is not there": (
        catalogue.get("swin_v2").with_norm(kind="l2"),
        "starts the gain of its norm at 0 at decoder.0.attention, and the norm 'l2' has none here; take a norm.kind with",
    ),
    "the same by norm.affine": (catalogue.get("swin_v2").with_norm(affine="none"), "the norm 'layer' has none here"),
    "a sublayer left out": (with_plan(At("attention", Rule())), r"runs \['attention'\] in decoder.0"),
    "a sublayer run twice": (
        with_plan(At(Sum(("attention", "feed_forward")), Rule()), At("attention", Rule())),
        "which holds",
    ),
    "an unknown sublayer": (with_plan(At("attention", Rule()), At("feedforward", Rule())), "feedforward"),
    "two sites of one name": (
        with_plan(At(Chain((At("attention", Rule()),)), Rule()), At(Chain((At("feed_forward", Rule()),)), Rule())),
        "two sites.*block",
    ),
    "hearsay": (replace(PRE, evidence="hearsay"), "evidence 'hearsay' is none of paper, code"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    scheme, message = REFUSED[case]
    with pytest.raises(SchemeError, match=message) as caught:
        scheme.check(PLACES)
    assert "\n" not in str(caught.value)


@pytest.mark.core
def test_accepted_where_it_is_meant():
    replace(DEEP, init=NONE.init, plain_init=True).check(PLACES)
    replace(POST, ends=PRE.ends).with_norm(kind="none").check(PLACES)
    with_rule(Rule(pre=norms.LAYER, post=norms.LAYER), POST).check(PLACES)
    catalogue.get("b2t").check(PLACES)


def test_norm_axes_that_do_not_go_together():
    for scheme, axes, message in (
        (NONE, {"eps": 1e-3}, "has no norm, so norm.eps has no meaning"),
        (DEEP, {"kind": "none"}, "needs a norm.*use scheme 'no_norm'"),
        (PRE, {"kind": "none", "eps": 1e-3}, "norm.kind is 'none', so norm.*has no meaning"),
    ):
        with pytest.raises(SchemeError, match=message):
            scheme.with_norm(**axes)
    assert PRE.with_norm(kind=None, eps=None) is PRE
    assert PRE.with_norm(kind="rms").norm == norms.RMS
    assert PRE.with_norm(kind="none").final_norm is False
    assert [catalogue.get(name).final_norm for name in ("pre_ln", "sandwich_ln", "post_ln", "deepnorm", "rezero")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_unknown_name_has_the_nearest():
    with pytest.raises(SchemeError, match="unknown scheme 'preln'; did you mean 'pre_ln'"):
        catalogue.get("preln")
    with pytest.raises(SchemeError, match="unknown scheme 'Pre-LN'; did you mean 'pre_ln'"):
        catalogue.get("Pre-LN")
    with pytest.raises(SchemeError, match="a scheme defined in a study file is known only to that study"):
        catalogue.get("zzz")
    with pytest.raises(SchemeError, match=r"unknown scheme 'Hyper'; did you mean 'hyper'\?$"):
        catalogue.get("Hyper")


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_told_in_place_of_all_names(name):
    with pytest.raises(SchemeError, match=r"^a scheme's name is empty; expected one like pre_ln$"):
        catalogue.get(name)


@pytest.mark.core
def test_digest_follows_what_computes_and_not_the_prose():
    base = PRE.digest(PLACES)
    assert replace(PRE, title="x", equation="x", citation="x", traps=(), year=1999).digest(PLACES) == base
    changed = [
        PRE.with_norm(eps=1e-4),
        PRE.with_norm(kind="rms"),
        replace(PRE, law="normal"),
        replace(PRE, ends=POST.ends),
        replace(PRE, init=DEEP.init),
        replace(PRE, options=lambda site, norm: {"head_norm": norms.RMS}),
        with_rule(Rule(pre=norms.LAYER, scale=0.5)),
        replace(
            PRE, block=lambda site, norm: tuple(At(kind, Rule(pre=norm), fade=Ramp(10)) for kind in site.sublayers)
        ),
        with_rule(Rule(pre=norms.LAYER, shift=Learned(0.0))),
        replace(PRE, init=lambda site, role: 0.5 if role == "head" else 1.0),
        replace(PRE, init=lambda site, role: Init("orthogonal", 1.0) if role == "out" else 1.0),
        replace(PRE, factors=lambda site, group: Factors(lr=0.1 if group == "gain" else 1.0)),
        replace(PRE, factors=lambda site, group: Factors(eps=0.1 if site.kind == "ends" else 1.0)),
        replace(PRE, calibrate=Versioned(lambda parameters, measure: parameters, 1)),
    ]
    digests = [scheme.digest(PLACES) for scheme in changed]
    assert len({base, *digests}) == 1 + len(changed)
    assert DEEP.digest(PLACES) != DEEP.digest(sites("decoder", Depths(decoder=5)))


# --- the rule itself, with all its places at once ---


@pytest.mark.core
@pytest.mark.parametrize("skip", [0.0, 0.7, Learned(0.8), Learned(0.0), Learned(0.8, "vector")], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1.3, Learned(0.5, "vector"), Learned(0.5, shared="s")], ids=str)
def test_rule(skip, scale):
    """`s = N_stream(x)`, `b = N_branch(F(pre_scale N_pre(s)))`, `x ← N_post(skip s + scale b)`, in float64."""
    width = 6
    rule = Rule(norms.RMS, norms.LAYER, norms.RMS, norms.LAYER, pre_scale=0.4, skip=skip, scale=scale)
    site = Site(sublayers=("attention",), depths=Depths(decoder=1))
    model = Functional(lambda rngs: BlockConnections((At("attention", rule),), site, width, rngs=rngs))
    parameters = random_parameters(model.specs)
    own = nested(parameters)["nodes"]["attention"]["connection"]
    x = np.random.default_rng(0).normal(size=(4, width))
    bodies = {"attention": lambda h, memo, context: (jnp.sin(h), memo, {})}
    y, _, _ = jax.jit(lambda p, x: model.bind(p)(x, {}, Context(), bodies))(parameters, jnp.asarray(x, jnp.float32))
    s = rms_norm(x, own["stream"])
    b = rms_norm(np.sin(0.4 * layer_norm(s, own["pre"])), own["branch"])
    skips, scales = own.get("skip", skip), own.get("scale", scale)
    np.testing.assert_allclose(y, layer_norm(skips * s + scales * b, own["post"]), rtol=1e-4, atol=1e-5)
    learned = {path.split("/")[-1] for path, spec in model.specs.items() if spec.group == "coefficient"}
    assert learned == {name for name, value in (("skip", skip), ("scale", scale)) if isinstance(value, Learned)}


@pytest.mark.parametrize("name", ["pre_ln", "residual_dual"])
def test_the_branch_of_any_record_fades_in_over_a_length_of_its_site(name):
    """What enters the sum is times min(1, t / 100 l) after t updates, l the block from 1; all of it where no step is known."""
    scheme, places = catalogue.get(name), sites("decoder", Depths(decoder=2), ("feed_forward",))
    x = np.random.default_rng(0).normal(size=(4, 6))
    bodies = {"feed_forward": lambda h, memo, context: (jnp.sin(h), memo, {})}

    def blocks(rngs):
        plans = ([replace(at, fade=Ramp(100 * (site.block + 1))) for at in scheme.plan(site)] for site in places)
        return [BlockConnections(tuple(plan), site, 6, rngs=rngs) for plan, site in zip(plans, places, strict=True)]

    for step, factors in (
        (None, (1.0, 1.0)),
        (0, (0.0, 0.0)),
        (50, (0.5, 0.25)),
        (150, (1.0, 0.75)),
        (900, (1.0, 1.0)),
    ):
        context = Context(step=None if step is None else jnp.int32(step))
        state = jnp.asarray(x, jnp.float32) if name == "pre_ln" else (jnp.asarray(x, jnp.float32),) * 2
        for block in blocks(nnx.Rngs(0)):
            state, _, _ = block(state, {}, context, bodies)
        y = total = x
        for factor in factors:
            branch = factor * np.sin(layer_norm(y, {}) if name == "pre_ln" else y)
            y, total = (y + branch, total) if name == "pre_ln" else (layer_norm(y + branch, {}), total + branch)
        for ours, theirs in zip(jax.tree.leaves(state), (y, total), strict=False):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.core
def test_shared_coefficient_is_one_parameter_a_block():
    plan = tuple(At(kind, Rule(scale=Learned(0.0, shared="a"))) for kind in ("attention", "feed_forward"))
    block = BlockConnections(plan, Site(depths=Depths(decoder=1)), 4, rngs=nnx.Rngs(0))
    one, two = (block.nodes[kind].connection.scale for kind in ("attention", "feed_forward"))
    assert one is two
    assert len(jax.tree.leaves(nnx.state(block, nnx.Param))) == 1


def test_a_new_field_that_is_empty_says_nothing():
    """Runs that were made before keep their identity."""

    @dataclass(frozen=True)
    class Rule(residual.Rule):
        extra: float = 0.0

    def of(rule):
        return with_rule(rule).digest(PLACES)

    assert of(Rule(pre=norms.LAYER)) == of(residual.Rule(pre=norms.LAYER))
    assert of(Rule(pre=norms.LAYER, extra=1.0)) != of(Rule(pre=norms.LAYER))


def test_a_constant_cannot_change_unseen():
    """Not even where it is the default of a record: nGPT's rate, the axes of a norm, the coefficients of a rule."""

    class SphereConnection(recipes.SphereConnection):
        def __init__(self, width, rngs, *, rate=0.06):
            super().__init__(width, rngs, rate=rate)

    @dataclass(frozen=True)
    class NormSpec(norms.NormSpec):
        eps: float = 1e-6

    ours = (Topology(recipes.SphereConnection), norms.LAYER, Rule())
    for changed, record in ((Topology(SphereConnection), ours[0]), (NormSpec(), ours[1]), (Rule(skip=0.5), ours[2])):
        assert digest.sha256(changed) != digest.sha256(record)
    assert digest.described(Rule())["skip"] == 1.0


def test_options_that_the_sublayers_do_not_know_are_refused():
    """A scheme that reaches into attention can never run on an attention that would pass over it in silence."""
    unknown = replace(PRE, options=lambda site, norm: {"shaping_of_mine": True} if site.kind == "attention" else {})
    with pytest.raises(TypeError, match="shaping_of_mine"):
        decoder(unknown)


def test_a_width_that_does_not_split_is_refused():
    catalogue.get("frac").check(PLACES, width=16)
    with pytest.raises(SchemeError, match=r"splits the stream in 2; set model\.width to a multiple of 2, not 15"):
        catalogue.get("frac").check(PLACES, width=15)


def test_a_family_is_a_file():
    for file in catalogue.FAMILIES:
        words = file.__name__.rpartition(".")[2]
        assert {re.sub(r"[ -]", "_", scheme.family) for scheme in file.SCHEMES} == {words}


def test_a_topology_says_what_its_diagram_shows():
    class Mine(Connection):
        reads = "x"

        def __init__(self, width, rngs, *, rate):
            self.rate = rate

    with pytest.raises(TypeError, match=r"^Mine does not say what it writes, which its diagram shows$"):
        Topology(Mine, rate=1.0)
    Mine.writes = staticmethod(lambda rate: f"x ← x + {rate} F")
    assert Topology(Mine, rate=2.0).said("writes") == "x ← x + 2.0 F"
    with pytest.raises(TypeError, match=r"missing a required .*argument: 'rate'"):
        Topology(Mine)


def test_the_catalogue_has_distinct_digests():
    places = sites("decoder", Depths(decoder=5))  # at 4, attention residuals over blocks are the full ones
    digests = {catalogue.get(name).digest(places) for name in catalogue.names()}
    assert len(digests) == len(catalogue.names())
    assert PRE.digest(iter(places)) == PRE.digest(places)
