"""JAX's switches for debugging and for numbers, as a researcher sets them: a sound run works under each and its numbers stay, or one line
refuses it."""

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import of_config
import pytest
from compiler import QUICK
from of_config import hypers, initial_state, make_step, make_task, run
from sample import FEW, depth_of, expensive
from training import ROOT, config, flags, layers, lines

from addnorm_exp.cli import main
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.train import device_data, programs
from addnorm_exp.train.compiler import Call
from addnorm_exp.train.platform import REFUSED

# Calibration, evaluation, attention statistics, dropout, micro-batches and per-layer rows: all that a run may compute.
TINY = {
    "scheme": "admin",
    "steps": 2,
    "batch_size": 4,
    "seq_len": 8,
    "model.depth": 1,
    "model.width": 8,
    "model.dropout": 0.1,
    "optim.accumulate": 2,
    "eval.every": 2,
    "eval.sequences": 3,
    "execution.attention_every": 2,
    "execution.layers_every": 1,
}
# Each a set of switches that look for unlike things. The default run tries all at once, `pytest -m full` the sets, and one by one.
SETS = {
    "watching": {
        "jax_debug_nans": True,
        "jax_debug_infs": True,
        "jax_transfer_guard": "disallow",
        "jax_debug_key_reuse": True,
        "jax_default_prng_impl": "rbg",
        "jax_threefry_partitionable": False,
        "jax_enable_custom_prng": True,
    },
    "types": {"jax_enable_x64": True, "jax_numpy_rank_promotion": "raise", "jax_numpy_dtype_promotion": "strict"},
}
SINGLE = [(option, value) for options in SETS.values() for option, value in options.items()]
SINGLE += [
    ("jax_disable_jit", True),
    ("jax_numpy_rank_promotion", "warn"),
    ("jax_check_tracer_leaks", True),
    ("jax_enable_checks", True),
    ("jax_default_matmul_precision", "bfloat16"),
    ("jax_log_compiles", True),
    ("jax_explain_cache_misses", True),
    ("jax_traceback_filtering", "off"),
]


@contextmanager
def switched(options):
    former = {option: jax.config.values[option] for option in options}
    try:
        for option, value in options.items():
            jax.config.update(option, value)
        yield
    finally:
        for option, value in former.items():
            jax.config.update(option, value)


def trained(data, folder, monkeypatch, options, **changes):
    """The record of a run under these switches, by programs of its own: metric lines and per-layer arrays."""
    monkeypatch.setattr(programs, "_PROGRAMS", {})
    monkeypatch.setattr(device_data, "_TRAINING", {})
    with switched(options):
        summary = run(config(**TINY, **changes), data, RunFolder(folder))
    assert summary.status == "done"
    return lines(folder), layers(folder), layers(folder, "attention-")


@pytest.fixture(scope="module")
def sound(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        return trained(data, tmp_path_factory.mktemp("sound"), monkeypatch, {})


def check(records, expected, *, close: bool = False):
    """The same to the bit, or `close` where the switch has other programs compute it."""
    for line, other in zip(records[0], expected[0], strict=True):
        assert line.keys() == other.keys()
        for key, value in line.items():
            approximate = close and isinstance(value, float)
            assert value == (pytest.approx(other[key], rel=1e-4) if approximate else other[key]), (line, other)
    for arrays, others in zip(records[1:], expected[1:], strict=True):
        assert arrays.keys() == others.keys()
        for name in arrays:
            assert arrays[name].shape == others[name].shape
            if (
                not close
            ):  # the key's bias has a gradient of 0 but for rounding, of which Adam makes an update of full size
                np.testing.assert_array_equal(arrays[name], others[name], err_msg=name)


@pytest.mark.full
@pytest.mark.core
def test_a_run_is_the_same_under_all_switches_at_once(sound, data, tmp_path, monkeypatch):
    check(trained(data, tmp_path, monkeypatch, {**SETS["watching"], **SETS["types"]}), sound)


@pytest.mark.full
@pytest.mark.parametrize("name", SETS)
def test_a_run_is_the_same_under_every_set_of_switches(name, sound, data, tmp_path, monkeypatch):
    check(trained(data, tmp_path, monkeypatch, SETS[name]), sound)


@pytest.mark.core
def test_without_jit_a_program_runs_its_function_as_it_is():
    """A whole run without jit takes minutes, and is in `full`."""
    calls = []
    with switched({"jax_disable_jit": True}):
        for number in (1, 2):
            call = Call("doubled", ((),), lambda x: calls.append(x) or 2 * x, (np.int32(number),))
            result = of_config.program(config()).compiler.run(call)
            assert result == 2 * number
    assert len(calls) == 2, "it is not compiled"


@pytest.mark.full
@pytest.mark.parametrize(("option", "value"), SINGLE, ids=lambda part: str(part))
@pytest.mark.filterwarnings("ignore:Following NumPy automatic rank promotion")
def test_a_run_is_the_same_under_each_switch_alone(option, value, sound, data, tmp_path, monkeypatch):
    check(trained(data, tmp_path, monkeypatch, {option: value}), sound, close=option == "jax_disable_jit")


@pytest.mark.full
@pytest.mark.parametrize("name", SETS)
def test_bfloat16_runs_under_every_switch(name, data, tmp_path, monkeypatch):
    expected = trained(data, tmp_path / "sound", monkeypatch, {}, model__compute_dtype="bfloat16")
    check(trained(data, tmp_path / "switched", monkeypatch, SETS[name], model__compute_dtype="bfloat16"), expected)


@pytest.mark.core
@pytest.mark.parametrize(
    ("scheme", "dtype"),
    [
        *(
            pytest.param(*name.values, "bfloat16", marks=name.marks)
            for name in expensive(("pre_ln",), default=("ngpt",))
        ),
        *(pytest.param(name, "float32", marks=pytest.mark.full) for name in FEW),
    ],
)
def test_the_step_promotes_nothing_unsaid(scheme, dtype):
    """Traced under strict promotion and x64 together: no array of 64 bits but integers of JAX's own, and a state of the types that it had,
    none of them weak, since a weak one compiles everything a second time."""
    changes = {"model__positions": "rotary", "model__activation": "swiglu"} if dtype == "bfloat16" else {}
    with switched(SETS["types"]):
        asked = config(
            scheme=scheme,
            model__depth=depth_of(scheme, 2),
            model__compute_dtype=dtype,
            model__dropout=0.1,
            model__drop_path=None if scheme in ("no_skip", "simplified", "value_skipinit") else 0.1,
            optim__accumulate=2,
            **changes,
        )
        task = make_task(asked)
        state = jax.eval_shape(lambda numbers: initial_state(task, numbers), hypers(asked))
        step = make_step(asked, task, lambda batch: batch)
        corpus = jax.ShapeDtypeStruct((1000,), jnp.uint8)
        jaxpr, (moved, metrics) = jax.make_jaxpr(step, return_shape=True)(state, hypers(asked), corpus)
    assert not re.findall(r"\bf64\[\d[^\]]*\]", str(jaxpr))
    before, after = (jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (state, moved))
    assert before == after
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(jaxpr.out_avals))
    assert {leaf.dtype for leaf in jax.tree.leaves(metrics)} == {jnp.dtype("float32")}


@pytest.mark.core
@pytest.mark.parametrize("option", REFUSED)
def test_a_switch_under_which_no_run_works_is_refused_in_a_line(option, tmp_path, capsys):
    value, _ = REFUSED[option]
    with switched({option: value}):
        code = main(["train", *flags(data__path=str(tmp_path / "none")), f"--workdir={tmp_path / 'run'}"])
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith(f"error: {option.upper()}={value}: no run works under this switch")
    assert error.endswith("unset it\n")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


PROCESS = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
import jax
if {second!r}:
    jax.config.update("jax_default_device", jax.devices()[1])
from addnorm_exp.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.full
@pytest.mark.parametrize(
    "environment",
    [
        {"JAX_DEBUG_NANS": "1", "JAX_DEBUG_INFS": "1", "JAX_ENABLE_X64": "1"},
        {"JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_TRANSFER_GUARD": "disallow"},
        {"JAX_DEFAULT_DEVICE": "cpu", "JAX_DEFAULT_MATMUL_PRECISION": "highest", "JAX_ENABLE_CHECKS": "1"},
        {"second": "1"},
    ],
    ids=str,
)
def test_a_run_is_the_same_by_the_environment_of_its_process(environment, sound, tmp_path, data):
    """As set before a command; `second` asks for another default device than the first."""
    from training import TEXT

    (tmp_path / "text").write_bytes(TEXT)
    second = environment.get("second", "")
    code = PROCESS.format(tests=str(ROOT / "tests"), root=str(ROOT), second=second)
    number = QUICK + (" --xla_force_host_platform_device_count=2" if second else "")
    words = flags(**TINY, data__path=str(tmp_path / "text"))
    completed = subprocess.run(
        [sys.executable, "-c", code, "train", *words, f"--workdir={tmp_path / 'run'}"],
        env={**os.environ, **environment, "XLA_FLAGS": number},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr[-2000:]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "done"
    records = lines(tmp_path / "run"), layers(tmp_path / "run"), layers(tmp_path / "run", "attention-")
    check(records, sound, close=bool(second))
