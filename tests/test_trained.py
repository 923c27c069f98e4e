"""A trained model is asked: parameters, logits, activations, evaluation, text; by library and by command."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from of_config import experiment, make_task, program, run
from sample import FEW, expensive
from training import TEXT, config

from addnorm_exp import cli, load
from addnorm_exp.errors import UserError
from addnorm_exp.residual import Context, catalogue
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.train.checkpoint import Checkpoints
from addnorm_exp.train.entry import enter
from addnorm_exp.trained.generation import Decoding, Generator
from addnorm_exp.trained.recorded import on_file

TOKENS = np.random.default_rng(0).integers(0, 256, (3, 11))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run on a file, its folder and its text."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text").write_bytes(TEXT)
    asked = config(data__path=str(folder / "text"), execution__keep="best")
    from addnorm_exp.data import corpus

    run(asked, corpus.load(asked.data), RunFolder(folder / "run"))
    return folder


def untrained(folder: Path, scheme: str, data, like: Path):
    """A run that has finished with its initial values, and the summary of another: to train every scheme would take minutes."""
    asked = config(scheme=scheme)
    parameters = program(asked).init(experiment(asked).hypers).parameters
    folder.mkdir(parents=True)
    enter(RunFolder(folder), experiment(asked), data.spec, None)
    saved = Checkpoints(folder / "checkpoints", keep=1).save_parameters("final", 12, parameters)
    summary = json.loads((like / "summary.json").read_text()) | {"saved": {"final": saved}}
    (folder / "summary.json").write_text(json.dumps(summary))
    return load(folder)


@pytest.mark.core
def test_the_logits_are_those_of_the_model_that_was_trained(trained):
    model = load(trained / "run")
    with np.load(trained / "run" / "checkpoints" / "final.npz") as file:
        assert set(model.parameters) == set(file.files)
        for path in file.files:
            np.testing.assert_array_equal(model.parameters[path], file[path])
    logits = model.logits(TOKENS)
    assert (logits.shape, logits.dtype) == ((3, 11, 256), jnp.float32)
    task = make_task(model.config)
    expected, _ = task.model.bind(model.parameters)(jnp.asarray(TOKENS), Context(batch=3))
    np.testing.assert_allclose(logits.reshape(-1, 256), expected, rtol=1e-4, atol=1e-5)
    assert model.scheme.name == model.config.scheme == "pre_ln"
    assert repr(model).startswith("<pre_ln after 12 steps: ")


@pytest.mark.core
def test_its_evaluation_repeats_the_record_and_takes_other_files(trained, tmp_path, capsys):
    model = load(trained / "run")
    assert model.evaluate() == model.summary.test.final, "to the bit, on the same device"
    assert load(trained / "run", "best").evaluate() == model.summary.test.best
    other = tmp_path / "other"
    other.write_bytes(b"zq" * 10_000)
    worse = model.evaluate(other)["bpb"]
    assert worse > model.evaluate()["bpb"]
    assert cli.main(["eval", str(trained / "run"), f"--config.data.path={other}"]) == 0
    assert f"pre_ln: test {worse:.4f} bits/byte on {other}  (final weights" in capsys.readouterr().out


@pytest.mark.core
def test_a_run_on_a_named_data_set_is_evaluated_on_a_file(trained, tmp_path):
    """The record says enwik8, and a file takes its place."""
    record = RunFolder(trained / "run").config().plain()
    record["science"]["data"] |= {"name": "enwik8", "path": None}
    (tmp_path / "config.json").write_text(json.dumps(record))
    data = on_file(RunFolder(tmp_path), "mine.txt").config.data
    assert (data.name, data.path) == ("file", "mine.txt")


def test_activations_add_up_to_the_stream(trained):
    """Pre-LN: the stream after a block is the stream before it and what both sublayers return."""
    model = load(trained / "run")
    inside = {name: np.asarray(value) for name, value in model.activations(TOKENS).items()}
    assert tuple(inside) == model.places
    assert all(value.shape == (3, 11, 16) for value in inside.values())
    before = inside["embedding"]
    for number in range(model.config.model.depth):
        block = f"decoder.{number}"
        before = before + inside[f"{block}.attention.output"] + inside[f"{block}.feed_forward.output"]
        np.testing.assert_allclose(inside[block], before, rtol=1e-4, atol=1e-5)
    scale, shift = (np.asarray(model.parameters[f"decoder/ends/closing/{name}"]) for name in ("gain", "bias"))
    mean, deviation = before.mean(-1, keepdims=True), before.std(-1, keepdims=True)
    np.testing.assert_allclose(inside["closed"], (before - mean) / deviation * scale + shift, rtol=1e-2, atol=1e-3)
    some = model.activations(TOKENS, ["decoder.0.attention", "closed"])
    assert tuple(some) == ("decoder.0.attention.input", "decoder.0.attention.output", "closed")
    for name, value in some.items():
        np.testing.assert_allclose(value, inside[name], rtol=1e-5, atol=1e-6)


def test_text_is_drawn_as_it_is_said(trained):
    """A seed repeats it; temperature 0 and the most likely one of one are the same; the window slides beyond seq_len."""
    model = load(trained / "run")
    texts = {seed: model.generate("the of ", 30, seed=seed) for seed in (0, 0, 1)}
    assert texts[0] == model.generate("the of ", 30, seed=0) != texts[1]
    greedy = model.generate("the of ", 12, temperature=0)
    assert greedy == model.generate("the of ", 12, top_k=1, seed=5)
    assert greedy == likeliest(model, "the of ", 12)


def likeliest(model, prompt: str, count: int) -> str:
    """The most likely bytes after the prompt, each by the logits of a whole pass over the last `seq_len` ones."""
    tokens = list(prompt.encode())
    for _ in range(count):
        last = tokens[-model.config.seq_len :]
        window = np.array([last + [0] * (model.config.seq_len - len(last))])  # of one shape: each is compiled
        tokens.append(int(jnp.argmax(model.logits(window)[0, len(last) - 1])))
    return bytes(tokens[-count:]).decode(errors="replace")


def test_prompts_of_all_lengths_share_two_programs(trained):
    """Below a window of 16 tokens, of a whole one, and beyond; the first fills the window exactly."""
    model = load(trained / "run")
    for prompt, count in (("t", 15), ("the of ", 4), ("the of the of th", 3), ("abcdefgh of the of the", 5)):
        assert model.generate(prompt, count, temperature=0) == likeliest(model, prompt, count)
    generator = model._generator
    assert (generator._fill._cache_size(), generator._slide._cache_size()) == (1, 1)


def test_draws_have_the_probabilities_of_the_softmax():
    """Against the softmax at this temperature, over the most likely three of five tokens."""
    row = jnp.array([0.0, 1.0, 2.0, -1.0, 1.5])
    logits = lambda parameters, tokens: jnp.broadcast_to(row, (*tokens.shape, 5))  # noqa: E731
    step = lambda parameters, cache, tokens, place: (logits(parameters, tokens), cache)  # noqa: E731
    generator = Generator(Decoding(logits, step, {}), 1500)
    assert generator({}, np.array([0]), 0, temperature=0.7, top_k=3, seed=0).size == 0
    drawn = generator({}, np.array([0]), 3000, temperature=0.7, top_k=3, seed=0)
    exact = np.exp(np.array([1.0, 2.0, 1.5]) / 0.7)
    shares = [np.mean(drawn == token) for token in (1, 2, 4)]
    np.testing.assert_allclose(shares, exact / exact.sum(), atol=0.03)
    assert set(drawn) == {1, 2, 4}


MISTAKES = [
    ("nowhere", "no run has begun here; give the folder of a run"),
    ("running", "this run is running; only a run that is done keeps parameters"),
    ("gone", "this file is missing; train the run again"),
    ("damaged", "does not match the checksum in summary.json"),
    ("bare", "this run keeps no final parameters (execution.keep); train it again with --config.execution.keep=final"),
]


@pytest.mark.parametrize(("case", "message"), MISTAKES)
def test_a_run_that_cannot_be_loaded_is_one_line(case, message, trained, tmp_path, capsys):
    folder = tmp_path / "run"
    if case != "nowhere":
        shutil.copytree(trained / "run", folder)
    path = folder / "summary.json"
    if case in ("running", "bare"):
        change = {"status": "running"} if case == "running" else {"saved": {}}
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    if case == "gone":
        (folder / "checkpoints" / "final.npz").unlink()
    if case == "damaged":
        (folder / "checkpoints" / "final.npz").write_bytes(b"0" * 1000)
    for command in (["eval", str(folder)], ["sample", str(folder), "--prompt=a"]):
        assert cli.main(command) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert message in err


def test_other_mistakes(trained, capsys):
    model = load(trained / "run")
    for tokens in (np.zeros(5, int), np.zeros((1, 0), int), np.zeros((1, 99), int)):
        with pytest.raises(UserError, match=r"must be \(batch, length\) with length from 1 to seq_len=16"):
            model.logits(tokens)
    with pytest.raises(UserError, match=r"sites: 'decoder\.9': "):
        model.activations(TOKENS, ["decoder.9"])
    with pytest.raises(UserError, match="did you mean 'final'"):
        load(trained / "run", "finale")
    for words, message in (
        (["eval", str(trained / "run"), "--config.seed=1"], "only --config.data.path=FILE may be given"),
        (["sample", str(trained / "run")], "sample needs --prompt=TEXT"),
        (["sample", str(trained / "run"), "--prompt=a", "--temperature=-1"], "--temperature=-1"),
        (["eval"], "eval needs RUN"),
    ):
        assert cli.main(words) == 2
        assert message in capsys.readouterr().err


def test_a_scheme_that_has_changed_since_is_not_loaded(trained, monkeypatch):
    other = replace(catalogue.get("post_ln"), name="pre_ln")
    monkeypatch.setattr(catalogue, "get", lambda name: other)
    with pytest.raises(UserError, match="the record of scheme 'pre_ln' has changed since this run"):
        load(trained / "run")


@pytest.mark.parametrize("scheme", expensive(default=FEW[::2]))
def test_every_scheme_can_be_asked(scheme, data, trained, tmp_path):
    """Logits by one road are what the head makes of `closed` by another; one token more is causal; text by steps is that by whole
    passes."""
    model = untrained(tmp_path / "run", scheme, data, trained / "run")
    logits, inside = model.logits(TOKENS), model.activations(TOKENS)
    assert set(inside) <= set(model.places)
    bound = make_task(model.config).model.bind(model.parameters)
    expected = bound.logits(inside["closed"].reshape(-1, inside["closed"].shape[-1]))
    np.testing.assert_allclose(logits.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)
    longer = np.pad(TOKENS[:1], ((0, 0), (0, model.config.seq_len - TOKENS.shape[1])))
    np.testing.assert_allclose(model.logits(longer)[:, : TOKENS.shape[1]], logits[:1], rtol=1e-3, atol=1e-4)
    assert model.generate("ab", 3, temperature=0) == likeliest(model, "ab", 3)
