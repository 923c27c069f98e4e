"""The mirror's agent with a client that fails as it is told to: which runs it costs, and what the person reads."""

import os
import queue
import subprocess
import sys
from types import SimpleNamespace

import pytest
import wandb

from addnorm_exp.errors import UserError
from addnorm_exp.runs.lock import Busy
from addnorm_exp.runs.mirror import agent as module
from addnorm_exp.runs.mirror.agent import PAUSE, Agent
from addnorm_exp.runs.mirror.settings import Place

REMEDY = "`main.py sync runs/x` uploads it later"
REFUSED = wandb.errors.CommError(
    "Timed out while retrying: HTTP 409: run l/p/b was previously created and deleted; try a new run name\n"
    "Consider increasing the init_timeout setting:\n  wandb.init(…)"
)
LOST = wandb.errors.CommError("Run initialization has timed out after 20.0 sec.")


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Runs by name: what opening, feeding and closing one raises. `answering`: whether the server answers."""

    client = SimpleNamespace(answering=True, now=0.0, opening={}, closing={}, opened=[])

    class Window:
        url = "http://server/lab"

        def __init__(self, folder, place, mode):
            client.opened.append(folder.name)
            if folder.name in client.opening:
                raise client.opening[folder.name]
            self.folder = folder

        def close(self, ended):
            if self.folder.name in client.closing:
                raise client.closing[self.folder.name]

    monkeypatch.setattr(module, "Window", Window)
    monkeypatch.setattr(module, "answers", lambda: client.answering)
    monkeypatch.setattr(module, "forget", lambda exit_code=1: None)
    client.messages = []
    client.agent = Agent("online", Place(), REMEDY, client.messages.append, lambda: client.now)
    for name in "abcd":
        (tmp_path / name).mkdir()

    def train(*names: str) -> tuple[list[str], dict[str, bool]]:
        """One run after the other. What the person reads, and which runs are sent."""
        commands: queue.Queue = queue.Queue()
        for name in names:
            commands.put({"begin": str(tmp_path / name)})
            commands.put({"end": str(tmp_path / name)})
        commands.put(None)
        client.messages.clear()
        client.agent.serve(commands)
        said = [message["say"] for message in client.messages if "say" in message]
        ends = [message for message in client.messages if "done" in message]
        assert [os.path.basename(end["done"]) for end in ends] == list(names)  # each is dealt with, once
        return said, {name: end["sent"] for name, end in zip(names, ends, strict=True)}

    client.train = train
    return client


def test_a_run_that_is_refused_costs_no_other_its_mirror(client):
    client.opening["b"] = REFUSED
    said, sent = client.train("a", "b", "c")
    words = "HTTP 409: run l/p/b was previously created and deleted; try a new run name"
    assert said == ["W&B: http://server/lab", f"W&B: b is skipped ({words}); {REMEDY}"]
    assert sent == {"a": True, "b": False, "c": True}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError("b/metrics.jsonl:5: is not a metrics line"), "b/metrics.jsonl:5: is not a metrics line"),
        (Busy("b"), "another process is mirroring it"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ValueError("a fault of ours"), "a fault of ours"),
        (TimeoutError(), "TimeoutError"),
    ],
)
@pytest.mark.parametrize("moment", ["opening", "closing"])
def test_whatever_fails_in_one_run_costs_no_other_its_mirror(error, words, moment, client):
    getattr(client, moment)["b"] = error
    said, sent = client.train("a", "b", "c")
    assert said[1:] == [f"W&B: b is skipped ({words}); {REMEDY}"]
    assert sent == {"a": True, "b": False, "c": True}


@pytest.mark.parametrize("moment", ["opening", "closing"])
def test_a_server_that_is_lost_is_one_line_and_tried_again_after_a_pause(moment, client):
    client.answering = False
    for name in "bcd":
        getattr(client, moment)[name] = LOST
    said, sent = client.train("b", "c")
    unreachable = f"W&B: the server cannot be reached (Run initialization has timed out after 20.0 sec); {REMEDY}"
    assert (said[-1], sent) == (unreachable, {"b": False, "c": False})
    assert client.opened == ["b"]  # its time-out is waited for once
    client.now = PAUSE - 1
    assert client.train("d")[0] == []
    client.now = PAUSE + 1
    assert unreachable not in client.train("d")[0]
    assert client.opened == ["b", "d"]
    client.now, client.answering = 2 * PAUSE + 2, True
    assert client.train("a") == (["W&B: http://server/lab"], {"a": True})


def test_a_client_that_hangs_ends_the_process_with_its_reason(client, monkeypatch):
    class Ended(Exception):
        pass

    def sleep(seconds):
        client.now += 100.0

    def end(code):
        raise Ended

    monkeypatch.setattr(module.time, "sleep", sleep)
    monkeypatch.setattr(module.os, "_exit", end)
    with client.agent._limited(350.0), pytest.raises(Ended):
        client.agent.watch()
    assert (client.messages, client.now) == ([{"stop": "its client hangs"}], 400.0)


def test_what_libraries_print_is_no_message(tmp_path):
    """Standard output belongs to messages, the client's prints go to standard error."""
    code = "from addnorm_exp.runs.mirror.agent import messages\ntell = messages()\nprint('noise', flush=True)\ntell({'say': 'x'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ('{"say": "x"}\n', "noise\n")
