"""The protocol of tuning, case by case."""

import math
from dataclasses import replace

import pytest
from test_report_study import summary_of, write_plan, write_run

from addnorm_exp.report.load import load_study
from addnorm_exp.report.protocol.groups import groups_of, reported
from addnorm_exp.report.protocol.outcome import Outcome, decimals
from addnorm_exp.runs.metrics import DEFAULT
from addnorm_exp.runs.records import Summary
from addnorm_exp.runs.winners import Candidate, final_value, score
from addnorm_exp.runs.winners import winners as winners_by

GROUP = (("scheme", "pre_ln"),)
UNIFORM = math.log(256)


def grid(scores: dict[float, list[float | str | None]], key: str = "optim.lr") -> list[Candidate]:
    """One candidate run for each learning rate and seed; a score "div" is a diverged run, None a failed one."""
    return [
        Candidate(
            GROUP, ((key, lr),), seed, UNIFORM if s == "div" else s, {"div": "diverged", None: "failed"}.get(s, "done")
        )
        for lr, found in scores.items()
        for seed, s in enumerate(found)
    ]


def winners(candidates) -> dict:
    """By a loss."""
    return winners_by(candidates, DEFAULT[-1])


def lr(winner) -> float:
    return dict(winner.tuned)["optim.lr"]


def test_the_best_mean_wins_not_the_best_seed():
    found = winners(grid({1e-3: [2.0, 2.0], 3e-3: [1.0, 2.5], 1e-2: [0.5, 3.8]}))[GROUP]
    assert (lr(found), found.mean, found.n, found.edge, found.incomplete) == (3e-3, 1.75, 2, (), False)


def test_a_diverged_run_scores_as_the_uniform_prediction():
    # Survivors alone would favour 1e-2 (1.0); with the diverged one it has (1.0 + 5.55) / 2.
    found = winners(grid({1e-3: [2.2, 2.2], 3e-3: [2.0, 2.0], 1e-2: [1.0, "div"]}))[GROUP]
    assert lr(found) == 3e-3
    every = winners(grid({1e-3: ["div", "div"], 3e-3: ["div", "div"]}))[GROUP]
    assert (lr(every), every.diverged, every.n) == (1e-3, 2, 2)
    assert score(summary_with("diverged", None)) == UNIFORM
    assert score(summary_with("done", 2.0)) == 2.0
    final = {"final": {"loss": 2.0, "bpb": 2.9}}
    both = {"val": final, "test": final, "metrics": metrics(bpb=8.0, loss=5.5)}
    assert (score(summary_with("done", 2.0, **both), "bpb"), score(summary_with("diverged", 2.0, **both), "bpb")) == (
        2.9,
        8.0,
    )
    assert score(None) is None
    assert score(summary_with("running", 2.0)) is None
    assert score(summary_with("done", 2.0), "bpb") is None


def metrics(**trivial: float | None) -> list[dict]:
    return [vars(replace(metric, trivial=trivial[metric.name])) for metric in DEFAULT if metric.name in trivial]


def summary_with(status: str, loss: float | None, **more) -> Summary:
    final = {"final": {"loss": loss}}
    record = {
        "scheme": "pre_ln",
        "status": status,
        "step": 9,
        "steps": 9,
        "step_time_s": 0.1,
        "val": final,
        "test": final,
        "keep": "none",
        "metrics": metrics(loss=UNIFORM),
    }
    return Summary.model_validate(record | {"diverged": {"step": 9, "cause": "loss"}} | more)


def test_no_candidate_wins_by_diverging():
    def scored(rate: float, status: str, loss: float | None, seed: int = 0) -> Candidate:
        summary = summary_with(status, loss)
        return Candidate(GROUP, (("optim.lr", rate),), seed, score(summary), status, final_value(summary))

    ended, lost = scored(1e-2, "done", UNIFORM + 3.0), scored(1e-3, "diverged", None)
    assert ended.score == UNIFORM
    for order in ((ended, lost), (lost, ended)):
        found = winners(order)[GROUP]
        assert (lr(found), found.diverged) == (1e-2, 0)
    # Of two that ended above the cap the one that is less bad wins, whichever is named first; not where fewer runs diverge.
    worse = scored(3e-2, "done", UNIFORM + 9.0)
    for order in ((worse, ended, lost), (lost, ended, worse)):
        assert lr(winners(order)[GROUP]) == 1e-2
    half = [scored(3e-3, "done", UNIFORM + 1.0), scored(3e-3, "diverged", None, 1)]
    assert lr(winners([*half, ended, scored(1e-2, "done", UNIFORM + 3.0, 1)])[GROUP]) == 1e-2
    # Over seeds: (2.0 + 9.0) / 2 as it stands would lose to (2.0 + 5.55) / 2 with a divergence in it.
    seeds = [scored(1e-3, "done", 2.0), scored(1e-3, "diverged", None, 1)]
    seeds += [scored(1e-2, "done", 2.0), scored(1e-2, "done", 9.0, 1)]
    assert lr(winners(seeds)[GROUP]) == 1e-2
    assert score(summary_with("done", 9.0, metrics=metrics(loss=None))) == 9.0, "no uniform loss, no cap"
    above = summary_with("done", 9.0)
    assert (final_value(above), score(above)) == (9.0, UNIFORM), "pictures show where it ended, and count it as uniform"


def test_an_incomplete_candidate_is_not_eligible_unless_all_are():
    found = winners(grid({1e-3: [2.0, 2.0], 3e-3: [1.0, None], 1e-2: [2.5, 2.5]}))[GROUP]
    assert (lr(found), found.incomplete) == (1e-3, False)
    assert found.left_out == ((("optim.lr", 3e-3),),)
    found = winners(grid({1e-3: [2.0, None], 3e-3: [1.0, None]}))[GROUP]
    assert (lr(found), found.n, found.incomplete) == (3e-3, 1, True)
    assert winners(grid({1e-3: [None], 3e-3: [None]})) == {}


def test_a_candidate_that_lacks_a_seed_of_the_others_is_incomplete():
    assert lr(winners(grid({1e-3: [2.0, 2.0], 3e-3: [1.0]}))[GROUP]) == 1e-3


@pytest.mark.parametrize(("best", "edge"), [(1e-3, True), (3e-3, False), (1e-2, True)])
def test_an_edge_of_the_grid_is_flagged(best, edge):
    found = winners(grid({rate: [1.0 if rate == best else 2.0] for rate in (1e-3, 3e-3, 1e-2)}))[GROUP]
    assert found.edge == (("optim.lr",) if edge else ())


def test_what_has_no_edge():
    assert winners(grid({1e-3: [2.0]}))[GROUP].edge == ()
    names = winners([Candidate(GROUP, (("optim.schedule", s),), 0, 2.0, "done") for s in ("cosine", "wsd")])[GROUP]
    assert names.edge == ()
    flags = winners([Candidate(GROUP, (("model.bias", s),), 0, 2.0, "done") for s in (True, False)])[GROUP]
    assert flags.edge == ()


def test_groups_are_tuned_apart_and_keep_their_order():
    other = (("scheme", "post_ln"),)
    mixed = [Candidate(other, c.tuned, c.seed, c.score, c.status) for c in grid({1e-3: [1.0], 3e-3: [2.0]})]
    found = winners([*mixed, *grid({1e-3: [2.0], 3e-3: [1.0]})])
    assert list(found) == [other, GROUP]
    assert [lr(w) for w in found.values()] == [1e-3, 3e-3]


def test_an_axis_that_the_plan_does_not_name_still_parts_groups(tmp_path):
    for rate in (1e-3, 1e-2):
        for seed in (0, 1):
            write_run(tmp_path / "s" / f"{rate}-{seed}", "pre_ln", seed, summary_of("pre_ln", 2.0), lr=rate)
    shown = reported(load_study(tmp_path / "s"))
    assert [len(group.runs) for group in shown.groups] == [2, 2], "learning rates are not seeds of one another"
    assert shown.varying == ("scheme", "optim.lr")


def test_data_seeds_that_go_with_the_seed_do_not_part_groups(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / "s" / str(seed), "pre_ln", seed, summary_of("pre_ln", 2.0), **{"data.seed": 10 + seed})
    assert len(reported(load_study(tmp_path / "s")).groups) == 1


def test_the_tuning_phase_is_reported_until_a_report_run_has_finished(tmp_path):
    tune = [
        write_run(tmp_path / "s" / f"t{rate}", "pre_ln", 0, summary_of("pre_ln", 2.0 + rate), lr=rate)
        for rate in (1e-3, 1e-2)
    ]
    report = [{"id": "r", "overrides": {"scheme": "pre_ln", "seed": 7, "optim.lr": 1e-3}}]
    write_plan(tmp_path / "s", {"tune": tune, "report": report})
    shown = reported(load_study(tmp_path / "s"))
    assert (shown.phase, shown.waiting, [run.id for run in shown.groups[0].runs]) == ("tune", True, ["t0.001"])
    write_run(tmp_path / "s" / "r", "pre_ln", 7, summary_of("pre_ln", 2.0))
    shown = reported(load_study(tmp_path / "s"))
    assert (shown.phase, [run.id for run in shown.groups[0].runs]) == ("report", ["r"])
    assert shown.winners[GROUP].edge == ("optim.lr",)


def test_groups_of_sorts_by_seed(tmp_path):
    for seed in (5, 1, 3):
        write_run(tmp_path / "s" / f"x{seed}", "pre_ln", seed, summary_of("pre_ln", 2.0))
    (group,) = groups_of(load_study(tmp_path / "s").runs, ["scheme"])
    assert [run.seed for run in group.runs] == [1, 3, 5]


def test_what_n_allows_to_be_said():
    assert Outcome({2: 2.5, 1: 2.25}).text() == "2.250, 2.500"
    assert Outcome({1: 2.25, 3: 2.5}, (2,)).text() == "2.250, div., 2.500 (1/3 diverged, median 2.500)"
    assert Outcome({1: 2.25}, (2, 3)).text() == "2.250, div., div. (2/3 diverged, median diverged)"
    assert Outcome({}, (1, 2)).text() == "2/2 diverged"
    assert Outcome(dict(enumerate([2.0, 2.1, 2.2, 2.3]))).text() == "2.000, 2.100, 2.200, 2.300"
    five = Outcome(dict(enumerate([2.0, 2.1, 2.2, 2.3, 2.4])))
    assert five.text() == "2.20 ± 0.20"  # 2.776 × 0.158 / √5 = 0.196
    assert Outcome(dict(enumerate([2.0, 2.1, 2.2, 2.3])), (9,)).text() == "1/5 diverged, median 2.200"
    assert Outcome({}).text() == "–"
    assert [decimals(h) for h in (3.0, 0.12, 0.0123, 0.00123, 0.0)] == [2, 2, 3, 4, 4]
