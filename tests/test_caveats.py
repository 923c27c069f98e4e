"""The lines above a table: what differs between rows beside methods and axes, and rows that are one function (fault T1)."""

import functools
import json
from dataclasses import asdict, replace

import jax
import pytest
from of_config import blocks, experiment, recipe, scheme_of
from studies import read_study, sweep, write
from test_report_study import summary_of, write_plan, write_run

from addnorm_exp.cli import diff
from addnorm_exp.cli import table as table_command
from addnorm_exp.config import Config, override
from addnorm_exp.report.dashboard.page import data
from addnorm_exp.report.load import load_study
from addnorm_exp.report.tables.ablation import build
from addnorm_exp.report.tables.pivot import pivot
from addnorm_exp.report.tables.render import render
from addnorm_exp.runs.caveats import TableRow, function_id, lines
from addnorm_exp.sweep import twins
from addnorm_exp.sweep.phases import above

CASE = [
    {"scheme": name, "norm.kind": kind} for name in ("pre_ln", "peri_ln", "sandwich_ln") for kind in ("layer", "rms")
]
TITLES = {"pre_ln": "Pre-LN", "peri_ln": "Peri-LN", "sandwich_ln": "Sandwich-LN"}
MATCHED = {"init.law": "xavier", "init.multipliers": "none"}
LEAD = "Besides methods and axes, rows differ in "
INIT = f"{LEAD}init: sandwich_ln = normal with out and down × 0.3536 | others = xavier."
GAP = "any gap between them comes from init and the optimiser."
TWINS = f"With norm.kind = layer or rms, peri_ln and sandwich_ln compute the same function; {GAP}"


def config(**keys):
    return override(Config(), {key.replace("__", "."): value for key, value in keys.items()})


def row(name, **keys):
    given = config(scheme=name, **keys)
    axes = {"scheme": name} | {key.replace("__", "."): value for key, value in keys.items()}
    return TableRow(name, tuple(axes.items()), asdict(recipe(given)), twins.function_of(experiment(given)))


@functools.cache
def twins_among_cases() -> tuple[tuple[int, ...], ...]:
    """Which of CASE are one function; the laws of their initial values, in which the two studies below differ, make no other."""
    experiments = [experiment(override(Config(), overrides)) for overrides in CASE]
    ids = [twins.function_of(one) for one in experiments]
    return tuple(tuple(map(ids.index, group)) for group in twins.find(experiments).groups)


def case(folder, base):
    """The study of fault T1 on disk, as its runs record it."""
    configs = [override(Config(), {**overrides, **base}) for overrides in CASE]
    entries = []
    for number, (overrides, given) in enumerate(zip(CASE, configs, strict=True)):
        name = overrides["scheme"]
        kind = overrides["norm.kind"]
        entries.append(
            write_run(
                folder / f"r{number}", name, 0, summary_of(name, 2.0, title=TITLES[name]), **{"norm.kind": kind}, **base
            )
        )
        path = folder / f"r{number}" / "config.json"
        record = json.loads(path.read_text())
        record |= {"resolved": asdict(recipe(given)), "scheme_digest": scheme_of(given).digest(blocks(given))}
        record["science"]["model"] = asdict(given.model)
        path.write_text(json.dumps(record))
    ids = [twins.function_of(experiment(given)) for given in configs]
    plan = {"among": [], "groups": [[ids[number] for number in group] for group in twins_among_cases()]}
    write_plan(folder, {"run": entries}, tuned=[], group=["scheme", "norm.kind"], twins=plan)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return case(tmp_path_factory.mktemp("t1"), {})


@pytest.fixture(scope="module")
def matched(tmp_path_factory):
    return case(tmp_path_factory.mktemp("matched"), MATCHED)


def test_the_hidden_confound_stands_above_the_table(published, matched, capsys):
    table = build(load_study(published))
    assert table.warnings == (INIT, TWINS)
    for form in ("md", "latex"):
        text = render([table], form)
        assert text.index("sandwich") < text.index("peri") or form == "latex"
        assert LEAD in text.split("| pre" if form == "md" else r"\midrule")[0]
    assert table_command.run([str(published), "--format=csv"]) == 0
    assert f"note: {INIT}" in capsys.readouterr().err
    assert build(load_study(matched)).warnings == (TWINS,)


