"""Padding: what stands at invalid tokens, and how many there are, changes neither logits nor what is measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge import VOCAB, B, T, architecture, classifier, random_parameters, tokens
from sample import depth_of, expensive

from addnorm_exp.residual import Context, catalogue

VALID = 5  # tokens of each sequence, of T

# A sum and a chain of sublayers, several streams, a history, what a query looks at in the place of a skip, a projection.
SCHEMES = ("post_ln", "b2t", "parallel", "hyper_static", "attn_res", "simplified", "ngpt")


def measured(name: str):
    """Tokens and mask → logits, and all that is measured: by quantity one number a site."""
    model = classifier(catalogue.get(name), architecture(depth=depth_of(name, 1)))
    parameters, probes = random_parameters(model.specs), jnp.zeros(len(model.module.labels), jnp.float32)

    @jax.jit
    def pass_over(tokens, mask):
        context = Context(batch=B, mask=mask, diagnostics=True, attention_statistics=True)

        def loss(probes):
            logits, stats = model.bind(parameters)(tokens, context, probes)
            return jnp.sum(jnp.sin(logits)), (logits, stats)

        taps, (logits, stats) = jax.grad(loss, has_aux=True)(probes)
        return {"logits": logits, "grad_stream": taps, **stats}

    return pass_over


@pytest.mark.parametrize("name", expensive(core=("post_ln",), default=("b2t", "ngpt"), names=SCHEMES))
def test_padding_changes_nothing_that_is_measured(name):
    pass_over = measured(name)
    mask = jnp.broadcast_to(jnp.arange(T) < VALID, (B, T))
    padded = pass_over(tokens(), mask)
    assert padded.keys() == {"logits", "grad_stream", "stream_rms", "branch_ratio", "logit_max", "entropy"}
    garbage = pass_over(jnp.where(mask, tokens(), (tokens() + 3) % VOCAB), mask)
    short = pass_over(tokens()[:, :VALID], None)
    for quantity, values in padded.items():
        assert np.isfinite(values).all(), quantity
        np.testing.assert_array_equal(garbage[quantity], values, err_msg=quantity)
        np.testing.assert_allclose(values, short[quantity], rtol=2e-4, atol=1e-6, err_msg=quantity)
