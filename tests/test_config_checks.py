"""Every mistake in a config is one line with the source, the key, the value and the remedy."""

import dataclasses

import pytest
from of_config import checked

from addnorm_exp import tasks
from addnorm_exp.config import Config, leaves, override
from addnorm_exp.data import corpus, labelled
from addnorm_exp.errors import UserError
from addnorm_exp.nn import attention, feed_forward
from addnorm_exp.residual import init
from addnorm_exp.train import optimisers, schedule

WHERE = "sweeps/mine.py"

MISTAKES = [
    # unknown keys
    ({"optim.lrr": 1}, "optim.lrr: no such key; did you mean 'optim.lr'?"),
    ({"lr": 1}, "lr: no such key; did you mean 'optim.lr'?"),
    ({"modle.dropot": 1}, "modle.dropot: no such key; did you mean 'model.dropout'?"),
    ({"model.eps": 1}, "model.eps: no such key; did you mean 'norm.eps' or 'optim.eps'?"),
    ({"optim.foo": 1}, "optim.foo: no such key; keys of optim: name, lr, schedule, warmup"),
    ({"foo": 1}, "foo: no such key; keys: scheme, seed, steps"),
    ({"model": {"depth": 1}}, "model: a group of keys, not a value; set its keys one at a time, e.g. model.depth"),
    ({3: 1}, "3: no such key"),
    # types
    ({"steps": "many"}, "steps='many': expected a whole number"),
    ({"steps": 10.0}, "steps=10.0: expected a whole number"),
    ({"steps": "1e3"}, "steps='1e3': expected a whole number"),
    ({"steps": True}, "steps=True: expected a whole number"),
    ({"steps": None}, "steps=None: expected a whole number"),
    ({"steps": [10]}, "steps=[10]: expected a whole number"),
    ({"optim.lr": "fast"}, "optim.lr='fast': expected a number"),
    ({"optim.lr": "fast\n" * 99}, r"optim.lr='fast\nfast\n"),
    ({"optim.lr": False}, "optim.lr=False: expected a number"),
    ({"optim.lr": 1 + 0j}, "optim.lr=(1+0j): expected a number"),
    ({"optim.lr": 10**400}, "optim.lr=1000000000"),
    ({"norm.eps": "tiny"}, "norm.eps='tiny': expected a number (or None)"),
    ({"model.bias": 1}, "model.bias=1: expected true or false"),
    ({"model.bias": "maybe"}, "model.bias='maybe': expected true or false"),
    ({"scheme": 3}, "scheme=3: expected text"),
    ({"data.path": " "}, "data.path is empty: expected text (or None)"),
    ({"norm.kind": "None"}, "norm.kind=None: write 'none' to use none, or omit the key"),
    # numbers that are none
    ({"optim.lr": float("nan")}, "optim.lr=nan: expected a finite number"),
    ({"optim.lr": "-inf"}, "optim.lr='-inf': expected a finite number"),
    ({"optim.lr": "1e999"}, "optim.lr='1e999': expected a finite number"),
    # ranges
    ({"optim.lr": 0}, "optim.lr=0.0: must be above 0"),
    ({"optim.lr": 1e60}, "optim.lr=1e+60: too large for float32"),
    ({"optim.lr": 1e-60}, "optim.lr=1e-60: must be above 0; it is 0 in float32"),
    ({"optim.beta2": 0.9999999999}, "optim.beta2=0.9999999999: must be at least 0 and below 1; it is 1 in float32"),
    ({"model.dropout": 1.0}, "model.dropout=1.0: must be at least 0 and below 1"),
    ({"model.dropout": -0.1}, "model.dropout=-0.1: must be at least 0 and below 1"),
    ({"optim.clip": -1}, "optim.clip=-1.0: must be at least 0"),
    ({"eval.sequences": 0}, "eval.sequences=0: must be at least 1"),
    ({"steps": 0}, "steps=0: must be at least 1"),
    ({"steps": 2**31}, "steps=2147483648: must be at least 1 and at most 2147483647"),
    ({"seed": -1}, "seed=-1: must be at least 0"),
    ({"seed": 2**32}, "seed=4294967296: must be at least 0 and at most 4294967295"),
    ({"divergence.bound": 1}, "divergence.bound=1.0: must be above 1"),
    # names
    ({"optim.schedule": "cosin"}, "optim.schedule='cosin': did you mean 'cosine'?"),
    ({"model.compute_dtype": "int8"}, "model.compute_dtype='int8': valid names: bfloat16, float32"),
    ({"norm.kind": "layr"}, "norm.kind='layr': did you mean 'layer'?"),
    ({"norm.kind": "RMS"}, "norm.kind='RMS': did you mean 'rms'?"),
    ({"scheme": "pre_nl"}, "unknown scheme 'pre_nl'; did you mean 'pre_ln'"),
    ({"data.name": "enwik9"}, "data.name='enwik9': did you mean 'enwik8'?"),
    # combinations
    ({"model.num_heads": 6}, "model.num_heads=6 does not divide model.width=128; the nearest divisor is 4"),
    ({"model.num_heads": 128, "model.positions": "rotary"}, "model.positions='rotary' needs heads of even size"),
    ({"model.mlp_ratio": 0.001}, "model.mlp_ratio=0.001 times model.width=128 gives no hidden unit"),
    ({"optim.accumulate": 5}, "optim.accumulate=5 does not divide batch_size=16; the nearest divisor is 4"),
    ({"optim.warmup": 1001}, "optim.warmup=1001 is longer than the run (steps=1000)"),
    (
        {"optim.schedule": "wsd", "optim.warmup": 801},
        "optim.schedule='wsd': optim.warmup=801 overlaps the final decay (optim.decay=0.2 of steps=1000)",
    ),
    ({"optim.name": "adam"}, "optim.name='adam': did you mean 'adamw'?"),
    (
        {"optim.name": "sgd", "optim.beta2": 0.98},
        "optim.beta2=0.98 has no effect with optim.name='sgd'; did you mean optim.momentum?",
    ),
    ({"optim.momentum": 0.9}, "optim.momentum=0.9 has no effect with optim.name='adamw'; did you mean optim.beta1?"),
    (
        {"optim.name": "lion", "optim.eps": 1e-6},
        "optim.eps=1e-06 has no effect with optim.name='lion'; lion has optim.beta1, optim.beta2",
    ),
    (
        {"optim.name": "adafactor", "optim.beta2": 0.9},
        "optim.beta2=0.9 has no effect with optim.name='adafactor'; did you mean optim.decay_exponent?",
    ),
    ({"optim.name": "muon", "optim.momentum": 0}, "optim.nesterov=True has no effect with optim.momentum=0; set optim"),
    ({"norm.kind": "none", "norm.eps": 1e-5}, "norm.eps=1e-05 has no effect with norm.kind='none'"),
    ({"norm.affine": "none", "norm.gain": "plain"}, "norm.gain='plain' has no effect with norm.affine='none'"),
    ({"data.name": "file"}, "data.name='file' needs a path; set data.path"),
    ({"data.name": "enwik8", "data.path": "x"}, "data.name='enwik8' and data.path='x': set only one of them"),
]


