"""`main.py sync` over records that a small builder writes: a damaged one stops no other; what is sent names no place on the machine."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import wandb
from mirroring import sync
from test_report_study import curve, layer_arrays, summary_of, write_plan, write_run
from training import ROOT
from wandb_server import KEY, Server

from addnorm_exp.errors import UserError
from addnorm_exp.runs.mirror import forms
from addnorm_exp.runs.mirror import sync as module
from addnorm_exp.runs.mirror.settings import Place


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


@pytest.mark.full
def test_a_damaged_run_is_left_out_and_the_others_are_sent(server, home):
    """Also on the second time, and no half of it is on the server."""
    names = ("a-sound", *HARMS, "z-sound")
    write_study(home / "study", names)
    for name, harm in HARMS.items():
        harm(home / "study" / name)
    with open(home / "study" / "z-sound" / "metrics.jsonl", "a") as file:
        file.write('{"step": 1001, "sp')  # what a kill leaves is no damage
    for sent in ("steps sent", "already there"):
        code, out, err = sync(home / "study", server)
        assert (code, err) == (1, "")
        assert [line.split(":")[0] for line in out] == [str(home / "study" / name) for name in names]
        told = dict(zip(names, out, strict=True))
        for name in names:
            assert (sent in told[name]) == (name.endswith("sound")), told[name]
            assert ("skipped (" in told[name]) == (name in HARMS)
            assert NAMED.get(name, "") in told[name]
    assert {run.name.rpartition("-")[0] for run in server.runs.values()} == {"a-sound", "z-sound"}
    assert {run.state for run in server.runs.values()} == {"finished"}


@pytest.fixture
def uploads(home, monkeypatch):
    """Two runs, and a server of the test's own in place of W&B's client: `there` has its runs, `opening` what opening one raises."""
    server = SimpleNamespace(there={}, opening={}, answering=True, opened=[])

    class Window:
        sent, url = 7, "http://server/run"

        def __init__(self, folder, place, mode, id):
            server.opened.append(id)
            if folder.name in server.opening:
                raise server.opening[folder.name]
            self.folder, self.id = folder, id

        def close(self, ended):
            finished = json.loads((self.folder / "summary.json").read_text())["finished"]
            server.there[self.id] = SimpleNamespace(
                state="finished", summary=SimpleNamespace(_json_dict={"finished": finished})
            )
            place = {
                "id": self.id,
                "project": "addnorm_exp",
                "entity": "lab",
                "server": wandb.setup().settings.base_url,
            }
            (self.folder / "wandb" / "mirror.json").write_text(json.dumps({**place, "step": 9, "mode": "online"}))

    def connect():
        if not server.answering:
            raise wandb.errors.AuthenticationError("Failed to verify credentials with http://server: no answer")
        return SimpleNamespace(default_entity="lab")

    monkeypatch.setattr(module, "Window", Window)
    monkeypatch.setattr(module, "connect", connect)
    monkeypatch.setattr(module, "answers", lambda: server.answering)
    monkeypatch.setattr(module, "remote", lambda api, entity, project, id: server.there.get(id))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    write_study(home / "study", ("a", "b"))
    for name in ("a", "b"):
        path = home / "study" / name / "summary.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "finished": 2.0}))
    ids = {name: forms.about(home / "study" / name).id for name in ("a", "b")}

    def upload(again: bool = False) -> tuple[bool, list[str]]:
        server.opened.clear()
        lines: list[str] = []
        complete = module.sync(home / "study", Place(), lines.append, again)
        assert [line.split(": ")[0] for line in lines] == [str(home / "study" / name) for name in ("a", "b")]
        return complete, [line.split(": ", 1)[1] for line in lines]

    return upload, server, ids


SENT, THERE = "7 steps sent  http://server/run", "already there"


def test_the_server_is_asked_what_it_has(uploads, home):
    """With a ledger that says that all was sent, and without one."""
    upload, server, ids = uploads
    assert upload() == (True, [SENT, SENT])
    assert upload() == (True, [THERE, THERE])
    (home / "study" / "a" / "wandb" / "mirror.json").unlink()  # as on another machine
    assert upload() == (True, [THERE, THERE])
    assert server.opened == []
    server.there[ids["a"]].state = "crashed"  # its client was killed
    assert upload() == (True, [SENT, THERE])
    server.there[ids["b"]].summary._json_dict["finished"] = 1.0  # an earlier end, before the run was made longer
    assert upload() == (True, [THERE, SENT])


def test_a_run_that_was_deleted_is_told_and_sent_again_on_request(uploads, home):
    upload, server, ids = uploads
    upload()
    del server.there[ids["a"]]
    remedy = f"`main.py sync {home / 'study' / 'a'} --again` sends it under a new id"
    for _ in range(2):
        assert upload() == (False, [f"skipped (it was deleted on the server); {remedy}", THERE])
        assert server.opened == []
    assert upload(again=True) == (True, [SENT, THERE])
    assert server.opened == [f"{ids['a']}-2"]
    assert upload() == (True, [THERE, THERE])
    del server.there[f"{ids['a']}-2"]
    assert upload(again=True) == (True, [SENT, THERE])
    assert server.opened == [f"{ids['a']}-3"]


def test_a_run_that_the_server_refuses_stops_no_other(uploads, home):
    """Deleted before this machine knew of it: its id is taken by nobody again. Or refused for another reason."""
    upload, server, ids = uploads
    words = f"HTTP 409: run lab/addnorm_exp/{ids['a']} was previously created and deleted; try a new run name"
    server.opening["a"] = wandb.errors.CommError(
        f"Timed out while retrying: {words}\nConsider increasing the init_timeout"
    )
    remedy = f"`main.py sync {home / 'study' / 'a'} --again` sends it under a new id"
    assert upload() == (False, [f"skipped (it was deleted on the server); {remedy}", SENT])
    assert upload() == (False, [f"skipped (it was deleted on the server); {remedy}", THERE])
    assert server.opened == []  # the refusal was waited for once
    server.opening["a"] = wandb.errors.CommError("permission denied")
    assert upload(again=True) == (False, ["skipped (permission denied)", THERE])
    server.opening.clear()
    assert upload(again=True) == (True, [SENT, THERE])
    assert server.opened == [f"{ids['a']}-2"]


def test_without_a_server_it_stops_at_the_first_run(uploads, home):
    upload, server, _ = uploads
    server.answering = False
    words = r"a: cannot be uploaded \(Failed to verify credentials with http://server: no answer\); check the API key and the network"
    with pytest.raises(UserError, match=words):
        upload()
    assert server.opened == []


@pytest.mark.full
def test_deleted_runs_with_the_real_client(server, home, monkeypatch):
    write_study(home / "study", ("a", "b"))
    assert sync(home / "study", server)[0] == 0
    server.delete("a")
    code, out, err = sync(home / "study", server)
    assert (code, err) == (1, "")
    assert ["deleted on the server" in line for line in out] == [True, False]
    assert server.conflicts == []
    (home / "study" / "a" / "wandb" / "mirror.json").unlink()  # now the server alone knows
    # Else the client tries until its time-out, as in test_mirror_trouble.py.
    monkeypatch.setattr(Server, "environment", {**server.environment, "WANDB_X_GRAPHQL_RETRY_MAX": "1"})
    code, out, err = sync(home / "study", server)
    assert (code, err) == (1, "")
    assert ["deleted on the server" in line for line in out] == [True, False]
    assert server.conflicts
    code, out, err = sync(home / "study", server, "--again")
    assert (code, err) == (0, "")
    assert server.run("a").name.endswith("-2")
    assert len(server.run("a").history) == len(server.run("b").history)


@pytest.mark.full
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
    assert forms.plan_of(home / "study" / "a").file == plan["file"]
