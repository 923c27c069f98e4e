"""The probe against autodiff of the whole model and float64 NumPy; the command."""

import csv
import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probing import TEXT, compiled, values

from addnorm_exp import cli
from addnorm_exp.probe import settings
from addnorm_exp.residual import catalogue
from addnorm_exp.residual.predictions import QUANTITIES
from addnorm_exp.residual.versioned import Versioned


@pytest.mark.parametrize(
    "scheme",
    [
        "pre_ln",
        pytest.param("post_ln", marks=pytest.mark.full),
        pytest.param("residual_dual", marks=pytest.mark.full),
        pytest.param("lns", marks=pytest.mark.full),  # constants
        pytest.param("denseformer", marks=pytest.mark.full),  # a history
        pytest.param("attn_res", marks=pytest.mark.full),  # that every sublayer reads
        pytest.param("value_residual", marks=pytest.mark.full),  # a memo
        pytest.param("hyper", marks=pytest.mark.full),
    ],
)
def test_gradients_block_by_block_are_those_of_the_whole_stack(scheme):
    """`jax.grad` through the stack as training calls it."""
    problem = settings.batch(scheme, 3, 16, 2, TEXT)
    found = values(problem)
    from flax import nnx

    graph, parameters, constants = nnx.split(problem.stack, nnx.Param, ...)

    def loss(parameters, probes, inputs, targets):
        y, _ = nnx.merge(graph, parameters, constants)(inputs, problem.context, probes)
        return problem.loss(y, targets)

    # Not compiled: to compile the gradient of a whole stack takes longer than the rest.
    counts = [len(labels) for labels in problem.stack.labels]
    of_each_seed = jax.vmap(jax.grad(loss, (0, 1)), (0, None, 0, 0))
    of_matrices, of_probes = of_each_seed(parameters, jnp.zeros(sum(counts)), problem.inputs, problem.targets)
    kernels = [of_matrices["blocks"][block]["feed_forward"]["down"]["kernel"][...] for block in range(3)]
    matrices = np.transpose([[np.linalg.norm(of_seed) for of_seed in kernel] for kernel in kernels])
    streams = np.sqrt(of_probes[:, np.cumsum([0, *counts[:-1]])])
    for block in range(3):
        assert found["grad_w2", block] == pytest.approx(np.mean(matrices, 0)[block], rel=1e-4)
        assert found["grad_stream", block] == pytest.approx(np.mean(streams, 0)[block], rel=1e-4)


