"""Tables over two axes: rows and columns that a person names, and the baseline of each row's own kind."""

import pytest

from addnorm_exp.errors import UserError
from addnorm_exp.report.load import load_study
from addnorm_exp.report.tables.ablation import build
from addnorm_exp.report.tables.pivot import pivot


def test_with_two_axes_each_row_meets_the_baseline_of_its_own_law(laws):
    table = build(load_study(laws))
    assert table["init.law"] == ["xavier", "xavier", "normal", "normal"]
    assert table["difference"] == ["+0.250, +0.250", "baseline", "+0.250, +0.250", "baseline"]
    one = build(load_study(laws), baseline="pre_ln, init.law = xavier")
    assert one["difference"][3] == "+1.000, +1.000"


def test_a_pivot_over_two_axes(laws):
    (table,) = pivot(load_study(laws), "scheme", "init.law")
    assert [c.label for c in table.columns] == ["scheme", "init.law = xavier", "init.law = normal"]
    assert table.rows[0] == ["post_ln", "2.501, 2.502", "3.501, 3.502"]
    split = pivot(load_study(laws), "scheme", "model.depth")
    assert ["init.law = normal" in t.title for t in split] == [False, True], "axes left over give a table each"
    for axes in (("scheme", "init.lawn"), ("scheme", "scheme")):
        with pytest.raises(UserError, match="--cols"):
            pivot(load_study(laws), *axes)


def test_a_pivot_over_the_tuned_key_shows_the_tuning_runs(three):
    (table,) = pivot(load_study(three), "scheme", "optim.lr")
    assert [c.label for c in table.columns][1:] == [
        f"optim.lr = {r}" for r in ("0.0003", "0.001", "0.003", "0.01", "0.03")
    ]
    assert table.rows[0][5] == "2/2 diverged"
    assert any("tuning phase" in note for note in table.notes)
