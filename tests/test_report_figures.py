"""The pictures: they are there, hold what they should, repeat to the bit, and a poor record costs a line, not a failure."""

import json
import math
import re
import shutil

import matplotlib
import numpy as np
import pytest
from matplotlib import image
from test_report_study import SITES, curve, layer_arrays, summary_of, write_plan, write_run, write_study

from addnorm_exp.cli import plot as command
from addnorm_exp.errors import UserError
from addnorm_exp.report.figures import depth, gradients, learning_curves, sensitivity, style
from addnorm_exp.report.figures.looks import looks_of
from addnorm_exp.report.figures.plot import FIGURES, plot
from addnorm_exp.report.load import load_study
from addnorm_exp.report.protocol.groups import reported


def learning(folder):
    loaded = load_study(folder)
    return learning_curves.draw(reported(loaded), looks_of(loaded, reported(loaded)))


def by_depth(folder):
    loaded = load_study(folder)
    return gradients.by_depth(reported(loaded), looks_of(loaded, reported(loaded)))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "quick"
    schemes = {"post_ln": 2.62, "pre_ln": 2.45, "no_norm": 2.75}
    return write_study(folder, seeds=2, tuning_seeds=1, schemes=schemes, diverged=(("no_norm", 101),))


@pytest.fixture(scope="module")
def drawn(study):
    before = dict(matplotlib.rcParams)
    paths = plot(study)
    assert dict(matplotlib.rcParams) == before, "matplotlib's global settings are left as they were"
    return paths


def test_every_picture_is_written_and_not_blank(study, drawn):
    assert [p.relative_to(study).as_posix() for p in drawn] == [
        f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "svg")
    ]
    for path in drawn[::2]:
        pixels = image.imread(path)[..., :3]
        assert pixels.shape[1] >= 600, "200 dpi over a column of 3.4 inches"
        assert len(np.unique((pixels[::3, ::3] * 255).astype(np.uint8).reshape(-1, 3), axis=0)) > 50
        assert 0.02 < (pixels < 0.9).any(axis=2).mean() < 0.95


