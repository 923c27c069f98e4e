"""Runs that one program trains together: each is its single run, whatever its neighbours do, and a pack resumes bit for bit."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from of_config import experiment, run
from training import assert_equal_runs, config, lines, losses, stop_after

from addnorm_exp.config import Config
from addnorm_exp.errors import UserError
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.train.lane import Lane, Member
from addnorm_exp.train.loop import Stopped, run_pack
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


KINDS = [
    {"scheme": "admin"},
    {"scheme": "ngpt", "norm__kind": None},
    {"model__dropout": 0.2, "model__drop_path": 0.2},
    {"optim__accumulate": 2, "execution__attention_every": 3},
]


@pytest.mark.full
@pytest.mark.parametrize("keys", KINDS, ids=str)
def test_every_kind_of_run_packs(keys, data, tmp_path):
    """Calibration, projection, noise, micro-batches: each lane as its single run."""
    configs = [config(seed=seed, **keys) for seed in (0, 5)]
    trained(tmp_path / "packed", data, configs)
    for lane, each in enumerate(configs):
        run(each, data, RunFolder(tmp_path / str(lane)))
        ours, theirs = losses(tmp_path / "packed" / str(lane)), losses(tmp_path / str(lane))
        assert ours[0] == pytest.approx(theirs[0], rel=1e-5), "one batch, one init, one mask"
        np.testing.assert_allclose(ours, theirs, rtol=2e-2)
