"""CONTRIBUTING.md: its worked examples are carried out as they stand there, and checks of the suite are run on the results."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import bridge
import numpy as np
import pytest
import reference.norms
import reference.schemes
import test_init
import test_norm_kinds
import test_optimisers
import test_schemes
import test_train_schemes
import test_unwatched
import toy
from of_config import make_task, run, scheme_of
from studies import sweep, write
from training import TEXT, config, flags, lines

from addnorm_exp import load, tasks
from addnorm_exp.cli import main
from addnorm_exp.config import keys, optimisers, parse
from addnorm_exp.config import tasks as config_tasks
from addnorm_exp.data.batches import fixed_windows
from addnorm_exp.manual import schemes
from addnorm_exp.residual import Context, Depths, catalogue, norm_kinds, norms, sites
from addnorm_exp.residual.catalogue import placement
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.metrics import metrics_of
from addnorm_exp.sweep import launchers
from addnorm_exp.train import optimisers as rules

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
PLACE = r"^# ((?:addnorm_exp|tests|configs)/.+)\n"


def blocks() -> dict[str, str]:
    """The page's Python by place: what follows a comment that names one, up to the next such comment."""
    code: dict[str, str] = {}
    for fence in re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S):
        before, *parts = re.split(PLACE, fence, flags=re.M)
        assert not before, "a block begins with its place"
        for place, text in zip(parts[::2], parts[1::2], strict=True):
            assert place not in code, place
            code[place] = text
    return code


