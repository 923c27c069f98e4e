"""Text classification under the contract of tasks: its metrics against NumPy, its batches, and what a trained classifier knows."""

import contextlib
import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from of_config import experiment, make_task, run
from training import lines, signals_restored

from addnorm_exp import load as trained
from addnorm_exp import tasks
from addnorm_exp.cli import main
from addnorm_exp.config import Config, override
from addnorm_exp.data.labelled import Padded
from addnorm_exp.errors import UserError
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.train.loop import Member, run_pack

TINY = {
    "task.name": "classify_text",
    "scheme": "post_ln",
    "batch_size": 8,
    "seq_len": 12,
    "steps": "2epochs",
    "model.depth": 1,
    "model.width": 16,
    "model.num_heads": 2,
    "optim.lr": 3e-2,
    "eval.every": "1epoch",
    "eval.sequences": None,
    "execution.attention_every": 0,
    "execution.checkpoint_every": 0,
}


def row(number: int, g: np.random.Generator) -> str:
    """A text of 3 to 16 words in which its class is the more frequent one, and the class."""
    label = ("bad", "good")[number % 2]
    words = [*["film"] * int(g.integers(0, 6)), *[label] * int(g.integers(3, 7)), *[("good", "bad")[number % 2]] * 2]
    return f"{' '.join(g.permutation(words))} {number}\t{label}"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """240 texts, 192 of them to train on."""
    g = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("texts") / "mine.tsv"
    path.write_text("\n".join(row(number, g) for number in range(240)))
    return path


def asked(table, **changes) -> Config:
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return override(Config(), {**TINY, "data.path": str(table), **changes}, measure=tasks.sizes)


