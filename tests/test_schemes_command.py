"""`main.py schemes`: the listing, one scheme in full, its diagram, and docs/schemes.md that is made of them."""

import csv
import functools
import io
import re
from pathlib import Path

import pytest

from addnorm_exp.cli import main
from addnorm_exp.manual import schemes
from addnorm_exp.residual import catalogue
from addnorm_exp.residual.diagram import diagrams

DOC = Path(__file__).parents[1] / "docs" / "schemes.md"


@pytest.fixture(scope="module", autouse=True)
def each_model_is_made_once():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(schemes, "_task", functools.cache(schemes._task))
        yield


def graph(drawing: str) -> list[tuple[str, str, str]]:
    """Arrows of a flowchart as (text of the start, words on the arrow, text of the end), in the order drawn."""
    texts = dict(re.findall(r'^    (n\d+)[\[(]+"([^"]*)"', drawing, re.MULTILINE))
    arrows = re.findall(r'^    (n\d+) -->(?:\|"([^"]*)"\|)? (n\d+)$', drawing, re.MULTILINE)
    return [(texts[start], words, texts[end]) for start, words, end in arrows]


def test_a_diagram_is_the_equation():
    """x ← x + F(N(x)); x ← N(α x + F(x)), α = 24^¼ = 2.213 at 12 blocks; ReZero's one coefficient a block."""
    ((blocks, drawing),) = diagrams(catalogue.get("pre_ln"))
    assert blocks == "blocks 1–12"
    assert graph(drawing) == [
        ("x", "", "LayerNorm"), ("LayerNorm", "", "attention"), ("attention", "", "+"), ("x", "", "+"),
        ("+", "", "LayerNorm"), ("LayerNorm", "", "feed forward"), ("feed forward", "", "+"), ("+", "", "+"), ("+", "", "x"),
    ]  # fmt: skip
    ((_, drawing),) = diagrams(catalogue.get("deepnorm"))
    assert graph(drawing)[:4] == [
        ("x", "", "attention"), ("attention", "", "+"), ("x", "× 2.213", "+"), ("+", "", "LayerNorm"),
    ]  # fmt: skip
    ((_, drawing),) = diagrams(catalogue.get("rezero"))
    assert graph(drawing)[1] == ("attention", "", "× learned scalar of the block, 0 at init")
    ((_, drawing),) = diagrams(catalogue.get("skipinit"))
    assert graph(drawing)[1] == ("attention", "", "× learned scalar, 0 at init")


def test_a_diagram_shows_what_a_scheme_does_inside_a_sublayer():
    """Sub-LN is Pre-LN but for a norm before W_o and one before W_2; only the first of ResFormer's blocks keeps its values."""
    ((_, drawing),) = diagrams(catalogue.get("sub_ln"))
    assert graph(drawing)[1] == ("LayerNorm", "", "attention<br/>out_norm LayerNorm")
    assert graph(drawing)[5] == ("LayerNorm", "", "feed forward<br/>hidden_norm LayerNorm")
    first, others = diagrams(catalogue.get("value_residual"))
    assert (first[0], others[0]) == ("block 1", "blocks 2–12")
    assert graph(first[1])[1] == ("RMSNorm", "", "attention<br/>value_mix keep")
    assert graph(others[1])[1] == ("RMSNorm", "", "attention<br/>value_mix (0.5, 0.5)")


def test_blocks_that_differ_in_constants_alone_are_one_drawing():
    """LNS: 1/√l, which for the first block is no factor at all."""
    (first, _), (others, drawing) = diagrams(catalogue.get("lns"), depth=4)
    assert (first, others) == ("block 1", "blocks 2–4")
    assert graph(drawing)[:2] == [("x", "", "RMSNorm"), ("RMSNorm", "", "× 0.7071 … 0.5")]


@pytest.mark.parametrize("name", catalogue.names())
def test_every_block_is_drawn_once(name):
    """The blocks of all diagrams of a scheme are 1 … depth, each once, and every sublayer is in its drawing."""
    seen = []
    for blocks, drawing in diagrams(catalogue.get(name), depth=8):
        for first, last in re.findall(r"(\d+)(?:–(\d+))?", blocks):
            seen += range(int(first), int(last or first) + 1)
        drawn = {text.partition("<br/>")[0] for start, _, end in graph(drawing) for text in (start, end)}
        assert {"attention", "feed forward"} <= drawn
    assert sorted(seen) == list(range(1, 9))


def test_the_listing_fits_a_terminal(capsys):
    assert main(["schemes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120
    assert any("…" in line for line in lines)


def test_the_listing_has_every_scheme(capsys):
    assert main(["schemes", "--format=csv"]) == 0
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert list(rows) == list(catalogue.names())
    # Four blocks of width 128: two LayerNorms of 2 · 128 each, and the final one, are what no_norm lacks.
    assert int(rows["no_norm"]["parameters_vs_pre_ln"]) == -(4 * 2 + 1) * 2 * 128
    assert rows["rezero"]["paper"] == "2003.04887"


def test_one_scheme_and_its_neighbours(capsys):
    assert main(["schemes", "sandwich_ln"]) == 0
    told = capsys.readouterr().out
    assert "N_out(F(N_pre(x)))" in told
    assert "out × 0.2041, down × 0.2041" in told  # 1/√24
    assert "- Tests in the suite: forward pass" in told
    assert "- Predicted at init: each sublayer adds unit variance: 1 + 2l after l blocks (Kim et al. 2025" in told
    assert main(["schemes", "pre_lm"]) == 2
    assert "did you mean 'pre_ln'" in capsys.readouterr().err
    assert main(["schemes", ""]) == 2
    assert capsys.readouterr().err == "error: a scheme's name is empty; expected one like pre_ln\n"
    assert main(["schemes", "pre_ln", "--format=csv"]) == 2
    capsys.readouterr()
    assert main(["schemes", "normformer"]) == 0
    assert "- Inside sublayers: attention: head_scale; feed_forward: hidden_norm LayerNorm\n" in capsys.readouterr().out


def test_the_document_is_current():
    assert DOC.read_text(encoding="utf-8") == schemes.document(), (
        "run: uv run main.py schemes --format=doc > docs/schemes.md"
    )
