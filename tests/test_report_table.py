"""The table on disk-made studies: what it says, what it must not say, and its three formats."""

import csv
import io
import json
import re

import numpy as np
import pytest
from test_report_study import METRICS, summary_of, write_plan, write_run

from addnorm_exp.errors import UserError
from addnorm_exp.report.load import load_study
from addnorm_exp.report.tables.ablation import build
from addnorm_exp.report.tables.render import Table, render


def column(table: Table, key: str) -> dict[str, str]:
    return dict(zip(table["scheme"], table[key], strict=True))


def test_three_seeds_are_printed_one_by_one_and_not_ranked(three):
    table = build(load_study(three))
    assert table["scheme"] == ["post_ln", "pre_ln", "pre_rms", "no_norm"]
    for text in table["test_bpb"]:
        assert re.fullmatch(r"\d\.\d{3}(, \d\.\d{3}){2}", text)
    assert column(table, "difference")["pre_ln"] == "baseline"
    assert re.fullmatch(r"\+\d\.\d{3}(, \+\d\.\d{3}){2}", column(table, "difference")["post_ln"])
    text = render([table])
    assert "±" not in "".join("".join(row) for row in table.rows)
    assert "no ranking is claimed" in text
    assert "n = 3" in text
    assert "p (Holm)" not in text


def test_four_seeds_are_too_few_for_an_interval(tmp_path):
    """For the metric, its difference, and what is written beside the printed table."""
    plan = [
        write_run(tmp_path / f"{s}{seed}", s, seed, summary_of(s, level + 0.01 * seed))
        for s, level in (("pre_ln", 2.4), ("post_ln", 2.6))
        for seed in range(4)
    ]
    write_plan(tmp_path, {"run": plan}, tuned=[])
    table = build(load_study(tmp_path))
    assert column(table, "test_bpb")["post_ln"] == "2.600, 2.610, 2.620, 2.630"
    assert column(table, "difference")["post_ln"] == "+0.200, +0.200, +0.200, +0.200"
    text = render([table])
    assert "±" not in "".join("".join(row) for row in table.rows)
    assert "no ranking is claimed" in text
    assert "Minimum detectable difference" not in text
    (row,) = [row for row in csv.DictReader(io.StringIO(render([table], "csv"))) if row["scheme"] == "post_ln"]
    assert (row["test_bpb"], row["test_bpb_low"], row["test_bpb_high"]) == ("", "", "")


def test_without_p_values_the_intervals_stand_alone(five):
    table = build(load_study(five), p_values=False)
    text = render([table])
    assert "p (Holm)" not in text
    assert "Holm-corrected" not in text
    assert "over shared seeds [95 % interval, each on its own]." in text
    assert column(table, "difference")["post_ln"].endswith("]")
    assert "p_holm" in render([table], "csv").partition("\n")[0].split(",")


def test_five_seeds_give_intervals_and_a_divergence_takes_them_away(five):
    table = build(load_study(five))
    assert "±" in column(table, "test_bpb")["pre_ln"]
    assert re.fullmatch(r"\+0\.\d+ \[\+0\.\d+, \+0\.\d+\]", column(table, "difference")["post_ln"])
    assert column(table, "test_bpb")["no_norm"].startswith("1/5 diverged, median 2.7")
    assert column(table, "difference")["no_norm"] == "–"
    assert column(table, "p")["post_ln"] == "<0.001"
    notes = "\n".join(table.notes)
    assert (
        "Δ: mean paired difference to pre_ln over shared seeds [95 % interval]; p two-sided, Holm-corrected over 2."
        in notes
    )
    assert "no row" not in notes
    assert "Minimum detectable difference" in notes
    assert "1 of 20 runs diverged in report: no_norm" in notes
    assert "seed 101 (at step 370: loss is not finite)" in notes


