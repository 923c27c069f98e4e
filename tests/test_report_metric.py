"""The number that a table is about: by name, or at an equal budget, read from records whose answers are known."""

import csv
import io

import pytest
from test_report_study import LN2, summary_of, write_plan, write_run

from addnorm_exp.cli import table as command
from addnorm_exp.errors import UserError
from addnorm_exp.report.load import load_study
from addnorm_exp.report.protocol.metric import Budget, headline, parse_budget
from addnorm_exp.report.tables.ablation import build
from addnorm_exp.report.tables.pivot import pivot
from addnorm_exp.report.tables.render import render

EACH = 16 * 128  # tokens of a step, by test_report_study.write_run


def trained(
    folder, scheme, seed, *, steps, every, cost=1.0, flops=4.0, step_time=0.5, status="done", planned=None, **science
):
    """A run whose validation bpb at step t is 8 − t/1000, validated every so many steps and at the last."""
    points = sorted({*range(0, steps + 1, every), steps})
    rows = [{"step": t, "split": "val", "loss": 5.0, "bpb": 8 - t / 1000} for t in points]
    each = int(EACH * cost)
    more = {"tokens": steps * each, "flops_per_token": flops, "step_time_s": step_time, "steps": planned or steps}
    summary = summary_of(scheme, 2.0, status, steps, **more)
    return write_run(folder, scheme, seed, summary, metrics=rows, steps=planned or steps, **science)


@pytest.fixture
def uneven(tmp_path):
    """`pre_ln`: 1000 steps of 0.5 s. `post_ln`: 400 steps of twice the tokens, thrice the FLOPs a token, 1 s."""
    plan = [trained(tmp_path / f"a{s}", "pre_ln", s, steps=1000, every=150) for s in (0, 1)]
    plan += [
        trained(tmp_path / f"b{s}", "post_ln", s, steps=400, every=100, cost=2, flops=12.0, step_time=1.0)
        for s in (0, 1)
    ]
    write_plan(tmp_path, {"run": plan}, tuned=[])
    return tmp_path


def rows_of(table):
    return {row["scheme"]: row for row in csv.DictReader(io.StringIO(render([table], "csv")))}


# Costs in all: pre_ln 1000 steps' tokens, post_ln 800; FLOPs 4000 and 9600; seconds 500 and 400. The lesser is the budget.
@pytest.mark.parametrize(
    ("axis", "steps"), [("tokens", {"pre_ln": 750, "post_ln": 400}), ("flops", {"pre_ln": 1000, "post_ln": 100})]
)
def test_runs_are_matched_at_the_least_that_one_used(uneven, axis, steps):
    table = build(load_study(uneven), budget=Budget(axis))
    for scheme, row in rows_of(table).items():
        assert row[f"val_bpb_at_{axis}_steps"] == f"{steps[scheme]} {steps[scheme]}"
        values = [float(text) for text in row[f"val_bpb_at_{axis}_seeds"].split()]
        assert values == pytest.approx([8 - steps[scheme] / 1000] * 2, rel=1e-15)
    assert "test_bpb" not in [column.key for column in table.columns]


def test_the_note_says_how_it_was_read(uneven):
    notes = build(load_study(uneven), budget=Budget("tokens")).notes
    assert (
        "The metric is the validation bpb at an equal budget of 1.64 M tokens, the smallest that a finished run used: each run's last "
        "validation at or before it, 0 % to 6.25 % of the budget earlier; nothing is interpolated."
    ) in notes  # 1 − 750/800
    assert any(note.startswith("Runs that continue beyond the budget are read before") for note in notes)
    time = build(load_study(uneven), budget=Budget("time")).notes
    assert any(note.startswith("Time is steps × the row's median step time: without compilation") for note in time)
    assert any("validate more often (eval.every)" in note for note in notes)


def test_seeds_of_a_row_are_read_at_one_step_whatever_the_machine_did(tmp_path):
    plan = [
        trained(tmp_path / f"a{seed}", "pre_ln", seed, steps=1000, every=100, step_time=seconds)
        for seed, seconds in enumerate((0.5, 0.4, 0.9))
    ]
    plan += [trained(tmp_path / f"b{s}", "post_ln", s, steps=1000, every=100, step_time=0.61) for s in range(3)]
    write_plan(tmp_path, {"run": plan}, tuned=[])
    rows = rows_of(build(load_study(tmp_path), budget=Budget("time")))
    assert rows["pre_ln"]["val_bpb_at_time_steps"] == "1000 1000 1000"  # 0.5 s a step: 500 s, the least
    assert rows["post_ln"]["val_bpb_at_time_steps"] == "800 800 800"  # 500 / 0.61 = 819


