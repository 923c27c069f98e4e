"""A run that cannot fit into memory is refused before anything of it is built; the bound is held against what the compiler plans."""

import sys
from functools import partial

import numpy as np
import pytest
from of_config import check_machine, experiment, hypers, make_task, minimum_footprint, program, shape
from sample import depth_of, third
from training import BASE, TEXT, config, flags, signals_restored

from addnorm_exp import cli
from addnorm_exp.data import corpus
from addnorm_exp.errors import UserError
from addnorm_exp.sweep.executors import here
from addnorm_exp.train import host, loop, memory
from addnorm_exp.words import size

WIDE = {"batch_size": 64, "seq_len": 64, "model__width": 32, "eval__sequences": 10}
NARROW = {
    "batch_size": 2048,
    "seq_len": 16,
    "model__width": 16,
    "model__depth": 1,
    "eval__sequences": 10,
}  # most is logits
HUGE = {"model__depth": 1536, "model__width": 65536, "model__num_heads": 64}


two_blocks = partial(config, model__depth=2, model__bias=True)  # of which the expectations count


def total(asked) -> int:
    return sum(memory.needed(shape(asked), 1, True).values())


@pytest.mark.parametrize("scheme", third("bound"))
def test_the_bound_on_parameters_is_below_and_near(scheme):
    asked = config(scheme=scheme, model__depth=depth_of(scheme, 3), model__width=64)
    exact = make_task(asked).model.size
    assert 0.93 * exact < minimum_footprint(asked).parameters <= exact


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        (WIDE, 0.2),
        pytest.param({**WIDE, "model__compute_dtype": "bfloat16"}, 0.1, marks=pytest.mark.full),
        pytest.param({**WIDE, "execution__scan_layers": "on"}, 0.1, marks=pytest.mark.full),
        pytest.param({**WIDE, "optim__accumulate": 4}, 0.1, marks=pytest.mark.full),
        pytest.param(NARROW, 0.5, marks=pytest.mark.full),
        pytest.param({**NARROW, "scheme": "no_norm", "model__activation": "relu"}, 0.5, marks=pytest.mark.full),
        pytest.param({"model__width": 256, "batch_size": 1}, 0.5, marks=pytest.mark.full),
        pytest.param({"execution__chunk_steps": 5000}, 0.3, marks=pytest.mark.full),
    ],
    ids=lambda part: " ".join(f"{key}={value}" for key, value in part.items()) if isinstance(part, dict) else "",
)
def test_the_compiler_plans_for_more_than_the_bound(changes, share, data):
    """Its plan holds everything but the copy of the best parameters, which lies beside it."""
    asked = config(**changes)
    compiled = program(asked)
    numbers, held = compiled.placed(hypers(asked)), compiled.put(data)
    compiled.train(compiled.init(numbers), numbers, held, np.zeros(0, np.bool_))
    planned = compiled.planned_bytes + 4 * compiled.task.model.size
    assert share * planned < total(asked) < planned, total(asked) / planned


def refused(asked) -> str:
    with pytest.raises(UserError) as error:
        check_machine(asked)
    return str(error.value)


def test_each_part_has_its_remedy(monkeypatch):
    monkeypatch.setattr(memory, "memory", lambda: 10**9)
    check_machine(two_blocks())
    told = refused(two_blocks(model__depth=512, model__width=1024))
    assert told.startswith(
        "needs at least 131.4 GB of memory (129.0 GB of parameters with gradients, optimiser state and best copy, 2.4 GB of "
        "activations of a micro-batch), "
    )
    assert told.endswith("but this machine has 1.0 GB; reduce model.width or model.depth")
    told = refused(two_blocks(batch_size=2**20, seq_len=2**10))
    assert "activations of a micro-batch" in told
    assert "more micro-batches (optim.accumulate)" in told
    # 16,777,216 tokens with 256 logits and their gradients in float32, and twice (5 + 4) x 16 numbers and 2 x 16 attention weights
    told = refused(two_blocks(batch_size=2**20, seq_len=16, model__width=16))
    assert told.startswith("needs at least 58.0 GB of memory (58.0 GB of activations of a micro-batch), ")
    told = refused(two_blocks(execution__chunk_steps=100_000, model__depth=80))
    assert told.endswith("reduce execution.chunk_steps or model.depth")


def test_the_bound_counts_the_state_of_the_optimiser():
    """Of 12 bytes a parameter for value, gradient and best copy, and 4 a number of the state."""
    size = {"model__width": 256, "model__depth": 512}
    models = {
        name: memory.needed(shape(config(optim__name=name, **size)), 1, True)[memory.MODEL]
        for name in ("adamw", "sgd", "lion", "adafactor", "muon")
    }
    parameters = minimum_footprint(config(**size)).parameters
    assert models["adamw"] == 20 * parameters
    assert models["sgd"] == models["lion"] == 16 * parameters
    assert 16 * parameters < models["muon"] < 1.01 * 16 * parameters
    assert 12 * parameters < models["adafactor"] < 1.01 * 12 * parameters


def test_what_fits_exactly_is_let_through(monkeypatch):
    asked = config()
    for there, fits in ((total(asked), True), (total(asked) - 1, False), (None, True)):
        monkeypatch.setattr(memory, "memory", lambda there=there: there)
        if fits:
            check_machine(asked)
        else:
            refused(asked)


def test_devices_of_one_memory_hold_a_copy_each_and_share_the_batch():
    one, eight = (memory.needed(shape(config()), count, True) for count in (1, 8))
    apart = memory.needed(shape(config()), 8, False)
    assert eight[memory.MODEL] == 8 * one[memory.MODEL]
    assert apart[memory.MODEL] == one[memory.MODEL]
    assert (one[memory.BATCH], eight[memory.BATCH]) == (8 * apart[memory.BATCH],) * 2


