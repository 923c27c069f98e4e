"""The manual hangs together: every page is in its index, every link leads somewhere, the citation says what the package says."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])


def links(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in links(page):
        if not re.match(r"https?://|mailto:", link):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page.name}: {link}"
            if anchor:
                heads = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
                names = [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]
                assert anchor in names, f"{page.name}: {link}"


def test_the_index_has_every_page_and_notebook():
    index = {(ROOT / "docs" / link).resolve() for link in links(ROOT / "docs" / "README.md")}
    for page in (*ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.ipynb")):
        assert page.name == "README.md" or page in index, f"docs/README.md does not name {page.name}"


def test_the_citation_says_what_the_package_says():
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = dict(re.findall(r"^([\w-]+): (.+)$", (ROOT / "CITATION.cff").read_text(), re.M))
    assert citation["version"] == package["version"]
    assert citation["license"] == package["license"]
    assert citation["cff-version"] == "1.2.0"
    assert f"version = {{{package['version']}}}" in (ROOT / "docs" / "citing.md").read_text()


def test_the_readme_has_the_verbs_of_the_contract():
    """The box of equations, line by line what the contract says: `state = open(x0)`, `u, kept = read(state)`, …"""

    def verbs(text: str) -> list[str]:
        return [" ".join(line.split()) for line in re.findall(r"^ {4}(\w[\w, ]*= \w+\([\w, ]*\)) ", text, re.M)]

    contract = (ROOT / "addnorm_exp" / "residual" / "contract.py").read_text(encoding="utf-8")
    assert len(verbs(contract)) == 7
    assert verbs((ROOT / "README.md").read_text(encoding="utf-8")) == verbs(contract)


def test_from_command_to_step_names_what_is_there():
    """Each function or class of the page is defined at the top level of its file."""
    rows = re.findall(r"`(addnorm_exp/[\w/]+\.py)` `(\w+)`", (ROOT / "docs" / "from-command-to-step.md").read_text())
    assert len(rows) > 30
    for file, name in rows:
        tree = ast.parse((ROOT / file).read_text())
        assert name in {getattr(node, "name", None) for node in tree.body}, f"{file} has no {name}"
