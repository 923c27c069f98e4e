"""`schemes.<stack>`: one stack of a model under another scheme than the rest of it."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import transcription
from bridge import (
    DEPTH,
    HEADS,
    VOCAB,
    B,
    T,
    architecture,
    bodies,
    distance,
    embedded,
    nested,
    own,
    random_parameters,
    tokens,
)
from of_config import experiment, recipe, run, scheme_of
from reference import schemes, transformer
from studies import STUDY, sweep, write
from training import assert_equal_runs, config, interrupt

from addnorm_exp.config import keys
from addnorm_exp.errors import UserError
from addnorm_exp.nn.functional import Functional
from addnorm_exp.nn.models import EncoderDecoder
from addnorm_exp.residual import Context, Site, catalogue
from addnorm_exp.residual.init import Init, Spec
from addnorm_exp.residual.versioned import Versioned
from addnorm_exp.runs import caveats
from addnorm_exp.runs.caveats import TableRow
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.sweep import twins
from addnorm_exp.train.calibration import calibrated_by

SANDWICH = "sandwich_ln"  # multiplies the law of its outputs
MASK = np.array([[True] * T, [True] * 5 + [False] * (T - 5)])


@pytest.fixture
def task(monkeypatch):
    transcription.enter(monkeypatch)
    yield
    keys._leaves.cache_clear()


def two(scheme: str = "pre_ln", **changes):
    return config(scheme=scheme, task__name="transcription", **changes)


def encoder_decoder(scheme) -> Functional[EncoderDecoder]:
    return Functional(lambda rngs: EncoderDecoder(scheme, architecture(), VOCAB, T, source_depth=DEPTH, rngs=rngs))


@pytest.mark.core
def test_the_model_is_an_encoder_of_one_scheme_and_a_decoder_of_the_other():
    """In float64, by the equations of both."""
    mixed = replace(catalogue.get("pre_ln"), stacks=(("encoder", catalogue.get("post_ln")),))
    model = encoder_decoder(mixed)
    parameters, source, target = random_parameters(model.specs), tokens(0), tokens(1)
    logits, _ = model.bind(parameters)(source, target, Context(batch=B, mask=jnp.asarray(MASK)))
    tree = nested(parameters)
    encoder = transformer.bodies(bodies(tree["encoder"]), HEADS, causal=False, key_mask=MASK)
    decoder = transformer.bodies(bodies(tree["decoder"]), HEADS, memory_mask=MASK)
    memory = schemes.post_ln(embedded(tree, source, architecture()), encoder, own(tree["encoder"]))
    theirs = schemes.pre_ln(embedded(tree, target, architecture()), decoder, own(tree["decoder"]), memory=memory)
    expected = transformer.output_logits(theirs, embedding=tree["embedding"]["tokens"]).reshape(-1, VOCAB)
    assert distance(logits, expected) < 1e-5


@pytest.mark.core
def test_calibration_sets_the_stack_of_its_scheme_alone():
    """Admin's ω of an encoder do not depend on what its decoder is."""
    admin = catalogue.get("admin")
    values = random_parameters(encoder_decoder(admin).specs)
    set_by = {}
    for name, scheme in (("whole", admin), ("mixed", replace(catalogue.get("post_ln"), stacks=(("encoder", admin),)))):
        model = encoder_decoder(scheme)
        before = {path: values[path] for path in model.specs}

        def statistics(parameters, context, model=model):
            return model.bind(parameters)(tokens(0), tokens(1), replace(context, batch=B))[1]

        after = calibrated_by(scheme, model.specs, model.module.labels, statistics, before)
        set_by[name] = {path: after[path] for path in after if not np.array_equal(after[path], before[path])}
    encoders = {path for path in set_by["whole"] if path.startswith("encoder/")}
    assert encoders
    assert set_by["mixed"].keys() == encoders
    for path in encoders:
        np.testing.assert_allclose(set_by["mixed"][path], set_by["whole"][path], rtol=1e-6)


