"""Numbers as people write them: lengths as a share of the steps, grids of NumPy and JAX in float32; and the runs that they make."""

import jax.numpy as jnp
import numpy as np
import pytest
from of_config import identify
from studies import read_study, sweep, write
from test_runs_identity import DATA
from training import ROOT

from addnorm_exp.config import Config, Flag, override, parse
from addnorm_exp.config.keys import leaves
from addnorm_exp.errors import UserError
from addnorm_exp.runs.identity import run_id
from addnorm_exp.sweep.selection import choose, parse_filter


@pytest.mark.parametrize(
    ("share", "steps", "length"),
    [
        ("5%", 1000, 50),
        ("5.0 %", 1000, 50),
        ("0.5%", 300, 2),  # 1.5, to the larger
        ("29%", 100, 29),  # 0.29 * 100 is 28.999… in binary
        ("0.01%", 1000, 1),  # a tenth of a step is one step
        ("0%", 1000, 0),
        ("100%", 7, 7),
    ],
)
def test_a_share_of_the_steps_is_the_nearest_whole_number(share, steps, length):
    config = override(Config(), {"steps": steps, "optim.warmup": share})
    assert (config.optim.warmup, type(config.optim.warmup)) == (length, int)
    assert identify(config, DATA) == identify(override(Config(), {"steps": steps, "optim.warmup": length}), DATA)


@pytest.mark.parametrize("share", ["-1%", "101%", "x%", "%", "nan%"])
def test_a_share_is_from_0_to_100_per_cent(share):
    with pytest.raises(
        UserError, match=r"optim\.warmup=.*: expected a whole number of steps, or .* 5%; a share is from 0% to 100%$"
    ):
        override(Config(), {"optim.warmup": share})


@pytest.mark.parametrize("key", [key for key, leaf in leaves().items() if "%" in leaf.units])
def test_every_count_of_steps_takes_a_share_by_flag_by_file_and_by_study(key, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    last = key.rpartition(".")[2]

    def of(*argv):
        config = parse(argv, [Flag("workdir")], command="train", config="required").config
        return getattr(getattr(config, key.partition(".")[0]), last)

    file = tmp_path / "mine.py"
    file.write_text(
        "from addnorm_exp.config import Config, as_configdict\n\n\ndef get_config():\n"
        f"    config = as_configdict(Config())\n    config.{key} = '10%'\n    return config\n"
    )
    assert of("--config=configs/lm.py", f"--config.{key}=5%") == 50
    assert of(f"--config={file}") == 100
    assert of(f"--config={file}", "--config.steps=300") == 30, "of the steps that the run has in the end"
    assert of(f"--config={file}", "--config.steps=300", f"--config.{key}=7") == 7


def test_other_keys_take_no_share():
    for key in ("steps", "optim.lr", "seed", "execution.chunk_steps"):
        with pytest.raises(UserError, match="expected a"):
            override(Config(), {key: "5%"})


STUDY = "BASE = {base!r}\nBASE['optim.warmup'] = '50%'\n\ndef sweep():\n    return "


def planned(folder, runs, **changes):
    return read_study(str(write(folder, STUDY + runs, **changes))).sweep()


def test_a_share_in_base_follows_the_steps_of_each_run(tmp_path):
    runs = planned(tmp_path, "[{'steps': 6}, {'steps': 20}, {'steps': 20, 'optim.warmup': '10%'}]")
    assert [run.config.optim.warmup for run in runs] == [3, 10, 2]
    assert runs[2].label == "pre_ln steps=20 optim.warmup=2"
    assert runs[2].typed["optim.warmup"] == "10%"
    assert choose(runs, parse_filter("optim.warmup=50%")) == runs[:2]
    assert choose(runs, parse_filter("optim.warmup=2")) == runs[2:]


def test_a_share_and_its_number_are_one_run_of_a_plan(tmp_path):
    with pytest.raises(UserError, match="equals an earlier run"):
        planned(tmp_path, "[{'optim.warmup': '50%'}, {'optim.warmup': 3}]")


def test_report_gets_the_share_and_not_its_number(tmp_path):
    """So that a report at more steps warms up for the same share of them."""
    study = (
        "BASE = {base!r}\n\ndef tune():\n    return [{'optim.warmup': '50%', 'optim.lr': 1e-3, 'seed': 0}]\n\n"
        "def report(best):\n    return [{**one, 'steps': 60, 'seed': 1} for one in best]\n"
    )
    path = write(tmp_path, study)
    plan = read_study(str(path))
    tuning = plan.tune()
    (reported,) = plan.report(plan.stand_in(tuning), tuning)
    assert (tuning[0].config.optim.warmup, reported.config.optim.warmup) == (3, 30)


def test_a_dry_run_lists_a_share_by_its_number(tmp_path, capsys):
    assert sweep(write(tmp_path, STUDY + "[{'optim.warmup': '50%'}]"), "--dry_run") == 0
    assert "optim.warmup=3 " in capsys.readouterr().out


@pytest.mark.parametrize("value", [1e-3, 3e-3, 0.1, 1 / 3, 10**-2.5, 6.25e-5])
@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64, jnp.float32, lambda x: np.array(x, np.float32)])
def test_a_number_of_numpy_or_jax_is_its_shortest_decimal(kind, value):
    given = kind(value)
    lr = override(Config(), {"optim.lr": given}).optim.lr
    number = np.asarray(given)
    assert type(lr) is float
    assert number.dtype.type(lr) == number
    assert repr(lr) == repr(float(np.format_float_scientific(number[()], unique=True)))


def test_a_grid_of_float32_is_the_grid_that_was_written(tmp_path):
    assert override(Config(), {"optim.lr": np.float32(1e-3)}) == override(Config(), {"optim.lr": 1e-3})
    runs = planned(tmp_path, "[{'optim.lr': lr} for lr in __import__('numpy').array([1e-3, 3e-3], 'float32')]")
    assert [run.label for run in runs] == ["pre_ln optim.lr=0.001", "pre_ln optim.lr=0.003"]
    published = (
        "import numpy\nPUBLISHED = [{'optim.lr': numpy.float32(3e-3), 'value': 1.0, 'metric': 'bpb', 'source': 'a'}]\n"
    )
    (entry,) = read_study(str(write(tmp_path, published + STUDY + "[{'optim.lr': 3e-3}]"))).published
    assert entry.row == {"optim.lr": 0.003}


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ("__import__('numpy').float32(1e-3)", "equals an earlier run (pre_ln optim.lr=0.001)"),
        (
            "0.0010000000474974513",
            "(pre_ln optim.lr=0.0010000000474974513) equals an earlier run (pre_ln optim.lr=0.001) in float32",
        ),
    ],
)
def test_two_values_that_are_one_in_float32_are_one_run(second, told, tmp_path):
    with pytest.raises(UserError) as caught:
        planned(tmp_path, f"[{{'optim.lr': 1e-3}}, {{'optim.lr': {second}}}]")
    assert told in str(caught.value)


# Ids at revision dfa71e5, of numbers as a study may write them.
IDS = {
    1e-3: "pre_ln-b106945c2b93",
    3e-3: "pre_ln-5e89facbe175",
    10**-2.5: "pre_ln-04c759b730bf",
    2**-13: "pre_ln-eface95bf4bd",
    1 / 3: "pre_ln-291d909f1f5a",
}


@pytest.mark.parametrize("lr", IDS)
def test_ids_of_plain_numbers_stay(lr):
    assert run_id(override(Config(), {"optim.lr": lr}), DATA, "record") == IDS[lr]
