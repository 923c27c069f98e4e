"""A study over configs: each has its own base, data, tuning, winners, pairs, baseline and table."""

import contextlib
import io
import json
import signal

import pytest
from studies import write
from test_classify_text import TINY as TEXTS
from test_classify_text import row
from training import BASE, TEXT, signals_restored

from addnorm_exp.cli import main
from addnorm_exp.errors import UserError
from addnorm_exp.report.load import study_folders
from addnorm_exp.sweep.study_file import read_studies

STUDY = """
from addnorm_exp.sweep import axis, product

FILES = ("configs/lm.py", "configs/classify_text.py")
BASE = {base!r}
BASELINE = {"configs/lm.py": "pre_ln", "configs/classify_text.py": "post_ln"}


def tune():
    return product(axis("config", FILES), axis("scheme", ("pre_ln", "post_ln")), axis("optim.lr", (1e-3, 3e-2)), axis("seed", [0]))


def report(best):
    assert {each["config"] for each in best} <= set(FILES)
    return product(best, axis("seed", (1, 2)))
"""
SCHEMES = ("pre_ln", "post_ln")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The study file `both.py`, beside a text and a table."""
    import numpy as np

    folder, g = tmp_path_factory.mktemp("study"), np.random.default_rng(0)
    (folder / "text").write_bytes(TEXT)
    (folder / "mine.tsv").write_text("\n".join(row(number, g) for number in range(240)))
    own = {key: value for key, value in TEXTS.items() if key not in ("task.name", "scheme", "optim.lr", "steps")}
    lm = {**BASE, "eval.every": 6, "execution.checkpoint_every": 0, "data.path": str(folder / "text")}
    base = {
        "steps": 6,
        "execution.diagnostics": False,
        "configs/lm.py": {key: value for key, value in lm.items() if key not in ("steps", "optim.lr")},
        "configs/classify_text.py": {**own, "data.path": str(folder / "mine.tsv")},
    }
    path = folder / "both.py"
    path.write_text(STUDY.replace("{base!r}", repr(base)))
    return path


def sweep(path, *words):
    """The exit code of the command, and what it printed. No pictures are drawn."""
    out = io.StringIO()
    with signals_restored(), contextlib.redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        patch.setattr("addnorm_exp.report.figures.plot.plot", lambda folder: [])
        code = main(["sweep", str(path), f"--runs={path.parent / 'runs'}", "--workers=1", *words])
    return code, out.getvalue()


@pytest.fixture(scope="module")
def swept(file):
    """The study after its command, and what that printed."""
    code, out = sweep(file)
    assert code == 0
    return file.parent / "runs" / "both", out


def plan(folder):
    return json.loads((folder / "study.json").read_text())


def test_each_config_has_a_study_and_a_table_of_its_own(swept):
    folder, out = swept
    assert sorted(entry.name for entry in folder.iterdir()) == ["classify_text", "lm"]
    for name, metric, baseline in (("lm", "bpb", "pre_ln"), ("classify_text", "accuracy", "post_ln")):
        study = plan(folder / name)
        assert (study["name"], study["baseline"]) == (f"both-{name}", baseline)
        assert {phase: len(runs) for phase, runs in study["phases"].items()} == {"tune": 4, "report": 4}
        assert not any("config" in run["overrides"] for runs in study["phases"].values() for run in runs)
        summaries = [json.loads(path.read_text()) for path in (folder / name).glob("*/summary.json")]
        assert len(summaries) == 8
        assert {summary["metrics"][0]["name"] for summary in summaries} == {metric}
    assert [line.split(",")[0] for line in out.splitlines() if line.startswith("both-")] or "both-lm" in out
    assert out.index("both-lm") < out.index("both-classify_text")


def test_winners_are_chosen_in_each_config_by_its_own_metric(swept):
    folder, _ = swept
    for name, metric, better in (("lm", "bpb", min), ("classify_text", "accuracy", max)):
        phases = plan(folder / name)["phases"]

        def value(run, name=name, metric=metric):
            return json.loads((folder / name / run["id"] / "summary.json").read_text())["val"]["final"][metric]

        for scheme in SCHEMES:
            tried = [run for run in phases["tune"] if run["overrides"]["scheme"] == scheme]
            best = better(value(run) for run in tried)
            rates = {run["overrides"]["optim.lr"] for run in tried if value(run) == best}
            reported = {
                run["overrides"]["optim.lr"] for run in phases["report"] if run["overrides"]["scheme"] == scheme
            }
            assert len(reported) == 1
            assert reported <= rates


def test_the_second_command_has_nothing_to_do_and_the_table_is_there_again(swept, file, capsys):
    folder, out = swept
    assert sweep(file) == (0, out)
    assert main(["table", str(folder)]) == 0
    tables = capsys.readouterr().out
    assert tables.index("both-classify_text") < tables.index("both-lm"), "in the order of the folders"
    assert main(["table", str(folder.parent)]) == 0
    assert capsys.readouterr().out == tables


def test_the_dry_run_and_the_filter_go_by_config(file, swept):
    code, out = sweep(file, "--dry_run", "--filter=config=classify_text,optim.lr=0.001")
    assert code == 0
    assert out.startswith("configs/classify_text.py:\ntune: 2 runs\n")
    assert "configs/lm.py" not in out
    both = sweep(file, "--dry_run")[1]
    assert [line for line in both.splitlines() if line.endswith(".py:")] == [
        "configs/lm.py:",
        "configs/classify_text.py:",
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("BASE = {'configs/ml.py': {}}", "BASE names the config 'configs/ml.py', which no run has; did you mean"),
        ("BASE = {'configs/lm.py': {'data.tokens': 'bytes'}}", "BASE: data.tokens='bytes' has no effect with task.name='lm'"),
        ("FILES = ('configs/lm.py', 3)", "config=3: write the name of a config file"),
        ("FILES = ([],)", "config=[]: write the name of a config file"),
        ("FILES = (*FILES, 'configs/../configs/lm.py')", "two configs are named lm; rename the file"),
        ("BASE = 3", "BASE is a int; write a dict of overrides"),
        ("FILES = (*FILES, 'configs/lm2.py')", "configs/lm2.py: no such config file; did you mean 'configs/lm.py'?"),
        ("BASE = {'optim': {'lr': 1e-3}}", "BASE: optim: a group of keys, not a value"),
        ("BASELINE = {'configs/ml.py': 'pre_ln'}", "BASELINE names the config 'configs/ml.py', which no run has; did you mean"),
        ("PUBLISHED = [{'config': 'configs/ml.py'}]", "PUBLISHED names the config 'configs/ml.py', which no run has"),
        ("CONFIG = FILES", "CONFIG is ('configs/lm.py', 'configs/classify_text.py'); write the name of a config file"),
        ("BASELINE = {'configs/lm.py': 'post_lm'}", "BASELINE = 'post_lm' is not a row of the table"),
        ("TUNED = ('task.pooling',)", "TUNED names task.pooling, which tuning must not choose"),
    ],
)  # fmt: skip
def test_a_slip_in_such_a_file_is_told_in_a_line(source, message, tmp_path):
    path = write(tmp_path, STUDY.replace("\n\n\ndef tune", f"\n{source}\n\n\ndef tune", 1).replace("{base!r}", "{}"))

    def read():
        return [study.tune() for study in read_studies(str(path))]

    with pytest.raises(UserError) as caught:
        read()
    assert message in str(caught.value)


def test_a_published_number_may_be_for_one_config(tmp_path):
    entry = {
        "config": "configs/lm.py",
        "scheme": "pre_ln",
        "value": 1.0,
        "metric": "test bpb",
        "source": "A 2020, table 1",
    }
    path = write(tmp_path, STUDY.replace("{base!r}", "{}") + f"\n\nPUBLISHED = [{entry!r}]\n")
    of_lm, of_texts = read_studies(str(path))
    of_lm.tune()
    assert [published.value for published in of_lm.published] == [1.0]
    assert of_texts.published == ()


def test_a_config_that_only_report_names_is_refused(tmp_path):
    source = STUDY.replace("{base!r}", "{}")
    path = write(tmp_path, source.replace("product(best,", "product([{**each, 'config': 'x.py'} for each in best],"))
    study, _ = read_studies(str(path))
    tuning = study.tune()
    with pytest.raises(UserError, match=r"config='x\.py' is none of the study; "):
        study.report(study.stand_in(tuning), tuning)


def test_a_filter_by_a_value_leaves_the_configs_that_have_it(file):
    out = sweep(file, "--dry_run", "--filter=task.name=lm")[1]
    assert [line for line in out.splitlines() if line.endswith(".py:")] == ["configs/lm.py:"]


def test_a_stop_in_the_first_config_leaves_the_second(file, tmp_path, monkeypatch, capsys):
    from addnorm_exp.sweep.launchers.local import Local

    def stopped(self, agenda):
        signal.raise_signal(signal.SIGINT)
        agenda.stopped = True

    monkeypatch.setattr(Local, "launch", stopped)
    with signals_restored():
        assert main(["sweep", str(file), f"--runs={tmp_path}", "--workers=1"]) == 130
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("stopped; run the same command")]
    places = (tmp_path / "both" / "lm", tmp_path / "both")
    assert lines == [f"stopped; run the same command again to continue ({place})" for place in places]


def test_a_study_of_one_config_beside_its_former_runs_is_seen_too(swept, tmp_path):
    import shutil

    folder, _ = swept
    shutil.copytree(folder / "lm", tmp_path / "both", ignore=shutil.ignore_patterns("pre_ln-*", "post_ln-*"))
    shutil.copytree(folder / "classify_text", tmp_path / "both" / "classify_text")
    assert study_folders(tmp_path / "both") == [tmp_path / "both", tmp_path / "both" / "classify_text"]


def test_a_single_config_may_be_an_axis_too(tmp_path):
    source = STUDY.replace('"configs/lm.py", "configs/classify_text.py"', '"configs/lm.py",')
    path = write(tmp_path, source.replace(', "configs/classify_text.py": "post_ln"', ""))
    (study,) = read_studies(str(path))
    assert (study.part, study.folder(tmp_path), len(study.tune())) == ("lm", tmp_path / "tiny" / "lm", 4)


def test_a_filter_names_a_config_of_the_file(file, tmp_path, capsys):
    assert sweep(file, "--dry_run", "--filter=config=classify")[0] == 2
    assert capsys.readouterr().err == "error: --filter=config=classify: did you mean 'classify_text'?\n"
    single = write(tmp_path)
    assert sweep(single, "--dry_run", "--filter=config=lm")[0] == 2
    assert capsys.readouterr().err == "error: --filter=config=lm: this study has one config; omit it\n"


@pytest.mark.parametrize("words", [("diff", "{0}", "{0}"), ("rerun", "{0}", "--failed")])
def test_a_command_for_one_study_names_one_of_the_folder(words, swept, capsys):
    folder, _ = swept
    assert main([word.format(folder) for word in words]) == 2
    assert capsys.readouterr().err == (
        f"error: {folder}: no runs here; it is a folder of studies; give one of them, e.g. {folder}/classify_text\n"
    )
