"""The schema as ConfigDict and back through the door: nothing is lost, added or bent on the way."""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from of_config import checked

from addnorm_exp.config import Config, as_configdict, flatten, identity_items, leaves, override, read, science
from addnorm_exp.config.key import HOST, UNSET
from addnorm_exp.errors import UserError
from addnorm_exp.manual import configuration as manual


def nested(config):
    """The standard library's own view of the tree, which the tests compare with. `schemes` is empty where a task has one stack."""
    return {key: value for key, value in dataclasses.asdict(config).items() if value != {}}


def test_defaults_survive_the_way_there_and_back():
    tree = as_configdict(Config())
    assert isinstance(tree, ConfigDict)
    assert tree.is_locked
    assert tree.model.is_locked
    expected = nested(Config())
    for key, leaf in leaves().items():
        if leaf.own:  # not set, so that another variant brings its own
            group, _, name = key.rpartition(".")
            expected[group][name] = None
    assert tree.to_dict() == expected
    assert read(tree) == Config()


def test_a_config_that_differs_everywhere_survives_too():
    config = override(
        Config(),
        {"scheme": "post_ln", "seed": 4, "norm.eps": 1e-6, "norm.affine": "gain", "data.seed": 9, "init.law": "normal",
         "model.bias": False, "data.path": "text.bin", "execution.scan_layers": "off"},
    )  # fmt: skip
    assert read(as_configdict(config)) == config


def test_optional_keys_are_typed_placeholders():
    tree = as_configdict(Config())
    assert tree.norm.eps is None
    tree.norm.eps = 1e-6
    tree.data.path = "x"
    tree.data.path = None
    assert read(tree).norm.eps == 1e-6
    assert read(tree).data.path is None
    with pytest.raises(TypeError):
        tree.norm.eps = "small"


@dataclass(frozen=True)
class Inner:
    places: tuple[int, ...] = (1, 2)
    names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)


def test_sequences_are_tuples_and_may_be_optional():
    tree = as_configdict(Outer())
    assert tree.inner.places == (1, 2)
    assert isinstance(tree.inner.places, tuple)
    assert tree.inner.names is None
    tree.inner.names = ("a",)
    leaf = leaves(Outer)["inner.names"]
    assert (leaf.type, leaf.optional, leaf.sequence) == (str, True, True)


def test_flatten_has_every_leaf_once():
    flat = flatten(Config())
    by_hand = {
        f"{name}.{key}" if isinstance(part, dict) else name: value
        for name, part in nested(Config()).items()
        for key, value in (part.items() if isinstance(part, dict) else [("", part)])
    }
    assert {key: value for key, value in flat.items() if key in by_hand} == by_hand
    assert {flat[key] for key in flat if key not in by_hand} == {None}, "keys of other optimisers"
    assert list(flat) == list(leaves())


def test_science_is_everything_but_execution_and_is_json():
    whole = nested(Config())
    del whole["execution"]
    assert science(Config()) == whole
    assert json.loads(json.dumps(science(Config()))) == whole


def test_identity_leaves_out_what_says_nothing():
    config = override(Config(), {"model.dropout": 0.0, "norm.eps": None, "execution.chunk_steps": 7})
    items = identity_items(config)
    assert items == identity_items(Config())
    assert not [key for key in items if key.startswith("execution.")]
    assert not {"model.dropout", "norm.eps", "data.seed", "task.name"} & set(items)
    assert None not in items.values()


SAYING = [
    key
    for key, leaf in leaves().items()
    if not key.startswith("execution.")
    and (leaf.said.neutral, leaf.said.idle) == (UNSET, None)
    and leaf.said.role != HOST
]


@pytest.mark.parametrize("key", SAYING)
def test_a_default_is_no_neutral_value(key):
    """Were defaults left out of the identity, changing one would give two experiments one id."""
    value = flatten(Config())[key]
    assert (key in identity_items(Config())) == (value is not None)


def test_neutral_values_fit_their_keys():
    neutral = {key: leaf.said.neutral for key, leaf in leaves().items() if leaf.said.neutral is not UNSET}
    config = override(Config(), neutral)
    assert neutral
    assert not set(neutral) & set(identity_items(config))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.dropout", 0.1),
        ("optim.clip", 1.0),
        ("optim.lr", 2e-3),
        ("norm.eps", 1e-5),
        ("data.seed", 3),
        ("seed", 1),
    ],
)
def test_identity_has_what_differs(key, value):
    assert identity_items(override(Config(), {key: value}))[key] == value


def test_identity_knows_the_data_by_checksum_and_not_by_name_or_path():
    """The run's id takes the checksum beside these items (test_runs_identity.py)."""
    here, there = (override(Config(), {"data.path": path}) for path in ("a/text", "b/text"))
    assert identity_items(here) == identity_items(there) == identity_items(Config())