@pytest.mark.full
def test_pictures_repeat_to_the_bit(study, drawn, tmp_path):
    again = plot(study, tmp_path / "again")
    for one, two in zip(drawn, again, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name
    assert b"dc:date" not in drawn[1].read_bytes()


def test_a_record_without_arrays_or_tuning_costs_a_line_each(tmp_path):
    rng = np.random.default_rng(0)
    write_run(tmp_path / "a", "pre_ln", 0, summary_of("pre_ln", 2.4), metrics=curve(rng, 2.4))
    said = []
    paths = plot(tmp_path / "a", say=said.append)
    assert [p.name for p in paths] == ["learning_curves.png", "learning_curves.svg"]
    assert said == [
        "a: lr_sensitivity not drawn: no finished runs at two or more learning rates",
        f"a: grad_norm_heatmap, grad_norm_by_depth not drawn: {gradients.NO_RECORD}",
    ]


def test_nothing_to_draw_is_not_success(tmp_path, capsys):
    write_run(tmp_path / "a", "pre_ln", 0, None)
    assert command.run([str(tmp_path / "a")]) == 2
    assert (
        capsys.readouterr().err == "a: nothing drawn: no run has finished yet (1 unfinished, before its first step)\n"
    )
    with pytest.raises(UserError, match="--ot: no such flag; did you mean '--out'"):
        command.run([str(tmp_path / "a"), "--ot=x"])


def test_running_runs_are_drawn_as_far_as_they_came_and_said_to_be_unfinished(tmp_path):
    rng = np.random.default_rng(0)
    plan = [
        write_run(tmp_path / s, s, 0, summary_of(s, 2.4, "running", last), metrics=curve(rng, 2.4, last))
        for s, last in (("pre_ln", 480), ("post_ln", 240))
    ]
    plan.append({"id": "m", "overrides": {"scheme": "no_norm", "seed": 0}})
    plan.append(write_run(tmp_path / "compiling", "deepnorm", 0, None))
    write_plan(tmp_path, {"run": plan}, tuned=[])
    said = []
    assert [p.name for p in plot(tmp_path, say=said.append)] == ["learning_curves.png", "learning_curves.svg"]
    reason = "no run has finished yet (3 unfinished, the most advanced at step 480 of 1000, 1 to go)"
    assert [line.partition(": ")[2] for line in said] == [
        f"learning_curves shows the runs so far: {reason}",
        f"lr_sensitivity, grad_norm_heatmap, grad_norm_by_depth not drawn: {reason}",
    ]
    with style.paper():
        figure = learning(tmp_path)
    assert [axes.get_title().split(" (")[0] for axes in figure.axes] == [
        "validation loss so far",
        "training loss so far",
    ]
    assert [float(line.get_xdata()[-1]) for line in figure.axes[1].lines if len(line.get_xdata())] == [480, 240]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["pre_ln", "post_ln"]


def test_tuning_that_has_just_begun_is_said_to_be_unfinished(tmp_path):
    plan = [write_run(tmp_path / "a", "pre_ln", 0, summary_of("pre_ln", 2.4, "running", 480))]
    plan.append(write_run(tmp_path / "b", "pre_ln", 0, summary_of("pre_ln", 2.4, "failed"), lr=1e-2))
    write_plan(tmp_path, {"tune": plan})
    said = []
    assert plot(tmp_path, say=said.append) == []
    reason = "no run has finished yet (1 unfinished, at step 480 of 1000, 1 failed)"
    assert said == [f"{tmp_path.name}: nothing drawn: {reason}"]


def test_where_nothing_has_finished_the_runs_of_every_phase_are_counted(tmp_path):
    """The report phase is what is shown here; of the winners alone a person would not learn that tuning failed."""
    tune = [write_run(tmp_path / "a", "pre_ln", 0, summary_of("pre_ln", 2.4, "failed"))]
    tune.append({"id": "b", "overrides": {"scheme": "post_ln", "seed": 0}})
    write_plan(tmp_path, {"tune": tune, "report": [{"id": "c", "overrides": {"scheme": "pre_ln", "seed": 1}}]})
    said = []
    assert plot(tmp_path, say=said.append) == []
    assert said == [f"{tmp_path.name}: nothing drawn: no run has finished yet (1 failed, 2 to go)"]


def test_pictures_of_a_part_say_how_large_it_is(tmp_path):
    rng = np.random.default_rng(0)
    plan = [write_run(tmp_path / "a", "pre_ln", 0, summary_of("pre_ln", 2.4), metrics=curve(rng, 2.4))]
    plan.append(write_run(tmp_path / "b", "pre_ln", 1, summary_of("pre_ln", 2.4, "running", 70)))
    plan += [{"id": f"m{seed}", "overrides": {"scheme": "pre_ln", "seed": seed}} for seed in (2, 3)]
    write_plan(tmp_path, {"run": plan}, tuned=[])
    said = []
    assert len(plot(tmp_path, say=said.append)) == 2
    name = tmp_path.name
    assert said[0] == f"{name}: pictures of 1 of 4 runs (1 unfinished, at step 70 of 1000, 2 to go)"
    assert said[1] == f"{name}: lr_sensitivity not drawn: no finished runs at two or more learning rates"


def test_a_folder_that_cannot_be_written_is_one_line(study, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        plot(study, tmp_path / "file" / "x")


def _of_seeds(folder, values: list[float], lost: int | None = None):
    """A study of one scheme whose validation curves are constant at `values`; run `lost` stops at step 100."""
    plan = []
    for seed, value in enumerate(values):
        last = 100 if seed == lost else 300
        rows = [{"step": s, "split": "val", "loss": value, "bpb": value} for s in range(0, last + 1, 100)]
        summary = summary_of("pre_ln", value, "diverged" if seed == lost else "done", last)
        plan.append(write_run(folder / str(seed), "pre_ln", seed, summary, metrics=rows))
    write_plan(folder, {"run": plan}, tuned=[])
    with style.paper():
        return learning(folder).axes[0]


def test_five_seeds_have_a_band_of_the_95_per_cent_interval(tmp_path):
    axes = _of_seeds(tmp_path / "s", [2.0, 2.1, 2.2, 2.3, 2.4])
    (line,) = axes.lines
    assert line.get_ydata() == pytest.approx([2.2] * 4)
    (band,) = axes.collections
    ys = band.get_paths()[0].vertices[:, 1]
    half = 2.7764451 * math.sqrt(0.025) / math.sqrt(5)
    assert (ys.min(), ys.max()) == pytest.approx((2.2 - half, 2.2 + half), rel=1e-6)


def test_a_band_is_of_the_seeds_that_have_a_curve(tmp_path):
    _of_seeds(tmp_path / "s", [2.0, 2.1, 2.2, 2.3, 2.4])
    (tmp_path / "s" / "0" / "metrics.jsonl").unlink()
    with style.paper():
        axes = learning(tmp_path / "s").axes[0]
    assert not axes.collections, "four curves have no interval"


def test_fewer_seeds_are_lines_of_their_own(tmp_path):
    axes = _of_seeds(tmp_path / "s", [2.0, 2.1, 2.5])
    assert not axes.collections
    assert [float(line.get_ydata()[-1]) for line in axes.lines] == pytest.approx([2.0, 2.1, 2.5, 2.2])
    assert axes.lines[-1].get_linewidth() > 2 * axes.lines[0].get_linewidth()


def test_the_thick_line_is_never_a_mean_of_survivors(tmp_path):
    axes = _of_seeds(tmp_path / "s", [2.0, 2.1, 2.2, 2.3, 2.9], lost=0)
    thick = max((line for line in axes.lines if len(line.get_xdata()) > 1), key=lambda line: line.get_linewidth())
    assert thick.get_ydata() == pytest.approx([2.2, 2.2, 2.3, 2.3])  # median; after step 100 run 0 counts as worst
    (mark,) = [line for line in axes.lines if line.get_marker() == "x"]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (100, 2.0)


def test_diverged_tuning_runs_stand_at_the_uniform_line(study):
    loaded = load_study(study)
    with style.paper():
        figure = sensitivity.draw(loaded, reported(loaded))
    assert figure.axes[-1].get_xlabel() == "peak learning rate"
    marks = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "x"]
    assert len(marks) == sum(run.status == "diverged" for run in loaded.phases["tune"])
    assert {float(mark.get_ydata()[0]) for mark in marks} == {8.0}


def test_points_are_at_their_own_rates_and_crosses_at_one_rate_differ_in_size(tmp_path):
    plan = []
    for scheme, bpb in (("post_ln", 2.6), ("pre_ln", 2.5), ("no_norm", 2.7)):
        for rate in (1e-3, 1e-2, 1e-1):
            lost = (rate == 1e-1 and scheme != "pre_ln") or (rate == 1e-2 and scheme == "no_norm")
            summary = summary_of(scheme, bpb, "diverged" if lost else "done")
            plan.append(write_run(tmp_path / f"{scheme}-{rate}", scheme, 0, summary, lr=rate))
    write_plan(tmp_path, {"tune": plan})
    loaded = load_study(tmp_path)
    with style.paper():
        figure = sensitivity.draw(loaded, reported(loaded))
    lines = [
        line for axes in figure.axes for line in axes.lines if line.get_marker() != "None" and len(line.get_xdata())
    ]
    rates = (1e-3, 1e-2, 1e-1)
    points = [float(x) for line in lines for x in line.get_xdata() if x > 0]
    assert all(min(abs(x / rate - 1) for rate in rates) < 1e-9 for x in points), "no marker where nobody ran"
    crosses = [(float(line.get_xdata()[0]), line.get_markersize()) for line in lines if line.get_marker() == "x"]
    assert sorted(x for x, _ in crosses) == [1e-2, 1e-1, 1e-1]
    assert len({size for x, size in crosses if x == 1e-1}) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "chosen rate", "one seed has no mean"
    for scheme in ("post_ln", "pre_ln"):
        plan += [write_run(tmp_path / f"{scheme}-{r}-1", scheme, 1, summary_of(scheme, 2.5), lr=r) for r in rates]
    write_plan(tmp_path, {"tune": plan})
    loaded = load_study(tmp_path)
    with style.paper():
        figure = sensitivity.draw(loaded, reported(loaded))
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "best mean"


def test_the_title_tells_the_running_mean_and_the_legend_what_is_drawn(tmp_path):
    rng = np.random.default_rng(0)
    plan = [write_run(tmp_path / "a", "pre_ln", 0, summary_of("pre_ln", 2.4), metrics=curve(rng, 2.4))]
    plan.append({"id": "b", "overrides": {"scheme": "no_norm", "seed": 0}})  # last in the plan, and without a run
    write_plan(tmp_path, {"run": plan}, tuned=[])
    with style.paper():
        figure = learning(tmp_path)
    assert re.fullmatch(r"training loss \(running mean of \d+ steps\)", figure.axes[1].get_title())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["pre_ln"]


def test_a_short_logarithmic_axis_has_labels_between_decades():
    with style.paper():
        axes = style.figure(3, 2).subplots()
    axes.set_yscale("log")
    for limits, labels in (((3e-3, 4e-2), {"0.005", "0.01", "0.02"}), ((1e-3, 1.0), set())):
        axes.set_ylim(*limits)
        style.log_ticks(axes.yaxis)
        at = [tick for tick in axes.yaxis.get_ticklocs() if limits[0] <= tick <= limits[1]]
        assert {text for text in axes.yaxis.get_major_formatter().format_ticks(at) if "$" not in text} == labels
        axes.set_yscale("log")


def test_the_label_of_the_colour_bar_is_inside(study):
    with style.paper():
        figure = gradients.heatmap(reported(load_study(study)))
        figure.draw_without_rendering()
        label = figure.axes[-1].yaxis.label.get_window_extent()
    assert 0 <= label.y0 < label.y1 <= figure.bbox.height


def test_the_heatmap_shares_one_scale_and_shows_the_lowest_seed(study):
    with style.paper():
        figure = gradients.heatmap(reported(load_study(study)))
    meshes = [axes.collections[0] for axes in figure.axes if axes.collections and axes.get_title()]
    assert len(meshes) == 3
    assert len({(mesh.norm.vmin, mesh.norm.vmax) for mesh in meshes}) == 1
    rows = np.load(study / "r-post_ln-100" / "layers" / "00000490.npz")["grad_stream"]
    assert np.asarray(meshes[0].get_array())[:, 0] == pytest.approx(rows[0].astype(np.float64), rel=1e-5)
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels[:2] == ["0 attn", "0 ff"]
    assert len(labels) == len(SITES)


def test_depth_reads_the_first_row_and_the_feed_forward_output(tmp_path):
    arrays = layer_arrays(np.random.default_rng(3), "pre_ln")
    write_run(tmp_path / "a", "pre_ln", 0, summary_of("pre_ln", 2.4), layers=arrays)
    with style.paper():
        figure = by_depth(tmp_path / "a")
    stream, _, weight, end = [axes.lines[-1].get_ydata() for axes in figure.axes[:4]]
    assert stream == pytest.approx(arrays["grad_stream"][0], rel=1e-6)
    assert weight == pytest.approx(arrays["grad_weight"][0, 3::4], rel=1e-6)
    expected = np.exp(np.log(arrays["grad_weight"][-10:, 3::4].astype(np.float64)).mean(axis=0))
    assert end == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("every", "last", "count", "told"),
    [
        (10, 1000, 10, "geometric mean of the last 10 records"),
        (1, 1000, 10, "geometric mean of the last 10 records"),
        (20, 400, 2, "geometric mean of the last 2 records"),
        (100, 300, 1, "last record"),
    ],
)
def test_the_end_is_the_last_tenth_of_the_steps_and_ten_records_at_most(every, last, count, told, tmp_path):
    step = np.asarray([1, *range(max(2, every), last + 1, every)])
    values = np.random.default_rng(1).lognormal(size=(len(step), len(SITES))).astype(np.float32)
    write_run(tmp_path / "a", "pre_ln", 0, summary_of("pre_ln", 2.4), layers={"step": step, "grad_stream": values})
    with style.paper():
        figure = by_depth(tmp_path / "a")
    assert figure.axes[1].get_title() == f"at the end ({told})"
    expected = np.exp(np.log(values[-count:].astype(np.float64)).mean(axis=0))
    assert figure.axes[1].lines[-1].get_ydata() == pytest.approx(expected, rel=1e-6)


