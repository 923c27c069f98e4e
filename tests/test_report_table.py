"""The table on disk-made studies: what it says, what it must not say, and its three formats."""

import csv
import io
import json
import re

import numpy as np
import pytest
from test_report_study import summary_of, write_plan, write_run, write_study

from addnorm_exp.cli import table as command
from addnorm_exp.errors import UserError
from addnorm_exp.report.load import load_study
from addnorm_exp.report.pivot import pivot
from addnorm_exp.report.render import Column, Table, markdown, render
from addnorm_exp.report.table import build
from addnorm_exp.runs.identity import SEMANTICS


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("runs") / "three", full=False)


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("runs") / "five", seeds=5, full=False, diverged=(("no_norm", 101),))


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


def test_an_edge_winner_is_marked(tmp_path):
    plan = [
        write_run(tmp_path / "s" / f"t{rate}", "pre_ln", 0, summary_of("pre_ln", 2.0 + rate), lr=rate)
        for rate in (1e-3, 3e-3)
    ]
    report = [write_run(tmp_path / "s" / "r", "pre_ln", 5, summary_of("pre_ln", 2.0), lr=1e-3)]
    write_plan(tmp_path / "s", {"tune": plan, "report": report})
    table = build(load_study(tmp_path / "s"))
    assert table["optim.lr"] == ["0.001†"]
    assert any("edge of its grid (0.001, 0.003) for pre_ln" in note for note in table.notes)
    assert "difference" not in [c.key for c in table.columns], "one row has nothing to differ from"


def test_failed_unfinished_and_absent_runs_are_named(tmp_path):
    folder = tmp_path / "s"
    plan = [write_run(folder / f"a{s}", "pre_ln", s, summary_of("pre_ln", 2.0 + s)) for s in (0, 1)]
    plan.append(write_run(folder / "f", "pre_ln", 2, summary_of("pre_ln", 2.0, "failed", reason="out of memory")))
    plan.append(write_run(folder / "u", "pre_ln", 3, summary_of("pre_ln", 2.0, "running", 300)))
    plan.append({"id": "m", "overrides": {"scheme": "pre_ln", "seed": 4}})
    write_plan(folder, {"run": plan}, tuned=[])
    table = build(load_study(folder))
    notes = "\n".join(table.notes)
    assert table["test_bpb"] == ["2.000, 3.000"]
    assert "1 of 5 runs failed: pre_ln seed 2 (out of memory)" in notes
    assert "1 of 5 runs unfinished: pre_ln seed 3 (at step 300 of 1000)" in notes
    assert "1 of 5 runs not run yet" in notes
    assert "lr 0.001" in notes, "an untuned learning rate is a confound too"


def test_report_runs_that_are_no_longer_the_winners_are_named(tmp_path):
    plan = [
        write_run(tmp_path / "s" / f"t{rate}", "pre_ln", 0, summary_of("pre_ln", 2.0 - rate), lr=rate)
        for rate in (1e-3, 3e-3)
    ]
    report = [write_run(tmp_path / "s" / "r", "pre_ln", 5, summary_of("pre_ln", 2.0), lr=1e-3)]
    write_plan(tmp_path / "s", {"tune": plan, "report": report})
    assert any("now favour optim.lr = 0.003" in note for note in build(load_study(tmp_path / "s")).notes)


def test_the_baseline_can_be_chosen(three):
    assert column(build(load_study(three), baseline="no_norm"), "difference")["no_norm"] == "baseline"
    with pytest.raises(UserError, match="did you mean 'pre_ln'"):
        build(load_study(three), baseline="preln")


def test_a_baseline_that_no_row_has_is_said(tmp_path):
    plan = [write_run(tmp_path / "s" / s, s, 0, summary_of(s, 2.0)) for s in ("post_ln", "pre_rms")]
    for baseline, said in (("pre_ln", True), ("pre_rms", False), (None, False)):
        write_plan(tmp_path / "s", {"run": plan}, tuned=[], baseline=baseline)
        notes = build(load_study(tmp_path / "s")).notes
        line = "The study's baseline pre_ln is no row here; Δ is to post_ln, which the first row has."
        assert (line in notes) == said
        assert any("no row here" in note for note in notes) == said


def test_a_baseline_that_every_row_has_is_said(laws, tmp_path):
    plan = [
        write_run(tmp_path / law, "pre_ln", 0, summary_of("pre_ln", level), **{"init.law": law})
        for law, level in (("xavier", 2.0), ("normal", 2.5))
    ]
    write_plan(tmp_path, {"run": plan}, tuned=[], group=["scheme", "init.law"], baseline="pre_ln")
    line = "Every row is a baseline (pre_ln), so there is no Δ; name what tells the rows apart by --baseline."
    table = build(load_study(tmp_path))
    assert table["difference"] == ["baseline", "baseline"]
    assert line in table.notes
    other = build(load_study(tmp_path), baseline="xavier")
    assert other["difference"] == ["baseline", "+0.500"]
    assert not any("Every row" in note for note in (*other.notes, *build(load_study(laws)).notes))


