"""The LaTeX that tables are printed as: every text is escaped, and a TeX that is installed sets it."""

import re
import shutil
import subprocess

import pytest
from processes import NET
from test_report_study import summary_of, write_plan, write_run

from addnorm_exp.cli import table as command
from addnorm_exp.report.load import load_study
from addnorm_exp.report.tables.ablation import build
from addnorm_exp.report.tables.latex import escape
from addnorm_exp.report.tables.pivot import pivot
from addnorm_exp.report.tables.render import Column, Table, markdown, numeric, render

NASTY = r"a_b & 50% #1 {x} $y$ ~z^2 \n <t> |p| `q` --flag 'r' \"s\" é Łódź σΩΑ → 中 😀 [end]"


def test_characters_that_latex_reads_as_commands_are_escaped():
    assert escape("a_b & 50% #1 {x} $y$ ~z^2 \\n") == (
        r"a\_b \& 50\% \#1 \{x\} \$y\$ \textasciitilde{}z\textasciicircum{}2 \textbackslash{}n"
    )
    assert escape("-0.5 [-0.1, +0.2] 1e-05 x-1 ± 2 Δ 3†") == (
        r"$-$0.5 [$-$0.1, +0.2] 1e-05 x-1 $\pm$ 2 $\Delta$ 3\textsuperscript{\textdagger}"
    )
    assert escape("--at=-1 – ?`\n") == r"-{}-at=$-$1 \textendash{} ?\`{}"
    assert escape("Çé ñ ï Łø εσΩ 中") == r"\c{C}\'{e} \~{n} \"{\i} \L{}\o{} $\varepsilon$$\sigma$$\Omega$ [U+4E2D]"
    assert escape(NASTY).isascii()


def test_what_tables_print_has_commands_and_greek_capitals_that_latin_has_are_not_taken_for_some():
    assert "[U+" not in escape("± × · – — − ‘ ’ “ ” … → ← √ ∂ ∞ ≤ ≥ ≠ ≈ § ² ³ † ₀ ₁ ₂ α β γ δ ε η λ μ ρ σ ω Γ Δ Σ Ω")
    assert escape("Αα Ζ") == r"[U+0391]$\alpha$ [U+0396]"  # there is no \Alpha


def test_a_row_or_note_that_starts_with_a_bracket_is_no_argument_of_the_line_break():
    text = render([Table("t", [Column("a", "a")], [["[1pt] x"], ["* y"]], ["one", "[2pt] two"])], "latex")
    assert "\n{}[1pt] x \\\\\n{}* y \\\\\n" in text
    assert "one\\\\\n{}[2pt] two\n" in text


def test_markdown_escapes_what_it_would_read_as_code_or_html():
    table = Table("a*b", [Column("a", "`c`")], [["<b>|"], ["<0.001"]], ["pre_ln <script>"])
    assert markdown(table).splitlines() == [
        r"### a\*b",
        "",
        r"|  \`c\` |",
        "| -----: |",
        r"| \<b>\| |",
        "| <0.001 |",
        "",
        r"- pre_ln \<script>",
    ]


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no TeX here: pdflatex is not installed")
def test_tables_with_nasty_names_compile(tmp_path):
    folder = tmp_path / "s"
    plan = [
        write_run(folder / f"{name}{seed}", scheme, seed, summary_of(scheme, level + 0.01 * seed), **{"init.law": law})
        for name, scheme, level, law in (
            ("a", "pre_ln", 2.0, NASTY),
            ("b", NASTY, 2.1, NASTY),
            ("c", "[2] x", 2.2, "normal"),
        )
        for seed in range(5)
    ]
    plan.append(write_run(folder / "f", "pre_ln", 9, summary_of("pre_ln", 2.0, "failed", reason=NASTY)))
    published = [{"scheme": "pre_ln", "value": 1.5, "metric": NASTY, "source": NASTY}]
    write_plan(folder, {"run": plan}, name=NASTY, tuned=[], group=["scheme", "init.law"], published=published)
    study = load_study(folder)
    body = render([build(study), *pivot(study, "scheme", "init.law")], "latex")
    source = (
        "\\documentclass{article}\n\\usepackage{booktabs,graphicx,siunitx}\n\\begin{document}\n"
        + body
        + "\\end{document}\n"
    )
    (tmp_path / "t.tex").write_text(source)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=NET, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in done.stdout
    assert (tmp_path / "t.pdf").stat().st_size > 5000


def test_p_is_aligned_at_the_point(five):
    """All have three decimals, so they are aligned right; in a siunitx column <0.001 would be centred."""
    table = build(load_study(five), labels="titles")
    place = [column.key for column in table.columns].index("p")
    assert "<0.001" in table["p"]
    assert numeric(table.columns[place], table["p"]) is None
    assert numeric(table.columns[place], ["0.012", "0.250"]) is None


def test_the_columns_of_latex_fit_a_page(five, tmp_path, capsys):
    assert command.run([str(five), "--format=latex"]) == 0
    text = capsys.readouterr().out
    head = text[text.index(r"\toprule") : text.index(r"\midrule")]
    assert "test bpb" in head
    assert "p (Holm)" in head
    assert "FLOPs" not in head
    assert "Omitted columns that differ between the rows: " in text
    assert command.run([str(five), "--format=latex", "--columns=all"]) == 0
    full = capsys.readouterr().out
    assert "params" in full[full.index(r"\toprule") : full.index(r"\midrule")]
    assert "Omitted columns" not in full
    assert command.run([str(five)]) == 0
    assert "Omitted columns" not in capsys.readouterr().out, "only LaTeX has a page's width"


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no TeX here: pdflatex is not installed")
@pytest.mark.parametrize("name", ["three", "five", "laws"])
def test_a_table_shrinks_to_footnote_size_at_most(name, request, tmp_path, capsys):
    """In the narrowest usual text, that of article: its natural width in \\small is at most 9/8 of the line."""
    assert command.run([str(request.getfixturevalue(name)), "--format=latex"]) == 0
    text = capsys.readouterr().out
    tabular = text[text.index(r"\begin{tabular}") : text.index(r"\end{tabular}") + len(r"\end{tabular}")]
    setup = "\n".join(line for line in text.splitlines() if line.startswith((r"\sisetup", "group-", r"\setlength")))
    source = (
        "\\documentclass{article}\n\\usepackage{booktabs,graphicx,siunitx}\n\\begin{document}\n"
        f"{setup}\\small\\sbox0{{{tabular}}}\\typeout{{WIDTHS \\the\\wd0 \\the\\linewidth END}}\n\\end{{document}}\n"
    )
    (tmp_path / "t.tex").write_text(source)
    arguments = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=NET, errors="replace")
    found = re.search(r"WIDTHS ([\d.]+)pt\s*([\d.]+)pt\s*END", done.stdout)
    assert found, done.stdout[-2000:]
    assert float(found[1]) <= 9 / 8 * float(found[2])