def test_blocks_stand_under_each_other_whatever_sites_they_hold(tmp_path):
    """A row with two sites a block and one with three: both lines begin their last block at its number."""
    rng = np.random.default_rng(3)
    plan = [
        write_run(tmp_path / name, name, 0, summary_of("pre_ln", 2.4), layers=layer_arrays(rng, "pre_ln"))
        for name in ("pre_ln", "altup")
    ]
    layers = tmp_path / "altup" / "layers"
    three = [
        f"decoder.{block}.{kind}" for block in range(len(SITES) // 2) for kind in ("attention", "feed_forward", "block")
    ]
    (layers / "index.json").write_text(json.dumps(json.loads((layers / "index.json").read_text()) | {"sites": three}))
    for chunk in layers.glob("*.npz"):
        held = dict(np.load(chunk))
        np.savez(chunk, **held | {"grad_stream": np.repeat(held["grad_stream"], 3, 1)[:, ::2]})
    write_plan(tmp_path, {"run": plan})
    with style.paper():
        axes = by_depth(tmp_path).axes[0]
    two, other = (np.asarray(line.get_xdata()) for line in axes.lines)
    last = len(SITES) // 2 - 1
    assert two[-2:] == pytest.approx([last, last + 1 / 2])
    assert other[-3:] == pytest.approx([last, last + 1 / 3, last + 2 / 3])
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(block) for block in range(last + 1)]