def test_pivot_and_dashboard_have_the_same_lines(published, matched):
    for folder, said in ((published, (INIT, TWINS)), (matched, (TWINS,))):
        study = load_study(folder)
        (table,) = pivot(study, "scheme", "norm.kind")
        assert table.warnings == said
        assert tuple(data(study)["table"]["warnings"]) == said


def test_diff_and_dashboard_show_what_is_resolved(published, capsys):
    assert diff.run([str(published / "r2"), str(published / "r4")]) == 1
    out = capsys.readouterr().out
    assert "resolved" in out
    assert "deviations.out" in out
    assert "normal, out and down × 0.3536" in out
    resolved = data(load_study(published))["resolved"]
    assert resolved["init"][0] == ["xavier", "normal, out and down × 0.3536"]


def test_the_plan_says_it_before_anything_is_trained(tmp_path, capsys):
    source = f"CONFIG = 'configs/lm.py'\nBASE = {{base!r}}\n\ndef sweep():\n    return {CASE!r}\n"
    path = write(tmp_path, source)
    assert sweep(path, "--dry_run") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("run: 6 runs")
    (place,) = (
        number for number, line in enumerate(out) if line.startswith(f"{LEAD}init: sandwich_ln = normal with out")
    )
    assert out[place + 1] == TWINS
    assert place > len(out) - 5, "beside the total, where many rows do not scroll them away"


def test_the_quickstart_has_no_line():
    study = read_study("sweeps/quickstart.py")
    tuning = study.tune()
    assert above(study, study.report(study.stand_in(tuning), tuning), twins.Twins()) == []


def test_an_axis_that_sets_it_takes_the_blame():
    rows = [row(name, init__law=law) for name, law in (("pre_ln", "xavier"), ("lns", "normal"))]
    assert lines(rows) == ()
    wide = [row("pre_ln", model__width=width) for width in (64, 128)]
    assert lines(wide) == ()
    both = [row(name, model__width=width) for name in ("pre_ln", "lns") for width in (64, 128)]
    assert lines(both) == (f"{LEAD}init: lns = normal | pre_ln = xavier.",)


def test_a_norm_and_its_published_constants_are_the_method():
    assert lines([row("post_ln"), row("pre_ln"), row("pre_rms"), row("no_norm")]) == ()
    (line,) = lines([row("pre_rms"), row("hybrid_norm", init__law="xavier", init__multipliers="none")])
    assert line.endswith("in ε: hybrid_norm = rms 1e-05 | pre_rms = rms 1e-06.")


def test_a_methods_multipliers_are_its_own():
    assert lines([row("post_ln"), row("deepnorm"), row("ds_init")]) == ()
    assert lines([row("pre_ln"), row("fixup"), row("t_fixup")]) == ()
    assert "scale_norm" in lines([row("pre_ln"), row("scale_norm", norm__kind="layer")])[0]


def test_everything_that_is_no_method_is_named():
    schemes = ("pre_ln", "pre_rms", "dyt", "ngpt", "depth_mup")
    (line,) = lines([row(scheme, init__law="normal") for scheme in schemes])
    assert "embedding norm: ngpt = l2 | others = none; " in line
    assert "embedding scale: dyt = × 11.3137, learned | ngpt = × 1 | others = by the init law; " in line
    (factors,) = [part for part in line.removesuffix(".").split("; ") if part.startswith("optimiser factors: ")]
    assert len(factors.split(" | ")) > 1
    drop = [
        row("pre_ln"),
        replace(row("post_ln"), resolved=asdict(recipe(config(scheme="post_ln", model__drop_path=0.1)))),
    ]
    assert lines(drop)[0].endswith("stochastic depth: post_ln = 0.1 | pre_ln = 0.")


def test_rows_are_one_function_only_where_their_models_are_one():
    digest, models = "0" * 64, ({"model.depth": 2, "seed": 0}, {"model.depth": 4, "seed": 0})
    first, second = (
        TableRow(name, (("scheme", name),), {}, function_id(digest, model))
        for name, model in zip("ab", models, strict=True)
    )
    assert lines([first, second]) == ()
    same = f"a and b compute the same function; {GAP}"
    assert lines([first, replace(second, function=function_id(digest, models[0] | {"seed": 1}))]) == (same,)
    assert lines([first, second], [(first.function, second.function)]) == (same,)


