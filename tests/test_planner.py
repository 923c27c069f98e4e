"""Which runs are trained together, in which order, by how many processes: decided without a device."""

import pytest
from of_config import experiment

from addnorm_exp.config import Config, override
from addnorm_exp.errors import UserError
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.sweep import planner
from addnorm_exp.sweep.executors import Options, executor_for, seats
from addnorm_exp.sweep.planner import PlannedPack, choose, ordered, packs, run_folders
from addnorm_exp.sweep.study import Planned

ONE = {"model.depth": 1, "model.width": 16, "model.num_heads": 2}


def run(name: str, phase: str = "run", **keys) -> Planned:
    changes = ONE | {key.replace("__", "."): value for key, value in keys.items()}
    return Planned(name, experiment(override(Config(), changes, "test")), {}, phase=phase)


def names(planned: list[PlannedPack]) -> list[str]:
    return ["".join(run.id for run in pack.runs) for pack in planned]


def packed(runs, width, folder) -> list[PlannedPack]:
    return packs(runs, {run.id: run for run in runs}, width, run_folders(folder))


def test_packs_have_one_shape_one_timetable_and_one_phase(tmp_path):
    runs = [run("a"), run("b", seed=1), run("c", model__depth=2), run("d", steps=7), run("e", seed=2), run("f", "tune")]
    assert sorted(names(packed(runs, 2, tmp_path))) == ["ab", "c", "d", "e", "f"]
    assert sorted(names(packed(runs, 3, tmp_path))) == ["abe", "c", "d", "f"]
    assert sorted(names(packed(runs, 1, tmp_path))) == list("abcdef")


def test_the_longest_comes_first_phase_by_phase(tmp_path):
    runs = [
        run("a", "report", steps=900),
        run("b", "tune", steps=10),
        run("c", "tune", steps=10, model__depth=4),
        run("d", "tune", steps=100),
        run("e", "tune", steps=10, model__depth=4, seed=1),
        run("f", "tune", steps=10, seed=1),
    ]
    assert names(packed(runs, 1, tmp_path)) == list("dcebfa")


def test_what_has_begun_continues_as_it_began(tmp_path):
    runs = [run(name, seed=seed) for seed, name in enumerate("abcd")]
    for name in "bd":
        (tmp_path / name).mkdir()
        RunFolder(tmp_path / name).write_pack(["b", "d"])
    assert names(packed(runs, 4, tmp_path)) == ["bd", "ac"]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "metrics.jsonl").write_text('{"step": 1, "split": "train", "loss": 1.0}\n')
    assert names(packed(runs, 4, tmp_path)) == ["bd", "a", "c"], "a run that began alone stays alone"
    with pytest.raises(UserError, match="b: is trained together with d, which is not among these runs"):
        packed(runs[:3], 4, tmp_path)


def test_a_worker_keeps_its_shape_and_takes_another_from_nobody_in_need():
    one, two, three = (run("x", model__depth=depth).experiment.shape for depth in (1, 2, 3))
    queue = ordered(
        PlannedPack((run(f"{depth}{seed}", model__depth=depth, seed=seed),)) for depth in (1, 2, 3) for seed in (0, 1)
    )
    assert names([choose(queue, {two}, {one})]) == ["20"], "its own"
    assert names([choose(queue, {}, {three})]) == ["20"], "the longest that nobody has"
    assert names([choose(queue, {}, {one, two, three})]) == ["30"], "the most left to do"
    later = PlannedPack((run("r", "report"),))
    assert names([choose([*queue, later], {one}, {one, two, three})]) == ["10"], "tuning before reports"
    assert names([choose([PlannedPack((run("b", "report"),), begun=True), *queue], {one}, {})]) == ["b"], (
        "what has begun"
    )


def test_processes_have_equal_shares_of_the_cores(monkeypatch):
    monkeypatch.setattr(seats.host, "cores", lambda: tuple(range(8)))
    monkeypatch.setattr(seats.host, "memory", lambda: 10**12)
    lanes = {run("a").experiment.shape: 1}

    def shares(workers, number):
        return [seat.cores for seat in seats.of_cores(workers, number, lanes)]

    assert shares(None, 100) == [(core,) for core in range(8)]
    assert shares(None, 3) == [(0, 1), (2, 3), (4, 5)]
    assert shares(2, 100) == [(0, 1, 2, 3), (4, 5, 6, 7)]
    monkeypatch.setattr(seats.host, "memory", lambda: 3 * seats.host.PROCESS_BYTES)
    assert len(shares(None, 100)) == 2, "as memory allows: a process, and the run that it trains"
    assert len(shares(8, 100)) == 8, "what is asked for"
    with pytest.raises(UserError, match=r"--workers=9: this process has 8 cores"):
        shares(9, 100)


def test_processes_on_accelerators_have_devices_of_their_own(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def visible(*arguments):
        return [dict(seat.environment) for seat in seats.of_devices(*arguments)]

    assert visible(None, 100, "gpu", 4, 1) == [{"CUDA_VISIBLE_DEVICES": str(device)} for device in range(4)]
    assert visible(None, 3, "gpu", 8, 2) == [{"CUDA_VISIBLE_DEVICES": f"{2 * n},{2 * n + 1}"} for n in range(3)]
    share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.450"}
    assert visible(4, 100, "gpu", 2, 1) == [{"CUDA_VISIBLE_DEVICES": str(n % 2), **share} for n in range(4)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert visible(None, 9, "gpu", 2, 1) == [{"CUDA_VISIBLE_DEVICES": "5"}, {"CUDA_VISIBLE_DEVICES": "7"}]
    assert visible(None, 9, "tpu", 4, 1) == [{}], "one process has all chips of a TPU"
    with pytest.raises(UserError, match=r"--devices_per_run=4: this machine has 2 devices"):
        visible(None, 9, "gpu", 2, 4)


def test_a_short_study_is_trained_in_one_process():
    assert seats.is_short([run(str(seed), seed=seed, steps=20) for seed in range(8)])
    assert not seats.is_short([run(str(seed), seed=seed, steps=20_000) for seed in range(8)])
    assert not seats.is_short([run(str(depth), model__depth=depth, steps=20) for depth in range(1, 9)]), "to compile"


def test_planning_starts_no_device():
    """Else the planning process would take a device, or cores, from those that train."""
    import processes

    code = (
        "from addnorm_exp.sweep import phases, planner, study_file; from addnorm_exp.sweep.executors import seats;"
        "from jax._src import xla_bridge;"
        "study, = study_file.read_studies('sweeps/quickstart.py'); plan = phases.plan(study, {});"
        "print(len(planner.packs(plan.tune, {}, 2, planner.run_folders(phases.Path('nowhere')))));"
        "seats.of_cores(None, 9, {run.experiment.shape: 1 for run in plan.tune});"
        "print(xla_bridge.backends_are_initialized())"
    )
    assert processes.run("-c", code).stdout.split()[-1] == "False"


def test_operations_are_those_of_the_training_steps():
    short, long = run("a", steps=10), run("b", steps=30)
    assert planner.operations(long) == 3 * planner.operations(short) > 0


def test_a_scheme_of_the_study_file_alone_is_trained_in_its_process(monkeypatch):
    """Another process could not resolve it."""
    own = run("own", steps=10**6)
    monkeypatch.setattr(planner, "is_published", lambda name: name != own.config.scheme)
    waiting = [(own, 1), (run("other", steps=10**6, seed=1), 1)]

    def chosen(workers):
        return executor_for(Options(workers=workers), waiting, (), lambda: "here", lambda run: None, lambda: False)

    assert chosen(None) == "here"
    with pytest.raises(
        UserError, match=rf"--workers=2: the scheme '{own.config.scheme}' is known only to this study file"
    ):
        chosen(2)
