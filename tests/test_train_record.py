"""The record says what it means: columns under their own names, attempts told apart, damage refused."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from of_config import identify, make_task, run
from training import config, interrupt, layers

from addnorm_exp.errors import UserError
from addnorm_exp.residual.init import Init, Spec
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.tasks.lm import LanguageModelling
from addnorm_exp.tasks.metrics import WeightedSum
from addnorm_exp.tasks.task import Share
from addnorm_exp.train import pack, programs
from addnorm_exp.train import program as program_room
from addnorm_exp.train.program import Program
from addnorm_exp.train.recorder import RunTotals


class Numbered(LanguageModelling):
    """Eleven tensors that differ in size, named as those of eleven blocks; training a real model of so many takes a minute to compile."""

    NAMES = tuple(f"decoder/blocks/{number}/kernel" for number in range(11))

    def __init__(self, asked):
        super().__init__(asked)
        specs = {name: Spec((1 + number,), Init("normal", 1.0), "matrix") for number, name in enumerate(self.NAMES)}
        values = {name: jnp.full(spec.shape, 1.0 + number) for number, (name, spec) in enumerate(specs.items())}
        size = sum(spec.size for spec in specs.values())
        self.model = SimpleNamespace(specs=specs, init=lambda seed, hypers: values, size=size, first_running={})

    def loss(self, parameters, probes, part, weight, carried, context):
        ones = jnp.ones(len(self.labels), jnp.float32)
        value = sum(jnp.mean(value**2) for value in parameters.values()) * 1e-3
        return Share(value, diagnostics=dict.fromkeys(SITES, ones))

    def evaluate(self, parameters, carried, part, context):
        return {"loss": WeightedSum(jnp.ones(len(part), jnp.float32), jnp.ones(len(part), jnp.float32))}


SITES = ("stream_rms", "branch_ratio")


def test_columns_of_tensors_have_their_own_names(data, tmp_path, monkeypatch):
    """At eleven blocks and more: sorted as text, block 10 stands before block 2, and a column would get another's name."""
    monkeypatch.setattr(program_room, "make_task", Numbered)
    monkeypatch.setattr(programs, "_PROGRAMS", {})
    run(config(steps=1, eval__every=1, optim__lr=1e-12), data, RunFolder(tmp_path))
    index = json.loads((tmp_path / "layers" / "index.json").read_text())["tensors"]
    assert sorted(index) == sorted(Numbered.NAMES)
    np.testing.assert_allclose(layers(tmp_path)["weight_rms"][0], [1.0 + int(name.split("/")[2]) for name in index])
    real = make_task(config(model__depth=11)).model.specs
    assert list(real) != sorted(real), "a real model's names come in an order that is not that of their letters"


@pytest.mark.core
def test_step_time_is_the_median_and_leaves_out_the_first_chunk():
    """In seconds, of milliseconds. One slow chunk of a shared machine is no property of the program."""
    assert RunTotals().step_seconds() is None
    assert RunTotals(chunk_ms=[7.0]).step_seconds() == 0.007
    assert RunTotals(chunk_ms=[1000.0, 3.0, 2.0, 900.0, 4.0, 2.5]).step_seconds() == 0.003
    assert RunTotals(chunk_ms=[1000.0, 2.0, 4.0]).step_seconds() == 0.003


@pytest.mark.core
@pytest.mark.parametrize(("device", "host"), [(0.1, 0.03), (0.1, 0.7)])
def test_step_time_is_the_devices_and_recording_has_a_time_of_its_own(device, host, data, tmp_path, monkeypatch):
    """A clock of the test's: a step takes the device `device` seconds, and to record it takes the host `host`, beside the next dispatch."""
    asked = config(steps=40, eval__every=40, execution__checkpoint_every=0)
    now, ready = [0.0], [0.0]
    append, train = RunFolder.append, Program.train

    def slowly(folder, lines):
        now[0] += host * sum(line["split"] == "train" for line in lines)
        append(folder, lines)

    def begin(self, state, hypers, held, recorded):
        ready[0] = now[0] + device * len(recorded)
        return train(self, state, hypers, held, recorded)

    def wait(arrays, get=jax.device_get):
        if isinstance(arrays, tuple):  # what the loop waits for
            now[0] = max(now[0], ready[0])
        return get(arrays)

    monkeypatch.setattr(RunFolder, "append", slowly)
    monkeypatch.setattr(Program, "train", begin)
    monkeypatch.setattr(pack, "is_ready", lambda array: now[0] >= ready[0])
    monkeypatch.setattr(pack.jax, "device_get", wait)
    summary = run(asked, data, RunFolder(tmp_path), clock=lambda: now[0])
    assert summary.step_time_s == pytest.approx(device)
    assert summary.record_time_s == pytest.approx(host)


def test_a_damaged_record_is_not_trained_on(data, tmp_path):
    """A kill tears the last line only; damage before it means that numbers are lost for good."""
    interrupt(config(), data, tmp_path, chunks=3)
    path = tmp_path / "metrics.jsonl"
    told = path.read_text().splitlines()
    told[2] = told[2][:5]
    path.write_text("\n".join(told) + "\n")
    with pytest.raises(UserError, match="line 3 is damaged"):
        run(config(), data, RunFolder(tmp_path))


def test_each_attempt_is_told(data, tmp_path):
    step = interrupt(config(), data, tmp_path, chunks=2)
    summary = run(config(execution__keep_checkpoints=3), data, RunFolder(tmp_path))
    first, second = summary.attempts
    assert (first.from_step, second.from_step) == (0, step)
    assert [each.execution["keep_checkpoints"] for each in (first, second)] == [
        config().execution.keep_checkpoints,
        3,
    ]


@pytest.mark.parametrize("said", [{"norm__eps": 1e-5}, {"norm__kind": "layer"}, {"init__law": "xavier"}])
def test_a_default_that_is_spelt_out_is_the_same_run(said):
    assert identify(config(**said), "0") == identify(config(), "0")


@pytest.mark.parametrize("said", [{"norm__eps": 1e-6}, {"norm__kind": "rms"}, {"init__law": "normal"}])
def test_another_norm_or_law_is_another_run(said):
    assert identify(config(**said), "0") != identify(config(), "0")


@pytest.mark.parametrize("scheme", ["deepnorm", "sandwich_ln"])
def test_one_scaling_of_the_init_at_a_time(scheme):
    with pytest.raises(UserError, match="depth_scaled would scale weights that scheme"):
        config(scheme=scheme, init__depth_scaled=True)


def test_cudnn_is_refused_where_it_is_not(data, tmp_path):
    with pytest.raises(UserError, match="needs an NVIDIA GPU"):
        run(config(execution__attention="cudnn"), data, RunFolder(tmp_path))