def test_the_last_matrix_stands_in_where_names_differ():
    names = ["embed/kernel", "enc/blocks/0/a/kernel", "enc/blocks/0/mlp/wo/kernel", "enc/blocks/0/norm/gain"]
    names += ["dec/blocks/0/feed_forward/down/kernel", "dec/blocks/0/z/kernel", "dec/blocks/10/q/kernel"]
    assert depth.last_matrices(names) == ([4, 6, 2], ["dec 0", "dec 10", "enc 0"])
    assert depth.last_matrices(["head/kernel"]) == ([], [])
    assert depth.site_names(["encoder.0.attention", "decoder.1.cross_attention"]) == ["enc 0 attn", "dec 1 cross"]


def test_gradients_that_are_not_finite_leave_gaps(tmp_path):
    arrays = layer_arrays(np.random.default_rng(3), "pre_ln", 200)
    arrays["grad_stream"][5:, 2] = np.nan
    arrays["grad_stream"][3, 4] = 0.0
    arrays["grad_weight"][:] = np.inf
    write_run(tmp_path / "a", "pre_ln", 0, summary_of("pre_ln", 2.4, "diverged", 200), layers=arrays)
    assert len(plot(tmp_path / "a", say=lambda line: None)) == 4


def test_a_run_that_ended_at_its_first_step_is_drawn(tmp_path):
    first = layer_arrays(np.random.default_rng(3), "pre_ln", 1)
    assert first["step"].tolist() == [1]
    write_run(tmp_path / "a", "pre_ln", 0, summary_of("pre_ln", 2.4, "diverged", 1), layers=first)
    with style.paper():
        figure = gradients.heatmap(reported(load_study(tmp_path / "a")))
    assert figure.axes[0].get_xlim() == (1.0, 2.0)
    assert len(plot(tmp_path / "a", say=lambda line: None)) == 4


