"""The table's three formats, and the command that prints them."""

import csv
import io
import json
import re

import pytest
from test_report_study import summary_of, write_run

from addnorm_exp.cli import table as command
from addnorm_exp.errors import UserError
from addnorm_exp.report.dashboard.page import dashboard
from addnorm_exp.report.load import load_study
from addnorm_exp.report.tables.ablation import build
from addnorm_exp.report.tables.render import Column, Table, markdown, render


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
    columns = len(build(load_study(three)).columns)
    assert [len(re.findall(r"(?<!\\)&", row)) for row in body] == [columns - 1] * 4
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
    for name in ("test_bpb", "difference"):
        values = [float(text) for text in by["post_ln"][f"{name}_seeds"].split()]
        assert len(values) == 5
        assert float(by["post_ln"][name]) == pytest.approx(sum(values) / 5, rel=1e-14), "seeds in full, too"
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
    write_run(tmp_path / "bad" / "b", "pre_ln", 1, summary_of("pre_ln", 2.0), semantics=2)
    assert command.run([str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert "### good" in printed.out
    assert "error: " in printed.err
    assert "different semantics" in printed.err


def test_single_runs_on_different_data_have_a_table_each(three, tmp_path, capsys):
    """As the README's runs/ holds them: runs/try, runs/mine, and a study beside them."""
    for name, data, sha in (("try", "text", "a"), ("mine", "text", "b"), ("more", "text", "b"), ("big", "enwik8", "c")):
        write_run(tmp_path / name, "pre_ln", len(name), summary_of("pre_ln", 2.0), sha=sha * 64)
        config = json.loads((tmp_path / name / "config.json").read_text())
        config["data"]["name"] = data
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    write_run(tmp_path / "study" / "x", "pre_ln", 0, summary_of("pre_ln", 2.0))
    assert command.run([str(tmp_path)]) == 0
    heads = [line for line in capsys.readouterr().out.splitlines() if line.startswith("###")]
    root = tmp_path.name
    assert sorted(head.split(", ")[0].removeprefix("### ") for head in heads) == sorted(
        [f"{root}-text-aaaaaaaa", f"{root}-text-bbbbbbbb", f"{root}-enwik8", "study"]
    )
    assert "data enwik8 (sha256 cccccccccccc)" in next(head for head in heads if f"{root}-enwik8" in head)
    path, problems = dashboard(tmp_path)
    page = path.read_text()
    assert not problems
    assert f'"name":"{root}-text-bbbbbbbb"' in page
    with pytest.raises(UserError, match="different data"):
        load_study(tmp_path)


def test_one_run_in_two_folders_is_shown_once(tmp_path):
    write_run(tmp_path / "b" / "first", "pre_ln", 0, summary_of("pre_ln", 2.0, "running", 300))
    write_run(tmp_path / "b" / "second", "pre_ln", 0, summary_of("pre_ln", 2.0))
    for name in ("first", "second"):
        path = tmp_path / "b" / name / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"id": "one"}))
    table = build(load_study(tmp_path / "b"))
    assert table["test_bpb"] == ["2.000"]
    first, second = (tmp_path / "b" / name for name in ("first", "second"))
    assert f"The same run is in {second} and {first}; only {second} is shown." in table.notes


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
        (["{dir}", "--rows=seed"], "--rows=seed: a cell contains all seeds"),
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
