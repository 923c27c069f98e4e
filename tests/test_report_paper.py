"""The table as a paper has it: one precision a column, columns of one's choice, LaTeX with titles and bold, a reason for every –."""

import csv
import io
import re
import shutil
import subprocess

import pytest
from test_report_looks import write_design
from test_report_study import summary_of, write_plan, write_run

from addnorm_exp.cli import table as command
from addnorm_exp.errors import UserError
from addnorm_exp.report.load import load_study
from addnorm_exp.report.protocol.outcome import Outcome, shared_decimals, shared_places
from addnorm_exp.report.tables.ablation import build
from addnorm_exp.report.tables.pivot import pivot
from addnorm_exp.report.tables.render import Column, Table, latex, numeric


def write_rows(folder, rows, *, edge: bool = False, **plan):
    """`rows` are (scheme, {seed: test bpb or None where it diverged}, what else its summaries hold)."""
    runs = []
    for scheme, values, more in rows:
        for seed, value in values.items():
            status = "done" if value is not None else "diverged"
            summary = summary_of(scheme, value or 2.0, status, **more)
            runs.append(write_run(folder / f"{scheme}-{seed}", scheme, seed, summary))
    write_plan(folder, {"run": runs}, tuned=[], **plan)
    return load_study(folder)


def spread(level: float, by: float, seeds=range(5)) -> dict[int, float]:
    return {seed: level + by * ((seed * 3) % 5 - 2) for seed in seeds}


def decimals_of(texts) -> set[int]:
    return {len(number) for text in texts for number in re.findall(r"\.(\d+)", text)}


def test_a_column_has_one_precision(tmp_path):
    study = write_rows(
        tmp_path / "s",
        [
            ("pre_ln", spread(2.4, 0.001), {"flops_per_token": 980e3, "step_time_s": 0.00893}),
            ("post_ln", spread(2.5, 0.1), {"flops_per_token": 1.25e6, "step_time_s": 0.123}),
            ("no_norm", spread(2.6, 0.01) | {3: None}, {"flops_per_token": 12.5e6, "step_time_s": 0.0124}),
        ],
    )
    table = build(study)
    for key in ("test_bpb", "val_final_bpb", "difference"):
        assert len(decimals_of(table[key])) == 1, table[key]
    assert table["flops_per_token"] == ["0.98 M", "1.25 M", "12.50 M"]
    assert table["ms_per_step"] == ["8.9", "123.0", "12.4"]


def test_the_shared_precision_shows_the_intervals():
    assert shared_decimals([0.012], 2.0) == shared_decimals([0.012, 0.0], 2.0) == 3
    assert shared_decimals([0.2, 0.012, 0.011], 2.0) == 3
    assert shared_decimals([0.2, 0.1, 0.00011], 2.0) == 4, "one figure of the least half-width at least"
    assert shared_decimals([25.0], 4000.0) == 0
    assert shared_places([Outcome({1: 2.5}), Outcome({1: 2.25})]) == 3
    assert shared_places([Outcome({1: 1234.0}), Outcome({1: 5678.0})]) == 0
    assert shared_places([Outcome({1: 0.0573}), Outcome({1: 0.12})]) == 4
    assert shared_places([Outcome({1: 1e-7}), Outcome({1: 0.12})]) is None
    assert shared_places([Outcome({})]) is None