def test_the_picture_rings_the_winner_that_the_protocol_chooses(tmp_path):
    plan = [
        write_run(tmp_path / f"{rate}", "pre_ln", 0, summary_of("pre_ln", bpb, status), lr=rate)
        for rate, bpb, status in ((1e-3, 9.5, "done"), (1e-2, 9.9, "diverged"), (1e-4, 9.9, "diverged"))
    ]
    write_plan(tmp_path, {"tune": plan})
    study = load_study(tmp_path)
    shown = reported(study)
    with style.paper():
        figure = sensitivity.draw(study, shown)
    (ring,) = [line for axes in figure.axes for line in axes.lines if line.get_markersize() == 8.5]
    (winner,) = shown.winners.values()
    assert winner.tuned == (("optim.lr", 1e-3),)
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == pytest.approx((1e-3, 8.0))
    assert figure.axes[-1].get_xlabel() == "peak learning rate", "one scheme stands at its rates"


def test_runs_of_another_version_are_drawn_with_a_line(tmp_path):
    rows = curve(np.random.default_rng(0), 2.4, 100)
    write_run(tmp_path / "a", "pre_ln", 0, summary_of("pre_ln", 2.4, step=100), metrics=rows, semantics=0)
    said = []
    plot(tmp_path / "a", say=said.append)
    assert sum(line.startswith("a: Made under semantics 0; this version trains under") for line in said) == 1


