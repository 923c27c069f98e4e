"""docs/pre-ln.md: it is what the plan says today, and its code computes what the model computes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest
from bridge import HEADS, VOCAB, B, D, T, architecture, decoder, distance, nested, random_parameters, tokens

from addnorm_exp.manual import by_hand
from addnorm_exp.residual import Context, catalogue

PAGE = Path(__file__).parents[1] / "docs" / "pre-ln.md"


def test_the_page_is_what_the_plan_says():
    assert PAGE.read_text(encoding="utf-8") == by_hand.document()
    code = by_hand.code(catalogue.get("pre_ln"), depth=4, width=128)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 40


@pytest.mark.parametrize("name", ["pre_ln", "post_rms", "layerscale", "parallel", "no_skip", "deepnorm", "sandwich_ln"])
def test_the_code_computes_what_the_model_computes(name):
    scheme = replace(catalogue.get(name), law=architecture().law)  # the embedding's factor is of the law
    model = decoder(scheme)
    parameters = random_parameters(model.specs)
    names: dict[str, Any] = {}
    exec(by_hand.code(scheme, depth=3, width=D), names)
    expected, _ = model.bind(parameters)(tokens(), Context(batch=B))
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # plain lines, for a reader
        y = names["decoder"](tokens(), nested(parameters), HEADS)
    assert distance(expected, y.reshape(B * T, VOCAB)) < 1e-4


def test_what_is_not_written_out_is_refused():
    for name in ("hyper", "b2t", "lns", "mix_ln"):
        with pytest.raises(ValueError, match=r"writes? out$"):
            by_hand.code(catalogue.get(name), depth=8, width=D)