def test_a_unit_that_a_record_lacks_is_no_reading(tmp_path):
    plan = [trained(tmp_path / s, s, 0, steps=700, every=100) for s in ("pre_ln", "post_ln")]
    path = tmp_path / "pre_ln" / "metrics.jsonl"
    path.write_text(path.read_text().replace('"bpb"', '"other"'))
    write_plan(tmp_path, {"run": plan}, tuned=[])
    assert build(load_study(tmp_path), budget=Budget("tokens"))["val_bpb_at_tokens"] == ["–", "7.300"]


def test_a_budget_of_ones_own_leaves_out_runs_that_ended_before_it(uneven):
    table = build(load_study(uneven), budget=parse_budget("time:450"))
    rows = rows_of(table)
    assert rows["pre_ln"]["val_bpb_at_time_steps"] == "900 900"
    assert rows["post_ln"]["val_bpb_at_time_seeds"] == ""
    assert table["val_bpb_at_time"] == ["7.100, 7.100", "–"]
    assert (
        "No number for runs that ended, or were not validated, before the budget: post_ln seed 0; post_ln seed 1."
        in table.notes
    )


def test_equal_runs_at_their_own_end_read_the_last_validation(tmp_path):
    plan = [trained(tmp_path / s, s, 0, steps=700, every=300) for s in ("pre_ln", "post_ln")]
    write_plan(tmp_path, {"run": plan}, tuned=[])
    for axis in ("tokens", "flops", "time"):
        table = build(load_study(tmp_path), budget=Budget(axis))
        assert table[f"val_bpb_at_{axis}"] == ["7.300", "7.300"]
        assert not any("continue beyond" in note for note in table.notes)


def test_diverged_and_running_runs_set_no_budget(tmp_path):
    plan = [trained(tmp_path / "a", "pre_ln", 0, steps=700, every=100)]
    plan.append(trained(tmp_path / "b", "pre_ln", 1, steps=300, every=100, status="diverged", planned=700))
    plan.append(trained(tmp_path / "c", "pre_ln", 2, steps=200, every=100, status="running", planned=700))
    write_plan(tmp_path, {"run": plan}, tuned=[])
    table = build(load_study(tmp_path), budget=Budget("tokens"))
    assert table["val_bpb_at_tokens"] == ["7.300, div. (1/2 diverged, median diverged)"]


def test_validation_before_training_is_no_reading(tmp_path):
    plan = [
        trained(tmp_path / "a", "pre_ln", 0, steps=700, every=600),
        trained(tmp_path / "b", "post_ln", 0, steps=700, every=100),
    ]
    write_plan(tmp_path, {"run": plan}, tuned=[])
    table = build(load_study(tmp_path), budget=Budget("tokens", 500 * EACH))
    assert table["val_bpb_at_tokens"] == ["–", "7.500"]


def test_a_number_of_the_summary_by_name(tmp_path):
    plan = []
    for scheme, seconds in (("pre_ln", 0.025), ("post_ln", 0.05)):
        for seed, status in enumerate(("done", "done", "diverged")):
            summary = summary_of(scheme, 2.0 + seed, status, step_time_s=seconds, peak_memory_bytes=12_345_678)
            plan.append(write_run(tmp_path / f"{scheme}{seed}", scheme, seed, summary))
    write_plan(tmp_path, {"run": plan}, tuned=[])
    study = load_study(tmp_path)
    assert build(study, metric="step_time_s")["step_time_s"] == ["0.025, 0.025, 0.025", "0.050, 0.050, 0.050"]
    assert build(study, metric="step_time_s")["difference"][1] == "+0.025, +0.025, +0.025"
    assert build(study, metric="peak_memory_bytes")["peak_memory_bytes"][0].split(", ") == ["12,345,678"] * 3
    assert build(study, metric="peak_memory_bytes")["difference"][1] == "0, 0, 0"
    best = build(study, metric="val.best.bpb")["val.best.bpb"]
    assert best == ["1.990, 2.990, div. (1/3 diverged, median 2.990)"] * 2
    with pytest.raises(UserError, match=r"--metric=val\.bst\.bpb: .* did you mean 'val\.best\.bpb'"):
        build(study, metric="val.bst.bpb")


