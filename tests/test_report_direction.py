"""A study whose primary metric is better higher: selection, table, pictures and page go by its
direction."""

import numpy as np
import pytest
from test_report_study import summary_of, write_plan, write_run

from addnorm_exp.report.dashboard.page import data
from addnorm_exp.report.figures import learning_curves
from addnorm_exp.report.figures.looks import looks_of
from addnorm_exp.report.figures.sensitivity import draw
from addnorm_exp.report.load import load_study
from addnorm_exp.report.protocol import differences
from addnorm_exp.report.protocol.groups import reported
from addnorm_exp.report.protocol.learning_rates import sensitivity, tried
from addnorm_exp.report.protocol.metric import primary_of
from addnorm_exp.report.tables.ablation import build
from addnorm_exp.runs.metrics import DEFAULT, Metric, figure, metrics_of, primary
from addnorm_exp.runs.records import Summary
from addnorm_exp.runs.winners import final_value, score

ACCURACY = Metric("accuracy", "accuracy", "", "higher", 0.5, "majority")
METRICS = [vars(ACCURACY), vars(Metric("loss", "loss", "", "lower", 0.69, "uniform"))]
RATES = (1e-3, 3e-3, 1e-2)
# Tuning by rate: the best mean is in the middle; the smallest number, which would win as a loss, is at the edge.
TUNED = {"pre_ln": (0.70, 0.80, 0.60), "post_ln": (0.75, 0.78, None)}
REPORTED = {"pre_ln": 0.82, "post_ln": 0.79}


def accurate(scheme: str, accuracy: float | None) -> dict:
    """A summary. The loss falls where the accuracy falls, so whoever goes by it errs."""
    values = None if accuracy is None else {"accuracy": accuracy, "loss": accuracy / 2}
    summary = summary_of(scheme, 1.0, "diverged" if accuracy is None else "done")
    return summary | {
        "metrics": METRICS,
        "val": {"final": values and values | {"step": 1000}, "best": values and values | {"step": 900}},
        "test": {"final": values, "best": values},
    }


def history(accuracy: float, last: int) -> list[dict]:
    steps = range(0, last + 1, 100)
    rows = [
        {"step": step, "split": "val", "accuracy": accuracy - 0.3 * np.exp(-step / 200), "loss": 0.5} for step in steps
    ]
    train = [{"step": step, "split": "train", "accuracy": accuracy, "loss": 0.4} for step in range(1, last + 1)]
    return [*rows, *train]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "classify"
    tune, report = [], []
    for scheme, accuracies in TUNED.items():
        for rate, accuracy in zip(RATES, accuracies, strict=True):
            tune.append(write_run(folder / f"t{scheme}{rate}", scheme, 0, accurate(scheme, accuracy), lr=rate))
        for seed in range(1, 7):
            lost = scheme == "post_ln" and seed == 6
            value = None if lost else REPORTED[scheme] + 0.001 * seed + 0.0003 * (-1) ** seed * (scheme == "pre_ln")
            summary, lines = accurate(scheme, value), history(value or 0.6, 400 if lost else 1000)
            report.append(write_run(folder / f"r{scheme}{seed}", scheme, seed, summary, lr=3e-3, metrics=lines))
    write_plan(folder, {"tune": tune, "report": report})
    return load_study(folder)


def test_the_highest_mean_wins_and_is_no_edge(study):
    winners = reported(study).winners
    assert {key[0][1]: (dict(each.tuned)["optim.lr"], each.mean, each.edge) for key, each in winners.items()} == {
        scheme: (3e-3, accuracies[1], ()) for scheme, accuracies in TUNED.items()
    }


def summary(accuracy: float | None, **more) -> Summary:
    return Summary.model_validate(accurate("pre_ln", accuracy) | more)


def test_a_run_scores_no_worse_than_the_trivial_prediction():
    assert score(summary(0.4)) == 0.5
    assert score(summary(0.6)) == 0.6
    assert score(summary(None)) == final_value(summary(None)) == 0.5
    assert final_value(summary(0.4)) == 0.4
    unknown = summary(None, metrics=[METRICS[0] | {"trivial": None}])
    assert score(unknown) == -np.inf, "worse than any number"