@pytest.mark.parametrize(
    ("first", "second", "one"),
    [
        ({"scheme": "pre_ln"}, {"scheme": "gpt2"}, True),
        pytest.param({"scheme": "pre_ln"}, {"scheme": "post_ln"}, False, marks=pytest.mark.full),
        ({"scheme": "mix_ln", "model.depth": 3}, {"scheme": "pre_rms", "model.depth": 3}, True),
        pytest.param({"scheme": "mix_ln"}, {"scheme": "pre_rms"}, False, marks=pytest.mark.full),
        pytest.param({"scheme": "pre_ln"}, {"scheme": "lns", "norm.kind": "layer"}, False, marks=pytest.mark.full),
        pytest.param({"scheme": "branch_norm"}, {"scheme": "post_ln"}, False, marks=pytest.mark.full),
        # One function with another gradient: DetachNorm stops it.
        (
            {"scheme": "pre_ln", "norm.kind": "layer_no_affine", "norm.eps_place": "outside"},
            {"scheme": "gpt2", "norm.kind": "detach"},
            False,
        ),
        # One function of the parameters, trained to another end.
        ({"scheme": "pre_ln", "logits.z_loss": 1e-3}, {"scheme": "gpt2"}, False),
        ({"scheme": "pre_ln", "model.drop_path": 0.1}, {"scheme": "gpt2", "model.drop_path": 0.1}, True),
    ],
)  # fmt: skip
def test_twins(first, second, one):
    configs = [override(Config(), {"model.activation": "relu"} | keys) for keys in (first, second)]
    ids = tuple(twins.function_of(experiment(given)) for given in configs)
    assert twins.find(map(experiment, configs)).groups == ((ids,) if one else ())


def test_twins_are_found_where_jax_forbids_transfers_or_has_no_cpu(monkeypatch):
    def devices(backend: str | None = None, devices=jax.local_devices()) -> list:  # noqa: B008
        if backend is not None:  # as under JAX_PLATFORMS=cuda
            raise RuntimeError(f"Unknown backend {backend}")
        return devices

    monkeypatch.setattr(jax, "local_devices", devices)
    with jax.transfer_guard("disallow"):
        assert len(twins.find(experiment(config(scheme=name)) for name in ("pre_ln", "gpt2")).groups) == 1


def test_schemes_of_one_digest_are_one_function_without_a_comparison():
    rows = [row("pre_ln", norm__kind="rms", init__gain=0.5), row("pre_rms")]
    assert lines(rows)[-1] == f"pre_ln (norm.kind = rms) and pre_rms compute the same function; {GAP}"


def test_twins_are_sought_once():
    configs = [config(scheme=name) for name in ("pre_ln", "gpt2")]
    known = twins.find(map(experiment, configs))
    assert twins.find(map(experiment, configs[:1]), known) is known
    deep = [config(scheme=name, model__depth=400) for name in ("pre_ln", "gpt2")]
    assert twins.find(map(experiment, deep)) == twins.Twins(skipped=2)


def test_a_table_with_titles_has_titles_above_it(published, capsys):
    assert table_command.run([str(published), "--format=latex"]) == 0
    comments = [line.removeprefix("% ") for line in capsys.readouterr().out.splitlines() if line.startswith("% ")]
    assert comments[1:] == [
        f"{LEAD}init: Sandwich-LN = normal with out and down × 0.3536 | others = xavier.",
        f"With LayerNorm or RMSNorm, Peri-LN and Sandwich-LN compute the same function; {GAP}",
    ]


def test_rows_with_axes_are_named_in_brackets():
    rows = [
        replace(row("pre_ln", norm__kind=kind), resolved=asdict(recipe(config(scheme="pre_ln", init__law=law))))
        for kind, law in (("layer", "normal"), ("rms", "xavier"), ("layer_no_affine", "xavier"))
    ]
    (line,) = lines(rows)
    assert "init: pre_ln (norm.kind = layer) = normal | others = xavier" in line