def test_a_pack_needs_the_memory_of_each_of_its_lanes(monkeypatch):
    asked = experiment(config())
    monkeypatch.setattr(memory, "memory", lambda: 3 * total(config()) - 1)
    for lanes in (1, 2):
        loop.check_machine(asked, lanes)
    with pytest.raises(UserError) as error:
        loop.check_machine(asked, 3)
    assert str(error.value).startswith(f"a pack of 3 runs needs at least {size(3 * total(config()))} of memory (")
    assert str(error.value).endswith("; use --pack=2 (a pack that has begun keeps its width)")


@pytest.mark.parametrize(("flag", "lanes"), [((), 1), (("--pack=2",), 2), (("--pack=9",), 3)])
def test_a_sweep_whose_packs_do_not_fit_is_refused_with_the_width_that_does(flag, lanes, tmp_path, monkeypatch, capsys):
    """Of three runs of a kind a pack has three at most."""
    monkeypatch.setattr(memory, "memory", lambda: 2 * total(config()))
    widths = []
    monkeypatch.setattr(here, "train", lambda members, *_, **__: widths.append(len(members)) or sys.exit())
    (tmp_path / "text").write_bytes(TEXT)
    base = {**BASE, "data.path": str(tmp_path / "text")}
    study = tmp_path / "tiny.py"
    study.write_text(f"BASE = {base!r}\n\ndef sweep():\n    for seed in range(3):\n        yield {{'seed': seed}}\n")
    argv = ["sweep", str(study), f"--runs={tmp_path / 'runs'}", *flag]
    assert cli.main([*argv, "--dry_run"]) == 0
    refusal = "this machine cannot train 3 runs: a pack of 3 runs needs at least"
    assert (refusal in capsys.readouterr().out) == (lanes == 3)
    with signals_restored():
        if lanes < 3:
            cli.main(argv)
            assert widths == [lanes]
        else:
            assert cli.main(argv) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert line.endswith("; use --pack=2 (a pack that has begun keeps its width)")
            assert not (tmp_path / "runs").exists()


def commands(folder, words):
    study = folder / "huge.py"
    keys = {word.removeprefix("--config.").partition("=")[0]: word.partition("=")[2] for word in words if "." in word}
    study.write_text(f"BASE = {keys!r}\n\ndef sweep():\n    yield {{'seed': 0}}\n    yield {{'seed': 1}}\n")
    yield ["train", "--config=configs/lm.py", *words, f"--workdir={folder / 'run'}"]
    yield ["sweep", str(study), f"--runs={folder / 'runs'}"]


def test_a_whole_beyond_the_machine_is_refused_at_once(tmp_path, monkeypatch, capsys):
    """Each number is within its bounds. No data are read, no folder is made."""
    monkeypatch.setattr(memory, "memory", lambda: 10**11)
    monkeypatch.setattr(corpus, "load", lambda data: pytest.fail("data were read"))
    words = [word for word in flags(**HUGE) if not word.startswith("--config=")]
    for argv in commands(tmp_path, words):
        with signals_restored():
            assert cli.main(argv) == 2
        out, err = capsys.readouterr()
        (line,) = err.splitlines()
        assert out == ""
        assert line.startswith("error: needs at least ")
        assert "PB of memory" in line
    assert [path.name for path in tmp_path.iterdir()] == ["huge.py"]


def test_a_dry_run_of_what_another_machine_is_to_train(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory, "memory", lambda: 10**8)
    (tmp_path / "text").write_bytes(TEXT)
    base = {**BASE, "data.path": str(tmp_path / "text")}
    study = tmp_path / "large.py"
    study.write_text(
        f"BASE = {base!r}\n\ndef sweep():\n    yield {{}}\n    for seed in (0, 1):\n"
        "        yield {'model.depth': 256, 'model.width': 4096, 'seed': seed}\n"
    )
    assert cli.main(["sweep", str(study), f"--runs={tmp_path / 'runs'}", "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert out.count("51,5") == 2, "parameters of the large ones"
    assert "this machine cannot train 2 runs: needs at least 1.0 TB of memory (" in out
    assert not (tmp_path / "runs").exists()


def test_a_run_in_memory_is_not_refused(tmp_path, monkeypatch, capsys):
    """The least of these runs, and the machine as it is."""
    (tmp_path / "text").write_bytes(TEXT)
    words = [*flags(steps=1, eval__every=1, optim__warmup=0), f"--config.data.path={tmp_path / 'text'}"]
    with signals_restored():
        assert cli.main(["train", *words, f"--workdir={tmp_path / 'run'}"]) == 0
    there = memory.memory()
    assert there is None or there > 2**28


def test_control_groups_bound_what_there_is(tmp_path):
    process, root = tmp_path / "cgroup", tmp_path / "fs"
    assert host.limits(process, root) == []
    process.write_text("0::/job/step\n")
    (root / "job" / "step").mkdir(parents=True)
    (root / "job" / "step" / "memory.max").write_text("max\n")
    (root / "job" / "memory.max").write_text("4096\n")
    assert host.limits(process, root) == [4096]
    process.write_text("11:cpu:/a\n3:memory:/docker/x\n")
    (root / "memory").mkdir()
    (root / "memory" / "memory.limit_in_bytes").write_text("8192\n")
    assert host.limits(process, root) == [8192], "the path is of the machine outside the container"
