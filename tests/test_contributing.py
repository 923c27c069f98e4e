"""CONTRIBUTING.md: its worked example is carried out as it stands there, and checks of the suite are run on the result."""

import re
from dataclasses import replace
from pathlib import Path

import bridge
import pytest
import reference.schemes
import test_model
import test_schemes
import test_train_schemes

from addnorm_exp.cli import main
from addnorm_exp.manual import schemes
from addnorm_exp.residual import Depths, catalogue, sites
from addnorm_exp.residual.catalogue import placement

ROOT = Path(__file__).parents[1]


def blocks() -> dict[str, str]:
    """The page's Python by the place that the first line of each block names."""
    found = re.findall(r"^```python\n# (.+?)\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
    assert len(found) == len({place for place, _ in found}) == 4
    return dict(found)


@pytest.fixture
def leaky(monkeypatch):
    """The scheme of the page, entered as the page says, for one test."""
    code = blocks()
    for place in code:
        assert (ROOT / place.partition(",")[0]).is_file(), place
    # Each block runs among the names of the file that it is meant for.
    record = dict(vars(placement))
    exec(code["addnorm_exp/residual/catalogue/placement.py"], record)
    written = dict(vars(reference.schemes))
    exec(code["tests/reference/schemes.py"], written)
    monkeypatch.setattr(reference.schemes, "leaky", written["leaky"], raising=False)
    monkeypatch.setattr(catalogue, "_BY_NAME", dict(catalogue._BY_NAME))
    for table, place in (
        (bridge.REFERENCES, "tests/bridge.py, in REFERENCES"),
        (test_schemes.DELTA, "tests/test_schemes.py, in DELTA"),
    ):
        for name, value in eval("{" + code[place] + "}", {"schemes": reference.schemes}).items():
            monkeypatch.setitem(table, name, value)
    return catalogue.add(record["leaky"])


def test_the_example_is_a_scheme_like_any_other(leaky, capsys):
    leaky.check(sites("decoder", Depths(decoder=4)))
    test_schemes.test_decoder_equals_the_reference("leaky")
    test_schemes.test_encoder_with_padding_equals_the_reference("leaky")
    test_schemes.test_parameter_delta_against_pre_ln("leaky")
    test_model.test_causality_by_gradient("leaky")
    assert main(["schemes", "leaky"]) == 0
    told = capsys.readouterr().out
    assert "× 0.9583" in told  # 1 - 1/24, on the skip of a decoder of 12 blocks
    assert "- Verified: nothing here" in told  # of a scheme that stands in no file of the catalogue


def test_step_four_writes_the_scheme_s_own_files_alone(leaky, tmp_path, monkeypatch):
    """Without it the suite fails, so the page has it before the suite; its command names the scheme."""
    monkeypatch.setattr(test_train_schemes, "GOLDEN", tmp_path)
    monkeypatch.setattr(test_train_schemes, "UPDATE", False)
    with pytest.raises(pytest.fail.Exception, match="is missing: a new scheme"):
        test_train_schemes.test_parameters_and_their_laws_are_as_on_file("leaky")
    monkeypatch.setattr(test_train_schemes, "UPDATE", True)
    test_train_schemes.test_parameters_and_their_laws_are_as_on_file("leaky")
    assert [path.name for path in tmp_path.iterdir()] == ["leaky.specs.json"]
    page = (ROOT / "CONTRIBUTING.md").read_text()
    (golden, suite) = re.findall(r"^    (?:ADDNORM_UPDATE_GOLDEN=1 )?uv run pytest -m .*-k leaky$", page, re.M)
    assert "ADDNORM_UPDATE_GOLDEN=1 uv run pytest" in golden
    assert "GOLDEN" not in suite


def test_step_six_fails_as_the_page_says(leaky):
    catalogue.add(replace(leaky, block=catalogue.get("pre_ln").block))
    with pytest.raises(AssertionError):
        test_schemes.test_decoder_equals_the_reference("leaky")


def test_what_the_page_names_exists():
    """Files, commands and tests, so that a rename is seen here."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    for path in re.findall(r"(?<![\w/])((?:addnorm_exp|tests|docs|notebooks|configs|sweeps)/[\w/.-]*\w)", page):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"`((?:config|runs|residual|report|train|tasks|catalogue|cli)/[\w/]+\.py)`", page):
        assert list((ROOT / "addnorm_exp").glob(f"**/{path}")), path
    assert hasattr(test_schemes, "test_decoder_equals_the_reference")
    assert callable(schemes.document)