def test_runs_of_another_version_are_said_to_be(tmp_path):
    line = f"Made under semantics 0; this version trains under {SEMANTICS}, so new runs do not compare with these."
    for version in (0, SEMANTICS):
        folder = tmp_path / str(version)
        plan = [
            write_run(folder / f"{rate}", "pre_ln", 0, summary_of("pre_ln", 2.0), lr=rate, semantics=version)
            for rate in (1e-3, 1e-2)
        ]
        plan.append({"id": "m", "overrides": {"scheme": "pre_ln", "seed": 1}})  # absent, so of no version
        write_plan(folder, {"tune": plan})
        study = load_study(folder)
        (tuning,) = pivot(study, "scheme", "optim.lr")
        single = build(load_study(folder / "0.001"))
        for table in (build(study), tuning, single):
            assert (line in table.notes) == (version != SEMANTICS)
            assert any("semantics" in note for note in table.notes) == (version != SEMANTICS)


def test_a_run_that_failed_before_its_config_was_written_is_named(tmp_path):
    folder = tmp_path / "s"
    plan = [write_run(folder / "a", "pre_ln", 0, summary_of("pre_ln", 2.0), semantics=2)]
    for name, seed in (("b", 1), ("c", 2)):
        plan.append({"id": name, "overrides": {"scheme": "pre_ln", "seed": seed}})
        (folder / name).mkdir()
        (folder / name / "lock").touch()
    (folder / "b" / "summary.json").write_text('{"format": 1, "status": "failed", "reason": "ValueError: odd"}')
    write_plan(folder, {"run": plan}, tuned=[])
    notes = "\n".join(build(load_study(folder)).notes)
    assert "2 of 3 runs failed: pre_ln seed 1 (ValueError: odd); pre_ln seed 2 (no config.json)." in notes


@pytest.mark.parametrize("form", ["md", "latex", "csv"])
def test_failures_of_tuning_are_told_with_their_reasons_in_every_form(tmp_path, capsys, form):
    plan = [write_run(tmp_path / "s" / "a", "pre_ln", 0, summary_of("pre_ln", 2.0))]
    broken = summary_of("pre_ln", 2.0, "failed", reason="ValueError: bad\nshape")
    plan.append(write_run(tmp_path / "s" / "b", "pre_ln", 0, broken, lr=1e-2))
    write_plan(tmp_path / "s", {"tune": plan})
    assert command.run([str(tmp_path / "s"), f"--format={form}"]) == 0
    printed = capsys.readouterr()
    told = printed.err if form == "csv" else printed.out.replace(r"\_", "_")
    assert "1 of 2 runs failed: pre_ln optim.lr 0.01 seed 0 (ValueError: bad shape)." in told


@pytest.fixture(scope="module")
def laws(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "laws"
    plan = [
        write_run(
            folder / f"{law}-{scheme}-{seed}",
            scheme,
            seed,
            summary_of(scheme, level + i + 0.001 * seed),
            **{"init.law": law},
        )
        for i, law in enumerate(("xavier", "normal"))
        for scheme, level in {"post_ln": 2.5, "pre_ln": 2.25}.items()
        for seed in (1, 2)
    ]
    write_plan(folder, {"run": plan}, tuned=[], group=["scheme", "init.law"])
    return folder


def test_with_two_axes_each_row_meets_the_baseline_of_its_own_law(laws):
    table = build(load_study(laws))
    assert table["init.law"] == ["xavier", "xavier", "normal", "normal"]
    assert table["difference"] == ["+0.250, +0.250", "baseline", "+0.250, +0.250", "baseline"]
    one = build(load_study(laws), baseline="pre_ln, init.law = xavier")
    assert one["difference"][3] == "+1.000, +1.000"


def test_a_pivot_over_two_axes(laws):
    (table,) = pivot(load_study(laws), "scheme", "init.law")
    assert [c.label for c in table.columns] == ["scheme", "init.law = xavier", "init.law = normal"]
    assert table.rows[0] == ["post_ln", "2.501, 2.502", "3.501, 3.502"]
    split = pivot(load_study(laws), "scheme", "model.depth")
    assert ["init.law = normal" in t.title for t in split] == [False, True], "axes left over give a table each"
    for axes in (("scheme", "init.lawn"), ("scheme", "scheme")):
        with pytest.raises(UserError, match="--cols"):
            pivot(load_study(laws), *axes)


def test_a_pivot_over_the_tuned_key_shows_the_tuning_runs(three):
    (table,) = pivot(load_study(three), "scheme", "optim.lr")
    assert [c.label for c in table.columns][1:] == [
        f"optim.lr = {r}" for r in ("0.0003", "0.001", "0.003", "0.01", "0.03")
    ]
    assert table.rows[0][5] == "2/2 diverged"
    assert any("tuning phase" in note for note in table.notes)


def test_markdown_is_aligned_and_escapes_pipes():
    table = Table("T", [Column("a", "a", right=False), Column("b", "Δ|x")], [["one", "1 | 2"], ["±", "–"]], ["n"])
    lines = markdown(table).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    assert rows[0] == "| a   |   Δ\\|x |"
    assert rows[1] == "| --- | -----: |"
    assert rows[2] == "| one | 1 \\| 2 |"


def test_the_latex_of_a_table_is_whole(three):
    text = render([build(load_study(three))], "latex")
    assert text.isascii()
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in body] == [len(columns) - 1] * 4
    assert all(row.endswith(r"\\") for row in body)
    assert text.count(r"\begin{") == text.count(r"\end{")
    assert not re.search(r"(?<!\\)[_%#]", text.replace("% needs", "").replace("{!}{%", "")), (
        "an unescaped special character"
    )


