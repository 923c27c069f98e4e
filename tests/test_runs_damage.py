"""Records that were damaged by hand, by a disk or by another program: every command says which file and what to do, in one line."""

import json
import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from of_config import run
from training import BASE, TEXT, flags, signals_restored, stop_after

from addnorm_exp import cli
from addnorm_exp.config import Config, override
from addnorm_exp.data.corpus import load
from addnorm_exp.errors import UserError
from addnorm_exp.report.run import read_layers, read_run
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.train.loop import Stopped

CHANGES = {"steps": 8, "eval.every": 4, "execution.checkpoint_every": 4, "execution.layers_every": 4}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """`study`: a finished sweep of two runs; `halfway`: a run that was stopped."""
    folder = tmp_path_factory.mktemp("records")
    (folder / "text").write_bytes(TEXT)
    base = {**BASE, **CHANGES, "data.path": str(folder / "text")}
    (folder / "tiny.py").write_text(f"BASE = {base!r}\n\ndef sweep():\n    yield from ({{'seed': 0}}, {{'seed': 1}})\n")
    asked = override(Config(), base, "test")
    for seed in (0, 1):
        one = override(asked, {"seed": seed}, "test")
        run(one, load(one.data), RunFolder(folder / "made" / str(seed)))
        made = json.loads((folder / "made" / str(seed) / "config.json").read_text())
        shutil.copytree(folder / "made" / str(seed), folder / "study" / made["id"])
    entries = [{"id": path.name, "overrides": {"seed": seed}} for seed, path in enumerate(made_runs(folder / "study"))]
    plan = {"format": 1, "name": "tiny", "file": str(folder / "tiny.py"), "phases": {"run": entries}}
    (folder / "study" / "study.json").write_text(
        json.dumps({**plan, "tuned": [], "baseline": None, "group": ["scheme"]})
    )
    with pytest.raises(Stopped), stop_after(asked, 1) as stop:
        run(asked, load(asked.data), RunFolder(folder / "halfway"), stop=stop)
    return folder


def made_runs(study: Path) -> list[Path]:
    found = [path.parent for path in study.glob("*/config.json")]
    return sorted(found, key=lambda path: json.loads((path / "config.json").read_text())["science"]["seed"])


def dropped(key):
    return lambda value: inside(value, key, None, drop=True)


def inside(value: dict, key: str, new, drop: bool = False) -> dict:
    """A copy with the dotted key replaced or dropped."""
    copy = json.loads(json.dumps(value))
    *path, last = key.split(".")
    at = copy
    for part in path:
        at = at[int(part)] if isinstance(at, list) else at[part]
    assert last in at, f"the record has no {key}"
    if drop:
        del at[last]
    else:
        at[last] = new
    return copy


def put(key, new):
    return lambda value: inside(value, key, new)