def test_the_table_marks_the_direction_and_counts_a_diverged_run_as_worst(study):
    table = build(study)
    assert [column.label for column in table.columns][1] == "test accuracy ↑"
    lost = dict(zip(table["scheme"], table["test_accuracy"], strict=True))["post_ln"]
    # Five of 0.79 + s/1000 and one below them all: between 0.792 and 0.793.
    assert lost == "1/6 diverged, median 0.7925"
    assert table.bold == {}, "a row with a diverged run cannot be tested"


def test_the_highest_row_is_bold(study, tmp_path):
    folder = tmp_path / "s"
    runs = [
        write_run(folder / f"{scheme}{seed}", scheme, seed, accurate(scheme, level + 0.001 * (seed * 7 % 5)))
        for scheme, level in (("pre_ln", 0.6), ("post_ln", 0.8))
        for seed in range(6)
    ]
    write_plan(folder, {"run": runs}, tuned=[])
    table = build(load_study(folder))
    assert table["scheme"] == ["pre_ln", "post_ln"]
    assert table.bold == {"test_accuracy": {1}}
    assert table.bold_note.startswith("Bold: the highest mean")


def test_the_sensitivity_is_what_other_rates_lose(study):
    (metric,) = {primary_of(study.runs)}
    assert metric == ACCURACY
    scores = sensitivity(study, reported(study), metric).scores
    by_scheme = {key[0][1]: value for key, value in scores.items()}
    assert by_scheme == pytest.approx({"pre_ln": 0.8 - 2.1 / 3, "post_ln": 0.78 - (0.75 + 0.78 + 0.5) / 3})
    assert tried(study).metric.trivial == 0.5


def test_pictures_and_the_page_go_by_it(study):
    report = reported(study)
    rates = draw(study, report)
    assert rates.axes[0].get_ylabel() == "final validation accuracy"
    curves = learning_curves.draw(report, looks_of(study, report))
    low, high = curves.axes[0].get_ylim()
    assert low > 0.6, "the steep start is beyond the picture"
    assert high > 0.82
    page = data(study)
    assert (page["metric"], page["arrow"], page["sign"]) == ("accuracy", " ↑", -1.0)
    assert page["curves"]["better"] == {"accuracy": -1.0, "loss": 1.0}
    assert [label for *_, label in page["curves"]["quantities"]][:2] == ["validation accuracy", "training accuracy"]
    assert (page["rates"]["label"], page["rates"]["trivial"], page["rates"]["trivially"]) == (
        "accuracy",
        0.5,
        "majority",
    )
    assert {line["best"] for panel in page["rates"]["panels"] for line in panel["lines"]} == {3e-3}


def test_two_runs_differ_in_every_metric(study):
    first, second = study.phases["tune"][:2]
    (results,) = [part for part in differences.runs(first, second) if part.title == "results"]
    assert [row[0] for row in results.rows][:2] == ["val.final.accuracy", "val.final.loss"]


def test_a_run_that_has_recorded_no_metrics_is_read_by_its_loss():
    failed = Summary.model_validate({"status": "failed"})
    bits = Summary.model_validate({"status": "running", "metrics": [vars(metric) for metric in DEFAULT]})
    assert metrics_of(failed) == metrics_of(None) == DEFAULT[-1:]
    assert metrics_of(bits) == DEFAULT
    assert (primary([failed, bits]).name, primary([failed]).name) == ("bpb", "loss")


def test_a_value_in_a_sentence_is_that_of_the_first_metric_that_has_one():
    metrics = metrics_of(summary(0.8))
    assert figure({"accuracy": 0.8, "loss": 0.4}, metrics) == "accuracy 0.8000"
    assert figure({"loss": 0.4}, metrics) == "loss 0.4000", "a training step has no accuracy"
