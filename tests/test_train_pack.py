"""Runs that one program trains together: each is its single run, whatever its neighbours do, and a pack resumes bit for bit."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from of_config import experiment, make_task, run
from processes import on_eight_devices
from scipy import stats
from training import ROOT, assert_equal_runs, config, lines, losses, parameters, stop_after

from addnorm_exp.config import Config
from addnorm_exp.errors import UserError
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.train.lane import Lane, Member
from addnorm_exp.train.loop import Stopped, run_pack
from addnorm_exp.train.memory import needed
from addnorm_exp.train.program import ALONE, lanes_of
from addnorm_exp.train.programs import program

PLAIN = (config(), config(seed=1, optim__lr=3e-3), config(seed=2, optim__warmup=3, optim__weight_decay=0.0))


def members(folder: Path, configs: Sequence[Config] = PLAIN) -> list[Member]:
    return [Member(experiment(each), RunFolder(folder / str(lane))) for lane, each in enumerate(configs)]


def trained(folder: Path, data, configs: Sequence[Config] = PLAIN, **options):
    return run_pack(members(folder, configs), data, **options)


@pytest.fixture(scope="module")
def together(tmp_path_factory, data):
    """The pack of PLAIN, trained without an interruption."""
    folder = tmp_path_factory.mktemp("together")
    trained(folder, data)
    return folder


@pytest.mark.core
def test_a_lane_is_its_single_run(together, data, tmp_path):
    """Equal before the first step, and to rounding after it; its record says where it was trained."""
    for lane, each in enumerate(PLAIN):
        alone = run(each, data, RunFolder(tmp_path / str(lane)))
        packed = RunFolder(together / str(lane)).summary()
        assert (packed.id, packed.status, packed.step) == (alone.id, "done", 12)
        assert packed.attempts[0].pack == {"width": 3, "lane": lane}
        assert alone.attempts[0].pack == {"width": 1, "lane": 0}
        ours, theirs = (lines(folder / str(lane)) for folder in (together, tmp_path))
        assert [(line["step"], line["split"]) for line in ours] == [(line["step"], line["split"]) for line in theirs]
        np.testing.assert_allclose(losses(together / str(lane)), losses(tmp_path / str(lane)), rtol=1e-3)
    assert not (tmp_path / "0" / "pack.json").exists()
    ids = [RunFolder(together / str(lane)).summary().id for lane in range(3)]
    assert [RunFolder(together / str(lane)).pack() for lane in range(3)] == [ids] * 3


def test_the_bound_on_memory_counts_each_lane_of_a_pack(together):
    """It is below what the compiler plans, and near, as that of a run alone is. The copies of the best parameters lie beside the plan."""
    shape = experiment(PLAIN[0]).shape
    compiled = program(shape, lanes_of([experiment(each).hypers for each in PLAIN]))
    assert compiled.planned_bytes, "the fixture has compiled it"
    planned = compiled.planned_bytes + len(PLAIN) * 4 * compiled.task.model.size
    bound = len(PLAIN) * sum(needed(shape, 1, True).values())
    assert 0.2 * planned < bound < planned


@pytest.mark.core
def test_lanes_begin_with_the_bits_of_their_single_runs():
    hypers = [experiment(each).hypers for each in PLAIN]
    shape = experiment(PLAIN[0]).shape
    packed, alone = program(shape, lanes_of(hypers)), program(shape, ALONE)
    state = packed.stacked([packed.init(packed.placed(each)) for each in hypers])
    for lane, each in enumerate(hypers):
        single = alone.init(alone.placed(each)).parameters
        for path, value in packed.lane(state.parameters, lane).items():
            np.testing.assert_array_equal(value, single[path], err_msg=path)


@pytest.mark.core
def test_a_lane_that_diverges_leaves_its_neighbours_bits(together, data, tmp_path):
    """A rate that ends the second run in its seventh update or before; the others do not know."""
    wild = config(seed=1, optim__lr=1e4, optim__clip=0.0)
    calm = config(seed=1, optim__lr=3e-3, optim__clip=0.0)
    packs = {}
    for name, second in (("wild", wild), ("calm", calm)):
        configs = (config(optim__clip=0.0), second, config(seed=2, optim__clip=0.0))
        packs[name] = trained(tmp_path / name, data, configs)
    assert [summary.status for summary in packs["wild"]] == ["done", "diverged", "done"]
    diverged = packs["wild"][1].diverged.step
    assert [line["step"] for line in lines(tmp_path / "wild" / "1") if line["split"] == "train"][-1] == diverged < 12
    for lane in ("0", "2"):
        assert_equal_runs(tmp_path / "calm" / lane, tmp_path / "wild" / lane)


def interrupted(folder: Path, data, chunks: int, configs: Sequence[Config] = PLAIN) -> None:
    """Stops the pack as SIGTERM would, after so many chunks."""
    with stop_after(configs[0], chunks) as stop, pytest.raises(Stopped):
        trained(folder, data, configs, stop=stop)


@pytest.mark.core
def test_a_pack_resumes_bit_for_bit(together, data, tmp_path):
    interrupted(tmp_path, data, chunks=3)
    assert {path.parent.name for path in tmp_path.glob("*/pack.json")} == {"0", "1", "2"}
    trained(tmp_path, data)
    for lane in range(3):
        assert_equal_runs(together / str(lane), tmp_path / str(lane))


def test_a_kill_between_the_saves_of_two_lanes(together, data, tmp_path, monkeypatch):
    """The lanes continue from the newest step that all of them have."""
    save, saved = Lane.save, []

    def killed(lane, step, state):
        if step == 8 and lane.number == 1:
            raise KeyboardInterrupt
        save(lane, step, state)
        saved.append((lane.number, step))

    with monkeypatch.context() as patch:
        patch.setattr(Lane, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path, data)
    assert saved[-1] == (0, 8)
    summaries = trained(tmp_path, data)
    assert [summary.attempts[-1].from_step for summary in summaries] == [4, 4, 4]
    for lane in range(3):
        assert_equal_runs(together / str(lane), tmp_path / str(lane))


def test_a_lane_that_had_ended_fills_its_place_when_the_pack_resumes(data, tmp_path):
    configs = (config(optim__clip=0.0), config(seed=1, optim__lr=1e4, optim__clip=0.0), config(seed=2, optim__clip=0.0))
    trained(tmp_path / "one", data, configs)
    interrupted(tmp_path / "two", data, 3, configs)
    before = (tmp_path / "two" / "1" / "summary.json").read_bytes()
    assert json.loads(before)["status"] == "diverged"
    trained(tmp_path / "two", data, configs)
    assert (tmp_path / "two" / "1" / "summary.json").read_bytes() == before
    for lane in (0, 2):
        assert_equal_runs(tmp_path / "one" / str(lane), tmp_path / "two" / str(lane))


def test_a_run_continues_as_it_began(data, tmp_path):
    """A run of a pack cannot go on alone or in another pack, nor one alone in a pack: its last digits would be others."""
    interrupted(tmp_path, data, chunks=2)
    with pytest.raises(UserError, match=r"/1: is one of 3 runs that are trained together \(pack\.json\)"):
        run(PLAIN[1], data, RunFolder(tmp_path / "1"))
    with pytest.raises(UserError, match="trained together"):
        run_pack(members(tmp_path)[:2], data)
    with stop_after(PLAIN[0], 2) as stop, pytest.raises(Stopped):
        run(PLAIN[0], data, RunFolder(tmp_path / "alone" / "0"), stop=stop)
    with pytest.raises(UserError, match="has begun to train alone"):
        trained(tmp_path / "alone", data)


def test_hypers_that_lanes_share_have_no_axis():
    hypers = [experiment(each).hypers for each in PLAIN]
    lanes = lanes_of(hypers)
    assert lanes.differing == {"seed", "data.seed", "optim.lr", "optim.warmup", "optim.weight_decay"}
    joined = program(experiment(PLAIN[0]).shape, lanes).joined(hypers)
    assert {key for key, value in joined.items() if value.ndim} == lanes.differing
    assert lanes_of(hypers[:1]) == ALONE


def compare(configs: Sequence[Config], data, folder: Path, rtol: float) -> None:
    """A pack with its single runs: what is set before step 0 to the bit, what follows to rounding."""
    packed = trained(folder / "packed", data, configs)
    for lane, each in enumerate(configs):
        alone = run(each, data, RunFolder(folder / str(lane)))
        assert packed[lane].plain().get("calibrated") == alone.plain().get("calibrated")
        ours, theirs = losses(folder / "packed" / str(lane)), losses(folder / str(lane))
        assert len(ours) == each.steps
        assert ours[0] == pytest.approx(theirs[0], rel=1e-5), "one batch, one init, one mask"
        np.testing.assert_allclose(ours, theirs, rtol=rtol)


def test_over_50_steps_a_lane_is_its_single_run(data, tmp_path):
    """By the programs of the tests above."""
    rare = {"eval": replace(config().eval, every=50), "execution": replace(config().execution, checkpoint_every=50)}
    compare([replace(each, steps=50, **rare) for each in PLAIN], data, tmp_path, rtol=1e-4)


KINDS = [
    {"scheme": "admin"},
    {"scheme": "ngpt", "norm__kind": None},
    {"model__dropout": 0.2, "model__drop_path": 0.2, "optim__accumulate": 2, "execution__attention_every": 10},
]


@pytest.mark.full
@pytest.mark.parametrize("keys", KINDS, ids=str)
def test_every_kind_of_run_packs(keys, data, tmp_path):
    """Calibration; projection; noise and micro-batches."""
    configs = [config(seed=seed, steps=50, optim__lr=3e-3, **keys) for seed in (0, 5)]
    compare(configs, data, tmp_path, rtol=1e-2)
    if keys.get("scheme") == "admin":
        assert RunFolder(tmp_path / "packed" / "1").summary().plain()["calibrated"]
    scheme, specs = experiment(configs[0]).scheme, make_task(configs[0]).model.specs
    for lane in ("0", "1"):
        values = parameters(tmp_path / "packed" / lane)
        arrays = {name: jnp.asarray(value) for name, value in values.items()}
        for path, projected in scheme.projected(specs, arrays).items():
            np.testing.assert_allclose(values[path], projected, rtol=1e-5, atol=1e-6, err_msg=path)


def final_losses(configs: Sequence[Config], data, width: int) -> np.ndarray:
    """The loss of the last validation, of runs that are trained so many at a time, without their folders."""
    values = []
    for first in range(0, len(configs), width):
        hypers = [experiment(each).hypers for each in configs[first : first + width]]
        compiled = program(experiment(configs[0]).shape, lanes_of(hypers))
        state = compiled.stacked([compiled.init(compiled.placed(each)) for each in hypers])
        numbers, placed, chunk = compiled.joined(hypers), compiled.put(data), np.zeros(4, np.bool_)
        for _ in range(0, configs[0].steps, len(chunk)):
            state, _ = compiled.train(state, numbers, placed, chunk)
        values += [lane["loss"] for lane in compiled.evaluate(state.weights, placed.val, configs[0].steps)]
    return np.array(values)


@pytest.mark.full
def test_at_the_end_lanes_have_the_losses_of_single_runs_in_distribution(data):
    """Over 20 seeds, at a rate at which rounding makes another run of each within 48 steps: by the test of Kolmogorov and Smirnov, which
    tells runs of half the rate apart."""
    chaotic = {"steps": 48, "optim__final_lr": 1.0, "optim__warmup": 5, "divergence__bound": 1e6}
    configs, slower = ([config(seed=seed, optim__lr=lr, **chaotic) for seed in range(20)] for lr in (0.9, 0.45))
    alone, packed = (final_losses(configs, data, width) for width in (1, 20))
    assert np.median(np.abs(packed / alone - 1.0)) > 1e-3, "else it should be compared run by run"
    assert stats.ks_2samp(alone, packed).pvalue > 1e-3
    assert stats.ks_2samp(alone, final_losses(slower, data, 20)).pvalue < 1e-3


DEVICES = """
import json, sys
sys.path[:0] = [{tests!r}, {root!r}]
import jax
from pathlib import Path
from of_config import experiment
from training import config, corpus
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.train.lane import Member
from addnorm_exp.train.loop import run_pack
assert jax.local_device_count() == 8
folder = Path({folder!r})
configs = [config(), config(seed=1, optim__lr=3e-3)]
members = [Member(experiment(each), RunFolder(folder / str(lane))) for lane, each in enumerate(configs)]
summaries = run_pack(members, corpus(folder))
print(json.dumps([[each.status, each.device["count"]] for each in summaries]))
"""


@pytest.mark.full
def test_a_pack_on_eight_devices_is_its_single_runs_on_one(data, tmp_path):
    """To rounding. The batch of each lane is split over the devices."""
    code = DEVICES.format(tests=str(ROOT / "tests"), root=str(ROOT), folder=str(tmp_path))
    assert json.loads(on_eight_devices(code)) == [["done", 8]] * 2
    for lane, each in enumerate((config(), config(seed=1, optim__lr=3e-3))):
        run(each, data, RunFolder(tmp_path / "alone" / str(lane)))
        for split in ("train", "val", "test"):
            theirs = losses(tmp_path / "alone" / str(lane), split)
            np.testing.assert_allclose(losses(tmp_path / str(lane), split), theirs, rtol=1e-3)