@pytest.mark.parametrize(("overrides", "message"), MISTAKES, ids=lambda part: str(part)[:40])
def test_a_mistake_is_one_line(overrides, message):
    with pytest.raises(UserError) as caught:
        checked(override(Config(), overrides, WHERE), WHERE)
    line = str(caught.value)
    assert line.startswith(f"{WHERE}: {message}")
    assert len(line.splitlines()) == 1
    assert len(line) < 300


@pytest.mark.parametrize(
    "overrides",
    [
        {"optim.warmup": 1000},
        {"optim.schedule": "wsd", "optim.warmup": 800},
        {"optim.clip": 0},
        {"model.dropout": 0},
        {"norm.kind": "none", "scheme": "pre_ln"},
        {"norm.kind": None},
        {"norm.affine": "none"},
        {"seed": 2**32 - 1},
        {"model.positions": "rotary", "model.num_heads": 64},
        {"execution.checkpoint_every": 0, "execution.attention_every": 0},
        {"data.name": "file", "data.path": "x"},
    ],
)
def test_the_edge_of_what_is_allowed(overrides):
    override(Config(), overrides)


def test_every_number_has_a_range_and_nothing_else_has():
    numeric = {key for key, leaf in leaves().items() if leaf.type in (int, float)}
    assert {key for key, leaf in leaves().items() if leaf.said.range} == numeric


def test_every_text_has_its_choices_but_four():
    free = {key for key, leaf in leaves().items() if leaf.type is str and not leaf.choices}
    assert free == {
        "scheme",
        "data.path",
        "norm.blocks",
        "attention.blocks",
    }  # the catalogue, the disk and the stack know these


CHOICES = {key: leaf.choices for key, leaf in leaves().items() if leaf.choices}

KNOWN = {
    "data.name": (*corpus.names(), *labelled.NAMED),
    "model.activation": feed_forward.ACTIVATIONS,
    "init.law": init.LAWS,
    "task.name": tuple(tasks.TASKS),
    "optim.name": tuple(optimisers.OPTIMISERS),
    "attention.qk_norm": attention.QK_NORMS,
    "attention.v_norm": attention.V_NORMS,
    "optim.schedule": schedule.KINDS,
}


@pytest.mark.parametrize("key", KNOWN)
def test_choices_are_what_there_is(key):
    """They stand in config too, so that a mistyped word is told without waiting for JAX."""
    assert CHOICES[key] == KNOWN[key]


def test_every_key_says_what_it_means():
    assert [key for key, leaf in leaves().items() if not leaf.said.meaning] == []


@pytest.mark.parametrize("key", CHOICES)
def test_the_meaning_lists_the_choices(key):
    """Help prints it: a choice that is not told there is not found by anyone."""
    told = leaves()[key].said.meaning
    assert all(choice in told for choice in CHOICES[key]) or len(CHOICES[key]) == 1, told


def test_nothing_was_changed_by_a_refused_override():
    config = Config()
    before = dataclasses.asdict(config)
    with pytest.raises(UserError):
        override(config, {"optim.lr": 1.0, "optim.lrr": 2.0})
    assert dataclasses.asdict(config) == before


def test_a_prime_width_is_told_at_once():
    with pytest.raises(UserError, match=r"the nearest divisor is 1$"):
        override(Config(), {"model.width": 1_048_573, "model.num_heads": 500_000})
