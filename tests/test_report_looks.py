"""Looks and names of rows: one table for pictures and dashboard, titles in legends, axes and bands that can be read."""

import itertools
import json
import math

import numpy as np
import pytest
from test_report_study import curve, summary_of, write_plan, write_run

from addnorm_exp.report.dashboard.runs import dash, described
from addnorm_exp.report.figures import learning_curves, sensitivity, style
from addnorm_exp.report.figures.looks import looks_of
from addnorm_exp.report.figures.plot import plot
from addnorm_exp.report.load import load_study
from addnorm_exp.report.protocol.groups import reported

TITLES = {"pre_ln": "Pre-LN", "peri_ln": "Peri-LN", "sandwich_ln": "Sandwich-LN"}
KINDS = {"layer": "LayerNorm", "rms": "RMSNorm"}


def write_design(folder, spread: float = 0.5, seeds: int = 5):
    """Three schemes under two norm kinds; `spread` lies between rows, seeds lie 0.1 apart."""
    rng = np.random.default_rng(0)
    plan = []
    for i, (scheme, title) in enumerate(TITLES.items()):
        for j, kind in enumerate(KINDS):
            for seed in range(seeds):
                bpb = 2.0 + spread * (2 * i + j) + 0.1 * seed
                plan.append(
                    write_run(
                        folder / f"{scheme}-{kind}-{seed}",
                        scheme,
                        seed,
                        summary_of(scheme, bpb, title=title, step=200, steps=200),
                        metrics=curve(rng, bpb, 200),
                        **{"norm.kind": kind},
                    )
                )
    write_plan(folder, {"run": plan}, tuned=[], group=["scheme", "norm.kind"])
    return folder


@pytest.fixture(scope="module")
def design(tmp_path_factory):
    return write_design(tmp_path_factory.mktemp("runs") / "design")


def learning(folder, **more):
    loaded = load_study(folder)
    shown = reported(loaded)
    with style.paper():
        return learning_curves.draw(shown, looks_of(loaded, shown))


@pytest.mark.parametrize("variants", [2, 3])
def test_rows_of_a_design_look_different(variants):
    looks = [style.crossed(scheme, variant) for scheme in range(52) for variant in range(variants)]
    assert len(set(looks)) == len(looks)


def test_rows_of_one_axis_differ_without_the_dash():
    looks = [style.look(index) for index in range(64)]
    assert len({(look.colour, look.marker) for look in looks}) == 64
    first = looks[:8]
    assert len({look.colour for look in first}) == len({look.marker for look in first}) == 8


def test_an_open_marker_hides_no_filled_one():
    assert {style.crossed(0, 1).face, style.crossed(0, 1).handle("x").get_markerfacecolor()} == {"none"}


def test_of_a_design_colour_and_marker_tell_the_scheme_and_the_dash_the_other_axis(design):
    loaded = load_study(design)
    shown = reported(loaded)
    looks = looks_of(loaded, shown)
    rows = {(g["scheme"], g["norm.kind"]): looks.of(g.runs[0]) for g in shown.groups}
    for scheme in TITLES:
        assert len({(rows[scheme, kind].colour, rows[scheme, kind].marker) for kind in KINDS}) == 1
    for kind in KINDS:
        assert len({str(rows[scheme, kind].line) for scheme in TITLES}) == 1
    assert len({look.colour for look in rows.values()}) == len({look.marker for look in rows.values()}) == 3
    assert len({str(look.line) for look in rows.values()}) == 2


def test_the_dashboard_has_the_looks_of_the_pictures(design):
    loaded = load_study(design)
    shown = reported(loaded)
    looks = looks_of(loaded, shown)
    page = described(loaded, shown, loaded.runs, "bpb")
    for run, row in zip(loaded.runs, page["runs"], strict=True):
        look = looks.of(run)
        assert page["schemes"][row["scheme"]]["light"] == look.colour
        assert page["variants"][row["variant"]] == {"dash": dash(look.line), "open": look.open}
    assert [scheme["title"] for scheme in page["schemes"]] == list(TITLES.values())
    assert page["groups"][1]["label"] == "Pre-LN, RMSNorm"


def test_rows_that_differ_in_one_axis_differ_in_colour_dash_and_marker(three):
    loaded = load_study(three)
    shown = reported(loaded)
    looks = [looks_of(loaded, shown).of(group.runs[0]) for group in shown.groups]
    assert looks == [style.look(i) for i in range(4)]
    assert described(loaded, shown, loaded.runs, "bpb")["variants"] == []