def test_csv_holds_numbers_in_full(five):
    rows = list(csv.DictReader(io.StringIO(render([build(load_study(five))], "csv"))))
    by = {row["scheme"]: row for row in rows}
    assert by["pre_ln"]["phase"] == "report"
    assert 2.4 < float(by["pre_ln"]["test_bpb"]) < 2.5
    assert len(by["pre_ln"]["test_bpb_seeds"].split()) == 5
    assert by["no_norm"]["test_bpb"] == "", "no mean of survivors"
    assert by["no_norm"]["diverged"] == "1"
    assert float(by["post_ln"]["difference_low"]) > 0.1
    assert by["pre_rms"]["norm"] == "rms"
    assert by["pre_rms"]["eps"] == "1e-05", "confounds are columns in CSV, constant or not"
    with pytest.raises(UserError, match="did you mean 'latex'"):
        render([], "latx")


def test_the_command_prints_and_writes(three, tmp_path, capsys):
    assert command.run([str(three)]) == 0
    assert capsys.readouterr().out.startswith("### three, data enwik8")
    assert command.run([str(three), "--format=csv", "--out", str(tmp_path / "t.csv")]) == 0
    assert (tmp_path / "t.csv").read_text().startswith("study,phase,scheme")
    assert "note: Runs: report phase" in capsys.readouterr().err


def test_one_bad_study_of_several_does_not_hide_the_others(three, tmp_path, capsys):
    write_run(tmp_path / "good" / "a", "pre_ln", 0, summary_of("pre_ln", 2.0))
    write_run(tmp_path / "bad" / "a", "pre_ln", 0, summary_of("pre_ln", 2.0))
    write_run(tmp_path / "bad" / "b", "pre_ln", 1, summary_of("pre_ln", 2.0), sha="b" * 64)
    assert command.run([str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert "### good" in printed.out
    assert "error: " in printed.err
    assert "different data" in printed.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "DIR"),
        (["{dir}", "more"], "table: unexpected 'more' (it takes [DIR])"),
        (["{dir}", "--fromat=csv"], "--fromat: no such flag; did you mean '--format'"),
        (["{dir}", "--format=pdf"], "--format='pdf': valid names: csv, latex, md"),
        (["{dir}", "--format=latx"], "did you mean 'latex'"),
        (["{dir}", "--rows"], "--rows needs a value: --rows=KEYS"),
        (["{dir}", "--cols=schem"], "--cols=schem: no run has this axis; did you mean 'scheme'?"),
        (["{dir}", "--cols=lr"], "--cols=lr: no run has this axis; did you mean 'optim.lr'?"),
        (["{dir}", "--rows=model.zzz"], "--rows=model.zzz: no run has this axis; keys of model: depth, width"),
        (
            ["{dir}", "--rows=zzz"],
            "--rows=zzz: no run has this axis; keys: batch_size, model.…, optim.…, scheme, seed, seq_len, steps",
        ),
        (["{dir}", "--cols=optim.lr", "--baseline=pre_ln"], "--baseline"),
        (["{dir}", "--rows=seed"], "--rows=seed: a cell holds every seed"),
        (["{dir}", "--out=/nowhere/t.md"], "cannot be written"),
        (["{dir}/nothing"], "no such folder"),
    ],
)
def test_mistakes_are_one_line(three, argv, words):
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        command.run([word.format(dir=three) for word in argv])
    assert "\n" not in str(caught.value)


def test_help_is_help(capsys):
    with pytest.raises(SystemExit) as caught:
        command.run(["--help"])
    assert caught.value.code == 0
    assert "main.py table" in capsys.readouterr().out


def test_a_loss_without_bits_is_reported_as_loss(tmp_path):
    summary = summary_of("pre_ln", 2.0)
    for split in ("val", "test"):
        for which in ("final", "best"):
            summary[split][which].pop("bpb", None)
    write_run(tmp_path / "s" / "a", "pre_ln", 0, summary)
    assert build(load_study(tmp_path / "s"))["test_loss"] == ["1.386"]


def test_the_report_room_never_imports_jax():
    import subprocess
    import sys

    code = (
        "import sys, json, addnorm_exp.report.figures, addnorm_exp.cli.table, addnorm_exp.cli.plot;"
        "print(json.dumps([m for m in ('jax', 'scipy', 'matplotlib.pyplot') if m in sys.modules]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == []
