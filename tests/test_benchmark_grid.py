"""The parts of benchmarks/grid.py that start no PyTorch and time nothing: its plan, its table, its checks."""

import sys
from dataclasses import replace

import pytest
from of_config import run
from processes import ROOT
from studies import read_study
from training import config

sys.path.append(str(ROOT / "benchmarks"))

from grid import ALL, TITLES, committed, parse, slug
from grid_measure import recorded, text
from grid_plan import (
    LEARNING_RATES,
    OPTIM,
    SEEDS,
    SIZES,
    Workload,
    arrangements,
    fastest,
    options,
    runs_of,
    script_commands,
    study,
)
from grid_shell import environment, run_all
from grid_table import Measurement, check_work, losses, table
from worker import WorkerError

from addnorm_exp.experiment.timetable import timetable_of
from addnorm_exp.runs.folder import RunFolder

KNOWN = arrangements([1, 2])
SCRIPTS = [each for each in KNOWN.values() if each.kind != "ours"]


def workload(count=ALL, steps=300, size="2x32", corpus="text"):
    return Workload(SIZES[size], runs_of(count), steps, corpus)


def flags(command):
    return dict(word.removeprefix("--").split("=") for word in command[1:] if "=" in word)


def pairs(commands):
    for command in commands:
        words = flags(command)
        yield from zip(map(float, words["lr"].split(",")), map(int, words["seed"].split(",")), strict=True)


def test_a_part_of_the_grid_has_all_learning_rates_of_its_first_seeds():
    assert sorted(runs_of(ALL)) == sorted((rate, seed) for rate in LEARNING_RATES for seed in range(SEEDS))
    assert runs_of(8) == tuple((rate, seed) for seed in (0, 1) for rate in LEARNING_RATES)


@pytest.mark.parametrize("arrangement", SCRIPTS, ids=lambda each: each.key)
@pytest.mark.parametrize("count", [1, 5, ALL])
def test_a_script_trains_each_run_once(arrangement, count):
    commands = script_commands(arrangement, workload(count), {"threads": 4}, cores=4)
    assert sorted(pairs(commands)) == sorted(runs_of(count))
    assert len(commands) == (min(arrangement.at_once, count) if arrangement.loops else count)


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (5, 2)])
def test_processes_at_a_time_divide_the_cores(cores, threads):
    alone, beside = KNOWN["eager-1"], KNOWN["eager-2"]
    setting = {"threads": 7}
    assert flags(script_commands(alone, workload(), setting, cores)[0])["threads"] == "7", "that of the trial"
    assert flags(script_commands(beside, workload(), setting, cores)[0])["threads"] == str(threads)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("steps", [20, 300])
def test_both_sides_do_the_same_work(size, steps, tmp_path):
    (tmp_path / "text").write_text(text(100_000))
    work = workload(steps=steps, size=size, corpus=str(tmp_path / "text"))
    (tmp_path / "grid.py").write_text(study(work))
    planned = [run.config for run in read_study(str(tmp_path / "grid.py")).sweep()]
    assert sorted((each.optim.lr, each.seed) for each in planned) == sorted(runs_of(ALL))
    ours = planned[0]
    words = flags(script_commands(KNOWN["eager-1"], work, {}, cores=2)[0])
    assert {name: int(words[name]) for name in ("depth", "width", "heads", "batch", "seq", "steps", "warmup")} == {
        "depth": ours.model.depth,
        "width": ours.model.width,
        "heads": ours.model.num_heads,
        "batch": ours.batch_size,
        "seq": ours.seq_len,
        "steps": ours.steps,
        "warmup": ours.optim.warmup,
    }
    assert (int(words["eval_every"]), int(words["eval_windows"])) == (ours.eval.every, ours.eval.sequences)
    assert words["corpus"] == ours.data.path
    assert {name: getattr(ours.optim, name) for name in OPTIM} == OPTIM
    assert work.validations == sum(timetable_of(ours).due(step, "validation") for step in range(steps + 1))
    assert ours.execution == config().execution.__class__(), "the defaults of a user"


def test_the_trial_keeps_what_is_faster_and_skips_what_a_build_lacks():
    costs = {"sdpa": 0, "plain": -2, "fused": float("inf"), "foreach": 0, 2: 0, 1: 1}
    best, tried = fastest(options(2)["eager"], lambda setting: sum(costs[value] for value in setting.values()))
    assert best == {"attention": "sdpa", "optimiser": "foreach", "threads": 2}
    assert len(tried) == 4
    costs["fused"] = 1
    best, _ = fastest(options(2)["eager"], lambda setting: sum(costs[value] for value in setting.values()))
    assert best == {"attention": "plain", "optimiser": "foreach", "threads": 2}


def measurement(arrangement, seconds, cache="none", size="2x32", repetition=0, losses=(2.0, 2.2)):
    results = [{"lr": 1e-3, "seed": seed, "test_loss": loss} for seed, loss in enumerate(losses)]
    return Measurement(size, arrangement, cache, repetition, seconds, seconds + 1, 0.0, results)