class Entry:
    """Enters the page's code for one test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.patch, self.code = monkeypatch, blocks()

    def definition(self, place: str, module: ModuleType, name: str) -> Any:
        """What the code defines by this name among the names of its file, which has it from now on."""
        names = dict(vars(module))
        exec(self.code[place], names)
        self.patch.setattr(module, name, names[name], raising=False)
        return names[name]

    def file(self, path: str, name: str) -> Any:
        """What a new file defines by this name."""
        names: dict[str, Any] = {"__name__": path.removesuffix(".py").replace("/", ".")}
        exec(self.code[f"{path}, a new file"], names)
        return names[name]

    def entries(self, place: str, table: Any, **names: Any) -> None:
        """Lines of a table."""
        for name, value in eval("{" + self.code[place] + "}", names).items():
            self.patch.setitem(table, name, value)


@pytest.fixture
def entry(monkeypatch) -> Iterator[Entry]:
    """The schema of configs is derived from the tables anew, here and after the test."""
    keys._leaves.cache_clear()
    yield Entry(monkeypatch)
    keys._leaves.cache_clear()


@pytest.fixture
def leaky(entry, monkeypatch):
    """The scheme of the page, entered as the page says."""
    record = entry.definition("addnorm_exp/residual/catalogue/placement.py", placement, "leaky")
    entry.definition("tests/reference/schemes.py", reference.schemes, "leaky")
    monkeypatch.setattr(catalogue, "_BY_NAME", dict(catalogue._BY_NAME))
    entry.entries("tests/bridge.py, in REFERENCES", bridge.REFERENCES, schemes=reference.schemes)
    entry.entries("tests/test_schemes.py, in DELTA", test_schemes.DELTA)
    entry.entries("tests/test_init.py, in FIRST", test_init.FIRST)
    return catalogue.add(record)


def test_the_example_is_a_scheme_like_any_other(leaky, capsys):
    leaky.check(sites("decoder", Depths(decoder=4)))
    test_schemes.test_decoder_equals_the_reference("leaky")
    test_schemes.test_encoder_with_padding_equals_the_reference("leaky")
    test_schemes.test_parameter_delta_against_pre_ln("leaky")
    test_init.test_xavier("leaky")
    test_init.test_law_decay_and_learning_rate_factors("leaky")
    test_schemes.test_scanned_layers_equal_unrolled_ones_and_no_token_sees_a_later_one("leaky")
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
    page = PAGE
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


def test_the_example_is_a_norm_like_any_other(entry):
    kind = "l1"
    entry.entries("addnorm_exp/residual/norm_kinds.py, in KINDS", norm_kinds.KINDS, **vars(norm_kinds))
    function = entry.definition("addnorm_exp/residual/norms.py, named in FUNCTIONS", norms, kind)
    entry.patch.setitem(norms.FUNCTIONS, function.__name__, function)
    entry.patch.setitem(norms.PUBLISHED, kind, norm_kinds.KINDS[kind].published)  # as at import
    entry.definition("tests/reference/norms.py", reference.norms, "l1_norm")
    entry.entries("tests/test_norm_kinds.py, in CASES", test_norm_kinds.CASES, **vars(test_norm_kinds))
    entry.entries("tests/test_unwatched.py, in NORMS", test_unwatched.NORMS, reference=reference.norms)
    test_norm_kinds.test_value_and_gradient(kind)
    test_norm_kinds.test_first_values_and_bfloat16(kind)
    test_unwatched.test_rows_far_below_epsilon_to_far_above_its_root(kind, 33)
    # A config that names it has a model of it.
    asked = config(norm__kind=kind, norm__eps=0.02)
    names = {path.rpartition("/")[2] for path in make_task(asked).model.specs}
    assert ("gain" in names, "bias" in names) == (True, False)
    model = bridge.decoder(scheme_of(asked))
    parameters = bridge.random_parameters(model.specs)
    logits, _ = model.bind(parameters)(bridge.tokens(), Context(batch=bridge.B))
    theirs = bridge.reference_logits(
        "pre_ln",
        parameters,
        bridge.tokens(),
        bridge.architecture(),
        norm=lambda x, p: reference.norms.l1_norm(x, p, eps=0.02),
    )
    assert bridge.distance(logits, theirs) < 1e-5


def test_the_example_is_an_optimiser_like_any_other(entry):
    name = "signum"
    entry.definition("addnorm_exp/config/optimisers.py", optimisers, "SignumConfig")
    (own,) = eval(f"({entry.code['addnorm_exp/config/optimisers.py, in OPTIMISERS']})", dict(vars(optimisers)))
    entry.patch.setitem(optimisers.OPTIMISERS, own.name, own)
    rule = entry.file("addnorm_exp/train/optimisers/signum.py", "Signum")
    entry.entries("addnorm_exp/train/optimisers/__init__.py, in OPTIMISERS", rules.OPTIMISERS, Signum=rule)
    equation = entry.definition("tests/test_optimisers.py, named in RULES", test_optimisers, name)
    entry.patch.setitem(test_optimisers.RULES, equation.__name__, equation)
    entry.entries(
        "tests/test_optimisers.py, in STATE: the numbers that it keeps", test_optimisers.STATE, **vars(test_optimisers)
    )
    for case in eval(f"[{entry.code['tests/test_optimisers.py, in CASES']}]"):
        test_optimisers.test_twenty_steps_are_the_equations_in_float64(*case)
    test_optimisers.test_a_step_promotes_nothing_unsaid(name)
    test_optimisers.test_the_bytes_of_a_state(name)
    test_optimisers.test_a_factor_without_a_meaning_is_refused(name)
    test_optimisers.test_an_optimiser_has_its_keys_and_no_others(name)
    assert keys.leaves()["optim.name"].said.meaning.endswith("| muon | signum")


@pytest.fixture
def next_byte(entry, tmp_path) -> Path:
    """The config file of the page's task, which is entered as the page says."""
    keys_class = entry.file("addnorm_exp/config/tasks/next_byte.py", "NextByteConfig")
    place = "addnorm_exp/config/tasks/__init__.py, in TASKS"
    (own,) = eval(f"({entry.code[place]})", {"NextByteConfig": keys_class})
    entry.patch.setitem(config_tasks.TASKS, own.name, own)
    entry.patch.setitem(config_tasks.DATA, own.name, own.data)
    entry.patch.setitem(config_tasks.STACKS, own.name, own.schemes)
    task = entry.file("addnorm_exp/tasks/next_byte.py", "NextByte")
    entry.entries("addnorm_exp/tasks/__init__.py, in TASKS", tasks.TASKS, NextByte=task)
    file = tmp_path / "next_byte.py"
    file.write_text(entry.code["configs/next_byte.py, a new file"])
    return file