def normalised(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def test_the_setting_of_theory_is_what_the_paper_says():
    """Pre-LN in float64: uniform attention over the sequence, no output projection, ReLU, a feed-forward as wide as the stream."""
    width, depth = 16, 2
    problem = settings.theory(catalogue.get("pre_ln"), depth, width, 2)
    found = values(problem)
    moments, cosines, variances = [], [], []
    for seed in range(2):
        x = np.asarray(problem.inputs[seed], np.float64).reshape(2, 64, width)
        of_seed, of_cosine = [], []
        for block in problem.stack.blocks:
            kernel = {
                name: np.asarray(part.kernel[...][seed], np.float64)
                for name, part in (
                    ("v", block.attention.value),
                    ("up", block.feed_forward.up),
                    ("down", block.feed_forward.down),
                )
            }
            variances += [matrix.var() for matrix in kernel.values()]
            of_seed.append(np.mean(x**2))
            of_cosine.append(cosine(normalised(x)))
            x = x + (normalised(x) @ kernel["v"]).mean(1, keepdims=True)
            x = x + np.maximum(normalised(x) @ kernel["up"], 0) @ kernel["down"]
        moments.append([*of_seed, np.mean(x**2)])
        cosines.append([*of_cosine, cosine(normalised(x))])
    assert np.mean(variances) == pytest.approx(1 / width, rel=0.1)
    for block in range(depth + 1):
        assert found["stream_ms", block] == pytest.approx(np.mean(moments, 0)[block], rel=1e-4)
        assert found["token_similarity", block] == pytest.approx(np.mean(cosines, 0)[block], rel=1e-4)
    assert found["attn_entropy", 0] == pytest.approx(np.log(64), rel=1e-5)


def cosine(x):
    """Of all pairs of different tokens, one at a time."""
    total = []
    for sequence in x:
        unit = sequence / np.linalg.norm(sequence, axis=1, keepdims=True)
        total += [unit[i] @ unit[j] for i in range(len(unit)) for j in range(len(unit)) if i != j]
    return np.mean(total)


@pytest.mark.full
def test_sensitivity_is_quadratic_in_the_perturbation(monkeypatch):
    found = []
    for size in (0.001, 0.002):
        monkeypatch.setattr("addnorm_exp.probe.measure.PERTURBATION", size)
        jax.clear_caches()
        found.append(values(settings.batch("pre_ln", 2, 16, 2, TEXT))["sensitivity", 2])
    monkeypatch.undo()
    jax.clear_caches()
    assert found[1] / found[0] == pytest.approx(4, rel=0.02)


@pytest.mark.full
def test_no_gradient_reaches_a_branch_that_is_shut():
    found = values(settings.theory(catalogue.get("rezero"), 2, 16, 1))
    assert found["grad_w2", 0] == found["grad_w2", 1] == found["sensitivity", 2] == 0
    assert found["stream_ms", 2] == pytest.approx(found["stream_ms", 0], rel=1e-6)


@pytest.mark.parametrize("schemes", ["pre_ln", pytest.param("pre_ln,rezero", marks=pytest.mark.full)])
def test_the_command(schemes, tmp_path, capsys):
    text = tmp_path / "text"
    text.write_bytes(TEXT.tobytes())
    out = tmp_path / "out"
    argv = ["probe", f"--schemes={schemes}", "--depths=2", "--width=16", "--seeds=1", f"--data={text}"]
    names = schemes.split(",")
    assert cli.main([*argv, f"--out={out}"]) == 0
    # What is compiled for a scheme goes with it: kept, fifty schemes' programs are more mappings of memory than a process may have.
    assert compiled() == 0
    printed = capsys.readouterr().out
    assert "### At init, a real batch" in printed
    assert all(f"| {name}" in printed for name in names)
    assert "lemma 2" in printed
    assert "they apply to depths 6 to 48, a width of at least 128 and at least 3 seeds" in printed
    with (out / "probe.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["scheme", "setting", "depth", "block", "quantity", "value"]
    told = {(line["scheme"], line["setting"], line["depth"], line["quantity"]) for line in lines}
    assert len(told) == len(names) * 2 * len(QUANTITIES)
    moments = [
        line for line in lines if (line["scheme"], line["quantity"], line["depth"]) == (names[-1], "stream_ms", "2")
    ]
    assert [line["block"] for line in moments if line["setting"] == "theory"] == ["0", "1", "2"]
    of_theory = [float(line["value"]) for line in moments if line["setting"] == "theory"]
    if names[-1] == "rezero":
        assert of_theory == pytest.approx([of_theory[0]] * 3, rel=1e-5)
    else:
        assert of_theory == sorted(set(of_theory)), "the stream of Pre-LN grows"
    assert sorted(path.name for path in out.glob("*.png")) == sorted(f"{name}.png" for name in QUANTITIES)


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("--schemes=pre_nl", "--schemes=pre_nl: unknown scheme 'pre_nl'; did you mean 'pre_ln'"),
        ("--schemes=post_ln,Pre_LN", "unknown scheme 'Pre_LN'; did you mean 'pre_ln'"),
        ("--schemes=", "--schemes is empty"),
        ("--schemes=pre_ln,", "--schemes=pre_ln,: a scheme's name is empty; expected one like pre_ln"),
        ("--depths=6,x", "expected whole numbers from 1 to 1000"),
        ("--depths=0", "expected whole numbers from 1 to 1000"),
        ("--width=20", "must be divisible by 8"),
        ("--seeds=0", "must be at least 1"),
        ("--data=nowhere", "no such file"),
        ("--depth=6", "did you mean '--depths'?"),
    ],
)
def test_what_is_wrong_is_one_line(flag, line, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["probe", flag]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert line in told
    assert not list(tmp_path.iterdir())


def test_a_text_that_is_too_short_is_told(tmp_path, capsys):
    text = tmp_path / "text"
    text.write_bytes(TEXT[:50].tobytes())
    assert cli.main(["probe", "--schemes=pre_ln", f"--data={text}", f"--out={tmp_path / 'out'}"]) == 2
    assert (
        capsys.readouterr().err
        == "error: --data: text is too short: the probe reads 65 bytes at a time; use a longer file\n"
    )
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_in_the_way_is_told_before_anything_is_measured(tmp_path, capsys):
    text = tmp_path / "text"
    text.write_bytes(TEXT.tobytes())
    assert cli.main(["probe", "--schemes=pre_ln", f"--data={text}", f"--out={text}"]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert str(text) in told


@pytest.mark.full
def test_both_settings_place_the_parameters_as_training_does(monkeypatch):
    """By the same paths, and after every scheme's own law: `project` (nGPT) and `calibrate` (Admin)."""
    seen = []
    scheme = catalogue.get("ngpt")
    project = scheme.project
    monkeypatch.setitem(
        catalogue._BY_NAME,
        "ngpt",
        replace(scheme, project=Versioned(lambda specs, values: seen.append(set(values)) or project(specs, values), 1)),
    )
    settings.theory(catalogue.get("ngpt"), 2, 16, 1)
    settings.batch("ngpt", 2, 16, 1, TEXT)
    of_theory, of_batch = seen
    extra = {path.split("/")[-1] for path in of_batch - of_theory}
    assert of_theory < of_batch
    assert all(path.startswith("decoder/blocks/") for path in of_theory)
    assert extra == {"tokens", "positions", "kernel", "scale", "bias"}  # embedding, head, biases

    problem = settings.theory(scheme, 2, 16, 2)
    for block in problem.stack.blocks:
        for kernel, axis in ((block.feed_forward.up.kernel, 1), (block.feed_forward.down.kernel, 2)):
            np.testing.assert_allclose(np.linalg.norm(kernel[...], axis=axis), 1.0, rtol=1e-5)
        assert np.all(np.asarray(block.attention.query.kernel[...]) == 0)
    assert all(np.isfinite(value) for value in values(problem).values())

    for problem in (settings.theory(catalogue.get("admin"), 3, 16, 2), settings.batch("admin", 3, 16, 2, TEXT)):
        omegas = [
            np.asarray(block.connections.nodes[kind].connection.skip[...])
            for block in problem.stack.blocks
            for kind in ("attention", "feed_forward")
        ]
        assert np.all(omegas[0] == 1)
        assert all(np.all(one[:, :1] == one) for one in omegas)
        assert all(np.all(one < two) for one, two in itertools.pairwise(omegas[1:]))