@pytest.fixture(scope="module")
def command(table, tmp_path_factory):
    """A run by the command line: its folder, and what was printed."""
    folder, out, err = tmp_path_factory.mktemp("run"), io.StringIO(), io.StringIO()
    flags = [f"--config.{key}={value}" for key, value in TINY.items() if key not in ("task.name", "scheme")]
    words = ["train", "--config=configs/classify_text.py", *flags, f"--config.data.path={table}"]
    with signals_restored(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main([*words, f"--workdir={folder}"]) == 0
    return folder, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def finished(command):
    return command[0]


@pytest.mark.core
def test_its_metrics_are_those_of_its_logits(finished, table):
    """Of the test split: cross-entropy and accuracy of all texts, by NumPy in float64."""
    model, data = trained(finished), tasks.load(asked(table))
    task = make_task(model.config)
    tokens = task.tokens_of(data.test.texts, data)
    logits = np.asarray(model.logits(tokens), np.float64)
    assert logits.shape == (24, 2)
    log_z = np.log(np.sum(np.exp(logits), axis=-1))
    entropy = log_z - logits[np.arange(24), data.test.labels]
    tested = model.summary.test.final
    assert tested["loss"] == pytest.approx(np.mean(entropy), rel=1e-5)
    assert tested["accuracy"] == pytest.approx(100 * np.mean(np.argmax(logits, -1) == data.test.labels))
    assert model.evaluate() == pytest.approx(tested)
    assert tested["accuracy"] > 80, "it has learned what the rows teach"


@pytest.mark.core
def test_padding_says_nothing_of_a_text(finished, table):
    """The logits of a text are those of its tokens alone."""
    model = trained(finished)
    task, data = make_task(model.config), tasks.load(asked(table))
    tokens = task.tokens_of(data.test.texts, data)
    lengths = np.count_nonzero(tokens, axis=1)
    short = int(np.argmin(lengths))
    assert 0 < lengths[short] < 8
    alone = model.logits(tokens[short : short + 1, : lengths[short]])
    np.testing.assert_allclose(model.logits(tokens)[short], alone[0], rtol=1e-5, atol=1e-6)


def test_it_records_accuracy_of_training_and_of_whole_splits(finished):
    record = lines(finished)
    train = [line for line in record if line["split"] == "train"]
    assert len(train) == 2 * 192 // 8
    assert all(0 <= line["accuracy"] <= 100 for line in train)
    assert [line["step"] for line in record if line["split"] == "val"] == [0, 24, 48]
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["examples"] == {"val": 24, "test": 24}
    assert [(metric["name"], metric["better"]) for metric in summary["metrics"]] == [
        ("accuracy", "higher"),
        ("loss", "lower"),
    ]


@pytest.mark.core
def test_an_epoch_has_each_text_once(table):
    """Also where it ends inside a batch."""
    task = make_task(asked(table, batch_size=7))
    texts = Padded(jnp.arange(20)[:, None], jnp.zeros(20, jnp.int32))
    drawn = [np.asarray(task.batch(texts, jnp.uint32(3), jnp.int32(step)).tokens)[:, 0] for step in range(20)]
    epochs = np.concatenate(drawn).reshape(7, 20)
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 7


def close(ours, theirs):
    for one, other in zip(lines(ours), lines(theirs), strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert value == (pytest.approx(other[name], rel=2e-4) if isinstance(value, float) else other[name]), name


@pytest.mark.full
@pytest.mark.core
def test_micro_batches_change_nothing_but_rounding(table, tmp_path):
    config = asked(table, steps=6, model__dropout=0.0)
    data = tasks.load(config)
    run(config, data, RunFolder(tmp_path / "whole"))
    run(override(config, {"optim.accumulate": 4}), data, RunFolder(tmp_path / "split"))
    close(tmp_path / "split", tmp_path / "whole")


@pytest.mark.full
def test_a_lane_has_the_numbers_of_its_run_alone(table, tmp_path):
    """In the default run test_tasks.py sees it of each kind of statistic."""
    configs = [asked(table, steps=6, seed=seed, model__dropout=0.1) for seed in (0, 1)]
    data = tasks.load(configs[0])
    run_pack([Member(experiment(each), RunFolder(tmp_path / f"lane{each.seed}")) for each in configs], data)
    for each in configs:
        run(each, data, RunFolder(tmp_path / f"alone{each.seed}"))
        close(tmp_path / f"lane{each.seed}", tmp_path / f"alone{each.seed}")


def test_another_table_is_read_in_the_words_and_classes_of_training(finished, table, tmp_path):
    """Its own words would be other numbers, and its only class too."""
    g = np.random.default_rng(1)
    other = tmp_path / "other.tsv"
    rows = [row(number, g).replace("film", "play") for number in range(1, 101, 2)] + ["dull dull\tbad"] * 10
    other.write_text("\n".join(f"{each.split(chr(9))[0]} {n}\t{each.split(chr(9))[1]}" for n, each in enumerate(rows)))
    model = trained(finished)
    theirs = tasks.load(override(model.config, {"data.path": str(other)}))
    classes = [max(said, key=said.get) for said in model.classify(theirs.test.texts)]
    right = [theirs.spec.classes[label] == said for label, said in zip(theirs.test.labels, classes, strict=True)]
    assert model.evaluate(other)["accuracy"] == pytest.approx(100 * np.mean(right))
    assert np.mean(right) > 0.6, "words of training are known here"


def test_a_class_that_training_lacked_is_refused(finished, tmp_path, capsys):
    other = tmp_path / "other.tsv"
    other.write_text("\n".join(f"a text {n}\t{('good', 'fair')[n % 2]}" for n in range(40)))
    assert main(["eval", str(finished), f"--config.data.path={other}"]) == 2
    assert capsys.readouterr().err == (
        "error: other.tsv has the class 'fair', and the model knows 'bad', 'good'; rename or remove the rows with this label\n"
    )


def test_data_that_have_changed_are_not_those_of_training(finished, table):
    """Their words would have other numbers."""
    text = table.read_text()
    model = trained(finished)
    try:
        table.write_text(f"{text}\nanother text\tgood")
        for ask in (lambda: trained(finished), model.evaluate, lambda: model.classify(["good"])):
            with pytest.raises(UserError, match=r"mine\.tsv has changed since this run; restore the data"):
                ask()
    finally:
        table.write_text(text)


def test_a_classifier_has_no_head_to_tie(table):
    config = asked(table, model__tie_embeddings=True)
    with pytest.raises(UserError, match=r"^model\.tie_embeddings=True has no effect on a classifier"):
        tasks.check(experiment(config), tasks.spec(config))


def test_a_classifier_writes_no_text(finished, capsys):
    assert main(["sample", str(finished), "--prompt=a"]) == 2
    assert capsys.readouterr().err.endswith("its task is classify_text; only a language model writes text\n")


def test_the_whole_of_a_table_or_evenly_spaced_texts_are_evaluated(table):
    config = asked(table, eval__sequences=10)
    data = tasks.load(config)
    some, everything = (make_task(each).arrays(data) for each in (config, asked(table)))
    assert len(everything.val.labels) == 24
    places = np.arange(10) * 24 // 10
    np.testing.assert_array_equal(some.val.tokens, everything.val.tokens[places])
    np.testing.assert_array_equal(some.test.labels, everything.test.labels[places])
    assert tasks.evaluated(config) == {"val": 10, "test": 10}
    assert tasks.remarks(experiment(config), data.spec) == (
        "mine.tsv: 10 % of the texts or more are longer than 12 tokens (seq_len) and are cut",
        "mine.tsv: eval.sequences=10 leaves 10 of 24 validation texts and 10 of 24 test texts",
    )


def test_a_batch_has_no_text_twice(table):
    config = asked(table, batch_size=193, steps=1)
    with pytest.raises(
        UserError, match=r"^batch_size=193: mine\.tsv has 192 texts to train on, and .*; use 192 or less$"
    ):
        tasks.check(experiment(config), tasks.spec(config))


def test_the_command_trains_it_on_a_table(command):
    _, out, err = command
    assert out.startswith("post_ln: test accuracy ")
    assert " % after 48 steps" in out
    assert "mine.tsv: 10 % of the texts or more are longer than 12 tokens (seq_len) and are cut\n" in err


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_pooling_is_over_valid_tokens_alone(pooling, table):
    from addnorm_exp.nn.models import _pooled

    g = np.random.default_rng(0)
    y, valid = g.normal(size=(3, 5, 4)).astype(np.float32), np.array([[1, 1, 0, 0, 0], [1] * 5, [0] * 5], bool)
    expected = np.zeros((3, 4))
    for number, (row, mask) in enumerate(zip(y, valid, strict=True)):
        if mask.any():
            expected[number] = getattr(np, pooling)(row[mask].astype(np.float64), axis=0)
    np.testing.assert_allclose(_pooled(jnp.asarray(y), jnp.asarray(valid), pooling), expected, rtol=1e-6)
    assert make_task(asked(table, task__pooling=pooling)).model.module.pooling == pooling