def test_projection_goes_by_stack_and_leaves_the_ends_to_the_scheme_of_the_model():
    specs = {
        path: Spec((), Init.constant(0.0), "matrix", site=Site(stack, kind=kind), part=part, name="kernel")
        for path, stack, kind, part in (
            ("left", "left", "attention", "sublayer"),
            ("left closing", "left", "ends", "ends"),
            ("right", "right", "attention", "sublayer"),
            ("table", "left", "ends", "embedding"),
            ("head", "left", "ends", "head"),
        )
    }
    values = {path: jnp.float32(1.0) for path in specs}

    def by(factor):
        return Versioned(lambda specs, parameters: {path: factor * parameters[path] for path in specs}, version=1)

    def projected(whole, left):
        scheme = catalogue.get("pre_ln")
        mixed = replace(scheme, project=whole, stacks=(("left", replace(scheme, project=left)),))
        return {path: float(value) for path, value in mixed.projected(specs, values).items()}

    left, others = {"left", "left closing"}, {"right", "table", "head"}
    assert projected(None, by(2.0)) == dict.fromkeys(left, 2.0) | dict.fromkeys(others, 1.0)
    assert projected(by(3.0), None) == dict.fromkeys(left, 1.0) | dict.fromkeys(others, 3.0)
    assert projected(by(3.0), by(2.0)) == dict.fromkeys(left, 2.0) | dict.fromkeys(others, 3.0)
    assert projected(None, None) == dict.fromkeys(left | others, 1.0)


def test_the_id_goes_by_what_each_stack_is(task):
    def id(scheme="pre_ln", **changes):
        return experiment(two(scheme, **changes)).id("data")

    plain = id()
    assert id(schemes__encoder="pre_ln") == plain, "the same said twice"
    ids = {
        id(schemes__encoder="post_ln"),
        id(schemes__decoder="post_ln"),
        id(schemes__encoder="post_ln", norm__kind="rms"),
        id(schemes__encoder=SANDWICH, init__law="normal"),
        id(init__law="normal"),
        id("post_ln"),
        id("post_ln", schemes__decoder="pre_ln"),
    }
    assert len(ids | {plain}) == 8
    assert experiment(two(schemes__encoder="post_ln")).shape != experiment(two()).shape


def test_axes_hold_for_every_stack(task):
    scheme = scheme_of(two(schemes__encoder="post_ln", norm__kind="rms", attention__qk_norm="head"))
    for stack, kind in (("encoder", "post"), ("decoder", "pre")):
        site = Site(stack, kind="attention", depths=experiment(two()).sites[0].depths)
        rule = scheme.of(stack).plan(site)[0].rule
        assert rule.norms[kind].kind == "rms"
        assert scheme.of(stack).sublayer_options(site)["qk_norm"] == "head"