def test_several_studies_each_get_their_own_folder(study, tmp_path):
    root = tmp_path / "runs"
    shutil.copytree(study, root / "one", ignore=shutil.ignore_patterns("figures", "layers", "metrics.jsonl"))
    write_run(root / "two" / "a", "pre_ln", 0, summary_of("pre_ln", 2.4), metrics=curve(np.random.default_rng(0), 2.4))
    (root / "bad" / "x").mkdir(parents=True)
    (root / "bad" / "x" / "config.json").write_text("{")
    said = []
    paths = plot(root, tmp_path / "out", say=said.append)
    assert {p.parent.relative_to(tmp_path / "out").as_posix() for p in paths} == {"quick", "two"}
    assert any(line.startswith("error: ") and "not a readable JSON object" in line for line in said)


def test_running_means():
    values = np.asarray([1.0, 2.0, 3.0, np.nan, 5.0])
    assert style.smooth(values, 3) == pytest.approx([1.5, 2.0, 2.5, math.nan, 5.0], nan_ok=True)
    assert style.smooth(values, 1) is values


def test_looks_differ_in_more_than_colour():
    looks = [style.look(i) for i in range(16)]
    assert len({(look.colour, str(look.line)) for look in looks}) == 16
    assert len({look.marker for look in looks[:8]}) == 8


def test_the_builders_plan_is_what_the_record_says(study):
    plan = json.loads((study / "study.json").read_text())
    assert plan["format"] == 1
    assert set(plan["phases"]) == {"tune", "report"}


def test_the_limits_are_those_of_what_is_drawn(tmp_path):
    """One run whose raw training losses scatter widely; the picture has their running mean."""
    rows = [{"step": s, "split": "val", "loss": 2.0, "bpb": 3.0 - s / 1000} for s in range(0, 1001, 100)]
    for step in range(1, 1001):
        value = 3.0 - step / 1000 + (0.8 if step % 2 else -0.8)
        rows.append({"step": step, "split": "train", "loss": value, "bpb": value, "grad_norm": 1.0, "lr": 1e-3})
    write_run(tmp_path / "a", "pre_ln", 0, summary_of("pre_ln", 2.0), metrics=rows)
    with style.paper():
        figure = learning(tmp_path / "a")
    low, high = figure.axes[0].get_ylim()
    assert low > 1.8
    assert high < 3.1


def test_the_heatmaps_of_a_design_have_a_column_for_each_scheme(tmp_path):
    rng = np.random.default_rng(0)
    plan = []
    for scheme in ("pre_ln", "post_ln", "no_norm"):
        for kind in ("layer", "rms"):
            folder = tmp_path / f"{scheme}-{kind}"
            more = {"layers": layer_arrays(rng, scheme, 100), "norm.kind": kind}
            plan.append(write_run(folder, scheme, 0, summary_of(scheme, 2.0), **more))
    write_plan(tmp_path, {"run": plan}, tuned=[], group=["scheme", "norm.kind"])
    with style.paper():
        figure = gradients.heatmap(reported(load_study(tmp_path)))
    panels = [axes for axes in figure.axes if axes.get_title()]
    titles = [" ".join(axes.get_title().split()) for axes in panels]
    assert titles == [f"{s}, norm.kind = {k}" for k in ("layer", "rms") for s in ("pre_ln", "post_ln", "no_norm")]
    assert {axes.get_subplotspec().get_gridspec().get_geometry() for axes in panels} == {(2, 3)}