def test_the_table_compares_with_the_fastest_pytorch_in_the_same_state():
    measurements = [
        measurement("ours", 20, "cold"),
        measurement("ours", 10, "warm"),
        measurement("eager-2", 40),
        measurement("compile-1", 80, "cold"),
        measurement("compile-1", 30, "warm"),
        measurement("ours", 50, "cold", "2x64"),
    ]
    assert table(measurements, KNOWN, TITLES).splitlines()[2:] == [
        "| ours | 20 s, 360 an hour, 2.00 × | 50 s, 144 an hour |",
        "| ours, warm cache | 10 s, 720 an hour, 3.00 × |  |",
        "| PyTorch eager, shell loop, 2 at a time | 40 s, 180 an hour, 1.00 × |  |",
        "| PyTorch compile, shell loop, 1 at a time | 80 s, 90 an hour, 0.50 × |  |",
        "| PyTorch compile, shell loop, 1 at a time, warm cache | 30 s, 240 an hour, 1.00 × |  |",
    ]


def test_ratios_are_taken_repetition_by_repetition():
    times = {"ours": (10, 20, 30), "eager-1": (20, 20, 90)}
    measurements = [
        measurement(key, seconds, "cold" if key == "ours" else "none", repetition=repetition)
        for key, row in times.items()
        for repetition, seconds in enumerate(row)
    ]
    ours = table(measurements, KNOWN, TITLES).splitlines()[2]
    assert ours == "| ours | 20 s (10–30), 360 an hour, 2.00 × (1.00–3.00) |"


@pytest.mark.parametrize(
    ("rival", "values", "sound"),
    [
        ("eager-1", (2.1, 2.25), True),
        ("eager-1", (2.3, 2.4), False),
        ("eager-1", (2.1, float("nan")), False),
        ("nano-1", (2.5, 2.7), True),
        ("nano-1", (3.2, 3.4), False),
    ],
)
def test_losses_out_of_range_are_reported(rival, values, sound):
    measurements = [measurement("ours", 1, "cold"), measurement(rival, 1, losses=values)]
    lines, verdict = losses(measurements, KNOWN, TITLES, checked=True)
    assert verdict is sound
    assert ["MORE THAN" in line for line in lines] == [False, not sound]
    assert losses(measurements, KNOWN, TITLES, checked=False)[1]


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("validations", 3, "eager-1, lr=0.0003 seed=0: validations is 3, not 4"),
        ("steps", 299, "eager-1, lr=0.0003 seed=0: steps is 299, not 300"),
        ("seed", 1, "eager-1 printed the results of 1 runs, not of all 1"),
    ],
)
def test_other_work_is_reported(name, value, line):
    result = {"lr": 3e-4, "seed": 0, "steps": 300, "validations": 4, "tests": 2, "windows": 128}
    one = replace(measurement("eager-1", 1), results=[result])
    assert check_work(one, workload(1)) is None
    assert check_work(replace(one, results=[result | {name: value}]), workload(1)) == line


def test_a_run_of_ours_is_read_from_its_record(data, tmp_path):
    summary = run(config(), data, RunFolder(tmp_path / "run"))
    result = recorded(tmp_path / "run")
    ours = config()
    expected = {"lr": ours.optim.lr, "seed": ours.seed, "steps": ours.steps, "tests": 2}
    expected["validations"] = sum(timetable_of(ours).due(step, "validation") for step in range(ours.steps + 1))
    assert {name: result[name] for name in expected} == expected
    assert summary.test is not None
    assert result["test_loss"] == summary.test.final["loss"]


def test_measured_processes_have_no_cache_of_the_user(tmp_path):
    given = {"PATH": "bin", "JAX_COMPILATION_CACHE_DIR": "mine", "OMP_NUM_THREADS": "1", "WANDB_API_KEY": "key"}
    variables = environment(given, tmp_path / "cache", tmp_path / "fonts")
    assert not variables.keys() & {"JAX_COMPILATION_CACHE_DIR", "OMP_NUM_THREADS", "WANDB_API_KEY"}
    assert variables["PATH"] == "bin"
    assert variables["XDG_CACHE_HOME"] == str(tmp_path / "cache")


def test_the_loop_collects_the_lines_and_stops_at_a_failure(tmp_path):
    commands = [[sys.executable, "-c", f"print('result {number}'); print('end')"] for number in range(3)]
    timing = run_all(commands, 2, {}, tmp_path, lambda line: line.startswith("result"))
    assert sorted(timing.lines) == ["end"] * 3 + [f"result {number}" for number in range(3)]
    assert 0 < timing.numbers <= timing.end
    failing = [sys.executable, "-c", "raise ValueError('a reason')"]
    waiting = [sys.executable, "-c", "import time; time.sleep(3600)"]
    with pytest.raises(WorkerError, match="ended with code 1: ValueError: a reason"):
        run_all([waiting, failing, waiting], 2, {}, tmp_path)


def test_the_results_file_is_no_change_to_what_is_measured():
    plan = {"runs": ALL, "revision": "c85953a"}
    assert committed(plan) == committed(plan | {"revision": "c85953a+changes"})
    assert committed(plan) != committed(plan | {"revision": "c85953b"})
    assert committed(plan) != committed(plan | {"runs": 8})


def test_the_results_file_is_named_after_the_device():
    assert slug({"platform": "cpu", "kind": "cpu (AMD EPYC)", "count": 1}, 2) == "cpu-amd-epyc-2-cores"
    assert slug({"platform": "gpu", "kind": "NVIDIA H200", "count": 8}, 16) == "nvidia-h200-8"


@pytest.mark.parametrize("words", [["--sizes=3x3"], ["--arrangements=jax"], ["--runs=33"], ["--at_once=0"]])
def test_a_mistake_in_the_flags_is_reported(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(words)
    assert words[0].split("=")[0] in capsys.readouterr().err
