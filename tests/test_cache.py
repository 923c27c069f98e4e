"""Decoding by steps: keys and values are kept, and the logits are those of the whole sequence at once, under every scheme."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from bridge import VOCAB, B, T, architecture, decoder, distance, random_parameters, tokens
from sample import expensive

from addnorm_exp.residual import Context, catalogue

# Of each kind: one stream, several, a history, values of the first layer, attention without a skip.
FEW = ("pre_ln", "hyper", "denseformer", "value_residual", "simplified")


def decoded(name, arch, parameters, splits):
    """Logits (B, T, VOCAB) of one call for each part of the sequence."""
    model = decoder(catalogue.get(name), replace(arch, cache=(B, T)))
    assert model.specs == decoder(catalogue.get(name), arch).specs

    @jax.jit
    def step(parameters, cache, part, position):
        bound = model.bind(parameters, cache, {"position": position})
        logits, _ = bound(part, Context(batch=B))
        return logits.reshape(B, -1, VOCAB), model.running(bound)

    logits, cache, position = [], model.first_running, 0
    for count in splits:
        part, cache = step(parameters, cache, tokens()[:, position : position + count], jnp.int32(position))
        logits.append(part)
        position += count
    return jnp.concatenate(logits, axis=1)


@pytest.mark.parametrize("name", expensive(default=("pre_ln", "hyper_static")))
def test_a_step_with_cached_keys_is_a_part_of_the_whole_pass(name):
    """Three tokens at once, then one by one."""
    arch = architecture(depth=2)
    parameters = random_parameters(decoder(catalogue.get(name), arch).specs)
    whole = decoder(catalogue.get(name), arch).bind(parameters)(tokens(), Context(batch=B))[0]
    assert distance(decoded(name, arch, parameters, (3, *[1] * (T - 3))), whole.reshape(B, T, VOCAB)) < 2e-5


@pytest.mark.parametrize(
    "changes", [{"rotary": True}, pytest.param({"scan_layers": "on"}, marks=pytest.mark.full)], ids=str
)
def test_under_rotary_positions_and_scanned_layers(changes):
    arch = architecture(depth=2, **changes)
    parameters = random_parameters(decoder(catalogue.get("pre_ln"), arch).specs)
    whole = decoder(catalogue.get("pre_ln"), arch).bind(parameters)(tokens(), Context(batch=B))[0]
    assert distance(decoded("pre_ln", arch, parameters, (2, 1, 4, 1)), whole.reshape(B, T, VOCAB)) < 2e-5
