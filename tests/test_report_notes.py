"""What is said under the table: edges of the grid, what failed, what is missing, what was made by another version."""

import pytest
from test_report_looks import write_design
from test_report_study import summary_of, write_plan, write_run

from addnorm_exp.cli import table as command
from addnorm_exp.report.load import load_study
from addnorm_exp.report.tables.ablation import build
from addnorm_exp.report.tables.pivot import pivot
from addnorm_exp.runs.identity import SEMANTICS


def test_an_edge_winner_is_marked(tmp_path):
    plan = [
        write_run(tmp_path / "s" / f"t{rate}", "pre_ln", 0, summary_of("pre_ln", 2.0 + rate), lr=rate)
        for rate in (1e-3, 3e-3)
    ]
    report = [write_run(tmp_path / "s" / "r", "pre_ln", 5, summary_of("pre_ln", 2.0), lr=1e-3)]
    write_plan(tmp_path / "s", {"tune": plan, "report": report})
    table = build(load_study(tmp_path / "s"))
    assert table["optim.lr"] == ["0.001†"]
    assert any("edge of its grid (0.001, 0.003) for pre_ln" in note for note in table.notes)
    assert "difference" not in [c.key for c in table.columns], "one row has nothing to differ from"


def test_an_edge_is_that_of_a_rows_own_grid(tmp_path):
    """Grids that differ from scheme to scheme: neither row is told of rates that it was not tried at."""
    grids = {"pre_ln": (1e-4, 1e-3), "post_ln": (1e-3, 1e-2)}
    plan = [
        write_run(tmp_path / "s" / f"{scheme}{rate}", scheme, 0, summary_of(scheme, 2.0 + rate), lr=rate)
        for scheme, rates in grids.items()
        for rate in rates
    ]
    best = [write_run(tmp_path / "s" / f"r{s}", s, 5, summary_of(s, 2.0), lr=rates[0]) for s, rates in grids.items()]
    write_plan(tmp_path / "s", {"tune": plan, "report": best})
    notes = "\n".join(build(load_study(tmp_path / "s")).notes)
    assert "edge of its grid (0.0001, 0.001) for pre_ln:" in notes
    assert "edge of its grid (0.001, 0.01) for post_ln:" in notes


def test_failed_unfinished_and_absent_runs_are_named(tmp_path):
    folder = tmp_path / "s"
    plan = [write_run(folder / f"a{s}", "pre_ln", s, summary_of("pre_ln", 2.0 + s)) for s in (0, 1)]
    plan.append(write_run(folder / "f", "pre_ln", 2, summary_of("pre_ln", 2.0, "failed", reason="out of memory")))
    plan.append(write_run(folder / "u", "pre_ln", 3, summary_of("pre_ln", 2.0, "running", 300)))
    plan.append({"id": "m", "overrides": {"scheme": "pre_ln", "seed": 4}})
    write_plan(folder, {"run": plan}, tuned=[])
    table = build(load_study(folder))
    notes = "\n".join(table.notes)
    assert table["test_bpb"] == ["2.000, 3.000"]
    assert "1 of 5 runs failed: pre_ln seed 2 (out of memory)" in notes
    assert "1 of 5 runs unfinished: pre_ln seed 3 (at step 300 of 1000)" in notes
    assert "1 of 5 runs not run yet" in notes
    assert "lr 0.001" in notes, "an untuned learning rate is a confound too"


def test_the_title_has_the_data_of_the_runs_that_there_are(tmp_path):
    plan = [{"id": "m", "overrides": {"scheme": "post_ln", "seed": 0}}]
    plan.append(write_run(tmp_path / "s" / "a", "pre_ln", 0, summary_of("pre_ln", 2.0)))
    write_plan(tmp_path / "s", {"run": plan}, tuned=[])
    assert build(load_study(tmp_path / "s")).title.startswith("s, data enwik8 (sha256 aaaaaaaaaaaa)")


def test_report_runs_that_are_no_longer_the_winners_are_named(tmp_path):
    plan = [
        write_run(tmp_path / "s" / f"t{rate}", "pre_ln", 0, summary_of("pre_ln", 2.0 - rate), lr=rate)
        for rate in (1e-3, 3e-3)
    ]
    report = [write_run(tmp_path / "s" / "r", "pre_ln", 5, summary_of("pre_ln", 2.0), lr=1e-3)]
    write_plan(tmp_path / "s", {"tune": plan, "report": report})
    assert any("now favour optim.lr = 0.003" in note for note in build(load_study(tmp_path / "s")).notes)


def test_runs_of_another_version_are_said_to_be(tmp_path):
    line = f"Made under semantics 0; this version trains under {SEMANTICS}, so new runs cannot be compared with these."
    for version in (0, SEMANTICS):
        folder = tmp_path / str(version)
        plan = [
            write_run(folder / f"{rate}", "pre_ln", 0, summary_of("pre_ln", 2.0), lr=rate, semantics=version)
            for rate in (1e-3, 1e-2)
        ]
        plan.append({"id": "m", "overrides": {"scheme": "pre_ln", "seed": 1}})  # absent, so of no version
        write_plan(folder, {"tune": plan})
        study = load_study(folder)
        (tuning,) = pivot(study, "scheme", "optim.lr")
        single = build(load_study(folder / "0.001"))
        for table in (build(study), tuning, single):
            assert (line in table.notes) == (version != SEMANTICS)
            assert any("semantics" in note for note in table.notes) == (version != SEMANTICS)


def test_a_run_that_failed_before_its_config_was_written_is_named(tmp_path):
    folder = tmp_path / "s"
    plan = [write_run(folder / "a", "pre_ln", 0, summary_of("pre_ln", 2.0), semantics=2)]
    for name, seed in (("b", 1), ("c", 2)):
        plan.append({"id": name, "overrides": {"scheme": "pre_ln", "seed": seed}})
        (folder / name).mkdir()
        (folder / name / "lock").touch()
    (folder / "b" / "summary.json").write_text('{"format": 1, "status": "failed", "reason": "ValueError: odd"}')
    write_plan(folder, {"run": plan}, tuned=[])
    notes = "\n".join(build(load_study(folder)).notes)
    assert "1 of 3 runs failed: pre_ln seed 1 (ValueError: odd)." in notes
    assert "1 of 3 runs not run yet." in notes, "a lock alone is no run: an attempt was killed before it wrote anything"


@pytest.mark.parametrize("form", ["md", "latex", "csv"])
def test_failures_of_tuning_are_told_with_their_reasons_in_every_form(tmp_path, capsys, form):
    plan = [write_run(tmp_path / "s" / "a", "pre_ln", 0, summary_of("pre_ln", 2.0))]
    broken = summary_of("pre_ln", 2.0, "failed", reason="ValueError: bad\nshape")
    plan.append(write_run(tmp_path / "s" / "b", "pre_ln", 0, broken, lr=1e-2))
    write_plan(tmp_path / "s", {"tune": plan})
    assert command.run([str(tmp_path / "s"), f"--format={form}"]) == 0
    printed = capsys.readouterr()
    told = printed.err if form == "csv" else printed.out.replace(r"\_", "_")
    assert "1 of 2 runs failed: pre_ln optim.lr 0.01 seed 0 (ValueError: bad shape)." in told


def test_where_nothing_has_finished_no_note_speaks_of_numbers(tmp_path):
    folder = tmp_path / "s"
    plan = [write_run(folder / s, s, 0, summary_of(s, 2.0, "running", 300)) for s in ("pre_ln", "post_ln")]
    write_plan(folder, {"tune": plan})
    notes = "\n".join(build(load_study(folder)).notes)
    assert "Runs: tuning phase; nothing has been chosen yet." in notes
    for word in ("optimistic", "nothing was chosen", "Seeds", "ranking"):
        assert word not in notes


def test_a_group_without_a_winner_is_named_beside_one_that_has(tmp_path):
    folder = tmp_path / "s"
    plan = [write_run(folder / "a", "pre_ln", 0, summary_of("pre_ln", 2.0))]
    plan += [write_run(folder / s, s, 0, summary_of(s, 2.0, "running", 300)) for s in ("post_ln", "no_norm")]
    write_plan(folder, {"tune": plan})
    notes = build(load_study(folder)).notes
    assert "post_ln; no_norm: no tuning run has a score, so nothing was chosen." in notes
    assert any("each group's winner" in note for note in notes)


@pytest.mark.parametrize(("strangers", "told"), [(1, "1 run folder here is not"), (2, "2 run folders here are not")])
def test_one_is_told_in_the_singular(strangers, told, tmp_path):
    folder = tmp_path / "s"
    plan = [write_run(folder / "a", "pre_ln", 0, summary_of("pre_ln", 2.0, "failed", reason="x"))]
    for seed in range(strangers):
        write_run(folder / f"s{seed}", "pre_ln", 5 + seed, summary_of("pre_ln", 2.0))
    write_plan(folder, {"run": plan}, tuned=[])
    notes = "\n".join(build(load_study(folder)).notes)
    assert told in notes
    assert "1 of 1 run failed" in notes


def test_the_title_is_in_the_singular_too(tmp_path):
    one = {"model.depth": 1, "steps": 1}
    plan = [write_run(tmp_path / "s" / "a", "pre_ln", 0, summary_of("pre_ln", 2.0), **one)]
    write_plan(tmp_path / "s", {"run": plan}, tuned=[])
    assert "1 step of 16 × 128 tokens, 1 block, width 128" in build(load_study(tmp_path / "s")).title


@pytest.mark.parametrize("seeds", [2, 5])
def test_several_baselines_are_explained(tmp_path, seeds):
    (note,) = [n for n in build(load_study(write_design(tmp_path / "s", seeds=seeds))).notes if n.startswith("Δ: ")]
    assert note.startswith("Δ: each row minus pre_ln with the same norm.kind, seed by seed")
    assert ("mean [95 % interval]; p two-sided" in note) == (seeds == 5)
    titled = build(load_study(tmp_path / "s"), labels="titles").notes
    assert any("each row minus Pre-LN with the same norm, seed by seed" in note for note in titled)


def test_the_best_validation_is_a_column_only_where_it_is_printed_differently(tmp_path):
    for name, better in (("alike", 1e-5), ("apart", 1e-2)):
        for scheme in ("pre_ln", "post_ln"):
            summary = summary_of(scheme, 2.0)
            summary["val"]["best"] = {"loss": 1.0, "bpb": 1.99 - better, "step": 900}
            write_run(tmp_path / name / scheme, scheme, 0, summary)
        table = build(load_study(tmp_path / name))
        assert ("val_best_bpb" in [column.key for column in table.columns]) == (name == "apart")
        assert not any("best validation at the last step" in note for note in table.notes)


def test_long_steps_have_the_usual_precision(tmp_path):
    for scheme, seconds in (("pre_ln", 1.044924), ("post_ln", 0.5)):
        write_run(tmp_path / scheme, scheme, 0, summary_of(scheme, 2.0, step_time_s=seconds))
    assert build(load_study(tmp_path))["ms_per_step"] == ["500", "1,045"]
    assert build(load_study(tmp_path / "pre_ln"))["ms_per_step"] == ["1,045"]
    write_run(tmp_path / "post_ln", "post_ln", 0, summary_of("post_ln", 2.0, step_time_s=1.044924))
    assert any("1,045 ms/step" in note for note in build(load_study(tmp_path)).notes)


def test_in_tuning_the_table_shows_the_validation_metric(tmp_path):
    plan = [
        write_run(tmp_path / f"t{rate}", "pre_ln", 0, summary_of("pre_ln", 2.0 + rate), lr=rate)
        for rate in (1e-3, 1e-2)
    ]
    write_plan(tmp_path, {"tune": plan, "report": [{"id": "r", "overrides": {"scheme": "pre_ln", "seed": 1}}]})
    table = build(load_study(tmp_path))
    assert table["val_bpb"] == ["1.991"]
    assert not any("test" in column.key for column in table.columns)
    assert any("tuning sees only the validation split" in note for note in table.notes)


def test_a_single_run_is_called_one(tmp_path):
    write_run(tmp_path / "a", "pre_ln", 0, summary_of("pre_ln", 2.0))
    notes = build(load_study(tmp_path / "a")).notes
    assert "A single run." in notes
    assert not any("medians" in note or "all runs of the study" in note for note in notes)


def test_an_edge_of_all_rows_does_not_list_them(tmp_path):
    plan, report = [], []
    for scheme in ("pre_ln", "post_ln"):
        for rate in (1e-3, 3e-3):
            plan.append(write_run(tmp_path / f"{scheme}{rate}", scheme, 0, summary_of(scheme, 2.0 + rate), lr=rate))
        report.append(write_run(tmp_path / scheme, scheme, 5, summary_of(scheme, 2.0), lr=1e-3))
    write_plan(tmp_path, {"tune": plan, "report": report})
    notes = build(load_study(tmp_path)).notes
    assert "† optim.lr at the edge of its grid (0.001, 0.003) for all rows: a wider grid may do better." in notes
