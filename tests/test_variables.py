"""What modules hold beside parameters (residual/variables.py): numbers that are bound by name, and state that a pass changes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge import DEPTH, B, architecture, decoder, distance, random_parameters, tokens

from addnorm_exp.residual import (
    At,
    Coefficient,
    Connection,
    Context,
    Depths,
    Rule,
    Running,
    Topology,
    bound,
    catalogue,
    diagram,
    sites,
)
from addnorm_exp.residual.catalogue.depth_scaled import deepnorm_alpha

DEEP = catalogue.get("deepnorm")
CONTEXT = Context(batch=B)


def with_free_alpha(site, norm):
    return tuple(At(kind, Rule(skip=Coefficient("alpha", deepnorm_alpha(site)), post=norm)) for kind in site.sublayers)


FREE = replace(DEEP, block=with_free_alpha)


@pytest.mark.parametrize("scan", ["off", "on"])
def test_alpha_of_deepnorm_is_a_number_that_one_program_ranges_over(scan):
    """Its own α gives DeepNorm and 1 gives Post-LN, in two lanes of one program; without a value it is the record's."""
    model, parameters = decoder(FREE, architecture(scan_layers=scan)), random_parameters(decoder(DEEP).specs)
    assert model.specs == decoder(DEEP).specs
    assert model.takes == {"alpha"}

    def logits(model, **coefficients):
        return model.bind(parameters, given=coefficients)(tokens(), CONTEXT)[0]

    alphas = jnp.asarray([(2 * DEPTH) ** 0.25, 1.0], jnp.float32)
    own, one = jax.jit(jax.vmap(lambda alpha: logits(model, alpha=alpha)))(alphas)
    assert distance(own, logits(decoder(DEEP))) < 1e-5
    assert distance(one, logits(decoder(catalogue.get("post_ln")))) < 1e-5
    assert distance(own, one) > 1e-3
    assert distance(logits(model), own) < 1e-5


def test_a_coefficient_is_part_of_the_record_and_of_its_diagram():
    places = sites("decoder", Depths(decoder=DEPTH))
    FREE.check(places)
    assert FREE.digest(places) != DEEP.digest(places)
    ((_, drawing),) = diagram.diagrams(FREE, DEPTH)
    assert "× alpha, 1.565 unless set" in drawing


def test_a_coefficient_that_the_model_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"^this model takes no value 'beta'; it takes alpha$"):
        decoder(FREE).bind({}, given={"beta": 1.0})


class Batched(Connection):
    """Pre-LN's place, with a batch norm: by the batch's moments in training, by their running averages otherwise."""

    reads, writes = "h = BN(x)", "x ← x + F"

    def __init__(self, width, rngs, *, momentum):
        self.momentum = momentum
        self.mean, self.variance = Running(np.zeros(width, np.float32)), Running(np.ones(width, np.float32))
        self.training = bound("training", 0.0)

    def read(self, state):
        return state, None

    def enter(self, stream):
        moments = jnp.mean(stream, 0), jnp.var(stream, 0)
        used = [
            jnp.where(self.training[...] > 0, now, average[...])
            for now, average in zip(moments, (self.mean, self.variance), strict=True)
        ]
        rate = self.momentum * self.training[...]
        for now, average in zip(moments, (self.mean, self.variance), strict=True):
            average[...] = (1.0 - rate) * average[...] + rate * now
        return (stream - used[0][None]) * jax.lax.rsqrt(used[1] + 1e-5)[None]

    def write(self, state, branch, kept):
        return state + branch


BATCHED = replace(
    catalogue.get("pre_ln"),
    block=lambda site, norm: tuple(At(kind, Topology(Batched, momentum=0.25)) for kind in site.sublayers),
)


def test_a_batch_norm_keeps_its_averages_beside_the_parameters():
    """They move in training by what the batch holds, are the same whether layers are scanned and in a lane of a pack, and are frozen
    in evaluation, where a sequence does not see the others."""
    model = decoder(BATCHED, architecture(depth=2))
    parameters, first = random_parameters(model.specs), dict(model.first_running)
    assert len(first) == 2 * 2 * 2
    assert first.keys().isdisjoint(model.specs)

    def loss(parameters, running, model=model, **coefficients):
        bound_ = model.bind(parameters, running, coefficients)
        logits, _ = bound_(tokens(), CONTEXT)
        return jnp.mean(jnp.square(logits)), model.running(bound_)

    def trained(model):
        return lambda *given: jax.value_and_grad(loss, has_aux=True)(*given, model, training=1.0)

    (value, running), gradients = jax.jit(trained(model))(parameters, first)
    x = model.bind(parameters).embedding(tokens(), CONTEXT, jnp.float32)
    site = "decoder/blocks/0/connections/nodes/attention/connection"
    np.testing.assert_allclose(running[f"{site}/mean"], 0.25 * jnp.mean(x, 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(running[f"{site}/variance"], 0.75 + 0.25 * jnp.var(x, 0), rtol=1e-4)

    scanned = jax.jit(trained(decoder(BATCHED, architecture(depth=2, scan_layers="on"))))(parameters, first)
    lanes = jax.jit(jax.vmap(trained(model), (0, None)))(
        jax.tree.map(lambda x: jnp.stack([x, 1.5 * x]), parameters), first
    )
    for other in (scanned, jax.tree.map(lambda x: x[0], lanes)):
        for one, two in zip(jax.tree.leaves(other), jax.tree.leaves(((value, running), gradients)), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)

    whole, after = jax.jit(
        lambda: (model.bind(parameters, running)(tokens(), CONTEXT)[0], loss(parameters, running)[1])
    )()
    assert all(np.array_equal(after[path], running[path]) for path in running)
    alone = model.bind(parameters, running)(tokens()[:1], Context(batch=1))[0]
    assert distance(alone, whole[: len(alone)]) < 1e-5
