"""A run's id: what changes it, and what does not."""

from dataclasses import replace

import bridge
import jax.numpy as jnp
import numpy as np
import pytest
from of_config import blocks, identify, scheme_of
from training import config, corpus

from addnorm_exp.config import flatten
from addnorm_exp.residual import SchemeError, catalogue
from addnorm_exp.residual.versioned import Versioned, own_paths
from addnorm_exp.runs import identity
from addnorm_exp.runs.identity import run_id

DATA = "0" * 64


def of(**changes) -> str:
    return identify(config(**changes), DATA)


NO_CHANGE = [
    {"task__name": "lm"},
    {"model__dropout": 0.0},
    {"init__gain": 1.0},
    {"optim__accumulate": 1},
    {"data__seed": 0},  # what is not set is the run's seed, 0
    {"data__path": "one/place"},
    {"execution__chunk_steps": 1},
    {"execution__scan_layers": "on"},
    {"execution__attention": "einsum"},
    {"execution__diagnostics": False},
    {"execution__checkpoint_every": 0},
]
CHANGES = [
    {"optim__lr": 3e-3},
    {"seed": 1},
    {"steps": 13},
    {"scheme": "post_ln"},
    {"optim__weight_decay": 0.0},  # neutral, hence left out, and not the default
    {"optim__clip": 0.0},
    {"optim__accumulate": 2},
    {"data__seed": 1},
    {"norm__eps": 1e-3},
    {"norm__kind": "rms"},
    {"init__law": "normal"},
    {"model__compute_dtype": "bfloat16"},
    {"model__dropout": 0.1},
    {"eval__every": 4},
    {"divergence__bound": 5.0},
]


# Key, a value of it, and the setting beside which it means nothing and beside which it does.
IDLE = [
    ({"init__std": 0.5}, {"init__law": "xavier"}, {"init__law": "normal"}),
    ({"init__std": 0.5}, {"scheme": "pre_ln"}, {"scheme": "sandwich_ln"}),  # by the law of the scheme's record
    ({"optim__decay": 0.5}, {"optim__schedule": "cosine"}, {"optim__schedule": "wsd"}),
    ({"optim__final_lr": 0.5}, {"optim__schedule": "constant"}, {"optim__schedule": "cosine"}),
    ({"optim__final_lr": 0.5}, {"optim__schedule": "inverse_sqrt"}, {"optim__schedule": "wsd"}),
]


@pytest.mark.core
@pytest.mark.parametrize(("change", "without", "with_"), IDLE, ids=str)
def test_a_key_that_means_nothing_makes_no_other_run(change, without, with_):
    assert of(**change, **without) == of(**without)
    assert of(**change, **with_) != of(**with_)


@pytest.mark.core
@pytest.mark.parametrize("changes", NO_CHANGE, ids=str)
def test_the_same_run(changes):
    if "data__path" in changes:
        assert of(data__path="another/place") == of(**changes)
    else:
        assert of(**changes) == of()


@pytest.mark.core
def test_every_change_is_another_run():
    ids = [of(), *(of(**changes) for changes in CHANGES)]
    assert len(set(ids)) == len(ids)


@pytest.mark.core
def test_a_run_is_its_data_its_record_and_its_semantics(monkeypatch):
    one = run_id(config(), DATA, "record")
    assert one.startswith("pre_ln-")
    assert len(one) == len("pre_ln-") + 12
    assert run_id(config(), "1" * 64, "record") != one
    assert run_id(config(), DATA, "another record") != one
    monkeypatch.setattr(identity, "SEMANTICS", 2)
    assert run_id(config(), DATA, "record") != one