def test_every_dash_of_the_difference_has_its_reason(tmp_path):
    table = build(
        write_rows(
            tmp_path / "a",
            [("pre_ln", {1: 2.0, 2: 2.1}, {}), ("post_ln", {8: 2.0, 9: 2.1}, {}), ("no_norm", {1: 2.0, 9: 2.1}, {})],
        )
    )
    assert table["difference"] == ["baseline", "–", "0.000"]
    assert "post_ln: no Δ, because no seed is shared with the baseline pre_ln." in table.notes
    table = build(write_rows(tmp_path / "b", [("pre_ln", {1: None, 2: 2.1}, {}), ("post_ln", {1: 2.0, 2: 2.1}, {})]))
    assert table["difference"] == ["baseline", "–"]
    assert "post_ln: no Δ, because a run of the baseline pre_ln diverged." in table.notes
    failed = [write_run(tmp_path / "c" / "a", "pre_ln", 0, summary_of("pre_ln", 2.0, "failed"))]
    failed += [write_run(tmp_path / "c" / "b", "post_ln", 0, summary_of("post_ln", 2.0))]
    write_plan(tmp_path / "c", {"run": failed}, tuned=[])
    table = build(load_study(tmp_path / "c"))
    assert table["difference"] == ["baseline", "–"]
    assert "post_ln: no Δ, because the baseline pre_ln has no result." in table.notes
    assert "–: no run of pre_ln has finished." in table.notes
    rows = [("pre_ln", spread(2.0, 0.01), {}), ("post_ln", spread(2.1, 0.02), {})]
    rows += [("no_norm", spread(2.2, 0.01, range(3, 8)), {})]
    table = build(write_rows(tmp_path / "d", rows))
    assert table["p"][2] == "–"
    assert (
        "no_norm: no interval and no p, because fewer than 5 seeds (2) are shared with the baseline pre_ln."
        in table.notes
    )
    assert "–: the baseline is not tested." in table.notes


def test_a_dash_in_any_other_column_has_its_reason(tmp_path):
    table = build(
        write_rows(
            tmp_path / "s",
            [("pre_ln", {1: 2.0}, {}), ("post_ln", {1: 2.0}, {"flops_per_token": None, "parameters": None})],
        )
    )
    assert (table["parameters"][1], table["flops_per_token"][1]) == ("–", "–")
    assert "– under params; FLOPs/token: the runs of post_ln have not recorded it." in table.notes


def test_names_that_hold_commas_are_listed_by_semicolons(tmp_path):
    notes = build(load_study(write_design(tmp_path / "s", seeds=5))).notes
    (effects,) = [note for note in notes if note.startswith("Minimum detectable")]
    assert re.search(
        r": peri_ln, norm\.kind = layer [\d.e-]+; peri_ln, norm\.kind = rms [\d.e-]+; sandwich_ln", effects
    )


def test_an_empty_cell_of_a_pivot_has_its_reason_and_an_edge_its_mark(three, tmp_path):
    plan = [
        write_run(tmp_path / f"{s}{law}", s, 0, summary_of(s, 2.0) if law == "xavier" else None, **{"init.law": law})
        for s, law in (("pre_ln", "xavier"), ("pre_ln", "normal"), ("post_ln", "xavier"))
    ]
    write_plan(tmp_path, {"run": plan}, tuned=[], group=["scheme", "init.law"])
    (table,) = pivot(load_study(tmp_path), "scheme", "init.law")
    assert [row[2] for row in table.rows] == ["–", "–"]
    assert "–: the study has no runs of post_ln, init.law = normal." in table.notes
    assert "–: no run of pre_ln, init.law = normal has finished." in table.notes
    (table,) = pivot(load_study(three), "scheme", "model.depth")
    marked = {row[0]: row[1].endswith("†") for row in table.rows}
    full = build(load_study(three))
    assert marked == {s: lr.endswith("†") for s, lr in zip(full["scheme"], full["optim.lr"], strict=True)}
    assert any(note.startswith("† optim.lr at the edge") for note in table.notes) == any(marked.values())


def test_columns_are_chosen_and_what_is_left_out_is_named(three, capsys):
    assert command.run([str(three), "--columns=test_bpb,norm"]) == 0
    out = capsys.readouterr().out
    assert re.match(r"\| scheme +\| +test bpb \| norm +\|", out.splitlines()[2])
    (note,) = [line for line in out.splitlines() if line.startswith("- Omitted columns")]
    assert note.startswith("- Omitted columns that differ between the rows: Δ to pre_ln; ")
    assert command.run([str(three), "--brief"]) == 0
    assert re.fullmatch(r"\| scheme +\| +test bpb \| +Δ to pre_ln \|", capsys.readouterr().out.splitlines()[2])
    for flags, words in {
        ("--columns=tset_bpb",): "did you mean 'test_bpb'",
        ("--columns=lr", "--brief"): "both choose columns",
        ("--brief", "--format=csv"): "CSV always has every column",
        ("--brief", "--cols=model.depth"): "one number per cell",
        ("--caption=x",): "add --format=latex",
        ("--label=x",): "add --format=latex",
    }.items():
        with pytest.raises(UserError, match=words):
            command.run([str(three), *flags])