def test_the_example_is_a_task_judged_by_its_metric(next_byte, data, tmp_path):
    """Accuracy stops to improve once the most frequent bytes are known, the loss does not."""
    (tmp_path / "text").write_bytes(TEXT)
    words = [f"--config={next_byte}", *flags(eval__every=1, task__top=3, data__path=tmp_path / "text")[1:]]
    asked = parse(words, command="train", config="required").config
    assert asked.task.name == "next_byte"
    summary = run(asked, data, RunFolder(tmp_path / "run"))
    # Against NumPy, by the rank of the next byte among the logits.
    windows = fixed_windows(data.val, asked.eval.sequences, asked.seq_len).astype(np.int64)
    logits = np.asarray(load(tmp_path / "run").logits(windows[:, :-1]))
    of_target = np.take_along_axis(logits, windows[:, 1:, None], axis=-1)
    accuracy = 100.0 * np.mean(np.sum(logits > of_target, axis=-1) < 3)
    assert summary.at("val", "final", "accuracy") == pytest.approx(accuracy, abs=1e-4)
    # Runs are selected and compared by it.
    validations = [line for line in lines(tmp_path / "run") if line["split"] == "val"]
    best = max(validations, key=lambda line: line["accuracy"])
    assert summary.at("val", "best") == {name: value for name, value in best.items() if name != "split"}
    assert best["loss"] > min(line["loss"] for line in validations), "by the loss it is another"
    metric = metrics_of(RunFolder(tmp_path / "run").summary())[0]
    assert (metric.name, metric.better, metric.trivial) == ("accuracy", "higher", 300 / 256)


def test_the_example_is_a_launcher_that_leaves_the_runs_to_others(entry, tmp_path, capsys):
    """It names the runs of a phase until they are finished, then those of the next one, and then the table is printed."""
    listing = entry.file("addnorm_exp/sweep/launchers/listing.py", "Listing")
    entry.entries("addnorm_exp/sweep/launchers/__init__.py, in LAUNCHERS", launchers.LAUNCHERS, Listing=listing)
    entry.patch.setitem(tasks.TASKS, "lm", toy.Ranked)
    entry.patch.setattr("addnorm_exp.report.figures.plot.plot", lambda folder: [])
    file = write(tmp_path)

    def listed() -> list[str]:
        assert sweep(file, "--launcher=listing") == 0
        return [
            line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith(("tune ", "report "))
        ]

    assert listed() == ["tune"] * 4
    assert sweep(file, "--max_runs=4") == 0
    assert listed() == ["report"] * 4
    assert sweep(file) == 0
    assert "| pre_ln" in capsys.readouterr().out
    assert listed() == []
    assert sweep(file, "--launcher=lising") == 2
    assert capsys.readouterr().err == "error: --launcher=lising: did you mean 'listing'?\n"


def test_what_the_page_names_exists():
    """Files, commands and tests, so that a rename is seen here. The examples' own files do not exist."""
    new = {place.partition(",")[0] for place in blocks() if place.endswith(", a new file")}
    for path in re.findall(r"(?<![\w/])((?:addnorm_exp|tests|docs|notebooks|configs|sweeps)/[\w/.-]*\w)", PAGE):
        assert (ROOT / path).exists() != (path in new), path
    for path in re.findall(
        r"`((?:config|data|nn|runs|residual|report|sweep|train|tasks|catalogue|cli)/[\w/]+\.py)`", PAGE
    ):
        assert list((ROOT / "addnorm_exp").glob(f"**/{path}")), path
    assert hasattr(test_schemes, "test_decoder_equals_the_reference")
    assert callable(schemes.document)