def test_a_moved_file_is_the_same_run(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = corpus(tmp_path / "a"), corpus(tmp_path / "b")
    assert first.sha256 == second.sha256
    paths = [str(tmp_path / name / "text") for name in "ab"]
    assert len({identify(config(data__path=path), first.sha256) for path in paths}) == 1


def test_a_record_is_known_by_what_it_says_about_these_blocks():
    digests = {
        name: scheme_of(config(scheme=name)).digest(blocks(config())) for name in ("pre_ln", "post_ln", "pre_rms")
    }
    assert len(set(digests.values())) == 3
    assert scheme_of(config(norm__eps=1e-3)).digest(blocks(config())) != digests["pre_ln"]


@pytest.mark.core
@pytest.mark.parametrize(("name", "field"), [("ngpt", "project"), ("admin", "calibrate")])
def test_a_record_is_known_by_what_it_does_outside_of_its_blocks(name, field):
    """By whether it projects or calibrates, by which function does, and by that function's version."""
    scheme = catalogue.get(name)
    versioned = getattr(scheme, field)

    def another(parameters, *_):
        return parameters

    others = (None, Versioned(another, 1), replace(versioned, version=versioned.version + 1))
    records = [scheme, *(replace(scheme, **{field: other}) for other in others)]
    assert len({record.digest(blocks(config())) for record in records}) == 4


def test_a_function_without_a_version_is_refused():
    with pytest.raises(SchemeError, match=r"write project=Versioned\(function, version=1\)"):
        replace(catalogue.get("ngpt"), project=lambda parameters: parameters).check(blocks(config()))


# What each versioned function of the catalogue computes of fixed inputs: scheme, field and version → the mean of each tensor after it, and
# the mean of its squares.
COMPUTED = {
    ("admin", "calibrate", 1): {
        "decoder/blocks/0/connections/nodes/attention/connection/skip": [1.0, 1.0],
        "decoder/blocks/0/connections/nodes/feed_forward/connection/skip": [1.41421, 2.0],
        "decoder/blocks/1/connections/nodes/attention/connection/skip": [1.73205, 3.0],
        "decoder/blocks/1/connections/nodes/feed_forward/connection/skip": [1.96944, 3.87868],
    },
    ("ngpt", "project", 1): {
        "decoder/blocks/0/attention/key/kernel": [0.00249392, 0.0625],
        "decoder/blocks/0/attention/out/kernel": [0.00081238, 0.0625],
        "decoder/blocks/0/attention/query/kernel": [-0.018222, 0.0625],
        "decoder/blocks/0/attention/value/kernel": [-0.0293686, 0.0625],
        "decoder/blocks/0/feed_forward/down/kernel": [0.00810831, 0.0625],
        "decoder/blocks/0/feed_forward/up/kernel": [-0.0205879, 0.0625],
        "decoder/blocks/1/attention/key/kernel": [-0.00727003, 0.0625],
        "decoder/blocks/1/attention/out/kernel": [-0.0195545, 0.0625],
        "decoder/blocks/1/attention/query/kernel": [-0.00293641, 0.0625],
        "decoder/blocks/1/attention/value/kernel": [-0.00597123, 0.0625],
        "decoder/blocks/1/feed_forward/down/kernel": [0.0171556, 0.0625],
        "decoder/blocks/1/feed_forward/up/kernel": [0.0169784, 0.0625],
        "embedding/positions": [-0.0158104, 0.0625],
        "embedding/tokens": [0.018308, 0.0625],
        "head/kernel": [0.0147643, 0.0625],
    },
}


def computed(name: str, field: str) -> dict[str, list[float]]:
    """On random values of a model of the scheme, and of variances that depend on the parameters."""
    model = bridge.decoder(catalogue.get(name), bridge.architecture(depth=2))
    values = bridge.random_parameters(model.specs)

    def measure(parameters):
        paths = own_paths(model.specs, "skip")
        skips = [jnp.mean(parameters[paths[label]]) for label in model.module.labels]
        return {
            label: {"stream_variance": 1.0 / (1.0 + sum(skips[:number])), "branch_variance": jnp.float32(number + 1.0)}
            for number, label in enumerate(model.module.labels)
        }

    function = getattr(catalogue.get(name), field)
    after = function(model.specs, values, *([measure] if field == "calibrate" else []))
    changed = {path: np.asarray(value, np.float64) for path, value in after.items() if value is not values[path]}
    return {path: [float(f"{np.mean(value**power):.6g}") for power in (1, 2)] for path, value in changed.items()}


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (name, field)
        for name in catalogue.names()
        for field in ("calibrate", "project")
        if getattr(catalogue.get(name), field)
    ],
)
def test_what_a_versioned_function_computes_is_on_file(name, field):
    version = getattr(catalogue.get(name), field).version
    remedy = (
        f"raise the version of {name}'s `{field}` (Versioned, in addnorm_exp/residual/catalogue), so that runs made before keep an id of "
        "their own, and enter the new version with its numbers in COMPUTED"
    )
    if (name, field, version) not in COMPUTED:
        pytest.fail(f"version {version} is not on file: {remedy}\n{computed(name, field)}")
    numbers, expected = computed(name, field), COMPUTED[name, field, version]
    if numbers.keys() != expected.keys() or any(
        numbers[path] != pytest.approx(expected[path], rel=1e-5, abs=1e-7) for path in numbers
    ):
        pytest.fail(f"what it computes has changed: {remedy}\n{numbers}")


DIGESTS = {
    "post_ln": "d401f58c8b54d0c5",
    "pre_ln": "e50c099003da473b",
    "post_rms": "181242a01d42387e",
    "pre_rms": "32a97848780241f4",
    "no_norm": "7f0f547a339b8ace",
    "sandwich_ln": "51737db356e99efb",
    "deepnorm": "3470187680402ff8",
    "rezero": "1e31c4e428cd3261",
    "branch_norm": "8bc318e3759ee07e",
    "denseformer": "198b11f1d4aa85df",
    "attn_res": "24d19f893190c989",
    "altup": "52740c0eae223533",
    "residual_dual": "ab25153f1d6b1e0c",
    "siamese": "c7baaa436cd6fe88",
    "hyper": "43661fb3a80b5a5c",
    "frac": "a108dbcea289f84b",
    "mhc": "9135a1da3fe9b6ae",
    "laurel": "6b2ace6c6021c96a",
    "gtrxl": "ced36281a0dcf99a",
    "highway": "bf472907662556a7",
    "ngpt": "c34d6bdb74ff52e2",
    "fixup": "d4eef3fb23a97cd5",
}


@pytest.mark.parametrize("name", DIGESTS)
def test_digests_on_file(name):
    """A digest that moves orphans every run of its scheme, as an id does. A new field says nothing at its default (residual/digest.py)."""
    assert catalogue.get(name).digest(blocks(config(model__depth=4)))[:16] == DIGESTS[name]


def test_ids_on_file():
    """An id that changes orphans every run made before. If that is meant, raise SEMANTICS or enter the new key in NEUTRAL
    (addnorm_exp/config/keys.py), then write the new one here."""
    assert flatten(config())["optim.lr"] == 1e-2
    asked = config(model__depth=2, model__bias=True)
    assert run_id(asked, DATA, "record") == "pre_ln-e507d3b80eeb"