WHOLE = {  # of any file: bytes -> bytes
    "truncated": lambda held: held[: len(held) // 2],
    "empty": lambda held: b"",
    "binary": lambda held: bytes(range(256)) * 9,
    "a list": lambda held: b"[1, 2]",
    "null": lambda held: b"null",
    "deep": lambda held: b'{"a":' * 100_000,
    "another program's": lambda held: b'{"name": "x", "version": "1.0.0"}',
}
CONFIG = {
    "id": [dropped("id"), put("id", 7), put("id", "../x"), put("id", "")],
    "semantics": [dropped("semantics"), put("semantics", "1"), put("semantics", None)],
    "scheme": [dropped("scheme"), put("scheme", ["pre_ln"])],
    "science": [dropped("science"), put("science", []), put("science.seed", "0"), put("science.seed", None)],
    "values": [put("science.optim.lr", "x"), put("science.optim", 3), put("science.model", {"depth": {"a": [[1]]}})],
    "numbers": [put("science.optim.lr", float("nan")), put("science.steps", 10**400), put("science.optim.lr", True)],
    "data": [dropped("data"), put("data", None), put("data.sha256", 3), put("format", "1"), put("format", 2)],
}
SUMMARY = {
    "status": [dropped("status"), put("status", "fine"), put("status", None), put("status", {"a": 1})],
    "val": [dropped("val"), put("val", "x"), put("val.final", None), put("val.final.loss", "x"), put("val.final", [])],
    "numbers": [put("val.final.loss", float("inf")), put("step_time_s", "1"), put("parameters", -1), put("step", 1.5)],
    "test": [put("test", 0.5), put("test.final.bpb", [1]), put("test.final", None), put("uniform", 5.5)],
    "facts": [put("confounds", ["x"]), put("confounds.norm", {"a": 1}), put("device", "cpu"), put("reason", 3)],
    "ends": [put("status", "diverged"), put("diverged", "here"), put("attempts", 3), put("attempts", [3])],
    "text": [put("confounds.norm", "\ud800")],
}
STUDY = {
    "phases": [dropped("phases"), put("phases", []), put("phases.run", None), put("phases.run", [3]), put("phases", 1)],
    "entries": [dropped("phases.run.0.id"), put("phases.run", [{"id": "../../x", "overrides": {}}])],
    "overrides": [put("phases.run", [{"id": "x", "overrides": [1]}]), put("phases.run", [{"id": "x", "overrides": {"seed": "y"}}])],
    "lists": [put("tuned", "optim.lr"), put("group", None), put("group", [1]), dropped("tuned"), put("group", [["a"]])],
    "names": [put("name", 3), put("baseline", ["x"]), dropped("file"), put("file", 3)],
}  # fmt: skip
LINES = [
    "3",
    "[]",
    "{}",
    '{"step": 1}',
    '{"split": "val", "loss": 1}',
    '{"step": "1", "split": "train", "loss": 1}',
    '{"step": 1, "split": 3, "loss": 1}',
    '{"step": 1, "split": "train", "loss": "low"}',
    '{"step": 1, "split": "train", "loss": NaN}',
    '{"step": 1, "split": "train", "loss": 1e999}',
    '{"step": 1.5, "split": "train", "loss": 1}',
    '{"step": 1, "split": "train", "loss": {"a": 1}}',
    "\x00\x01\x02",
    '{"step": 1, "split": "tr',
]
INDEX = {
    "columns": [dropped("sites"), put("sites", "x"), put("sites", [1]), put("tensors", None), put("tensors", {"a": 1})]
}


def edits(kinds):
    return [
        pytest.param(lambda held, edit=edit: json.dumps(edit(json.loads(held))).encode(), id=f"{name}-{number}")
        for name, found in kinds.items()
        for number, edit in enumerate(found)
    ]


def whole(*but):
    return [pytest.param(damage, id=name) for name, damage in WHOLE.items() if name not in but]


def command(capsys, *words) -> tuple[int, str]:
    """Exit code and all that was printed; exit code 2 comes with one line that starts with `error:`."""
    with signals_restored():
        code = cli.main(list(map(str, words)))
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    if code == 2:
        (line,) = [line for line in err.splitlines() if " not drawn: " not in line]
        assert line.startswith("error: ")
        assert ";" in line, "no remedy"
    return code, out + err


def check(place, tmp_path, capsys, name, damage, *commands):
    """Damages the file `name` of the study's first run (of the study, where it is study.json), and gives one of the commands its try:
    each damage another one, by the name of its test, for all read by the same functions."""
    commands = [commands[zlib.crc32(os.environ["PYTEST_CURRENT_TEST"].encode()) % len(commands)]]
    study = tmp_path / "runs" / "tiny"
    shutil.copytree(place / "study", study)
    path = study / name if name == "study.json" else made_runs(study)[0] / name
    damage(path)
    for words in commands:
        target = [study] if words[0] != "sweep" else [place / "tiny.py", f"--runs={study.parent}"]
        code, told = command(capsys, *words, *target)
        assert code == 2, told
        assert str(path) in told


def rewritten(damage):
    return lambda path: path.write_bytes(damage(path.read_bytes()))


ALL = (["table"], ["plot"], ["sweep"])


@pytest.mark.parametrize("damage", [*whole(), *edits(CONFIG)])
def test_a_damaged_config(damage, place, tmp_path, capsys):
    check(place, tmp_path, capsys, "config.json", rewritten(damage), ["table"], ["plot"])


@pytest.mark.parametrize("damage", [*whole(), *edits(SUMMARY)])
def test_a_damaged_summary(damage, place, tmp_path, capsys):
    check(place, tmp_path, capsys, "summary.json", rewritten(damage), *ALL)


@pytest.mark.parametrize("damage", [*whole(), *edits(STUDY)])
def test_a_damaged_plan(damage, place, tmp_path, capsys):
    check(place, tmp_path, capsys, "study.json", rewritten(damage), *ALL)


def in_place_of(name, place_of):
    """Something that is no file, where one should be."""

    def damage(path):
        path.unlink()
        {"folder": path.mkdir, "loop": lambda: path.symlink_to(path.name), "pipe": lambda: os.mkfifo(path)}[place_of]()

    return pytest.param(name, damage, id=f"{name}-{place_of}")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        in_place_of(name, kind)
        for name in ("config.json", "summary.json", "study.json")
        for kind in ("folder", "loop", "pipe")
    ],
)
def test_no_file_in_its_place(name, damage, place, tmp_path, capsys):
    check(place, tmp_path, capsys, name, damage, *(ALL if name != "config.json" else ALL[:2]))