def test_what_it_brings_is_said_by_stack(task):
    plain, mixed = (recipe(two(init__law="normal", **of)) for of in ({}, {"schemes__encoder": SANDWICH}))
    assert plain.law == "normal"
    assert mixed.law == "normal, encoder out and encoder down × 0.7071"
    assert mixed.deviations["decoder out"] == plain.deviations["encoder out"] == plain.deviations["decoder out"]
    assert mixed.deviations["encoder out"] == pytest.approx(plain.deviations["encoder out"] / np.sqrt(2), rel=1e-5)
    assert recipe(two(schemes__encoder="post_rms")).norm == "encoder rms, decoder layer"
    assert recipe(two(schemes__encoder="post_ln")).final_norm == "encoder no, decoder yes"
    assert plain.final_norm is True
    assert recipe(two(schemes__encoder="no_norm")).eps == "encoder none, decoder 1e-05"
    factors = [
        recipe(two(**{f"schemes__{stack}": "depth_mup", "init__law": "normal"})).factors
        for stack in ("encoder", "decoder")
    ]
    assert factors[0] != factors[1]
    assert factors[0].startswith("encoder in the blocks lr × ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schemes__encoder": "poast_ln"}, "schemes.encoder='poast_ln': unknown scheme 'poast_ln'; did you mean 'post_ln' or 'post_rms'?"),
        (
            {"schemes__encoder": "gpt2"},
            "schemes.encoder='gpt2' and scheme='pre_ln' have the init laws 'normal' and 'xavier'; set init.law, which is for both",
        ),
        (
            {"schemes__decoder": "ngpt", "init__law": "normal"},
            "schemes.decoder='ngpt' and scheme='pre_ln' differ in positions norm, which is that of the whole model; only one of "
            "them can be in a model",
        ),
        (
            {"schemes__encoder": "post_ln", "schemes__decoder": "post_ln"},
            "schemes.encoder and schemes.decoder leave no stack to scheme='pre_ln'; set scheme to one of them, and leave its key unset",
        ),
        (
            {"schemes__encoder": "frac", "model__width": 17, "model__num_heads": 1},
            "schemes.encoder='frac': scheme 'frac' splits the stream in 2; set model.width to a multiple of 2, not 17",
        ),
        (
            {"schemes__encoder": "no_norm", "norm__kind": "rms"},
            "schemes.encoder='no_norm': scheme 'no_norm' has no norm, so norm.kind has no meaning; leave it unset",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_in_one_model_is_a_line(changes, message, task):
    with pytest.raises(UserError) as error:
        two(**changes)
    assert str(error.value) == f"test: {message}"


def test_a_task_of_one_stack_has_no_such_key(task):
    with pytest.raises(UserError) as error:
        config(schemes__encoder="post_ln")
    assert str(error.value) == (
        "test: schemes.encoder='post_ln' has no effect with task.name='lm'; it is a key of transcription"
    )


def test_a_run_trains_resumes_and_records_both(task, data, tmp_path):
    asked = two(schemes__encoder="post_ln")
    run(asked, data, RunFolder(tmp_path / "whole"))
    interrupt(asked, data, tmp_path / "resumed", chunks=1)
    run(asked, data, RunFolder(tmp_path / "resumed"))
    assert_equal_runs(tmp_path / "whole", tmp_path / "resumed")
    record = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert record["science"]["schemes"] == {"encoder": "post_ln"}
    assert record["resolved"]["final_norm"] == "encoder no, decoder yes"
    index = json.loads((tmp_path / "whole" / "layers" / "index.json").read_text())
    assert [name for name in index["sites"] if "attention" in name] == [
        "encoder.0.attention",
        "decoder.0.attention",
        "decoder.0.cross_attention",
    ]


def test_rows_that_are_one_function_are_named_with_their_stacks(task):
    """Pre-LN and gpt2 are one function of their parameters, in one stack of a model as in all of it."""
    configs = [two(schemes__encoder=name, init__law="normal") for name in ("post_ln", "pre_ln", "gpt2")]
    experiments = [experiment(each) for each in configs]
    ids = [twins.function_of(each) for each in experiments]
    found = twins.find(experiments, say=lambda line: None)
    assert found.groups == (tuple(ids[1:]),)
    rows = [
        TableRow("pre_ln", (("scheme", "pre_ln"), ("schemes.encoder", name)), {}, id)
        for name, id in zip(("post_ln", None, "gpt2"), ids, strict=True)
    ]
    assert caveats.lines(rows, found.groups) == (
        f"pre_ln and pre_ln (schemes.encoder = gpt2) compute the same function; {caveats.GAP}.",
    )


@pytest.mark.full
def test_a_study_compares_schemes_of_one_stack(task, tmp_path, capsys, monkeypatch):
    """Rows have the stack's scheme, and one that multiplies the law is named above the table."""
    monkeypatch.setattr("addnorm_exp.report.figures.plot.plot", lambda folder: [])
    axis = 'axis("schemes.encoder", (None, "post_ln", "sandwich_ln"))'
    source = STUDY.partition("TUNED")[0] + f"\n\ndef sweep():\n    return product({axis}, axis('seed', (1, 2)))\n"
    assert sweep(write(tmp_path, source, **{"task.name": "transcription", "init.law": "normal"})) == 0
    out, _ = capsys.readouterr()
    assert "init: pre_ln (schemes.encoder = sandwich_ln) = normal with encoder out and encoder down × 0.7071" in out
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in out.splitlines() if line.startswith("| pre_ln")]
    assert rows == [["pre_ln", "default"], ["pre_ln", "post_ln"], ["pre_ln", "sandwich_ln"]]
    assert "Δ to default" in out
