"""Lengths in epochs, examples, tokens and shares of the run become steps when the config is built."""

import math
from fractions import Fraction

import numpy as np
import pytest

from addnorm_exp import tasks
from addnorm_exp.config import Config, as_configdict, identity_items, leaves, override, read
from addnorm_exp.config.lengths import Sizes
from addnorm_exp.errors import UserError

COUNTED = [key for key, leaf in leaves().items() if leaf.units]
PARTS = [key for key in COUNTED if key != "steps"]


def measure(task, data, seq_len):
    """1000 examples of `seq_len` tokens."""
    return Sizes(1000, seq_len)


def built(**changes) -> Config:
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return override(Config(), {"batch_size": 32, "seq_len": 50, **changes}, measure=measure)


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        ("3epochs", math.ceil(3000 / 32)),
        ("1epoch", math.ceil(1000 / 32)),
        ("1 epoch", 32),
        ("2.5 Epochs", math.ceil(2500 / 32)),
        ("320examples", 10),
        ("321examples", 11),
        ("1e6tokens", math.ceil(1e6 / 50 / 32)),
        ("16000 tokens", 10),
        ("100", 100),
        (100, 100),
    ],
)
def test_a_run_is_as_long_as_its_unit_says(length, steps):
    assert built(steps=length).steps == steps


@pytest.mark.parametrize("key", PARTS)
def test_every_key_that_counts_steps_takes_every_unit(key):
    *path, last = key.split(".")

    def value(length):
        group = built(steps=400, **{key: length})
        for name in path:
            group = getattr(group, name)
        return getattr(group, last)

    assert value("1epoch") == 32
    assert value("64examples") == 2
    assert value("3200tokens") == 2
    assert value("5%") == 20


def test_shares_are_rounded_to_the_nearest_step_and_other_lengths_up():
    """An exact half is rounded up, and a share above 0 is a step at least."""
    for share, steps in (("0.25%", 1), ("0.5%", 2), ("0.1%", 1), ("0%", 0), ("100%", 300)):
        assert (
            built(steps=300, optim__warmup=share).optim.warmup
            == steps
            == (max(1, math.floor(Fraction(share[:-1]) * 3 + Fraction(1, 2))) if float(share[:-1]) else 0)
        )
    assert built(steps=300, optim__warmup="33examples").optim.warmup == 2


def test_two_spellings_of_one_length_are_one_run():
    spellings = [built(steps=length) for length in ("1epoch", "1000examples", "50000tokens", 32)]
    assert len({tuple(identity_items(config).items()) for config in spellings}) == 1


def test_a_length_follows_what_it_is_counted_in():
    """A study sets another batch size, and three epochs are still three."""
    tree = as_configdict(Config())
    tree.steps, tree.optim.warmup, tree.batch_size, tree.seq_len = "3epochs", "10%", 32, 50
    from addnorm_exp.config.door import values

    flat = values(tree)
    assert (flat["steps"], flat["optim.warmup"]) == ("3epochs", "10%")
    config = override(flat, {"batch_size": 100}, measure=measure)
    assert (config.steps, config.optim.warmup) == (30, 3)
    assert read(tree, measure=measure).steps == 94


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": "3eps"}, "steps='3eps': expected a whole number of steps, or a length such as 3epochs; did you mean '3epochs'?"),
        ({"steps": "3 epohcs"}, "did you mean '3epochs'?"),
        ({"steps": "5%"}, "a length such as 3epochs; only other keys can be a share of it"),
        ({"steps": "-1epochs"}, "steps='-1epochs': expected a whole number of steps"),
        ({"steps": "1e999epochs"}, "steps='1e999epochs': expected a whole number of steps"),
        ({"steps": "0epochs"}, "steps=0: must be at least 1"),
        ({"steps": "1e9epochs"}, "steps=31250000000: must be at least 1 and at most 2147483647"),
        ({"optim.warmup": "120%"}, "expected a whole number of steps, or a length such as 3epochs or 5%; a share is from 0% to 100%"),
        ({"optim.warmup": "2epochs", "steps": "1epoch"}, "optim.warmup=63 is longer than the run (steps=32)"),
        ({"batch_size": 0, "steps": "1epoch"}, "batch_size=0: must be at least 1"),
        ({"optim.lr": "1epoch"}, "optim.lr='1epoch': expected a number"),
    ],
)  # fmt: skip
def test_a_slip_is_told_in_a_line(changes, message):
    with pytest.raises(UserError) as caught:
        override(Config(), {"batch_size": 32, "seq_len": 50, **changes}, measure=measure)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_epochs_need_the_data():
    with pytest.raises(
        UserError,
        match=r"^config: epochs, examples and tokens cannot be counted without the data; write steps, or pass measure=",
    ):
        override(Config(), {"steps": "3epochs"})
    assert override(Config(), {"steps": 40, "optim.warmup": "5%"}).optim.warmup == 2


def test_a_file_that_is_not_named_is_told_before_it_is_measured():
    with pytest.raises(UserError, match=r"data\.name=file needs the file"):
        override(Config(), {"data.name": "file", "steps": "1epoch"}, measure=tasks.sizes)


def test_an_epoch_of_a_stream_is_as_many_tokens_as_its_training_split(tmp_path):
    (tmp_path / "text").write_bytes(np.random.default_rng(0).bytes(20_000))
    config = override(
        Config(),
        {"data.path": str(tmp_path / "text"), "steps": "2epochs", "batch_size": 4, "seq_len": 64},
        measure=tasks.sizes,
    )
    assert config.steps == math.ceil(2 * (18_000 // 64) / 4)
