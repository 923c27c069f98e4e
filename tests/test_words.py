"""Numbers as sentences have them, and that every sentence has them from here."""

import io
import re
from dataclasses import replace

import pytest
from of_config import experiment
from rich.console import Console
from test_report_study import summary_of
from training import ROOT

from addnorm_exp.cli import train
from addnorm_exp.config import Config
from addnorm_exp.report.protocol import outcome
from addnorm_exp.runs.metrics import DEFAULT, figure
from addnorm_exp.runs.records import Summary
from addnorm_exp.sweep.agenda import Agenda
from addnorm_exp.sweep.display import Display
from addnorm_exp.sweep.planner import run_folders
from addnorm_exp.sweep.study import Planned
from addnorm_exp.train.display import RunDisplay
from addnorm_exp.words import aligned, counted, duration, si, signed, size


def test_durations():
    told = [duration(seconds) for seconds in (0, 40, 89, 100, 5000, 5400, 7200, 40_000, 90_000, 172_800, 1e6)]
    assert told == ["0 s", "40 s", "89 s", "2 min", "83 min", "1.5 h", "2 h", "11 h", "25 h", "2 days", "12 days"]


def test_less_than_a_second_is_not_nothing():
    assert [duration(seconds) for seconds in (0.004, 0.3, 0.94, 0.96)] == ["0.004 s", "0.3 s", "0.9 s", "1 s"]


def test_a_zero_has_no_sign():
    values = (-0.004, 0.004, -0.0, -0.006, 0.126, 1234.5)
    assert [signed(value, ",.2f") for value in values] == ["0.00", "0.00", "0.00", "-0.01", "+0.13", "+1,234.50"]


def test_numbers_of_a_table_have_no_sign_at_zero():
    """A difference, a value and a centre that are printed as 0."""
    assert [outcome.number(value, 3) for value in (-0.0001, -0.0, 0.0001, -0.001)] == [
        "0.000",
        "0.000",
        "0.000",
        "-0.001",
    ]
    assert (outcome.number(-0.0), outcome.with_half(-0.0001, 0.01)) == ("0.000", "0.000 ± 0.010")


def test_columns_are_aligned():
    assert aligned([("a", "1", "x"), ("bcd", "10", "")], right=(1,)) == ["a     1  x", "bcd  10"]


def test_counts_and_sizes():
    assert [counted(n, "run") for n in (0, 1, 1200)] == ["0 runs", "1 run", "1,200 runs"]
    assert counted(2, "entry", "entries") == "2 entries"
    assert [size(count) for count in (0, 999, 1e3, 2.53e10)] == ["0 B", "999 B", "1.0 kB", "25.3 GB"]
    assert [si(value) for value in (0.5, 839, 4.9e6, 2e15)] == ["0.5", "839", "4.9 M", "2 P"]


def test_there_is_one_formatter_of_durations():
    """A second one would have other thresholds before long, as three once had."""
    files = [path for path in (ROOT / "addnorm_exp").rglob("*.py") if re.search(r"\b(86_?400|3600,)", path.read_text())]
    assert [path.name for path in files] == ["words.py"]


LOSS = {"loss": 1.69901, "bpb": 2.45113}


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (LOSS, "2.4511 bits/byte"),
        (LOSS | {"bpb": None}, "loss 1.6990"),
        ({"loss": 1.69901}, "loss 1.6990"),
    ],
)
def test_a_task_without_bits_is_told_by_its_loss(metrics, said, capsys, tmp_path):
    """By `train` as it validates and as it ends, and by the line of a sweep."""
    assert figure(metrics) == said
    RunDisplay("pre_ln", 100, Console(width=200)).watch({"event": "val", "step": 50, **metrics})
    assert capsys.readouterr().out == f"step  50/100  val {said}\n"
    listed = [vars(metric) for metric in DEFAULT if metrics.get(metric.name) is not None]
    record = summary_of("pre_ln", 2.0) | {"val": {"final": metrics}, "test": {"final": metrics}, "metrics": listed}
    summary = Summary.model_validate(record)
    train._conclude(summary, tmp_path)
    assert capsys.readouterr().out.startswith(f"pre_ln: test {said} after 1,000 steps")

    runs = [Planned(name, experiment(Config()), {}, phase="tune") for name in ("a", "b")]
    agenda, shown = Agenda(runs, run_folders(tmp_path)), Display(Console(width=200))
    shown.study(agenda)
    agenda.end(runs[0], summary)
    shown.end(runs[0], summary, 3.0)
    assert f"tune 1/2  pre_ln  val {said}  (3.0 s, " in capsys.readouterr().out


def test_the_time_to_go_is_told_before_the_first_run_has_ended(tmp_path):
    """Two hundred steps in 20 s, and 700 and 3 x 1000 to go; what comes before the first chunk has ended is compilation's."""
    clock = [0.0]
    shown = Display(Console(width=200, file=io.StringIO()), clock=lambda: clock[0])
    done, first, second, *_ = runs = [Planned(name, experiment(replace(Config(), steps=1000)), {}) for name in "abcde"]
    agenda, summary = Agenda(runs, run_folders(tmp_path)), Summary.model_validate(summary_of("pre_ln", 2.0))
    agenda.end(done, summary)
    shown.study(agenda)
    shown.begin(first)

    def note() -> str:
        return shown.bars.tasks[0].fields["note"]

    for seconds, kind, step, told in (
        (0, "val", 0, ""),
        (60, "train", 100, ""),
        (70, "train", 200, "6 min to go"),
        (80, "train", 300, "6 min to go"),
    ):
        clock[0] = seconds
        shown.watch({"event": kind, "step": step, "loss": 2.0}, first)
        assert note() == told
    clock[0] = 150
    agenda.end(first, summary)
    shown.end(first, summary, 150.0)
    assert note() == "8 min to go", "three runs of 150 s"
    shown.begin(second)
    for step in (100, 900):
        shown.watch({"event": "train", "step": step, "loss": 2.0}, second)
    assert note() == "8 min to go", "finished runs are believed instead"
