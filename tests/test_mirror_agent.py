"""Under `wandb agent`, which starts the command with an id of its own in the environment: that run is mirrored under it, then and later."""

import shutil

import pytest
from mirroring import assert_mirrored, ledger, mirrored, settle, sync
from of_config import run
from training import config, stop_after

from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.mirror.forms import about, from_config
from addnorm_exp.runs.mirror.mirror import Mirror
from addnorm_exp.runs.mirror.rows import RowReader
from addnorm_exp.runs.mirror.settings import Place
from addnorm_exp.train.loop import Stopped

AGENT = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH")


@pytest.fixture
def agent(home, server, monkeypatch):
    """Sets what the agent sets for a run of this id; nothing for None."""
    (home / "parameters.yaml").write_text("wandb_version: 1\nconfig.optim.lr:\n  value: 0.01\n")

    def dictate(id: str | None) -> None:
        for name, value in {**server.environment, "WANDB_PROJECT": "ablations"}.items():
            monkeypatch.setenv(name, value)
        for name, value in zip(AGENT, (id, "sweep1", str(home / "parameters.yaml")), strict=True):
            monkeypatch.setenv(name, value) if id else monkeypatch.delenv(name, raising=False)

    return dictate


@pytest.mark.full
def test_its_id_and_then_the_same_run_without_it(server, home, data, agent):
    agent("dictated")
    said: list[str] = []
    with pytest.raises(Stopped), stop_after(config(), 2) as stop:
        mirrored(home, data, said, stop=stop)
    assert ledger(home / "run")["id"] == "dictated"
    assert server.run().state == "preempted"
    agent(None)
    mirrored(home, data, said)
    assert_mirrored(server, home / "run", opened=2)
    told = server.run()
    assert (told.name, told.project, told.sweep) == ("dictated", "ablations", "sweep1")
    # What the agent adds to the config (its parameters, under dotted names) is no part of the record.
    assert told.values["config.optim.lr"] == 0.01
    assert from_config(told.values) == from_config(about(home / "run").config)
    code, _, err = sync(home / "run", server)
    assert (code, err, len(server.runs)) == (0, "", 1)


@pytest.mark.full
def test_its_id_is_for_the_first_run_alone(server, home, data, agent):
    """A study under an agent: its other runs are runs of their own."""
    agent("dictated")
    said: list[str] = []
    with Mirror("online", Place(), said.append) as mirror:
        for seed in range(2):
            folder = RunFolder(home / f"run-{seed}")
            run(config(seed=seed), data, folder, watch=mirror.watch(folder.path, lambda event: None))
            mirror.end()
        settle(mirror)
    (line,) = said
    assert line.endswith("/runs/dictated")
    own = about(home / "run-1").id
    assert {told.name: (told.steps[-1], told.sweep) for told in server.runs.values()} == {
        "dictated": (12, "sweep1"),
        own: (12, None),
    }


@pytest.mark.full
def test_a_run_that_another_id_is_dictated_for(server, home, data, agent):
    """Another run of the sweep has the same config and goes on with the same folder: it gets the history from step 0."""
    agent("first")
    with pytest.raises(Stopped), stop_after(config(), 2) as stop:
        mirrored(home, data, [], stop=stop)
    agent("second")
    mirrored(home, data, [])
    assert server.run("second").steps == [step for step, _ in RowReader(home / "run").poll(ended=True)]
    assert server.run("first").state == "preempted"


@pytest.mark.full
def test_offline_under_an_agent(server, home, data, agent, monkeypatch):
    agent("dictated")
    mirrored(home, data, [], mode="offline")
    assert server.runs == {}
    assert ledger(home / "run")["id"] == "dictated"
    shutil.copytree(home / "run", home / "other")  # a run that no agent has to do with, synced by the same command
    (home / "other" / "wandb" / "mirror.json").unlink()
    code, _, err = sync(home, server)  # in the agent's environment still
    assert (code, err) == (0, "")
    assert {told.name for told in server.runs.values()} == {"dictated", about(home / "other").id}
    assert {tuple(told.steps) for told in server.runs.values()} == {tuple(range(13))}