def test_a_data_seed_that_repeats_the_seed_is_the_same_run():
    assert identity_items(override(Config(), {"seed": 5, "data.seed": 5})) == identity_items(
        override(Config(), {"seed": 5})
    )


def test_override_replaces_only_what_it_names():
    config = override(Config(), {"optim.lr": 1, "model.depth": 2})
    changed = {key for key, value in flatten(config).items() if value != flatten(Config())[key]}
    assert changed == {"optim.lr", "model.depth"}
    assert config.optim.lr == 1.0
    assert isinstance(config.optim.lr, float)


def test_text_is_read_as_a_person_types_it():
    config = override(Config(), {"optim.lr": "3e-3", "steps": "20", "model.bias": "False", "norm.eps": "none"})
    assert (config.optim.lr, config.steps, config.model.bias, config.norm.eps) == (3e-3, 20, False, None)


def test_numpy_numbers_of_a_grid_become_plain_ones():
    config = override(Config(), {"optim.lr": np.logspace(-3, -2, 3)[1], "seed": np.int64(3)})
    assert type(config.optim.lr) is float
    assert type(config.seed) is int
    json.dumps(science(config))


def test_minus_zero_is_zero():
    assert str(override(Config(), {"optim.clip": -0.0}).optim.clip) == "0.0"


def test_a_path_implies_the_data_set_file():
    assert override(Config(), {"data.path": "text.bin"}).data.name == "file"
    tree = as_configdict(Config())
    tree.data.path = "text.bin"
    assert read(tree).data.name == "file"


def edit(**changes):
    """A ConfigDict with attributes set the way a config file does it; dotted names by double underscore."""
    tree = as_configdict(Config())
    for name, value in changes.items():
        place, last = tree, name.split("__")
        for part in last[:-1]:
            place = place[part]
        with place.unlocked():
            place[last[-1]] = value
    return tree


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lrr": 1}, "my.py: lrr: no such key; did you mean 'optim.lr'?"),
        ({"optim__lrr": 1}, "my.py: optim.lrr: no such key; did you mean 'optim.lr'?"),
        (
            {"model": {"depth": 2}},
            "my.py: model.width is missing: 'model' was replaced as a whole; set its keys one at a time",
        ),
        ({"model": {"witdh": 2}}, "my.py: model.witdh: no such key; did you mean 'model.width'?"),
        ({"seed": True}, "my.py: seed=True: expected a whole number"),
        ({"steps": None}, "my.py: steps=None: expected a whole number"),
        ({"optim__lr": float("nan")}, "my.py: optim.lr=nan: expected a finite number"),
        ({"scheme": "pre_nl"}, "my.py: unknown scheme 'pre_nl'; did you mean 'pre_ln'"),
    ],
)
def test_what_ml_collections_lets_through_is_stopped_at_the_door(changes, message):
    with pytest.raises(UserError) as caught:
        checked(read(edit(**changes), "my.py"), "my.py")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_subtree_replaced_by_a_value_is_refused():
    tree = ConfigDict(nested(Config()) | {"model": 3})
    with pytest.raises(UserError, match=re.escape("config: model=3: a group of keys, not a value")):
        read(tree)


MANUAL = Path(__file__).parents[1] / "docs" / "configuration.md"


def test_the_manual_is_current():
    assert MANUAL.read_text(encoding="utf-8") == manual.document(), (
        "run: uv run python -m addnorm_exp.manual.configuration > docs/configuration.md"
    )


def test_the_manual_has_every_key_once_with_its_default_and_what_it_means():
    """Read back from the page: the cells of its tables are what the dataclasses say."""
    rows = re.findall(r"^\| `([\w.]+)` \| (.+) \| `(.*)` \| (.+) \|$", MANUAL.read_text(encoding="utf-8"), re.MULTILINE)
    flat = flatten(Config())
    assert [row[0] for row in rows] == list(flat)
    for key, kind, default, meaning in rows:
        assert default == (str(flat[key]).lower() if isinstance(flat[key], bool) else str(flat[key])), key
        assert len(meaning) > 0, key
        assert "|" not in (kind + meaning).replace("\\|", ""), key


def test_the_manual_gives_both_ends_of_every_range():
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.+?) \| `", MANUAL.read_text(encoding="utf-8"), re.MULTILINE))
    for key, leaf in leaves().items():
        limits = leaf.said.range
        if limits is None:
            continue
        told = re.findall(r"(?:at least|above|at most|below) ([-\d.^ ]+?)(?= and|$)", rows[key])
        ends = [end for end in (limits.minimum, limits.above, limits.maximum, limits.below) if end is not None]
        assert [eval(text.replace("^", "**")) for text in told] == ends, key
