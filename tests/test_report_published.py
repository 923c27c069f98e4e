"""Published numbers: from a study file to a column of the table, and into no statistic."""

import csv
import io

import pytest
from studies import read_study
from test_report_study import summary_of, write_plan, write_run
from training import BASE, TEXT

from addnorm_exp.errors import UserError
from addnorm_exp.report.load import load_study
from addnorm_exp.report.tables.ablation import build
from addnorm_exp.report.tables.render import render
from addnorm_exp.runs.reading import read_plan
from addnorm_exp.sweep.record import write_plan as write_real_plan

ENTRIES = [
    {"scheme": "post_ln", "value": 34.15, "metric": "test BLEU", "source": "Xu et al. 2019, table 1"},
    {"scheme": "pre_ln", "value": "35.20", "metric": "test BLEU", "source": "Xu et al. 2019, table 1"},
    {"scheme": "pre_ln", "value": 1.11, "metric": "test bpb", "source": "Someone 2020, table 3"},
    {"scheme": "pre_ln", "value": 1.1357911, "metric": "test bpb", "source": "Other 2021"},
    {"scheme": "no_norm", "value": 9.9, "metric": "test bpb", "source": "Nobody shown 2022"},
]


def study_of(folder, published, seeds=5):
    levels = {"post_ln": 2.5, "pre_ln": 2.4, "pre_rms": 2.41}
    plan = [
        write_run(
            folder / f"{scheme}{seed}", scheme, seed, summary_of(scheme, level + 0.003 * (seed * len(scheme) % 4))
        )
        for scheme, level in levels.items()
        for seed in range(seeds)
    ]
    write_plan(folder, {"run": plan}, tuned=[], published=published)
    return load_study(folder)


def test_a_column_each_metric_with_its_sources_below(tmp_path):
    table = build(study_of(tmp_path, ENTRIES))
    assert table["published_test BLEU"] == ["34.15 [a]", "35.20 [a]", "–"]
    assert table["published_test bpb"] == ["–", "1.11 [b], 1.1357911 [c]", "–"]
    (note,) = [note for note in table.notes if note.startswith("Published numbers")]
    assert note.endswith("enter no statistic: [a] Xu et al. 2019, table 1; [b] Someone 2020, table 3; [c] Other 2021.")
    rows = {row["scheme"]: row for row in csv.DictReader(io.StringIO(render([table], "csv")))}
    assert rows["post_ln"]["published_test_BLEU"] == "34.15"
    assert rows["pre_ln"]["published_test_BLEU"] == "35.2"
    assert rows["pre_ln"]["published_test_bpb_source"] == "Someone 2020, table 3; Other 2021"


def test_no_statistic_changes_by_them(tmp_path):
    """Everything but the columns and the note of the published numbers is as it is without them."""
    without, beside = build(study_of(tmp_path / "s", [])), build(study_of(tmp_path / "s", ENTRIES))
    ours = [column.key for column in without.columns]
    assert [column.key for column in beside.columns if not column.key.startswith("published")] == ours
    for key in ours:
        assert without[key] == beside[key]
    assert [n for n in beside.notes if not n.startswith("Published")] == list(without.notes)
    for one, two in zip(without.records, beside.records, strict=True):
        assert {k: v for k, v in two.items() if not k.startswith("published")} == one


def test_a_number_stands_beside_rows_with_all_its_keys_values(tmp_path):
    plan = [
        write_run(
            tmp_path / f"{law}{depth}",
            "pre_ln",
            0,
            summary_of("pre_ln", 2.0),
            **{"init.law": law, "model.depth": depth},
        )
        for law in ("xavier", "normal")
        for depth in (6, 12)
    ]
    entry = {"init.law": "normal", "model.depth": 12, "value": 1.5, "metric": "test bpb", "source": "X"}
    write_plan(tmp_path, {"run": plan}, tuned=[], group=["scheme", "init.law", "model.depth"], published=[entry])
    table = build(load_study(tmp_path))
    assert dict(
        zip(zip(table["init.law"], table["model.depth"], strict=True), table["published_test bpb"], strict=True)
    ) == {
        ("xavier", "6"): "–",
        ("xavier", "12"): "–",
        ("normal", "6"): "–",
        ("normal", "12"): "1.5 [a]",
    }


def study_file(folder, published: str) -> str:
    (folder / "text").write_bytes(TEXT)
    base = {**BASE, "data.path": str(folder / "text")}
    path = folder / "tiny.py"
    path.write_text(
        f"CONFIG = 'configs/lm.py'\nBASE = {base!r}\nPUBLISHED = {published}\n"
        "def sweep():\n    return [{'scheme': s, 'seed': 0} for s in ('pre_ln', 'post_ln', 'no_norm')]\n"
    )
    return str(path)


def test_they_go_from_the_study_file_to_the_plan_and_back(tmp_path):
    study = read_study(study_file(tmp_path, repr(ENTRIES)))
    write_real_plan(tmp_path / "runs", study, {"run": study.sweep()})
    assert read_plan(tmp_path / "runs" / "study.json").published == ENTRIES
    assert load_study(tmp_path / "runs").published == study.published


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"scheme": "pre_ln", "value": 1.0, "metric": "test bpb"}, "PUBLISHED entry 1 has no 'source'"),
        (
            {"scheme": "pre_ln", "value": "1.0 ± 0.1", "metric": "m", "source": "s"},
            "has value '1.0 ± 0.1', which is not a finite number",
        ),
        ({"scheme": "pre_ln", "value": float("inf"), "metric": "m", "source": "s"}, "not a finite number"),
        ({"scheme": "pre_ln", "value": True, "metric": "m", "source": "s"}, "not a finite number"),
        ({"scheme": "pre_ln", "value": "nan", "metric": "m", "source": "s"}, "has value 'nan'"),
        ({"scheme": "pre_ln", "value": 10**400, "metric": "m", "source": "s"}, "not a finite number"),
        ({"scheme": "pre_ln", "value": 1, "metric": "", "source": "s"}, "has metric '', which must be text"),
        ({"value": 1, "metric": "m", "source": "s"}, "names no row, e.g. 'scheme': 'pre_ln'"),
        (3, "is not a dict"),
        ({"shceme": "pre_ln", "value": 1, "metric": "m", "source": "s"}, "did you mean 'scheme'"),
        (
            {"scheme": "deepnorm", "value": 1, "metric": "m", "source": "s"},
            "(scheme='deepnorm') matches no run of the plan",
        ),
    ],
)
def test_mistakes_in_a_study_file_are_one_line(tmp_path, entry, words):
    path = study_file(tmp_path, f"[{entry!r}]".replace("inf", "float('inf')"))
    with pytest.raises(UserError) as caught:
        read_study(path).sweep()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            {"scheme": "pre_ln", "value": None, "metric": "m", "source": "s"},
            "an entry of 'published' has value None, which is not a finite number",
        ),
        ({"value": 1.0, "metric": "m", "source": "s"}, "an entry of 'published' names no row"),
        (3, "published[0] is 3, expected an object"),
    ],
)
def test_a_damaged_plan_is_refused(tmp_path, entry, words):
    with pytest.raises(UserError) as caught:
        study_of(tmp_path, [entry])
    assert f"study.json: {words}" in str(caught.value)