def test_legends_hold_titles_and_keys_on_request(design, tmp_path, monkeypatch):
    legends = []
    monkeypatch.setattr(style, "save", lambda fig, folder, name: legends.append(fig) or [])
    for labels in ("titles", "names"):
        plot(design, tmp_path, labels=labels, say=lambda line: None)
    titles, names = ([text.get_text() for text in fig.legends[0].get_texts()][:6] for fig in legends)
    assert titles == [f"{title}, {kind}" for title in TITLES.values() for kind in KINDS.values()]
    assert names == [f"{scheme}, norm.kind = {kind}" for scheme in TITLES for kind in KINDS]


def test_a_record_without_titles_is_labelled_by_its_keys(design, tmp_path, monkeypatch):
    folder = write_design(tmp_path / "old", seeds=1)
    for path in folder.glob("*/summary.json"):
        summary = json.loads(path.read_text())
        del summary["title"]
        path.write_text(json.dumps(summary))
    legends = []
    monkeypatch.setattr(style, "save", lambda fig, folder, name: legends.append(fig) or [])
    plot(folder, tmp_path, say=lambda line: None)
    assert legends[0].legends[0].get_texts()[0].get_text() == "pre_ln, LayerNorm"


def test_bands_are_drawn_only_where_they_can_be_told_apart(design, tmp_path):
    apart = learning(design)
    assert [len(axes.collections) for axes in apart.axes] == [6, 6]
    assert "95 % interval at the end" not in [text.get_text() for text in apart.legends[0].get_texts()]
    blended = learning(write_design(tmp_path / "close", spread=0.01))
    validation = blended.axes[0]
    bars = validation.containers
    assert len(bars) == 6
    ends = [float(bar.lines[0].get_xdata()[0]) for bar in bars]
    assert ends == sorted(ends)
    assert ends[0] > 200
    assert ends[-1] < validation.get_xlim()[1]
    assert validation.get_xticks()[-1] == 200, "no step after the last one"
    assert {panel.get_xticks()[-1] for panel in blended.axes} == {200}
    low, high = bars[0].lines[2][0].get_segments()[0][:, 1]
    remains = 1 - 0.6 * math.exp(-200 / 25) - 0.4 * math.exp(-200 / 180)  # of the seeds' distances, at step 200
    half = 2.7764451 * 0.15811388 * remains / 5**0.5
    level = float(bars[0].lines[0].get_ydata()[0])
    assert (low, high) == pytest.approx((level - half, level + half))
    assert "95 % interval at the end" in [text.get_text() for text in blended.legends[0].get_texts()]


@pytest.mark.parametrize(
    "limits", [(2.1e-2, 4.9e-2), (3e-3, 4e-2), (0.91, 1.05), (1e-6, 1e3), (1.2, 9.0), (6e-4, 9e-4)]
)
def test_a_logarithmic_axis_has_two_labels_at_least(limits):
    with style.paper():
        figure = style.figure(3, 2)
        axes = figure.subplots()
        axes.set_yscale("log")
        axes.set_ylim(*limits)
        style.log_ticks(axes.yaxis)
        figure.draw_without_rendering()
    labelled = [
        tick
        for tick in axes.yaxis.get_major_ticks()
        if tick.label1.get_text() and limits[0] <= tick.get_loc() <= limits[1]
    ]
    assert len(labelled) >= 2


def test_titles_of_panels_do_not_touch(tmp_path):
    plan = []
    for i, scheme in enumerate(TITLES):
        for lr in (1e-3, 1e-2):
            for width, law in enumerate(("xavier", "normal", "orthogonal"), 1):
                science = {"norm.kind": "layer_no_affine", "init.law": law, "model.width": 64 * width}
                folder = tmp_path / f"{scheme}{lr}{law}"
                plan.append(write_run(folder, scheme, 0, summary_of(scheme, 2.0 + i), lr=lr, **science))
    write_plan(tmp_path, {"tune": plan}, group=["scheme", "init.law", "model.width", "norm.kind"])
    loaded = load_study(tmp_path)
    with style.paper():
        figure = sensitivity.draw(loaded, reported(loaded))
        figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
    assert len(boxes) == 3
    for left, right in itertools.pairwise(boxes):
        assert left.x1 + 3 < right.x0