def test_the_headline_is_of_the_final_weights_where_others_were_better(tmp_path):
    """In the test metric, and in the validation where that is asked for."""
    pairs = {name: {"loss": bpb * LN2, "bpb": bpb} for name, bpb in (("final", 3.0), ("best", 2.0))}
    val = {name: {**pair, "bpb": pair["bpb"] + 0.5, "step": 1} for name, pair in pairs.items()}
    write_run(tmp_path / "s" / "a", "pre_ln", 0, summary_of("pre_ln", 9.0, test=pairs, val=val))
    study = load_study(tmp_path / "s")
    assert build(study)["test_bpb"] == ["3.000"]
    assert headline(study.runs, validation=True).read(study.runs[0]) == 3.5


def test_a_pivot_takes_several_keys_and_any_number(tmp_path):
    plan = [
        write_run(
            tmp_path / f"{scheme}-{law}-{depth}",
            scheme,
            0,
            summary_of(scheme, 2.0 + i, parameters=1000 * (i + 1)),
            **{"init.law": law, "model.depth": depth},
        )
        for i, (scheme, law, depth) in enumerate(
            [("pre_ln", "xavier", 12), ("pre_ln", "normal", 2), ("post_ln", "xavier", 2), ("post_ln", "xavier", 12)]
        )
    ]
    write_plan(tmp_path, {"run": plan}, tuned=[], group=["scheme", "init.law", "model.depth"])
    study = load_study(tmp_path)
    (table,) = pivot(study, "scheme,init.law", "model.depth")
    assert [c.label for c in table.columns] == ["scheme", "init.law", "model.depth = 2", "model.depth = 12"]
    assert [list(row) for row in table.rows] == [
        ["pre_ln", "xavier", "–", "2.000"],
        ["pre_ln", "normal", "3.000", "–"],
        ["post_ln", "xavier", "4.000", "5.000"],
    ]
    (alone,) = pivot(study, "scheme,init.law,model.depth", None, metric="parameters")
    assert [list(row)[-1] for row in alone.rows] == ["1,000", "2,000", "3,000", "4,000"]
    by_cols = pivot(study, "model.depth", "scheme,init.law")[0]
    assert [c.label for c in by_cols.columns][1] == "pre_ln, init.law = xavier"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--match=token"], "did you mean 'tokens'"),
        (["--at=token:5"], "--at=token:5: unknown budget; did you mean 'tokens'?, e.g. --at=tokens:1e6"),
        (["--at=tokens"], "--at=tokens: needs a number above 0, e.g. --at=tokens:1e6"),
        (["--at=tokens:-1"], "needs a number above 0"),
        (["--at=tokens:nan"], "needs a number above 0"),
        (
            ["--at=tokens:1e9"],
            "every finished run in the table ends before it; the longest has 2.05 M tokens",
        ),
        (["--at=tokens:1e3"], "no finished run in the table that reaches it has a validation before it in its record"),
        (["--at=tokens:1e6", "--match=time"], "two budgets"),
        (["--match=time", "--metric=step_time_s"], "at a budget the metric is the validation loss"),
        (["--rows=scheme,scheme"], "names an axis twice"),
        (["--rows=scheme,steps", "--cols=steps"], "steps is in both"),
    ],
)
def test_mistakes_are_one_line(uneven, words, said):
    with pytest.raises(UserError) as caught:
        command.run([str(uneven), *words])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_reads_its_flags(uneven, capsys):
    assert command.run([str(uneven), "--match=flops", "--format=csv"]) == 0
    assert "val_bpb_at_flops" in capsys.readouterr().out
    assert command.run([str(uneven), "--rows=scheme,steps", "--metric=step_time_s"]) == 0
    assert "| pre_ln  | 1000  | 0.500, 0.500 |" in capsys.readouterr().out
    assert command.run([str(uneven), "--rows=steps", "--at=tokens:1e6"]) == 0
    assert "| 1000  | 7.550, 7.550 |            – |" in capsys.readouterr().out


def test_a_record_without_costs_is_refused_in_a_line(tmp_path):
    summary = summary_of("pre_ln", 2.0)
    summary["flops_per_token"] = None
    write_run(tmp_path / "s" / "a", "pre_ln", 0, summary)
    with pytest.raises(UserError, match="--match=flops: no finished run in the table has recorded its flops per step"):
        build(load_study(tmp_path / "s"), budget=Budget("flops"))