def test_a_row_with_a_diverged_run_is_not_tested_though_five_seeds_are_left(tmp_path):
    plan = [
        write_run(tmp_path / f"{s}{seed}", s, seed, summary_of(s, level + 0.01 * (seed * k % 5), status))
        for k, (s, level) in enumerate((("pre_ln", 2.4), ("post_ln", 2.6), ("no_norm", 2.7)), 1)
        for seed in range(6)
        for status in ("diverged" if (s, seed) == ("no_norm", 3) else "done",)
    ]
    write_plan(tmp_path, {"run": plan}, tuned=[])
    table = build(load_study(tmp_path))
    assert column(table, "difference")["no_norm"] == column(table, "p")["no_norm"] == "–"
    assert any("Holm-corrected over 1." in note for note in table.notes)
    assert table.records[2]["difference"] is None
    assert table.records[2]["minimum_detectable"] is None


def test_constant_confounds_are_said_once_and_others_are_columns(three):
    table = build(load_study(three))
    assert column(table, "norm") == {"post_ln": "layer", "pre_ln": "layer", "pre_rms": "rms", "no_norm": "none"}
    assert column(table, "final_norm")["pre_ln"] == "yes"
    (same,) = [note for note in table.notes if note.startswith("Same for all")]
    facts = (
        "ε 1e-05",
        "init xavier",
        "warmup 50",
        "dtype float32",
        "evidence paper",
        "4.9 M FLOPs/token",
        "57.3 ms/step",
    )
    for fact in facts:
        assert fact in same
    assert column(table, "parameters")["no_norm"] == "839,936"
    assert not {"flops_per_token", "ms_per_step", "init"} & {found.key for found in table.columns}


def test_an_axis_is_told_once(tmp_path):
    """Under its own name, though runs record it as a confound; where they record more than the axis says, both are columns."""
    plan = []
    for i, (law, recorded, warmup) in enumerate(
        (("xavier", "xavier", 0), ("normal", "normal", 0), ("normal", "normal", 50))
    ):
        summary = summary_of("pre_ln", 2.0 + i)
        summary["confounds"] |= {"init": recorded, "warmup": warmup}
        science = {"init.law": law, "optim.warmup": warmup}
        plan.append(write_run(tmp_path / f"s{i}", "pre_ln", 0, summary, **science))
    plan.append({"id": "m", "overrides": {"scheme": "pre_ln", "seed": 0, "init.law": "xavier", "optim.warmup": 50}})
    write_plan(tmp_path, {"run": plan}, tuned=[], group=["scheme", "init.law", "optim.warmup"])
    table = build(load_study(tmp_path))
    assert [c.key for c in table.columns if c.key in ("init.law", "init", "optim.warmup", "warmup")] == [
        "init.law",
        "optim.warmup",
    ]
    assert not any("init " in note or "warmup " in note for note in table.notes if note.startswith("Same for all"))
    assert [record["init"] for record in table.records] == ["xavier", "normal", "normal", "–"]
    summary = json.loads((tmp_path / "s1" / "summary.json").read_text())
    summary["confounds"]["init"] = "normal, depth-scaled"
    (tmp_path / "s1" / "summary.json").write_text(json.dumps(summary))
    assert build(load_study(tmp_path))["init"] == ["xavier", "normal, depth-scaled", "normal", "–"]


def test_factors_on_the_optimiser_are_a_column_where_a_row_has_some(three, tmp_path):
    """And passed over where none has: the learning rate of the table is then that of every tensor."""
    table = build(load_study(three))
    assert "factors" not in {found.key for found in table.columns}
    assert not any("optimiser factors" in note for note in table.notes)
    assert {record["factors"] for record in table.records} == {"none"}
    for scheme in ("pre_ln", "ngpt"):
        write_run(tmp_path / "s" / scheme, scheme, 0, summary_of(scheme, 2.0))
    table = build(load_study(tmp_path / "s"))
    assert column(table, "factors") == {"pre_ln": "none", "ngpt": "in the blocks decay × 0 (matrix)"}


