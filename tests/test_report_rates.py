"""The learning-rate sensitivity score against Wortsman et al.'s definition by hand."""

import csv
import io
import math

import numpy as np
import pytest
from test_report_study import summary_of, write_plan, write_run

from addnorm_exp.report.dashboard.rates import rates
from addnorm_exp.report.figures import style
from addnorm_exp.report.figures.sensitivity import draw as sensitivity_picture
from addnorm_exp.report.load import load_study
from addnorm_exp.report.protocol.groups import reported
from addnorm_exp.report.protocol.learning_rates import sensitivity
from addnorm_exp.report.protocol.metric import primary_of
from addnorm_exp.report.tables.ablation import build
from addnorm_exp.report.tables.render import render

RATES = (1e-3, 3e-3, 1e-2, 3e-2)
UNIFORM = 8.0  # of write_run's summaries, in bits


def tuned(folder, losses, *, report=True, **more):
    """`losses[scheme][i]` are the final validation bpb of the seeds at RATES[i]; None: diverged; "failed": not finished."""
    tune, reporting = [], []
    for scheme, by_rate in losses.items():
        for rate, seeds in zip(RATES, by_rate, strict=False):
            for seed, value in enumerate(seeds):
                status = "diverged" if value is None else "failed" if value == "failed" else "done"
                bpb = value + 0.01 if status == "done" else 2.0  # the builder's validation lies 0.01 below
                summary = summary_of(scheme, bpb, status)
                tune.append(write_run(folder / f"t{scheme}{rate}{seed}", scheme, seed, summary, lr=rate))
        if report:
            reporting.append(write_run(folder / f"r{scheme}", scheme, 7, summary_of(scheme, 2.0), lr=1e-3))
    write_plan(folder, {"tune": tune, "report": reporting} if report else {"tune": tune}, **more)
    return load_study(folder)


def by_definition(losses, uniform=UNIFORM):
    """E over rates of min(loss, loss₀) − min over rates, in float64; `losses` (rates, seeds), NaN where diverged."""
    scored = np.minimum(np.nan_to_num(np.asarray(losses, np.float64), nan=uniform), uniform).mean(axis=1)
    return float(np.mean(scored - scored.min()))


def test_the_score_is_the_papers(tmp_path):
    found = {
        "pre_ln": [[2.5, 2.6], [2.4, 2.3], [2.45, 2.5], [3.0, 9.5]],  # 9.5 lies above the uniform prediction
        "post_ln": [[2.6, 2.61], [2.7, None], [None, None], [None, None]],
    }
    study = tuned(tmp_path, found)
    expected = {
        scheme: by_definition([[math.nan if v is None else v for v in row] for row in rows])
        for scheme, rows in found.items()
    }
    assert expected["pre_ln"] == pytest.approx((0.2 + 0 + 0.125 + 3.15) / 4)
    scores = sensitivity(study, reported(study), primary_of(study.runs)).scores
    assert {key[0][1]: value for key, value in scores.items()} == pytest.approx(expected)
    table = build(study)
    assert table["lr_sensitivity"] == [f"{expected[s]:.3f}" for s in table["scheme"]]
    rows = list(csv.DictReader(io.StringIO(render([table], "csv"))))
    assert [float(row["lr_sensitivity"]) for row in rows] == pytest.approx([expected[s] for s in table["scheme"]])
    (note,) = [note for note in table.notes if note.startswith("LR sens.: ")]
    assert "mean over 0.001, 0.003, 0.01, 0.03 (Wortsman et al. 2023, 2309.14322)" in note


@pytest.mark.parametrize("lost", [None, 9.5])
def test_a_scheme_that_no_rate_trains_has_no_score(lost, tmp_path):
    """Diverged, or ended above the uniform prediction, at every rate and on every seed (of whose equal losses a mean is not exact)."""
    found = {
        "pre_ln": [[2.5, 2.6, 2.5], [2.4, 2.3, 2.4], [2.4, 2.5, 2.4]],
        "post_ln": [[lost] * 3] * 3,
        "no_norm": [[lost, lost, 7.9], [lost] * 3, [lost] * 3],  # one run is better, so the rate matters
    }
    table = build(tuned(tmp_path, found))
    uniform = {scheme: [[math.nan if v is None else v for v in row] for row in rows] for scheme, rows in found.items()}
    scores = {scheme: f"{by_definition(uniform[scheme]):.3f}" for scheme in ("pre_ln", "no_norm")} | {"post_ln": "–"}
    assert dict(zip(table["scheme"], table["lr_sensitivity"], strict=True)) == scores
    (note,) = [note for note in table.notes if note.startswith("LR sens.: ")]
    assert note.endswith(" –: no run trains at any of these rates (post_ln).")
    rows = {row["scheme"]: row for row in csv.DictReader(io.StringIO(render([table], "csv")))}
    assert [rows[scheme]["lr_sensitivity"] == "" for scheme in found] == [False, True, False]


def test_rows_are_scored_over_the_rates_that_all_have_in_full(tmp_path):
    found = {
        "pre_ln": [[2.5, 2.5], [2.4, 2.4], [2.6, 2.6], [3.0, "failed"]],
        "post_ln": [[2.6, 2.6], [2.7, 2.7], [2.8, 2.8], [2.0, 2.0]],
    }
    study = tuned(tmp_path, found, report=False)
    table = build(study)
    assert table["lr_sensitivity"] == [f"{x:.3f}" for x in (0.1, 0.1)]
    assert any(
        "mean over 0.001, 0.003, 0.01, without 0.03, which not every row has in full (" in note for note in table.notes
    )


def test_another_tuned_key_is_at_its_best_at_each_rate(tmp_path):
    plan = [
        write_run(
            tmp_path / f"{rate}-{decay}",
            "pre_ln",
            0,
            summary_of("pre_ln", bpb + 0.01),
            lr=rate,
            **{"optim.weight_decay": decay},
        )
        for (rate, decay), bpb in {
            (1e-3, 0.0): 2.5,
            (1e-3, 0.1): 2.2,
            (3e-3, 0.0): 2.1,
            (3e-3, 0.1): 2.9,
            (1e-2, 0.0): 2.6,
        }.items()
    ]
    plan.append(
        {"id": "absent", "overrides": {"scheme": "pre_ln", "seed": 0, "optim.lr": 1e-2, "optim.weight_decay": 0.1}}
    )
    write_plan(tmp_path, {"tune": plan}, tuned=["optim.lr", "optim.weight_decay"])
    study = load_study(tmp_path)
    (score,) = sensitivity(study, reported(study), primary_of(study.runs)).scores.values()
    assert score == pytest.approx((0.1 + 0 + 0.5) / 3)


def test_rows_of_different_grids_are_not_scored_and_the_table_says_so(tmp_path):
    plan = [
        write_run(tmp_path / f"{scheme}{rate}", scheme, 0, summary_of(scheme, 2.5), lr=rate)
        for scheme, rates in (("pre_ln", RATES[:3]), ("post_ln", (1e-5, 1e-4, 3e-4)))
        for rate in rates
    ]
    write_plan(tmp_path, {"tune": plan})
    table = build(load_study(tmp_path))
    assert "lr_sensitivity" not in table.records[0]
    assert any(
        note.startswith("No LR sens.: fewer than two learning rates were tuned in full for every row.")
        for note in table.notes
    )


def test_both_pictures_show_the_means_that_the_protocol_chooses_by(tmp_path):
    """Diverged runs, runs that ended above the uniform prediction, and a plan whose last runs are open."""
    found = {
        "pre_ln": [[2.5, 2.6], [2.4, 9.5], [9.5, None], [3.0, "failed"]],
        "post_ln": [[2.6, 2.7], [None, None], [9.1, 9.2]],
        "no_norm": [[None, None], [9.3, 9.3], [9.1, 9.2]],  # all at the uniform loss
    }
    study = tuned(tmp_path, found, report=False)
    shown = reported(study)
    panel = rates(study, shown, study.runs)["panels"][0]
    with style.paper():
        figure = sensitivity_picture(study, shown)
    drawn = [np.asarray(line.get_ydata(), np.float64).tolist() for axes in figure.axes for line in axes.lines]
    for line in panel["lines"]:
        means = {rate: mean for rate, mean, _, _ in line["means"]}
        assert list(means.values()) in drawn
        (winner,) = [w for key, w in shown.winners.items() if dict(key)["scheme"] == list(found)[line["scheme"]]]
        assert (("optim.lr", line["best"]),) == winner.tuned
        assert means[line["best"]] == pytest.approx(winner.mean)
    assert [round(mean, 6) for _, mean, _, _ in panel["lines"][0]["means"]] == [2.55, 5.2, 8.0, 3.0]
    assert [points for _, _, points, _ in panel["lines"][1]["means"]] == [0, 2, 0]
    assert panel["lines"][2]["best"] == 1e-2


def test_two_rates_are_in_csv_alone_and_none_without_tuning_of_the_rate(tmp_path):
    table = build(tuned(tmp_path / "two", {"pre_ln": [[2.5], [2.4]], "post_ln": [[2.5], [2.6]]}))
    assert "lr_sensitivity" not in [column.key for column in table.columns]
    assert table.records[0]["lr_sensitivity"] == pytest.approx(0.05)
    assert not any("LR sens." in note for note in table.notes)
    write_run(tmp_path / "plain" / "a", "pre_ln", 0, summary_of("pre_ln", 2.0))
    assert "lr_sensitivity" not in build(load_study(tmp_path / "plain")).records[0]