def with_line(line, last=False):
    def damage(path):
        told = path.read_text().splitlines()
        path.write_text("\n".join([*told, line] if last else [told[0], line, *told[1:]]) + "\n" * (not last))

    return damage


@pytest.mark.parametrize("line", LINES)
def test_a_damaged_line_of_metrics(line, place, tmp_path, capsys):
    check(place, tmp_path, capsys, "metrics.jsonl", with_line(line), ["plot"])


def check_layers(place, tmp_path, name, damage):
    """By the reader itself: pictures take seconds."""
    folder = shutil.copytree(made_runs(place / "study")[0], tmp_path / "run")
    damage(folder / name)
    with pytest.raises(UserError) as caught:
        read_layers(read_run(folder))
    assert str(folder / name) in str(caught.value)
    assert ";" in str(caught.value)


@pytest.mark.parametrize("damage", [*whole(), *edits(INDEX)])
def test_a_damaged_index_of_layers(damage, place, tmp_path):
    check_layers(place, tmp_path, "layers/index.json", rewritten(damage))


def chunk(**arrays):
    return lambda path: np.savez(next(path.glob("0*.npz")), **arrays)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: next(path.glob("0*.npz")).write_bytes(b""),
        lambda path: (p := next(path.glob("0*.npz"))).write_bytes(p.read_bytes()[:-30]),
        lambda path: (p := next(path.glob("0*.npz"))).write_bytes(
            p.read_bytes()[:200] + bytes(60) + p.read_bytes()[260:]
        ),
        chunk(grad_stream=np.zeros((3, 2), np.float32)),
        chunk(step=np.arange(3), grad_stream=np.zeros((3, 3), np.float32)),
        chunk(step=np.arange(3), grad_stream=np.zeros(3, np.float32)),
        chunk(step=np.arange(3.0), grad_stream=np.zeros((3, 2), np.float32)),
        chunk(step=np.arange(3), grad_stream=np.zeros((3, 2), "U3")),
        chunk(step=np.arange(3), grad_stream=np.array([{}], object)),
    ],
)
def test_a_damaged_chunk_of_layers(damage, place, tmp_path):
    check_layers(place, tmp_path, "layers", damage)


def test_damaged_layers_are_told_by_the_command(place, tmp_path, capsys):
    check(place, tmp_path, capsys, "layers/index.json", rewritten(WHOLE["empty"]), ["plot"])


@pytest.mark.parametrize("name", ["config.json", "summary.json", "metrics.jsonl", "layers/index.json"])
@pytest.mark.parametrize("kind", [*WHOLE, "folder", "loop"])
def test_training_goes_on_or_says_why_not(name, kind, place, tmp_path, capsys):
    """One line and exit code 2, or the run is made to its end: a record that is only replaced need not be read."""
    folder = tmp_path / "run"
    shutil.copytree(place / "halfway", folder)
    if kind in WHOLE:
        rewritten(WHOLE[kind])(folder / name)
    else:
        in_place_of(name, kind).values[1](folder / name)
    said = flags(**{key.replace(".", "__"): value for key, value in CHANGES.items()})
    code, told = command(capsys, "train", *said, f"--config.data.path={place / 'text'}", f"--workdir={folder}")
    if name == "layers/index.json" and kind != "folder":
        assert code == 0, told
    else:
        assert code == 2
        assert str(folder / name) in told


def test_a_record_that_is_whole_passes(place, tmp_path, capsys):
    """Or the tests above would show nothing."""
    shutil.copytree(place / "study", tmp_path / "runs" / "tiny")
    assert command(capsys, "table", tmp_path / "runs" / "tiny")[0] == 0
    assert command(capsys, "plot", tmp_path / "runs" / "tiny")[0] == 0
    assert command(capsys, "sweep", place / "tiny.py", f"--runs={tmp_path / 'runs'}")[0] == 0
