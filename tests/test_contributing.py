"""CONTRIBUTING.md: its worked example is carried out as it stands there, and checks of the suite are run on the result."""

import re
from dataclasses import replace
from pathlib import Path

import bridge
import pytest
import reference.schemes
import test_init
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
    assert len(found) == len({place for place, _ in found}) == 5
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
        (test_init.FIRST, "tests/test_init.py, in FIRST"),
    ):
        for name, value in eval("{" + code[place] + "}", {"schemes": reference.schemes}).items():
            monkeypatch.setitem(table, name, value)
    return catalogue.add(record["leaky"])


def test_the_example_is_a_scheme_like_any_other(leaky, capsys):
    leaky.check(sites("decoder", Depths(decoder=4)))
    test_schemes.test_decoder_equals_the_reference("leaky")
    test_schemes.test_encoder_with_padding_equals_the_reference("leaky")
    test_schemes.test_parameter_delta_against_pre_ln("leaky")
    test_init.test_xavier("leaky")
    test_init.test_law_decay_and_learning_rate_factors("leaky")
    test_model.test_causality_by_gradient("leaky")
    assert main(["schemes", "leaky"]) == 0
    page = capsys.readouterr().out
    assert "× learned scalar, 0.9 at init" in page  # on the skip
    assert "- Evidence: own: none beside this record" in page
    assert "- Tests in the suite: none" in page  # of a scheme that stands in no file of the catalogue


@pytest.mark.parametrize(
    ("table", "check", "told"),
    [
        (bridge.REFERENCES, test_schemes.test_decoder_equals_the_reference, "enter it in REFERENCES (tests/bridge.py)"),
        (test_schemes.DELTA, test_schemes.test_parameter_delta_against_pre_ln, "no entry in DELTA (tests/test_schemes.py)"),
        (test_init.FIRST, test_init.test_xavier, "skip: its first value, where it is not 1 for a gain and 0 for all else, "
         "belongs in FIRST (tests/test_init.py)"),
    ],
)  # fmt: skip
def test_a_failure_names_the_place_of_the_entry_that_is_missing(table, check, told, leaky, monkeypatch):
    monkeypatch.delitem(table, "leaky")
    with pytest.raises((AssertionError, pytest.fail.Exception)) as caught:
        check("leaky")
    assert told in str(caught.value)


def test_a_reference_that_asks_for_another_name_says_which_there_are(leaky):
    catalogue.add(replace(leaky, block=catalogue.get("pre_ln").block))
    with pytest.raises(pytest.fail.Exception) as caught:
        test_schemes.test_decoder_equals_the_reference("leaky")
    assert "asks for 'skip', which the scheme's parameters have not; they are ['blocks/attention/pre/bias'," in str(
        caught.value
    )


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
    """`scale=0.5`, on the branch."""

    def halved(site, norm):
        return tuple(replace(at, rule=replace(at.rule, scale=0.5)) for at in leaky.block(site, norm))

    catalogue.add(replace(leaky, block=halved))
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
