"""`main.py sync` over records that a small builder writes: a damaged one stops no other; what is sent names no place on the machine."""

import json

import numpy as np
import pytest
from mirroring import sync
from test_report_study import curve, layer_arrays, summary_of, write_plan, write_run
from training import ROOT

from addnorm_exp.runs.mirror import forms


def write_study(folder, names, **science) -> list[dict]:
    rng = np.random.default_rng(0)
    entries = [
        write_run(
            folder / name,
            "pre_ln",
            seed,
            summary_of("pre_ln", 2.4),
            metrics=curve(rng, 2.4),
            layers=layer_arrays(rng, "pre_ln"),
            **science,
        )
        for seed, name in enumerate(names)
    ]
    write_plan(folder, {"run": entries}, tuned=[], file=str(ROOT / "sweeps" / "x.py"))
    return entries


HARMS = {  # name of the run → what becomes of a file of it, and the file that the line names
    "b-summary": lambda run: (run / "summary.json").write_text("{"),
    "c-config": lambda run: (run / "config.json").write_text('{"format": 1, "id": 3}'),
    "d-chunk": lambda run: (run / "layers" / "00001000.npz").write_bytes(b"PK"),
    "e-index": lambda run: (run / "layers" / "index.json").write_text("[]"),
    "f-torn": lambda run: damage(run / "metrics.jsonl", '{"step": 12, "spl'),
    "g-object": lambda run: damage(run / "metrics.jsonl", '{"step": 3}'),
    "h-list": lambda run: damage(run / "metrics.jsonl", "[1]"),
    "i-bytes": lambda run: (run / "metrics.jsonl").write_bytes(b"\xff\n" + (run / "metrics.jsonl").read_bytes()),
    "j-mirror": lambda run: (run / "wandb").write_text("a file of somebody's"),
}
NAMED = {"b-summary": "summary.json", "c-config": "config.json", "d-chunk": "00001000.npz", "e-index": "index.json"}
NAMED |= {
    "f-torn": "metrics.jsonl:5:",
    "g-object": "metrics.jsonl:5:",
    "h-list": "metrics.jsonl:5:",
    "i-bytes": "metrics.jsonl:1:",
}


def damage(path, line: str) -> None:
    """The fifth line is this one; others follow it."""
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], line, *lines[4:]]) + "\n")


def test_a_damaged_run_is_left_out_and_the_others_are_sent(server, home):
    """Also on the second time, and no half of it is on the server."""
    names = ("a-sound", *HARMS, "z-sound")
    write_study(home / "study", names)
    for name, harm in HARMS.items():
        harm(home / "study" / name)
    with open(home / "study" / "z-sound" / "metrics.jsonl", "a") as file:
        file.write('{"step": 1001, "sp')  # what a kill leaves is no damage
    for sent in ("steps sent", "is there already"):
        code, out, err = sync(home / "study", server)
        assert (code, err) == (1, "")
        assert [line.split(":")[0] for line in out] == [str(home / "study" / name) for name in names]
        told = dict(zip(names, out, strict=True))
        for name in names:
            assert (sent in told[name]) == (name.endswith("sound")), told[name]
            assert ("left out (" in told[name]) == (name in HARMS)
            assert NAMED.get(name, "") in told[name]
    assert {run.name.rpartition("-")[0] for run in server.runs.values()} == {"a-sound", "z-sound"}
    assert {run.state for run in server.runs.values()} == {"finished"}


def test_without_a_server_it_stops_at_the_first_run(home):
    write_study(home / "study", ("a-damaged", "b", "c"))
    (home / "study" / "a-damaged" / "summary.json").write_text("{")
    code, out, err = sync(home / "study")
    assert (code, len(out), len(err.splitlines())) == (2, 1, 1)
    assert "left out" in out[0]
    assert "WANDB_API_KEY" in err


@pytest.mark.parametrize("place", ["data.path", "data"])
def test_no_place_on_this_machine_is_sent(server, home, place):
    """Of the study file the name is; where the text lies is not, whether the plan has overrides flat or nested."""
    secret = str(home / "secret" / "text")
    entries = write_study(home / "study", ("a",), **{"data.path": secret, "data.name": "file"})
    if place == "data":
        entries[0]["overrides"]["data"] = {key: entries[0]["overrides"].pop(f"data.{key}") for key in ("path", "name")}
    published = {"value": 1.0, "metric": "test bpb", "source": "S"}
    plan = {"tuned": [], "file": str(home / "sweeps" / "x.py")}
    plan["published"] = [{"scheme": "pre_ln", **published}, {"data.path": secret, **published}]
    write_plan(home / "study", {"run": entries}, **plan)
    code, _, err = sync(home / "study", server)
    assert (code, err) == (0, "")
    told = server.run()
    sent = json.loads(told.files["study.json"])
    assert sent["file"] == "x.py"
    assert [entry["id"] for entry in sent["phases"]["run"]] == ["a"]
    assert sent["phases"]["run"][0]["overrides"]["scheme"] == "pre_ln"
    assert "file" in str(sent["phases"]["run"][0]["overrides"])  # data.name stays
    assert sent["published"] == plan["published"][:1]
    texts = (told.files["study.json"].decode(), json.dumps(told.values), json.dumps(told.summary), told.display_name)
    assert not [text for text in texts if str(home) in text]
    # The plan on disk is as it was.
    assert forms.plan_of(home / "study" / "a")["file"] == plan["file"]
