"""The files of a record as types: what is read is what was written, and a wrong file is one line with its place."""

import json

import pytest

from addnorm_exp.errors import UserError
from addnorm_exp.runs.reading import AGAIN, ANEW, SWEEP, read, read_lines, read_plan
from addnorm_exp.runs.records import RunConfig, Summary

FINAL = {"loss": 2.5, "bpb": None, "step": 3}
SUMMARY = {
    "format": 1,
    "status": "done",
    "scheme": "pre_ln",
    "step": 3,
    "steps": 3,
    "step_time_s": 0.5,
    "val": {"final": FINAL, "best": None},
    "test": {"final": FINAL},
    "metrics": [{"name": "loss", "label": "loss", "unit": "", "better": "lower"}],
    "keep": "none",
    "attempts": [{"from_step": 0, "xla_flags": "", "device": {"platform": "cpu", "count": 1}}],
    "of_a_newer_version": {"a": [1, None, "x"]},
}
CONFIG = {
    "format": 1,
    "id": "pre_ln-000000000000",
    "semantics": 1,
    "scheme": "pre_ln",
    "science": {"seed": 0, "steps": 3, "optim": {"lr": 1e-3, "of_a_newer_version": [1, 2]}},
    "data": {"name": "text", "sha256": "ab", "train_tokens": 9},
}
PLAN = {
    "format": 1,
    "name": "s",
    "file": "/s.py",
    "phases": {"run": [{"id": "a", "overrides": {"seed": 0}}]},
    "tuned": [],
    "group": ["scheme"],
}
KINDS = {
    "summary": (SUMMARY, lambda path: read(path, Summary, ANEW), ANEW),
    "config": (CONFIG, lambda path: read(path, RunConfig, AGAIN), AGAIN),
    "plan": (PLAN, read_plan, SWEEP),
}


def changed(tree, path: str, value):
    copy = json.loads(json.dumps(tree))
    *keys, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    at = copy
    for key in keys:
        at = at[key]
    at.pop(last, None) if value is ... else at.__setitem__(last, value)
    return copy


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_is_read_as_it_was_written(kind, tmp_path):
    """With keys of a newer version, and whole numbers as whole numbers."""
    tree, read, _ = KINDS[kind]
    path = tmp_path / "file.json"
    path.write_text(json.dumps(tree))
    plain = read(path).plain()
    assert plain == tree
    assert json.dumps(plain, sort_keys=True) == json.dumps(tree, sort_keys=True)


@pytest.mark.parametrize(
    ("kind", "place", "value", "line"),
    [
        ("summary", "step", ..., "step is missing"),
        ("summary", "test", None, "test.final.loss is missing"),
        ("summary", "metrics", ..., "metrics is missing"),
        ("summary", "val.final.loss", None, "val.final.loss is missing"),
        ("summary", "step", 1.5, "step is 1.5, expected a whole number of at least 0"),
        ("summary", "step", True, "step is true, expected a whole number of at least 0"),
        ("summary", "parameters", 2**70, f"parameters is {2**70}, expected a whole number of at least 0"),
        ("summary", "step_time_s", "1", 'step_time_s is "1", expected a number'),
        ("summary", "val.final.bpb", "x" * 50, f'val.final.bpb is "{"x" * 36}…, expected a number'),
        ("summary", "val.final", [], "val.final is [], expected an object"),
        ("summary", "status", "fine", "status is \"fine\", expected 'running', 'done', 'diverged' or 'failed'"),
        ("summary", "status", "diverged", "diverged is missing"),
        ("summary", "attempts.0", 3, "attempts[0] is 3, expected an object"),
        ("summary", "attempts.0.device.count", {}, "attempts[0].device.count is {}, expected a value or a list of values"),
        ("summary", "format", 2, "has format 2, but this version reads format 1"),
        ("summary", "format", ..., "unrecognised file (it has no 'format')"),
        ("config", "id", "../x", 'id is "../x", expected the name of a folder'),
        ("config", "science.seed", ..., "science.seed is missing"),
        ("config", "science.seed", "0", 'science.seed is "0", expected a whole number of at least 0'),
        ("config", "science.task", "lm", 'science.task is "lm", expected an object'),
        ("config", "science.optim", 3, "science.optim is 3, expected an object"),
        ("config", "science.optim.lr", True, "science.optim.lr is true, expected a number"),
        ("config", "science.x", {"y": {"z": [[1]]}}, "science.x.y.z is [[1]], expected a value or a list of values"),
        ("config", "execution", {"keep": 1}, "execution.keep is 1, expected text"),
        ("config", "data.sha256", None, "data.sha256 is null, expected text"),
        ("plan", "tuned", "optim.lr", 'tuned is "optim.lr", expected a list'),
        ("plan", "phases.run.0.overrides", {"seed": "y"}, 'phases.run[0].overrides.seed is "y", expected a whole number'),
        ("plan", "group", [["a"]], 'group[0] is ["a"], expected text'),
    ],
)  # fmt: skip
def test_a_wrong_record_is_one_line_with_its_place(kind, place, value, line, tmp_path):
    tree, read, remedy = KINDS[kind]
    path = tmp_path / "file.json"
    path.write_text(json.dumps(changed(tree, place, value)))
    with pytest.raises(UserError) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: {line}")
    assert text.endswith(remedy) or "use the version that wrote it" in text
    assert "\n" not in text


def test_a_line_of_metrics_has_its_numbers_apart(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [
        {"step": 1, "split": "train", "loss": 2.5, "lr": None},
        {"step": 1, "split": "test", "weights": "best", "loss": 2},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (first, second), damaged = read_lines(path)
    assert damaged is None
    assert (first.step, first.split, first.weights, first.numbers) == (1, "train", None, {"loss": 2.5, "lr": None})
    assert (second.weights, second.numbers) == ("best", {"loss": 2.0})
    assert [line.plain() for line in (first, second)] == lines
