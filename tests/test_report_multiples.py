"""Pictures of many rows: a panel a row, each row's own line as the record has it, the baseline's in every panel, the others behind."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from test_report_study import SITES, UNIFORM, layer_arrays, summary_of, write_plan, write_run

from addnorm_exp.report.figures import gradients, learning_curves, multiples, sensitivity, style
from addnorm_exp.report.figures.looks import looks_of
from addnorm_exp.report.figures.plot import FIGURES, OF_MANY, plot
from addnorm_exp.report.load import load_study
from addnorm_exp.report.protocol.groups import reported

LAST = 40
RATES = (1e-3, 3e-3, 1e-2)
LOST = ("row_05", 2)  # its reported run that diverged, at step 20


def rows_of(count: int) -> list[str]:
    return [f"row_{i:02d}" for i in range(count)]


def metrics_of(rng, level: float, last: int) -> list[dict]:
    """Both splits in bits per byte: validation every ten steps, training at every step."""
    rows = []
    for step in range(last + 1):
        value = level + 5 * math.exp(-step / 8) + 0.02 * rng.standard_normal()
        rows += [{"step": step, "split": "train", "loss": value, "bpb": value}] if step else []
        rows += [{"step": step, "split": "val", "loss": value, "bpb": value + 0.1}] if step % 10 == 0 else []
    return rows


def write_rows(folder: Path, count: int, seeds=(1, 2, 3), laws=("xavier",), lost=LOST) -> Path:
    """A tuned study of `count` schemes × laws; baseline `row_01`; `row_03` diverges at the greatest rate."""
    rng = np.random.default_rng(0)
    tune, report = [], []
    for i, scheme in enumerate(rows_of(count)):
        for j, law in enumerate(laws):
            key = {"init.law": law}
            for lr in RATES:
                for seed in (0, 7):
                    bpb = 2.3 + 0.02 * i + 0.2 * j + 0.05 * math.log(lr / 3e-3) ** 2 + 0.01 * seed
                    status = "diverged" if scheme == "row_03" and lr == 1e-2 else "done"
                    name = f"t-{scheme}-{law}-{lr:g}-{seed}"
                    tune.append(write_run(folder / name, scheme, seed, summary_of(scheme, bpb, status), lr=lr, **key))
            for seed in seeds:
                gone = (scheme, seed) == lost
                last, level = 20 if gone else LAST, 2.3 + 0.02 * i + 0.2 * j
                summary = summary_of(scheme, level, "diverged" if gone else "done", last)
                metrics, layers = metrics_of(rng, level, last), layer_arrays(rng, scheme, last)
                layers["grad_stream"] *= 10.0 ** (-6 if scheme == "row_09" else 0)  # vanishes
                folder_of = folder / f"r-{scheme}-{law}-{seed}"
                report.append(
                    write_run(folder_of, scheme, seed, summary, lr=3e-3, metrics=metrics, layers=layers, **key)
                )
    write_plan(folder, {"tune": tune, "report": report}, baseline="row_01", group=["scheme", "init.law"])
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("runs") / "many", 13)


def draw(folder: Path, make):
    loaded = load_study(folder)
    with style.paper():
        figure = make(loaded, reported(loaded))
        assert not isinstance(figure, str), figure
        figure.draw_without_rendering()
    return figure


@pytest.fixture(scope="module")
def learning(study):
    return draw(study, FIGURES["learning_curves"])


@pytest.fixture(scope="module")
def rates(study):
    return draw(study, FIGURES["lr_sensitivity"])


@pytest.fixture(scope="module")
def stream(study):
    return draw(study, FIGURES["grad_norm_by_depth"])


@pytest.fixture
def named(monkeypatch):
    """Pictures are drawn, and their files named but not written: test_report_figures.py reads such files."""
    monkeypatch.setattr(style, "save", lambda figure, target, name: [target / f"{name}.png"])


def panels(figure) -> dict:
    return {axes.get_title(): axes for axes in figure.axes if axes.get_visible() and axes.get_title()}


def lines(axes, colour: str, *, thin: bool = False) -> list:
    """Lines of more than one point of a colour; of its own the thick ones, or those of seeds."""
    found = [line for line in axes.lines if line.get_color() == colour and len(line.get_xdata()) > 1]
    return [line for line in found if (line.get_alpha() is not None) == thin]


def own(axes):
    (line,) = lines(axes, multiples.OWN.colour)
    return line


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def recorded(study: Path, scheme: str, seed: int, split: str) -> dict[int, float]:
    """A run's losses, from the file itself."""
    rows = map(json.loads, (study / f"r-{scheme}-xavier-{seed}" / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row["bpb"] for row in rows if row["split"] == split}


def mean_of(study: Path, scheme: str, split: str = "val") -> list[float]:
    found = [recorded(study, scheme, seed, split) for seed in (1, 2, 3)]
    return [sum(one[step] for one in found) / 3 for step in found[0]]


def arrays(study: Path, scheme: str, name: str, seed: int) -> np.ndarray:
    chunks = sorted((study / f"r-{scheme}-xavier-{seed}" / "layers").glob("*.npz"))
    return np.concatenate([np.load(chunk)[name] for chunk in chunks]).astype(np.float64)


@pytest.mark.full
def test_from_thirteen_rows_on_each_has_a_panel_and_more_pictures_hold_the_rest(study, tmp_path, named):
    names = [path.stem for path in plot(study, tmp_path / "13")]
    assert names == [*FIGURES, *OF_MANY]
    twelve = write_rows(tmp_path / "12", 12, seeds=(1,))
    plan = json.loads((twelve / "study.json").read_text())
    more = {"scheme": "row_99", "seed": 1, "init.law": "xavier"}
    plan["phases"]["report"].append({"id": "no-run-yet", "overrides": more})
    (twelve / "study.json").write_text(json.dumps(plan))
    names = [path.stem for path in plot(twelve, tmp_path / "out", say=lambda line: None)]
    assert names == [*FIGURES], "a row without a run is no line in a panel either"
    figure = draw(twelve, FIGURES["learning_curves"])
    assert [axes.get_title().split(" (")[0] for axes in figure.axes] == ["validation loss", "training loss"]
    assert texts(figure) == rows_of(12)
    figure = draw(twelve, FIGURES["lr_sensitivity"])
    assert texts(figure)[:12] == rows_of(12)
    figure = draw(twelve, FIGURES["grad_norm_by_depth"])
    assert len(figure.axes) == 4


def test_a_learning_curve_is_the_mean_over_seeds_of_the_records(study, learning):
    found = panels(learning)
    assert list(found) == rows_of(13)
    for scheme, axes in found.items():
        if scheme != LOST[0]:
            assert own(axes).get_xdata().tolist() == list(range(0, LAST + 1, 10))
            assert own(axes).get_ydata() == pytest.approx(mean_of(study, scheme))
            assert len(lines(axes, multiples.OWN.colour, thin=True)) == 3
    assert learning.get_supylabel() == "validation loss (bits per byte)"
    assert learning.get_supxlabel() == "optimiser steps"
    assert texts(learning) == ["the panel's row", "baseline row_01", "other rows", "diverged"]


def test_the_baseline_and_every_other_row_stand_behind(study, learning):
    for scheme, axes in panels(learning).items():
        dark, light = (lines(axes, colour) for colour in (multiples.BASE, multiples.OTHERS))
        if scheme == "row_01":
            assert not dark
        else:
            (line,) = dark
            values = np.asarray(line.get_ydata())
            assert values[np.isfinite(values)] == pytest.approx(mean_of(study, "row_01"))
        (line,) = light
        starts = np.asarray(line.get_ydata())[np.asarray(line.get_xdata()) == 0]
        others = [name for name in rows_of(13) if name not in (scheme, "row_01")]
        expected = [np.mean([recorded(study, name, seed, "val")[0] for seed in (1, 2, 3)]) for name in others]
        whole = [value for value, name in zip(expected, others, strict=True) if name != LOST[0]]
        assert len(starts) == len(others)
        assert np.isin(np.round(whole, 9), np.round(starts, 9)).all(), "row_05's is a median"
        assert own(axes).get_zorder() > line.get_zorder()


def test_a_diverged_seed_makes_a_median_and_a_cross_in_its_panel_alone(study, learning):
    crosses = {title: [x for x in axes.lines if x.get_marker() == "x"] for title, axes in panels(learning).items()}
    assert [title for title, found in crosses.items() if found] == [LOST[0]]
    (mark,) = crosses[LOST[0]]
    assert mark.get_xdata()[0] == 20
    first, second, third = (recorded(study, LOST[0], seed, "val") for seed in (1, 2, 3))
    expected = [np.median([first[s], second.get(s, math.inf), third[s]]) for s in range(0, LAST + 1, 10)]
    assert own(panels(learning)[LOST[0]]).get_ydata() == pytest.approx(expected)


def test_five_seeds_have_their_band_in_their_panel(tmp_path):
    folder = write_rows(tmp_path / "s", 13, seeds=(1, 2, 3, 4, 5), lost=("", 0))
    for scheme, axes in panels(draw(folder, FIGURES["learning_curves"])).items():
        (band,) = axes.collections
        ys = band.get_paths()[0].vertices
        at = ys[ys[:, 0] == LAST, 1]
        last = [recorded(folder, scheme, seed, "val")[LAST] for seed in range(1, 6)]
        half = 2.7764451 * np.std(last, ddof=1) / math.sqrt(5)
        assert (at.min(), at.max()) == pytest.approx((np.mean(last) - half, np.mean(last) + half), rel=1e-6)
        assert not lines(axes, multiples.OWN.colour, thin=True)


def test_training_has_a_picture_of_its_own_with_its_running_mean(tmp_path, monkeypatch):
    monkeypatch.setattr(learning_curves, "SMOOTHED", 13)  # 40 steps: a window of 3
    folder = write_rows(tmp_path / "s", 13, seeds=(1,), lost=("", 0))
    figure = draw(folder, OF_MANY["training_curves"])
    assert figure.get_supylabel() == "training loss (bits per byte), running mean of 3 steps"
    values = recorded(folder, "row_04", 1, "train")
    line = own(panels(figure)["row_04"])
    drawn = dict(zip(line.get_xdata().tolist(), line.get_ydata().tolist(), strict=True))
    assert drawn[20] == pytest.approx((values[19] + values[20] + values[21]) / 3)


@pytest.mark.full
def test_running_runs_are_drawn_as_far_as_they_came_in_panels_too(tmp_path, named):
    rng = np.random.default_rng(0)
    plan = [
        write_run(tmp_path / s, s, 0, summary_of(s, 2.4, "running", 20), metrics=metrics_of(rng, 2.4, 20))
        for s in rows_of(13)
    ]
    write_plan(tmp_path, {"run": plan}, tuned=[], baseline=None)
    figure = draw(tmp_path, FIGURES["learning_curves"])
    assert figure.get_supylabel() == "validation loss so far (bits per byte)"
    assert len(panels(figure)) == 13
    assert texts(figure)[1] == "baseline row_00", "as in the table: the first row where the study names none"
    said = []
    plot(tmp_path, say=said.append)
    assert any(line.startswith(f"{tmp_path.name}: training_curves shows the runs so far: ") for line in said)


def test_means_and_the_ring_are_the_tuning_runs(study, rates):
    found = panels(rates)
    assert list(found) == rows_of(13)
    for i, (scheme, axes) in enumerate(found.items()):
        # summary_of puts validation 0.01 below; seeds 0 and 7 lie 0.07 apart
        expected = [2.3 + 0.02 * i + 0.05 * math.log(lr / 3e-3) ** 2 + 0.025 for lr in RATES]
        if scheme == "row_03":
            expected[2] = UNIFORM["bpb"]
        assert own(axes).get_xdata() == pytest.approx(RATES)
        assert own(axes).get_ydata() == pytest.approx(expected)
        (ring,) = [line for line in axes.lines if line.get_markersize() == 6]
        assert (ring.get_xdata()[0], ring.get_ydata()[0]) == pytest.approx((3e-3, expected[1]))
        dots = [line.get_ydata()[0] for line in axes.lines if line.get_markersize() == 2.4]
        assert len(dots) == (4 if scheme == "row_03" else 6)
        assert bool(lines(axes, multiples.BASE)) == (scheme != "row_01")
    assert rates.get_supxlabel() == "peak learning rate"


def test_a_diverged_rate_has_its_cross_below_the_frame_and_the_legend_tells_its_loss(rates):
    found = panels(rates)
    assert "diverged (uniform, 8: above the axis)" in texts(rates)
    for scheme, axes in found.items():
        marks = [line for line in axes.lines if line.get_marker() == "x"]
        assert len(marks) == 2 * (scheme == "row_03")
        for mark in marks:
            assert mark.get_xdata()[0] == pytest.approx(1e-2)
            assert axes.get_ylim()[1] * 0.9 < mark.get_ydata()[0] < axes.get_ylim()[1] < UNIFORM["bpb"]


def test_few_schemes_over_another_axis_stay_in_its_panels(tmp_path):
    folder = write_rows(tmp_path / "few", 5, seeds=(1,), laws=("xavier", "normal", "small"), lost=("", 0))
    few = draw(folder, FIGURES["lr_sensitivity"])
    assert list(panels(few)) == ["init.law = xavier", "init.law = normal", "init.law = small"]
    labels = [axes.xaxis.label.get_window_extent() for axes in few.axes if axes.get_xlabel()]
    assert len(labels) == 3
    assert not any(one.overlaps(two) for one, two in itertools.pairwise(labels))
    assert list(panels(draw(folder, FIGURES["learning_curves"])))[:2] == [
        "row_00\ninit.law = xavier",
        "row_00\ninit.law = normal",
    ]


def test_many_schemes_over_another_axis_have_a_panel_each_with_their_own_baseline(tmp_path):
    folder = write_rows(tmp_path / "many", 13, seeds=(1,), laws=("xavier", "normal"), lost=("", 0))
    found = panels(draw(folder, FIGURES["lr_sensitivity"]))
    assert len(found) == 26
    for law, level in (("xavier", 2.32), ("normal", 2.52)):
        (base,) = lines(found[f"row_04\ninit.law = {law}"], multiples.BASE)
        assert np.nanmin(base.get_ydata()) == pytest.approx(level + 0.025)


def test_depth_shows_the_end_before_the_start_from_the_arrays(study, stream):
    for scheme in ("row_00", "row_12"):
        axes = panels(stream)[scheme]
        seeds = [arrays(study, scheme, "grad_stream", seed) for seed in (1, 2, 3)]
        # layer_arrays writes steps 1, 10, …, 40: of the last tenth of these there is one row
        expected = np.exp(np.mean([np.log(values[-1]) for values in seeds], axis=0))
        assert own(axes).get_ydata() == pytest.approx(expected, rel=1e-6)
        (start,) = lines(axes, multiples.EARLIER.colour)
        assert start.get_ydata() == pytest.approx(np.exp(np.mean([np.log(v[0]) for v in seeds], axis=0)), rel=1e-6)
        assert (own(axes).get_linestyle(), start.get_linestyle()) == ("-", "--")
        assert own(axes).get_xdata() == pytest.approx(np.arange(len(SITES)) / 2)
    assert texts(stream)[:3] == ["at the end", "at initialisation (step 1)", "baseline row_01, at the end"]


def test_depth_of_a_diverged_row_is_its_seeds_alone_and_its_title_counts_them(stream):
    axes = panels(stream)[f"{LOST[0]}\n(1/3 diverged)"]
    assert not lines(axes, multiples.OWN.colour)
    assert len(lines(axes, multiples.OWN.colour, thin=True)) == 3


def test_what_vanishes_runs_off_the_axis_with_a_mark(stream):
    marked = {
        title
        for title, axes in panels(stream).items()
        if [
            line
            for line in axes.lines
            if line.get_marker() == "v" and not line.get_transform().contains_branch(axes.transData)
        ]
    }
    assert marked == {"row_09"}
    assert texts(stream)[-1] == "extends beyond the axis"
    low, high = next(iter(panels(stream).values())).get_ylim()
    assert 1e-4 < low < high < 1, "the other rows have the axis to themselves"


def test_the_gradient_of_weights_has_a_picture_of_its_own(study):
    figure = draw(study, OF_MANY["grad_weight_by_depth"])
    seeds = [arrays(study, "row_02", "grad_weight", seed)[:, 3::4] for seed in (1, 2, 3)]
    expected = np.exp(np.mean([np.log(values[-1]) for values in seeds], axis=0))
    assert own(panels(figure)["row_02"]).get_ydata() == pytest.approx(expected, rel=1e-6)
    assert figure.get_supxlabel() == "block; the end is the last record"


def test_gradients_that_are_nowhere_finite_are_a_line(tmp_path):
    plan = []
    for scheme in rows_of(13):
        layers = layer_arrays(np.random.default_rng(0), scheme, LAST)
        layers["grad_stream"][:] = np.nan
        plan.append(write_run(tmp_path / scheme, scheme, 0, summary_of(scheme, 2.4), layers=layers))
    write_plan(tmp_path, {"run": plan}, tuned=[])
    shown = reported(load_study(tmp_path))
    looks = looks_of(load_study(tmp_path), shown)
    with style.paper():
        assert gradients.by_depth(shown, looks) == gradients.heatmap(shown) == gradients.NOTHING_FINITE
        assert gradients.each(shown, None, "grad_none") == gradients.NO_RECORD
        assert learning_curves.draw(shown, looks) == "the reported runs have no validation loss"
        assert sensitivity.draw(load_study(tmp_path), shown) == "no finished runs at two or more learning rates"


def test_small_heatmaps_share_scale_and_count_blocks(study):
    figure = draw(study, FIGURES["grad_norm_heatmap"])
    meshes = {title: axes.collections[0] for title, axes in panels(figure).items()}
    assert list(meshes) == rows_of(13), "the lowest seed of each, none of which diverged"
    assert len({(mesh.norm.vmin, mesh.norm.vmax) for mesh in meshes.values()}) == 1
    assert meshes["row_00"].norm.vmin > 1e-4, "the row that vanishes does not stretch the scale"
    cells = np.asarray(meshes["row_02"].get_array())
    assert pytest.approx(arrays(study, "row_02", "grad_stream", 1).T, rel=1e-5) == cells
    sides = meshes["row_02"].get_coordinates().filled()[:, 0, 1]
    assert sides == pytest.approx(np.arange(len(SITES) + 1) / 2)
    assert figure.get_supxlabel() == "optimiser steps (seed 1)"


def test_a_grid_labels_the_axis_above_empty_places_and_has_room_for_its_titles():
    with style.paper():
        figure, panels_of = multiples.grid([f"row {i}" for i in range(14)])
        long, _ = multiples.grid(["x" * 30] * 14)
    across = lambda fig: fig.axes[0].get_subplotspec().get_gridspec().ncols  # noqa: E731
    assert (across(figure), across(long), len(figure.axes), len(panels_of)) == (6, 3, 18, 14)
    assert [axes.get_visible() for axes in figure.axes[12:]] == [True] * 2 + [False] * 4
    labelled = [axes.xaxis.get_tick_params()["labelbottom"] for axes in panels_of]
    assert labelled == [False] * 8 + [True] * 6
    assert multiples.limits([1e-12, *[1.0] * 98, 1e12], decades=1) == pytest.approx((0.1 / 1.3, 13.0))
    assert multiples.limits([1e-9] * 10 + [1.0] * 120, decades=1)[0] == pytest.approx(0.1 / 1.3), "one row of thirteen"
