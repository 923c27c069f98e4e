"""What is to be trained next, as the runs of a study get their outcomes."""

import pytest
from studies import STUDY, read_study, write
from test_report_study import summary_of

from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.reading import read_plan
from addnorm_exp.sweep.agenda import StudyAgenda
from addnorm_exp.sweep.phases import plan
from addnorm_exp.sweep.record import NOT_COMPARED

TOGETHER = STUDY.replace(
    "    return product(best,", "    assert len(best) == 2\n    return product(best,"
)  # a report that needs all winners


@pytest.fixture
def agenda_of(tmp_path):
    def make(source: str = STUDY, chosen=None) -> StudyAgenda:
        study = read_study(str(write(tmp_path, source)))
        planned = plan(study, chosen or {})
        return StudyAgenda(
            study, tmp_path / "s", planned.tune, planned.tuning, planned.reporting, chosen or {}, NOT_COMPARED
        )

    return make


def end(agenda, run, loss: float = 2.0, status: str = "done") -> None:
    folder = RunFolder(agenda.folder / run.id)
    folder.path.mkdir(exist_ok=True)
    folder.write_summary(summary_of(run.config.scheme, loss, status))
    if status == "failed":
        agenda.fail(run)
    else:
        agenda.end(run, folder.summary())


def opened(agenda) -> list[str]:
    return [f"{run.phase} {run.config.scheme}" for run in agenda.open.values()]


def written(agenda) -> tuple[int, int]:
    record = read_plan(agenda.folder / "study.json")
    return len(record.phases.get("report", ())), record.waiting


def test_a_group_is_reported_as_soon_as_it_is_tuned(agenda_of):
    agenda = agenda_of()
    first, second, *others = list(agenda.open.values())
    assert written(agenda) == (0, 4)
    end(agenda, first, 2.0)
    assert opened(agenda) == ["tune pre_ln", "tune no_norm", "tune no_norm"]
    end(agenda, second, 1.0)
    assert opened(agenda) == ["tune no_norm", "tune no_norm", "report pre_ln", "report pre_ln"]
    assert {run.config.optim.lr for run in agenda.open.values() if run.phase == "report"} == {1e-2}
    assert written(agenda) == (2, 2)
    for run in others:
        end(agenda, run)
    assert opened(agenda) == ["report pre_ln"] * 2 + ["report no_norm"] * 2
    assert written(agenda) == (4, 0)
    assert len(agenda.take()) == len(agenda.planned) == 8
    assert agenda.take() == []


def test_a_report_that_needs_all_winners_waits_for_them(agenda_of):
    agenda = agenda_of(TOGETHER)
    *most, last = list(agenda.open.values())
    for run in most:
        end(agenda, run)
    assert opened(agenda) == ["tune no_norm"]
    assert written(agenda) == (0, 4)
    end(agenda, last)
    assert opened(agenda) == ["report pre_ln"] * 2 + ["report no_norm"] * 2


def test_a_run_that_failed_holds_nobody_up(agenda_of):
    agenda = agenda_of()
    first, second, *others = list(agenda.open.values())
    end(agenda, first, 2.0)
    end(agenda, second, 1.0, "failed")
    assert [run.config.optim.lr for run in agenda.open.values() if run.phase == "report"] == [1e-3, 1e-3]
    for run in others:
        end(agenda, run, 1.0, "failed")
    assert opened(agenda) == ["report pre_ln"] * 2, "a group without a score has no winner"
    assert written(agenda) == (2, 0)


def test_a_second_agenda_begins_where_the_first_ended(agenda_of):
    agenda = agenda_of()
    for run in list(agenda.open.values())[:2]:
        end(agenda, run)
    again = agenda_of()
    assert opened(again) == opened(agenda)
    assert len(again.summaries) == 2
    assert written(again) == written(agenda)


def test_a_filter_leaves_the_other_groups_open(agenda_of):
    agenda = agenda_of(chosen={"scheme": "pre_ln"})
    for run in list(agenda.open.values()):
        end(agenda, run)
    assert opened(agenda) == ["report pre_ln"] * 2
    assert written(agenda) == (2, 2)
