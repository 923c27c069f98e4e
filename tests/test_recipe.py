"""What a scheme brings beside its method, against the model that is built from the same config."""

import math

import numpy as np
import pytest
from bridge import HIDDEN, D, architecture, classifier
from of_config import make_task, recipe
from sample import REPRESENTATIVE, third

from addnorm_exp.config import Config, override
from addnorm_exp.residual import Depths, catalogue, sites
from addnorm_exp.residual.factors import in_words
from addnorm_exp.residual.recipe import Weights
from addnorm_exp.residual.recipe import recipe as recipe_of


def config(scheme="pre_ln", **keys):
    small = {"model.width": 32, "model.depth": 3, "seq_len": 8}
    return override(Config(), {"scheme": scheme} | small | {key.replace("__", "."): v for key, v in keys.items()})


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
@pytest.mark.parametrize("name", third("recipe"))
def test_deviations_are_those_of_the_tensors_that_are_drawn(name, activation):
    """Of every weight matrix of the model, by its spec; a scheme may be without one of them."""
    given = config(name, init__gain=0.7, init__std=0.03, model__activation=activation)
    model, resolved = make_task(given).model, recipe(given)
    assert resolved.factors == (in_words(model.specs.values()) or "none")
    if catalogue.get(name).project is not None:
        assert resolved.deviations == {}
        return
    checked = compare(resolved.deviations, model.specs, {"gain": 0.7, "std": 0.03})
    assert {"embedding", "head", "query", "key", "up", "down"} <= checked


@pytest.mark.parametrize("name", [name for name in REPRESENTATIVE if catalogue.get(name).project is None])
def test_a_classifiers_deviations_are_those_of_the_tensors_that_are_drawn(name):
    scheme, arch = catalogue.get(name), architecture(law=catalogue.get(name).law)
    hypers = {"gain": 0.7, "std": 0.03}
    weights = Weights(arch.law, D, HIDDEN, outputs=7, hypers=hypers)
    resolved = recipe_of(scheme, sites("encoder", Depths(encoder=arch.depth)), weights)
    checked = compare(resolved.deviations, classifier(scheme, arch, classes=7).specs, hypers)
    assert {"embedding", "head", "query", "key", "up", "down"} <= checked


def compare(deviations, specs, hypers):
    """Holds what a recipe says of each kind of weight matrix against the tensors of a model, and tells the kinds that both have."""
    checked = set()
    for path, spec in specs.items():
        *_, owner, leaf = path.split("/")
        role = owner if leaf == "kernel" else "embedding" if owner == "embedding" and leaf == "tokens" else None
        if role not in deviations:
            continue
        deviation = deviations[role]
        if isinstance(deviation, tuple):
            deviation = deviation[int(path.split("/")[2])]
        draws = {
            "normal": 1.0,
            "uniform": 1 / math.sqrt(3),
            "orthogonal": 1 / math.sqrt(spec.shape[0]),
            "constant": 0.0,
        }
        scale = spec.init.scale * math.prod(hypers[hyper] for hyper in spec.init.hypers)
        assert deviation == pytest.approx(scale * draws[spec.init.draw], rel=1e-5), path
        checked.add(role)
    return checked


def test_deviations_are_those_of_the_values():
    given = config("gpt2")
    values = make_task(given).model.init(0)
    ours = recipe(given).deviations
    assert np.std(values["decoder/blocks/0/attention/out/kernel"]) == pytest.approx(ours["out"], rel=0.1)
    assert np.std(values["embedding/tokens"]) == pytest.approx(ours["embedding"], rel=0.05)


def test_in_words():
    words = {
        name: recipe(config(name)).init
        for name in ("pre_ln", "lns", "sandwich_ln", "ds_init", "scale_norm", "ngpt", "deepnorm")
    }
    assert words == {
        "pre_ln": "xavier",
        "lns": "normal",
        "sandwich_ln": "normal, out and down × 0.4082",
        "ds_init": "xavier, query, key, value, out, up and down × 1 … 0.5774",
        "scale_norm": "xavier, query, key, value and out × 0.6325",
        "ngpt": "set by the method (projected)",
        "deepnorm": "xavier, value, out, up and down × 0.4518",
    }
    assert recipe(config(init__gain=0.5)).init == "xavier, gain 0.5"
    assert recipe(config(init__depth_scaled=True)).init == "xavier, out and down × 0.4082"


def test_a_methods_multipliers_are_not_part_of_the_law():
    ours, plain = recipe(config("deepnorm")), recipe(config("post_ln"))
    assert ours.law == "xavier"
    assert ours.law_deviations == plain.deviations != ours.deviations
    sandwich = recipe(config("sandwich_ln", init__law="xavier"))
    assert sandwich.law_deviations == sandwich.deviations != plain.deviations
    assert recipe(config("sandwich_ln", init__law="xavier", init__multipliers="none")).deviations == plain.deviations


def test_laws_of_one_deviation_are_alike():
    """Xavier's uniform and a normal: in a model whose matrices are all square and whose head is tied, one deviation gives all."""
    square = {"model__mlp_ratio": 1.0, "model__tie_embeddings": True}
    xavier = recipe(config(init__law="xavier", **square))
    normal = recipe(config(init__law="normal", init__std=32**-0.5, embedding__scale="root", **square))
    assert xavier.deviations == normal.deviations
    assert xavier.embedding_scale == normal.embedding_scale == "5.65685"
    assert (xavier.embedding_scale_by_law, normal.embedding_scale_by_law) == (True, False)


def test_what_else_is_resolved():
    assert recipe(config("dyt")).embedding_scale == "5.65685, learned"
    assert recipe(config("ngpt")).embedding_norm == "l2"
    assert recipe(config("ngpt", model__positions="rotary")).embedding_norm == "none"
    assert recipe(config(model__drop_path=0.2)).drop_path == 0.2
    rms = recipe(config(norm__kind="rms"))
    assert (rms.norm, rms.eps, rms.eps_place, rms.affine, rms.gain, rms.final_norm) == (
        "rms", 1e-6, "inside", "gain", "plain", True
    )  # fmt: skip
    none = recipe(config("no_norm"))
    assert (none.norm, none.eps, none.affine, none.final_norm) == ("none", None, None, False)