def test_what_no_run_has_recorded_is_neither_column_nor_note(tmp_path):
    plan = [write_run(tmp_path / "a", "pre_ln", 0, None)]
    plan.append({"id": "b", "overrides": {"scheme": "post_ln", "seed": 0}})
    write_plan(tmp_path, {"run": plan}, tuned=[])
    table = build(load_study(tmp_path))
    assert [column.key for column in table.columns] == ["scheme", "test_loss", "difference"]
    assert table["test_loss"] == ["–", "–"]
    assert "Same for all that have run: lr 0.001." in table.notes


def test_values_mixed_within_the_rows_are_a_column_and_never_alike(tmp_path):
    for scheme in ("pre_ln", "post_ln"):
        for seed, dtype in enumerate(("float32", "bfloat16")):
            summary = summary_of(scheme, 2.0)
            summary["confounds"] = summary["confounds"] | {"dtype": dtype}
            write_run(tmp_path / "s" / f"{scheme}-{seed}", scheme, seed, summary)
    table = build(load_study(tmp_path / "s"))
    assert column(table, "dtype") == dict.fromkeys(("pre_ln", "post_ln"), "float32 | bfloat16")
    (same,) = [note for note in table.notes if note.startswith("Same for all")]
    assert "dtype" not in same
    assert "warmup 50" in same


def test_a_row_that_has_not_run_has_no_say_in_what_is_alike(tmp_path):
    plan = [write_run(tmp_path / "a", "pre_ln", 0, summary_of("pre_ln", 2.0))]
    plan.append({"id": "b", "overrides": {"scheme": "post_ln", "seed": 0}})
    recorded = summary_of("no_norm", 2.0)
    recorded["confounds"].pop("dtype")
    plan.append(write_run(tmp_path / "c", "no_norm", 0, recorded))
    write_plan(tmp_path, {"run": plan}, tuned=[])
    table = build(load_study(tmp_path))
    assert column(table, "dtype") == {"pre_ln": "float32", "post_ln": "–", "no_norm": "–"}, "c ran, and does not say"
    (same,) = [note for note in table.notes if note.startswith("Same for all that have run: ")]
    assert "warmup 50" in same


def test_the_table_corrects_its_p_values_by_holm(tmp_path):
    from scipy import stats
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(4)
    noise = {s: rng.normal(0, 0.01, 5) for s in ("pre_ln", "post_ln", "pre_rms", "no_norm")}
    values = {s: 2.5 + shift + noise[s] for s, shift in zip(noise, (0.0, 0.03, 0.02, 0.012), strict=True)}
    plan = [
        write_run(tmp_path / f"{s}{seed}", s, seed, summary_of(s, float(found[seed])))
        for s, found in values.items()
        for seed in range(5)
    ]
    write_plan(tmp_path, {"run": plan}, tuned=[])
    raw = [stats.ttest_rel(values[s], values["pre_ln"]).pvalue for s in ("post_ln", "pre_rms", "no_norm")]
    adjusted = multipletests(raw, method="holm")[1]
    assert all(abs(a - p) > 0.001 for a, p in sorted(zip(adjusted, raw, strict=True))[:2]), "Holm moves these"
    table = build(load_study(tmp_path))
    assert table["p"] == ["–", *("<0.001" if p < 0.001 else f"{p:.3f}" for p in adjusted)]
    rows = list(csv.DictReader(io.StringIO(render([table], "csv"))))
    assert [float(row["p"]) for row in rows[1:]] == pytest.approx(raw, rel=1e-9)
    assert [float(row["p_holm"]) for row in rows[1:]] == pytest.approx(adjusted, rel=1e-9)


def test_the_table_fits_a_terminal(three):
    assert max(len(line) for line in render([build(load_study(three))]).splitlines() if line.startswith("|")) <= 140


