"""For every scheme of the catalogue: resume to the last bit, and change detectors against numbers on file.

`ADDNORM_UPDATE_GOLDEN=1 pytest -m '' tests/test_train_schemes.py` writes the files anew; look at the difference before you commit it.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from of_config import experiment, make_task, run
from sample import depth_of
from training import assert_equal_runs, config, interrupt, lines, losses, stop_after

from addnorm_exp.residual import catalogue
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.identity import SEMANTICS
from addnorm_exp.train import device_data, programs
from addnorm_exp.train.lane import Member
from addnorm_exp.train.loop import Stopped, run_pack

GOLDEN = Path(__file__).parent / "golden"
UPDATE = bool(os.environ.get("ADDNORM_UPDATE_GOLDEN"))
# The schemes that are trained alone. The others are trained in packs, whose losses are held against the files too; so a file that is
# written anew has to come from a run alone.
ALONE = catalogue.names() if UPDATE else ("pre_ln",)


def tiny(scheme: str, **changes):
    """Its config, with biases, and at a depth at which the scheme is itself."""
    return config(scheme=scheme, model__depth=depth_of(scheme, 2), model__bias=True, **changes)


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


@pytest.mark.core
def test_resume_is_bit_exact(undisturbed, data, tmp_path, monkeypatch):
    """Stopped between two validations, after three chunks. The process forgets its programs; real new processes are in
    test_train_signals.py."""
    before = undisturbed("pre_ln")
    assert interrupt(tiny("pre_ln"), data, tmp_path, chunks=3) == 6
    monkeypatch.setattr(programs, "_PROGRAMS", {})
    monkeypatch.setattr(device_data, "_TRAINING", {})
    events = []
    summary = run(tiny("pre_ln"), data, RunFolder(tmp_path), watch=events.append)
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


MAY_HAVE_MOVED = (
    "May have moved them: the JAX version (its generators or kernels), an init law, the order of data (addnorm_exp/data/batches.py),\n"
    "the optimiser or a schedule (addnorm_exp/train), or the forward pass itself."
)


@pytest.mark.core
@pytest.mark.parametrize("scheme", ALONE)
def test_the_first_losses_are_as_on_file(scheme, undisturbed):
    compare_losses(scheme, losses(undisturbed(scheme)))


def compare_losses(scheme: str, train) -> None:
    compare(
        f"{scheme}.losses.json",
        {"semantics": SEMANTICS, "train": [float(f"{loss:.7g}") for loss in train[:5]]},
        MAY_HAVE_MOVED,
        lambda found, expected: (
            found["semantics"] == expected["semantics"] and found["train"] == pytest.approx(expected["train"], rel=1e-4)
        ),
    )


@pytest.mark.full
@pytest.mark.skipif(UPDATE, reason="the files are written from runs alone")
@pytest.mark.parametrize("scheme", catalogue.names())
def test_every_scheme_packs_and_resumes(scheme, data, tmp_path):
    """One program for three properties, since to compile it is most of what this takes. Beside a neighbour of another seed and rate, the
    first losses are those on file, of a run alone; and the pack, stopped between two validations, resumes bit for bit."""
    # Without diagnostics the program is half as large, and no loss differs. Nor does any by how often runs validate and save.
    plain = tiny(scheme, execution__diagnostics=False, eval__every=6, execution__checkpoint_every=12)
    configs = (plain, replace(plain, seed=7, optim=replace(plain.optim, lr=1e-3)))

    def train(folder: Path, **options) -> list[str]:
        members = [Member(experiment(each), RunFolder(folder / str(lane))) for lane, each in enumerate(configs)]
        return [summary.status for summary in run_pack(members, data, **options)]

    assert train(tmp_path / "whole") == ["done", "done"]
    first, second = (losses(tmp_path / "whole" / str(lane)) for lane in range(2))
    compare_losses(scheme, first)
    assert second[1] != first[1], "fixup's first loss is that of zero logits, whatever the seed"
    with stop_after(plain, 1) as stop, pytest.raises(Stopped):
        train(tmp_path / "parts", stop=stop)
    assert [lines(tmp_path / "parts" / str(lane))[-1]["step"] for lane in range(2)] == [4, 4]
    assert train(tmp_path / "parts") == ["done", "done"]
    for lane in ("0", "1"):
        assert_equal_runs(tmp_path / "whole" / lane, tmp_path / "parts" / lane)


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
