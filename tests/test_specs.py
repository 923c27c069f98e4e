"""What is known of a parameter without its values."""

import pytest
from bridge import VOCAB, T, architecture
from sample import third

from addnorm_exp.nn.functional import Functional
from addnorm_exp.nn.models import EncoderDecoder
from addnorm_exp.residual import catalogue


@pytest.mark.parametrize("name", third("specs"))
def test_every_parameter_knows_where_it_stands(name):
    """The part of the model, its site, and its own name in it: with them the path is known."""
    scheme, arch = catalogue.get(name), architecture(depth=2)
    model = Functional(lambda rngs: EncoderDecoder(scheme, arch, VOCAB, T, source_depth=3, rngs=rngs))
    labels = set(model.module.labels)
    for path, spec in model.specs.items():
        site = spec.site
        if spec.part == "sublayer":
            assert path == f"{site.stack}/blocks/{site.block}/{site.kind}/{spec.name}"
        elif spec.part == "connection":
            assert site.label in labels
            start, end = f"{site.stack}/blocks/{site.block}/connections/nodes/", f"/{site.kind}/connection/{spec.name}"
            sums = f"/{site.kind}/{spec.name}"  # a learned scale of a sublayer in a sum is outside of the connection
            assert path.startswith(start), path
            assert path.endswith((end, sums)), path
        elif spec.part == "ends":
            assert path == f"{site.stack}/ends/{spec.name}"
        else:
            assert spec.part in ("embedding", "head")
            assert path == f"{spec.part}/{spec.name}"
        assert spec.in_block == ("/blocks/" in path)