def test_the_best_validation_is_a_column_where_it_is_not_the_last(three, tmp_path):
    assert "val_best_bpb" not in [column.key for column in build(load_study(three)).columns]
    assert "best validation at the last step" in render([build(load_study(three))])
    summary = summary_of("pre_ln", 2.0)
    summary["val"] = summary["val"] | {"best": {"loss": 1.2, "bpb": 1.75, "step": 500}}
    write_run(tmp_path / "s" / "a", "pre_ln", 0, summary)
    write_run(tmp_path / "s" / "b", "post_ln", 0, summary_of("post_ln", 2.1))
    table = build(load_study(tmp_path / "s"))
    assert column(table, "val_best_bpb") == {"pre_ln": "1.750", "post_ln": "2.090"}
    assert column(table, "val_final_bpb") == {"pre_ln": "1.990", "post_ln": "2.090"}


def test_costs_that_differ_are_columns_and_whole_in_csv(tmp_path):
    write_run(tmp_path / "s" / "a", "pre_ln", 0, summary_of("pre_ln", 2.0, flops_per_token=4_900_000.0))
    write_run(tmp_path / "s" / "b", "post_ln", 0, summary_of("post_ln", 2.1, flops_per_token=5_100_000.0))
    table = build(load_study(tmp_path / "s"))
    assert column(table, "flops_per_token") == {"pre_ln": "4.9 M", "post_ln": "5.1 M"}
    rows = list(csv.DictReader(io.StringIO(render([table], "csv"))))
    assert {row["scheme"]: row["flops_per_token"] for row in rows} == {"pre_ln": "4900000", "post_ln": "5100000"}
    assert [float(row["ms_per_step"]) for row in rows] == pytest.approx([57.3, 57.3])


def test_the_baseline_can_be_chosen(three):
    assert column(build(load_study(three), baseline="no_norm"), "difference")["no_norm"] == "baseline"
    with pytest.raises(UserError, match="did you mean 'pre_ln'"):
        build(load_study(three), baseline="preln")


def test_a_baseline_that_no_row_has_is_said(tmp_path):
    plan = [write_run(tmp_path / "s" / s, s, 0, summary_of(s, 2.0)) for s in ("post_ln", "pre_rms")]
    for baseline, said in (("pre_ln", True), ("pre_rms", False), (None, False)):
        write_plan(tmp_path / "s", {"run": plan}, tuned=[], baseline=baseline)
        notes = build(load_study(tmp_path / "s")).notes
        line = "The study's baseline pre_ln is not a row here; Δ is to post_ln, as in the first row."
        assert (line in notes) == said
        assert any("not a row here" in note for note in notes) == said


def test_a_baseline_that_every_row_has_is_said(laws, tmp_path):
    plan = [
        write_run(tmp_path / law, "pre_ln", 0, summary_of("pre_ln", level), **{"init.law": law})
        for law, level in (("xavier", 2.0), ("normal", 2.5))
    ]
    write_plan(tmp_path, {"run": plan}, tuned=[], group=["scheme", "init.law"], baseline="pre_ln")
    line = "Every row is a baseline (pre_ln), so there is no Δ; set --baseline to a value that distinguishes the rows."
    table = build(load_study(tmp_path))
    assert table["difference"] == ["baseline", "baseline"]
    assert line in table.notes
    other = build(load_study(tmp_path), baseline="xavier")
    assert other["difference"] == ["baseline", "+0.500"]
    assert not any("Every row" in note for note in (*other.notes, *build(load_study(laws)).notes))


def test_a_loss_without_bits_is_reported_as_loss(tmp_path):
    summary = summary_of("pre_ln", 2.0)
    for split in ("val", "test"):
        for which in ("final", "best"):
            summary[split][which].pop("bpb", None)
    summary["metrics"] = METRICS[-1:]
    write_run(tmp_path / "s" / "a", "pre_ln", 0, summary)
    assert build(load_study(tmp_path / "s"))["test_loss"] == ["1.386"]


def test_the_report_room_never_imports_jax():
    import subprocess
    import sys

    code = (
        "import sys, json, addnorm_exp.report.figures.plot, addnorm_exp.cli.table, addnorm_exp.cli.plot;"
        "print(json.dumps([m for m in ('jax', 'scipy.stats', 'pandas', 'matplotlib.pyplot') if m in sys.modules]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == []
