"""A table of chosen columns: its notes are those of the columns that are printed."""

import pytest
from test_report_study import summary_of, write_plan, write_run

from addnorm_exp.report.load import load_study
from addnorm_exp.report.tables.ablation import build
from addnorm_exp.report.tables.choice import brief, choose_columns

OF_COLUMNS = {
    "lr_sensitivity": "LR sens.: ",
    "val_final_bpb": "Numbers without ±, apart from the metric, are medians over seeds.",
    "ms_per_step": "ms/step includes the effect",
    "params": "– under params",
    "difference": "no Δ, because",
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Tuned rows, one at the edge of its grid; step times differ, and one row lacks its parameters and shares no seed."""
    folder = tmp_path_factory.mktemp("runs") / "s"
    tune, report = [], []
    for i, scheme in enumerate(("pre_ln", "post_ln", "no_norm")):
        facts = {"step_time_s": 0.01 * (i + 1), **({"parameters": None} if i else {})}
        for k, rate in enumerate((1e-3, 3e-3, 1e-2)):
            loss = 2.0 + 0.1 * abs(k - (i > 0)) + i
            tune.append(write_run(folder / f"t{scheme}{k}", scheme, 0, summary_of(scheme, loss), lr=rate))
        for seed in (1, 2) if i < 2 else (8, 9):
            summary = summary_of(scheme, 2.0 + i + 0.01 * seed, **facts)
            report.append(write_run(folder / f"r{scheme}{seed}", scheme, seed, summary, lr=3e-3 if i else 1e-3))
    write_plan(folder, {"tune": tune, "report": report})
    return build(load_study(folder))


def test_the_whole_table_has_every_note(table):
    notes = "\n".join(table.notes)
    for words in OF_COLUMNS.values():
        assert words in notes
    assert table["optim.lr"] == ["0.001†", "0.003", "0.003"]


def test_a_note_goes_with_its_column(table):
    notes = "\n".join(brief(table).notes)
    for column, words in OF_COLUMNS.items():
        assert (words in notes) == (column == "difference"), words
    notes = "\n".join(choose_columns(table, ["parameters", "ms_per_step"]).notes)
    for column, words in OF_COLUMNS.items():
        assert (words in notes) == (column in ("params", "ms_per_step", "val_final_bpb")), words
    assert "The metric is computed" not in notes
    assert "† optim.lr" not in notes


def test_a_note_on_several_columns_names_those_that_are_printed(table):
    assert any(note.startswith("– under params: the runs of") for note in table.notes)


def test_the_mark_of_an_edge_stands_on_the_metric_where_the_rate_is_left_out(table):
    short = brief(table)
    assert short["test_bpb"] == ["2.010, 2.020†", "3.010, 3.020", "4.080, 4.090"]
    assert any(note.startswith("† optim.lr at the edge") for note in short.notes)
    with_rate = choose_columns(table, ["test_bpb", "lr"])
    assert with_rate["test_bpb"][0] == "2.010, 2.020"
    assert with_rate["optim.lr"][0] == "0.001†"
    assert any(note.startswith("† optim.lr at the edge") for note in with_rate.notes)


def test_the_note_on_differences_leaves_out_p_with_its_column(five):
    table = build(load_study(five))
    (note,) = [note for note in choose_columns(table, ["test_bpb", "difference"]).notes if note.startswith("Δ:")]
    assert note == "Δ: mean paired difference to pre_ln over shared seeds [95 % interval, each on its own]."
    (note,) = [note for note in brief(table).notes if note.startswith("Δ:")]
    assert "Holm-corrected over 2" in note
