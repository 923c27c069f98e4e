"""What is wrong with a study is told in one line before anything runs or is written."""

import pytest
from studies import STUDY, sweep, write

from addnorm_exp.sweep.launchers.local import Local

SWEEP = "def sweep():\n    "
WRONG = {
    "yields nothing": (SWEEP + "return []", "sweep() yields no runs"),
    "never ends": (
        "import itertools\n" + SWEEP + "return ({'seed': n} for n in itertools.count())",
        "check that it ends",
    ),
    "the same run twice": (
        SWEEP + "return [{'seed': 1}, {'seed': 1}]",
        "run 2 of sweep() equals an earlier run",
    ),
    "the same by another name": (SWEEP + "return [{}, {'seed': 0}]", "run 2 of sweep() equals an earlier run"),
    "raises": (SWEEP + "return [{'seed': 1 / 0}]", "division by zero"),
    "raises on import": ("import nowhere_at_all", "nowhere_at_all"),
    "does not parse": ("def sweep(:", "tiny.py"),
    "a misspelt key": (SWEEP + "return [{'optim.warmpu': 1}]", "did you mean 'optim.warmup'?"),
    "a wrong value": (SWEEP + "return [{'steps': 'many'}]", "expected a whole number"),
    "a number that is none": (SWEEP + "return [{'optim.lr': float('nan')}]", "expected a finite number"),
    "no mapping": (SWEEP + "return [3]", "yield dicts of overrides"),
    "an impossible combination": (SWEEP + "return [{'model.num_heads': 3}]", "does not divide"),
    "no function": ("SEED = 1", "tiny.py defines neither sweep() nor tune() and report(best)"),
    "both kinds": (
        "def sweep(): ...\ndef tune(): ...\ndef report(best): ...",
        "tiny.py defines tune() and report(best) and sweep(); define tune() and report(best), or only sweep()",
    ),
    "no report": ("def tune(): ...", "tiny.py defines tune() but not report(best)"),
    "no tuning": ("def report(best): ...", "tiny.py defines report(best) but not tune()"),
    "a report without a parameter": (
        "def tune(): ...\n\n\ndef report():\n    return []",
        "tiny.py:4: report() must take one parameter, the winners; write def report(best):",
    ),
    "an unknown setting": (SWEEP + "return [{}]\nBASES = {}", "BASES is not a setting"),
    "TUNED as text": ("TUNED = 'optim.lr'\ndef tune(): ...\ndef report(best): ...", "write a tuple of keys"),
    "a seed as a choice": (
        "TUNED = ('seed',)\ndef tune():\n    return [{'seed': 0}]\ndef report(best): ...",
        "TUNED names seed, which tuning must not choose",
    ),
    "an unknown key as a choice": (
        "TUNED = ('optim.warmpu',)\ndef tune():\n    return [{'seed': 0}]\ndef report(best): ...",
        "did you mean 'optim.warmup'?",
    ),
    "TUNED that is never set": (
        "TUNED = ('optim.lr',)\ndef tune():\n    return [{'seed': 0}]\ndef report(best): ...",
        "tune() never sets",
    ),
    "a reported seed that tuning used": (
        "TUNED = ('optim.lr',)\ndef tune():\n    return [{'seed': 0, 'optim.lr': 1e-3}]\n"
        "def report(best):\n    return [{**b, 'seed': s} for b in best for s in (1, 0)]",
        "report() yields seed 0 of pre_ln, which tuning has used",
    ),
    "a seed that tuning used, under an axis that tuning had not": (
        "TUNED = ('optim.lr',)\ndef tune():\n    return [{'seed': 0, 'optim.lr': 1e-3}]\n"
        "def report(best):\n    return [{**b, 'seed': 0, 'optim.warmup': 5} for b in best]",
        "report() yields seed 0 of pre_ln, which tuning has used",
    ),
    "a baseline that no run has": (
        "BASELINE = 'post_lm'\n" + SWEEP + "return [{'scheme': 'post_ln'}]",
        "BASELINE = 'post_lm' is not a row of the table; did you mean 'post_ln'?",
    ),
    "a baseline whose second part is no value": (
        "BASELINE = 'pre_ln, nonsense'\n" + SWEEP + "return [{'seed': 1}]",
        "BASELINE = 'pre_ln, nonsense' is not a row of the table; valid names: pre_ln",
    ),
    "a baseline with a value that no run has": (
        "BASELINE = 'pre_ln, optim.lr = 0.01'\n" + SWEEP + "return [{'optim.lr': lr} for lr in (1e-3, 3e-3)]",
        "is not a row of the table; did you mean 'pre_ln, optim.lr = 0.001'?",
    ),
    "two data sets": (
        SWEEP + "return [{'data.name': name} for name in ('enwik8', 'shakespeare')]",
        "yields runs on different data (enwik8, shakespeare), whose numbers cannot be compared in one table; write one study file for each",
    ),
    "a report on other data than tuning": (
        "def tune():\n    return [{'optim.lr': 1e-3}]\n"
        "def report(best):\n    return [{**b, 'seed': 1, 'data.name': 'shakespeare'} for b in best]",
        "yields runs on different data (enwik8, shakespeare)",
    ),
    "data that are not there": (
        SWEEP + "return [{'data.path': '/nonexist'}]",
        "run 1 of sweep(): data.path=/nonexist: no such file",
    ),
    "data of nobody": (SWEEP + "return [{'data.path': '~nobody9/x'}]", "data.path=~nobody9/x: no home folder"),
    "a config that is not there": (
        "CONFIG = 'configs/nope.py'\n" + SWEEP + "return [{}]",
        "CONFIG = 'configs/nope.py': configs/nope.py: no such config file",
    ),
    "a text as an axis' values": (
        "from addnorm_exp.sweep import axis\n" + SWEEP + "return axis('scheme', 'pre_ln')",
        "axis('scheme', 'pre_ln'): expected a list, got one value; write axis('scheme', ['pre_ln'])",
    ),
    "a number as an axis' values": (
        "from addnorm_exp.sweep import axis\n" + SWEEP + "return axis('optim.lr', 0.1)",
        "write axis('optim.lr', [0.1])",
    ),
    "raises what no error is": (SWEEP + "raise GeneratorExit('enough')", "sweep() failed: GeneratorExit: enough"),
    "a report that raises": (
        "TUNED = ('optim.lr',)\ndef tune():\n    return [{'seed': 0, 'optim.lr': 1e-3}]\ndef report(best):\n    return best[7]",
        "report()",
    ),
    "BASE as a list": (SWEEP + "return [{}]\nBASE = [1]", "write a dict of overrides"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_study_file_that_is_wrong(case, tmp_path, monkeypatch, capsys):
    source, told = WRONG[case]
    monkeypatch.setattr(Local, "prepare", lambda *_: pytest.fail("taken for a plan that can be run"))
    path = tmp_path / "tiny.py"
    path.write_text(source + "\n")
    assert sweep(path) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert "tiny.py" in line
    assert told in line
    assert out == ""
    assert not (tmp_path / "runs").exists()
    assert sweep(path, "--dry_run") == 2
    assert capsys.readouterr() == ("", err)


@pytest.mark.parametrize(
    "baseline", ["pre_ln", "pre_ln, init.law = xavier", "pre_ln, optim.warmup = 5", "pre_ln, norm.kind = default"]
)
def test_a_baseline_may_be_a_row(baseline, tmp_path, capsys):
    """The warmup is set by the report alone, so that tuning cannot tell its values."""
    path = write(
        tmp_path,
        f"BASELINE = {baseline!r}\nBASE = {{base!r}}\n\ndef tune():\n    return [{{'optim.lr': 1e-3, 'norm.kind': kind, 'init.law': law}}\n"
        "            for kind in (None, 'rms') for law in ('xavier', 'normal')]\n\n"
        "def report(best):\n    return [{**b, 'seed': 1, 'optim.warmup': warmup} for b in best for warmup in (0, 5)]\n",
    )
    assert sweep(path, "--dry_run") == 0


@pytest.mark.parametrize(
    ("base", "chosen"),
    [
        ({"model.num_heads": 3, "model.width": 96}, "model.num_heads=3"),
        ({"optim.warmup": 2000, "steps": 5000}, "optim.warmup=2000"),
        ({"norm.kind": "dyt", "norm.alpha": 0.5}, "norm.alpha=0.5"),
        ({}, "data.name=file"),
        ({}, "norm.alpha=none"),
    ],
)
def test_a_filter_may_name_what_the_study_has_and_the_defaults_do_not_allow(base, chosen, tmp_path, capsys):
    path = write(tmp_path, "BASE = {base!r}\n\ndef sweep():\n    return [{}]\n", **base)
    assert sweep(path, f"--filter={chosen}", "--dry_run") == 0
    assert "run: 1 run\n" in capsys.readouterr().out


@pytest.mark.parametrize("words", [(), ("--dry_run",)])
def test_a_seed_that_is_asked_for_is_one_of_the_reports(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Local, "prepare", lambda *_: pytest.fail("taken for a plan that can be run"))
    path = write(tmp_path)
    for seed in (7, 0):  # 0 is tuning's
        assert sweep(path, f"--filter=seed={seed}", *words) == 2
        out, err = capsys.readouterr()
        (line,) = err.splitlines()
        assert out == ""
        assert f"--filter=seed={seed}: no run of the report phase (which the seed selects) has these values" in line
    assert not (tmp_path / "runs").exists()
    assert sweep(path, "--filter=seed=2,optim.lr=1e-2", "--dry_run") == 0
    assert "tune: 2 runs\nreport: 2 runs" in "\n".join(
        line for line in capsys.readouterr().out.splitlines() if line.startswith(("tune", "report"))
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--filter=scheme=post_ln",), "no run of the plan has these values"),
        (("--filter=shceme=pre_ln",), "did you mean 'scheme'?"),
        (("--filter=pre_ln",), "is not KEY=VALUE"),
        (("--filter=steps=many",), "--filter: steps='many': expected a whole number"),
        (("--filter=optim.warmup=2000",), "--filter=optim.warmup=2000: no run of the plan has these values"),
        (("--filter=,",), "expected KEY=VALUE"),
        (("--max_runs=0",), "max_runs"),
        (("--dryrun",), "dry_run"),
    ],
)
def test_flags_that_are_wrong(words, told, tmp_path, capsys):
    path = write(tmp_path)
    assert sweep(path, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "runs").exists()


def test_a_missing_file_and_data_that_do_not_fit(tmp_path, capsys):
    assert sweep(tmp_path / "none.py") == 2
    assert "none.py" in capsys.readouterr().err
    path = write(tmp_path, seq_len=1000)
    assert sweep(path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "seq_len=1000" in line
    assert not (tmp_path / "runs").exists()


def test_what_a_plain_sweep_has_wrong_is_told_before_anything_is_written(tmp_path, capsys):
    path = write(tmp_path, "BASE = {base!r}\n\ndef sweep():\n    return [{}, {'seq_len': 1000}]\n")
    assert sweep(path) == 2
    assert "seq_len=1000" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_seed_is_used_up_for_the_group_that_was_tuned_on_it(tmp_path, capsys):
    """Each scheme may be reported on the seed that the other was tuned on."""
    seeds = (
        "SEEDS_ = {'pre_ln': 0, 'no_norm': 1}\n\ndef tune():\n"
        "    return [{'scheme': s, 'seed': n, 'optim.lr': 1e-3} for s, n in SEEDS_.items()]\n"
    )
    report = "\ndef report(best):\n    return [{**b, 'seed': 1 - SEEDS_[b['scheme']]} for b in best]\n"
    assert sweep(write(tmp_path, seeds + report), "--dry_run") == 0
    assert sweep(write(tmp_path, seeds + report.replace("1 - ", "")), "--dry_run") == 2
    assert "which tuning has used" in capsys.readouterr().err


def test_a_report_that_does_not_fit_the_data_is_told_before_tuning_is_paid_for(tmp_path, capsys):
    later = STUDY.replace("product(best, ", "product(best, axis('seq_len', (1000,)), ")
    assert later != STUDY
    assert sweep(write(tmp_path, later)) == 2
    assert "seq_len=1000" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
