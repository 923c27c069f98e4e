"""What a key is to a compiled program: the schema says it, and this walks through all of its keys."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from of_config import experiment

from addnorm_exp.config import Config, flatten, identity_items, leaves, override
from addnorm_exp.config.key import HOST, HYPER, SHAPE, TIMETABLE
from addnorm_exp.experiment import Experiment, structural

BASE = override(Config(), {"data.seed": 3, "model.drop_path": 0.1, "model.dropout": 0.1})
# Where a key needs another value than its own in BASE plus one, and what goes with it.
OTHER: dict[str, dict[str, Any]] = {
    "scheme": {"scheme": "post_ln"},
    "seed": {"seed": 1},
    "model.num_heads": {"model.num_heads": 8},
    "model.width": {"model.width": 256},
    "model.dropout": {"model.dropout": 0.2},
    "model.drop_path": {"model.drop_path": 0.2},
    "norm.eps": {"norm.eps": 1e-3},
    "norm.alpha": {"norm.kind": "dyt", "norm.alpha": 0.7},
    "norm.gain": {"norm.gain": "unit_offset"},
    "norm.affine": {"norm.affine": "gain"},
    "norm.blocks": {"norm.kind": "rms", "norm.blocks": "first:1"},
    "attention.soft_cap": {"attention.soft_cap": 30.0},
    "attention.blocks": {"attention.qk_norm": "head", "attention.blocks": "first:1"},
    "logits.soft_cap": {"logits.soft_cap": 30.0},
    "logits.z_loss": {"logits.z_loss": 1e-3},
    "optim.momentum": {"optim.momentum": 0.8},
    "optim.decay_exponent": {"optim.decay_exponent": 0.7},
    "optim.beta1": {"optim.beta1": 0.8},
    "optim.beta2": {"optim.beta2": 0.8},
    "optim.final_lr": {"optim.final_lr": 0.2},
    "optim.decay": {"optim.decay": 0.3},
    "optim.clip": {"optim.clip": 2.0},
    "optim.accumulate": {"optim.accumulate": 2},
    "data.name": {"data.name": "shakespeare"},
    "data.path": {"data.path": "x"},
    "execution.attention": {"execution.attention": "xla"},
}


def base(key: str) -> Config:
    """BASE, with the first optimiser that has the key."""
    own = leaves()[key].own
    return override(BASE, {own.by: next(iter(own.defaults))}) if own else BASE


def changed(key: str) -> Experiment:
    """The experiment of `base` with another value of a key."""
    leaf, value = leaves()[key], flatten(base(key))[key]
    if key in OTHER:
        changes = OTHER[key]
    elif leaf.choices:
        changes = {key: next(choice for choice in leaf.choices if choice != value)}
    else:
        changes = {key: (not value) if leaf.type is bool else (value or 0) + 1}
    return experiment(override(base(key), changes))


@pytest.mark.core
@pytest.mark.parametrize("key", leaves())
def test_each_key_changes_what_its_role_says(key):
    """Its hyper, the shape, the timetable, or none of them; a switch that stays on is a hyper."""
    role, ours, other = leaves()[key].said.role, experiment(base(key)), changed(key)
    if key == "optim.name":
        assert ours.shape != other.shape  # its hypers are other ones
        return
    moved = {name for name, value in ours.hypers.items() if value != other.hypers[name]}
    assert moved == ({key} if HYPER in role else set())
    assert (ours.shape != other.shape) == (SHAPE in role and HYPER not in role)
    assert (ours.timetable != other.timetable) == (TIMETABLE in role)
    if role == HOST:
        assert ours.config != other.config


@pytest.mark.parametrize("key", sorted(leaves().keys() - structural()))
def test_a_key_that_is_not_structural_leaves_scheme_and_shape_as_they_are(key):
    """A plan resolves a scheme once for all runs that differ in such keys alone."""
    own, first = changed(key), experiment(base(key))
    shared = first.with_config(own.config)
    assert (shared.scheme, shared.sites, shared.form) == (own.scheme, own.sites, own.form)
    assert (shared.shape, shared.digest, shared.hypers) == (own.shape, own.digest, own.hypers)
    assert shared.id("") == own.id("")


@pytest.mark.parametrize("key", [key for key, leaf in leaves().items() if leaf.said.role == HYPER | SHAPE])
def test_a_switch_is_off_at_zero_and_that_is_another_shape(key):
    on, off = experiment(base(key)), experiment(override(base(key), {key: 0.0}))
    assert (on.shape[key], off.shape[key]) == (True, False)
    assert on.shape != off.shape
    assert off.shape == experiment(override(base(key), {key: 0.0, "optim.lr": 1.0})).shape


@pytest.mark.parametrize("key", leaves())
def test_a_shape_has_the_values_that_compile_and_no_others(key):
    """Reading a hyper from it is an error: a program would have one run's number in all runs."""
    shape = experiment(base(key)).shape
    role = leaves()[key].said.role
    if SHAPE in role:
        assert shape[key] == (True if HYPER in role else flatten(base(key))[key])
    else:
        with pytest.raises(LookupError, match=f"^{key} is .*no part of a program's shape$"):
            shape[key]


def test_a_hyper_that_is_not_set_has_the_value_that_applies():
    plain = experiment(override(Config(), {"seed": 7}))
    assert plain.hypers["data.seed"] == 7
    assert plain.hypers["model.drop_path"] == 0.0
    assert plain.hypers["seed"].dtype == plain.hypers["data.seed"].dtype == np.uint32
    assert plain.hypers["optim.warmup"].dtype == np.float32


def test_another_record_of_the_same_name_is_another_shape():
    """A notebook may change what a name means."""
    ours = experiment(BASE)
    theirs = dataclasses.replace(ours, scheme=experiment(override(BASE, {"scheme": "post_ln"})).scheme)
    assert ours.config == theirs.config
    assert ours.shape != theirs.shape
    assert ours.id("") != theirs.id("")


def test_a_key_of_another_optimiser_is_no_hyper_and_no_number_of_the_id():
    """A key that is added for one optimiser changes no run of another."""
    plain, lion = experiment(Config()), experiment(override(Config(), {"optim.name": "lion"}))
    for ours, name in ((plain, "adamw"), (lion, "lion")):
        own = {key for key, leaf in leaves().items() if leaf.own and name in leaf.own.defaults}
        others = {key for key, leaf in leaves().items() if leaf.own} - own
        assert own <= set(ours.hypers)
        assert not others & (set(ours.hypers) | set(identity_items(ours.config)))
        assert {key.removeprefix("optim.") for key in own} <= set(vars(ours.config.optim))
    assert plain.id("") != lion.id("")


def test_another_optimiser_brings_its_own_defaults_and_keeps_what_was_set():
    config = override(Config(), {"optim.beta1": 0.8})
    lion = override(config, {"optim.name": "lion"})
    assert (lion.optim.beta1, lion.optim.beta2) == (0.8, 0.99)
    assert override(lion, {"optim.name": "adamw"}) == config