def test_bold_is_what_a_test_does_not_tell_apart_from_the_best(tmp_path):
    rows = [
        ("pre_ln", spread(2.4, 0.01), {}),
        ("peri_ln", {seed: value + 0.001 * (-1) ** seed for seed, value in spread(2.4, 0.01).items()}, {}),
        ("post_ln", {seed: value + 0.1 + 0.001 * seed for seed, value in spread(2.4, 0.01).items()}, {}),
    ]
    table = build(write_rows(tmp_path / "a", rows))
    assert table.bold == {"test_bpb": {0, 1}}
    assert "Holm-corrected over all 3 pairs of rows" in table.bold_note
    text = latex(table)
    assert text.count(r"\bfseries") == 2
    assert not any("Bold" in note for note in table.notes), "Markdown has no bold"
    assert build(write_rows(tmp_path / "b", rows[:2])).bold == {}, "all alike: nothing is best"
    few = [(scheme, {k: v for k, v in values.items() if k < 4}, more) for scheme, values, more in rows]
    assert build(write_rows(tmp_path / "c", few)).bold == {}, "four seeds make no test"
    gone = [*rows, ("no_norm", spread(2.0, 0.01) | {3: None}, {})]
    assert build(write_rows(tmp_path / "d", gone)).bold == {"test_bpb": {0, 1}}, "diverged is never best"
    assert build(write_rows(tmp_path / "e", rows), metric="step_time_s").bold == {}


def test_latex_has_titles_caption_label_and_aligned_numbers(tmp_path, capsys):
    folder = write_design(tmp_path / "my_study")
    assert command.run([str(folder), "--format=latex", "--caption=Ours & theirs"]) == 0
    text = capsys.readouterr().out
    assert r"\caption{Ours \& theirs}" in text
    assert r"\label{tab:my-study}" in text
    assert r"\begin{tabular}{llS[table-format=1.2(2)]" in text
    assert "Peri-LN & RMSNorm & " in text
    assert "peri" not in text
    assert command.run([str(folder), "--format=latex", "--labels=names", "--label=tab:x"]) == 0
    text = capsys.readouterr().out
    assert r"\label{tab:x}" in text
    assert r"peri\_ln & rms & " in text
    assert command.run([str(folder), "--labels=titles"]) == 0
    assert "| Peri-LN " in capsys.readouterr().out


def test_markdown_and_csv_keep_keys(tmp_path, capsys):
    folder = write_design(tmp_path / "s", seeds=1)
    assert command.run([str(folder), "--format=csv"]) == 0
    assert {row["scheme"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))} == {
        "pre_ln",
        "peri_ln",
        "sandwich_ln",
    }


def test_a_column_of_numbers_is_aligned_by_its_point():
    column = Column("x", "x")
    assert numeric(column, ["2.451 ± 0.012", "12.40 ± 1.2", "–"]) == "table-format=2.3(2)"
    assert numeric(column, ["866,816", "1,000,000"]) == "table-format=7.0"
    assert numeric(column, ["+0.1", "-0.25"]) == "table-format=+1.2"
    assert (
        numeric(column, ["0.001†", "0.01"])
        == "table-format=1.3,table-space-text-post={\\textsuperscript{\\textdagger}}"
    )
    assert numeric(column, ["2.0, 2.1", "–"]) is None
    assert numeric(Column("x", "x", right=False), ["1", "2"]) is None


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with siunitx")
def test_the_latex_compiles(three, five, tmp_path):
    tables = [build(load_study(five), labels="titles"), build(load_study(three), labels="titles")]
    tables += pivot(load_study(three), "scheme", "optim.lr", labels="titles")
    marks = Table("T", [Column("x", "x"), Column("y", "y")], [["0.001†", "866,816"], ["0.01", "[1]"]], bold={"x": {0}})
    body = "\n".join([*(latex(table, label=f"tab:{i}") for i, table in enumerate(tables)), latex(marks)])
    head = "\\documentclass{article}\n\\usepackage{booktabs,graphicx,siunitx}\n\\begin{document}\n"
    (tmp_path / "t.tex").write_text(head + body + "\\end{document}\n")
    arguments = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=120, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
