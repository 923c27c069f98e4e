"""For every scheme of the catalogue: resume to the last bit, and change detectors against numbers on file.

`ADDNORM_UPDATE_GOLDEN=1 pytest -m '' tests/test_train_schemes.py` writes the files anew; look at the difference before you commit it.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from of_config import experiment, make_task, run
from sample import depth_of, expensive
from training import assert_equal_runs, config, interrupt, lines, losses

from addnorm_exp.residual import catalogue
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.identity import SEMANTICS
from addnorm_exp.train import device_data, programs
from addnorm_exp.train.lane import Member
from addnorm_exp.train.loop import run_pack

GOLDEN = Path(__file__).parent / "golden"
UPDATE = bool(os.environ.get("ADDNORM_UPDATE_GOLDEN"))
SCHEMES = expensive(core=("pre_ln",), default=())


def tiny(scheme: str):
    """Its config, with biases, and at a depth at which the scheme is itself."""
    return config(scheme=scheme, model__depth=depth_of(scheme, 2), model__bias=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data):
    """Scheme → the folder of its finished run."""
    folders: dict[str, Path] = {}

    def make(scheme: str) -> Path:
        if scheme not in folders:
            folders[scheme] = tmp_path_factory.mktemp(scheme)
            run(tiny(scheme), data, RunFolder(folders[scheme]))
        return folders[scheme]

    return make


@pytest.mark.full
@pytest.mark.parametrize("scheme", SCHEMES)
def test_resume_is_bit_exact(scheme, undisturbed, data, tmp_path, monkeypatch):
    """Stopped between two validations, after three chunks. The process forgets its programs for one scheme; real new processes are in
    test_train_signals.py, and to compile each scheme twice would double the time of this file."""
    before = undisturbed(scheme)
    assert interrupt(tiny(scheme), data, tmp_path, chunks=3) == 6
    if scheme == "pre_ln":
        monkeypatch.setattr(programs, "_PROGRAMS", {})
        monkeypatch.setattr(device_data, "_TRAINING", {})
    events = []
    summary = run(tiny(scheme), data, RunFolder(tmp_path), watch=events.append)
    assert next(event for event in events if event["event"] == "start")["step"] == 6
    assert summary.status == "done"
    assert_equal_runs(before, tmp_path)


def described(scheme: str) -> dict:
    """What the model is, without training it."""
    model = make_task(tiny(scheme)).model
    specs = {
        path: [list(spec.shape), spec.group, spec.init.draw, round(spec.init.scale, 10), list(spec.init.hypers)]
        for path, spec in model.specs.items()
    }
    return {"parameters": model.size, "specs": specs}


def compare(name: str, found: dict, may_have_moved: str, same) -> None:
    path = GOLDEN / name
    if UPDATE:
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    if not path.exists():
        pytest.fail(f"{path} is missing: a new scheme? Write it by ADDNORM_UPDATE_GOLDEN=1 and commit it")
    expected = json.loads(path.read_text())
    if not same(found, expected):
        pytest.fail(
            f"{name}: found {json.dumps(found)[:1500]}\nexpected {json.dumps(expected)[:1500]}\n{may_have_moved}\n"
            "If the change is meant: raise SEMANTICS (addnorm_exp/runs/identity.py) where runs made before no longer compare, then\n"
            "ADDNORM_UPDATE_GOLDEN=1 pytest -m '' tests/test_train_schemes.py, and commit the files with the reason."
        )


@pytest.mark.parametrize("scheme", catalogue.names())
def test_parameters_and_their_laws_are_as_on_file(scheme):
    compare(
        f"{scheme}.specs.json",
        described(scheme),
        "May have moved it: the scheme's record, the model's parts or their names, an init law (addnorm_exp/residual/init.py).",
        lambda found, expected: found == expected,
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_first_losses_are_as_on_file(scheme, undisturbed):
    compare(
        f"{scheme}.losses.json",
        {"semantics": SEMANTICS, "train": [float(f"{loss:.7g}") for loss in losses(undisturbed(scheme))[:5]]},
        "May have moved them: the JAX version (its generators or kernels), an init law, the order of data (addnorm_exp/data/batches.py),\n"
        "the optimiser or a schedule (addnorm_exp/train), or the forward pass itself.",
        lambda found, expected: (
            found["semantics"] == expected["semantics"] and found["train"] == pytest.approx(expected["train"], rel=1e-4)
        ),
    )


@pytest.mark.full
@pytest.mark.parametrize("scheme", catalogue.names())
def test_every_scheme_packs(scheme, undisturbed, data, tmp_path):
    """Beside a neighbour of another seed and rate, its losses are those of its single run, up to rounding."""
    plain = tiny(scheme)
    plain = replace(
        plain, execution=replace(plain.execution, diagnostics=False)
    )  # half of the program, and no loss differs
    configs = (plain, replace(plain, seed=7, optim=replace(plain.optim, lr=1e-3)))
    members = [Member(experiment(each), RunFolder(tmp_path / str(lane))) for lane, each in enumerate(configs)]
    assert [summary.status for summary in run_pack(members, data)] == ["done", "done"]
    ours, theirs = losses(tmp_path / "0"), losses(undisturbed(scheme))
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5), "one batch and one init"
    assert ours[:5] == pytest.approx(theirs[:5], rel=1e-3)
    assert losses(tmp_path / "1")[1] != ours[1], "fixup's first loss is that of zero logits, whatever the seed"


@pytest.mark.core
def test_every_golden_file_has_its_scheme():
    assert {path.name.partition(".")[0] for path in GOLDEN.glob("*.json")} == set(catalogue.names())


@pytest.mark.core
def test_the_record_of_a_run_is_complete(undisturbed):
    found = lines(undisturbed("pre_ln"))
    assert [line["step"] for line in found if line["split"] == "train"] == list(range(1, 13))
    assert [line["step"] for line in found if line["split"] == "val"] == [0, 3, 6, 9, 12]
    assert [(line["step"], line["weights"]) for line in found if line["split"] == "test"] == [
        (12, "final"),
        (12, "best"),
    ]
    for line in found:
        expected = {"train": {"grad_norm", "lr"}, "val": set(), "test": {"weights"}}[line["split"]]
        assert line.keys() == {"step", "split", "loss", "bpb"} | expected
