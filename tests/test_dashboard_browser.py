"""The dashboard in a browser: it is driven, photographed, and what it draws is compared with the records."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from browser import Watched, chromium
from of_config import experiment
from test_dashboard import HOSTILE
from test_report_study import curve, layer_arrays, summary_of, write_plan, write_run, write_study

from addnorm_exp.cli import dashboard as command
from addnorm_exp.config import Config, override
from addnorm_exp.report.figures.style import smooth
from addnorm_exp.report.load import load_study
from addnorm_exp.report.run import read_layers, read_metrics
from addnorm_exp.report.tables.ablation import build
from addnorm_exp.tasks import recipe

SCHEMES = {"post_ln": 2.62, "pre_ln": 2.45, "no_norm": 2.75}


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "quick"
    write_study(path, seeds=5, tuning_seeds=1, schemes=SCHEMES, diverged=(("no_norm", 101),))
    for file in path.glob("*/config.json"):
        config = json.loads(file.read_text())
        brings = recipe(experiment(override(Config(), {"scheme": config["scheme"]})))
        file.write_text(json.dumps(config | {"resolved": asdict(brings)}))
    command.run([str(path)])
    return path


@pytest.fixture(scope="module")
def study(folder):
    return load_study(folder)


@pytest.fixture(scope="module")
def opened(browser, folder):
    return Watched(browser, folder / "dashboard.html")


@pytest.fixture
def seen(opened):
    """The page as it is on opening, and nothing amiss by the end of the test."""
    opened.page.reload()
    opened.page.wait_for_selector("html[data-ready=yes]")
    yield opened
    assert opened.trouble == []


@pytest.fixture(scope="module")
def untouched(browser, folder):
    """The page on opening, for tests that only read it: to load it takes longer than most of them."""
    page = Watched(browser, folder / "dashboard.html")
    yield page
    assert page.trouble == []


def report(study, scheme):
    return [run for run in study.phases["report"] if run.scheme == scheme]


@pytest.mark.full
def test_the_table_is_that_of_the_table_command(untouched, study):
    table = build(study)
    rows = [untouched.texts(f"#ablation tbody tr:nth-child({i + 1}) td") for i in range(len(table.rows))]
    assert rows == [[cell.strip() for cell in row] for row in table.rows]
    assert untouched.texts("#table-notes li") == [" ".join(note.split()) for note in table.notes]


def test_sorting_by_a_column_up_and_down(seen, study):
    def click(label):
        seen.page.get_by_role("button", name=label, exact=True).click()
        return seen.column(label)

    numbers = [f"{run.number('test', 'final', 'bpb'):.4f}" for run in study.phases["report"] if run.status == "done"]
    assert click("test bpb") == [*sorted(numbers, key=float), "–"]
    assert seen.page.locator("#runs-table th[aria-sort=ascending]").inner_text().startswith("test bpb")
    assert click("test bpb") == [*sorted(numbers, key=float, reverse=True), "–"], "no value stands last either way"
    assert click("scheme") == sorted(seen.column("scheme"))
    seen.page.click("#filter-clear")
    rates = [float(rate) for rate in click("lr")]
    assert rates == sorted(rates)
    assert len(rates) == len(study.runs)


def test_filters_by_scheme_status_phase_and_text(seen, study):
    assert set(seen.column("phase")) == {"report"}, "the reported phase first"
    assert seen.texts("#runs-count") == ["15 of 30 runs"]
    seen.page.click("#filter-clear")
    assert seen.texts("#runs-count") == ["30 runs"]
    seen.choose("filter-scheme", "pre_ln")
    assert set(seen.column("scheme")) == {"pre_ln"}
    seen.choose("filter-phase", "tune")
    assert len(seen.column("run")) == 5
    seen.page.click("#filter-clear")
    seen.choose("filter-status", "diverged")
    assert sorted(seen.column("run")) == sorted(run.id for run in study.runs if run.status == "diverged")
    seen.page.click("#filter-clear")
    seen.page.fill("#filter-text", "lr=0.003 pre_")
    assert set(seen.column("lr")) == {"0.003"}
    assert set(seen.column("scheme")) == {"pre_ln"}
    seen.page.fill("#filter-text", "seed=101")
    assert set(seen.column("seed")) == {"101"}
    seen.page.fill("#filter-text", "nothing of this kind")
    assert seen.column("run") == []
    assert "No runs are listed" in seen.texts("#curve-plot")[0]


def test_seeds_are_joined_as_in_the_pictures(untouched, study):
    traces = {trace["name"]: trace for trace in untouched.traces("curve-plot") if trace.get("showlegend") is not False}
    assert list(traces) == ["post_ln", "pre_ln", "no_norm"]
    columns = [read_metrics(run, "val") for run in report(study, "pre_ln")]
    assert traces["pre_ln"]["x"] == columns[0]["step"].tolist()
    table = np.stack([column["bpb"] for column in columns])
    assert traces["pre_ln"]["y"] == pytest.approx(table.mean(axis=0), rel=1e-5)
    (band,) = [t for t in untouched.traces("curve-plot") if t.get("fill") == "toself" and t["legendgroup"] == "1"]
    half = 2.7764451 * table.std(axis=0, ddof=1) / np.sqrt(5)
    assert band["y"] == pytest.approx([*(table.mean(axis=0) + half), *(table.mean(axis=0) - half)[::-1]], rel=1e-4)
    lost = [read_metrics(run, "val") for run in report(study, "no_norm")]
    whole = np.full((5, 11), np.inf)
    for row, column in zip(whole, lost, strict=True):
        row[: len(column["bpb"])] = column["bpb"]
    assert traces["no_norm"]["y"] == pytest.approx(np.median(whole, axis=0), rel=1e-5), "never a mean of survivors"
    assert "Thinned" not in untouched.texts("#curve-note")[0]


def test_single_runs_and_filters_reach_the_curves(seen, study):
    seen.choose("curve-grouping", "single runs")
    traces = seen.traces("curve-plot")
    assert [trace["name"] for trace in traces] == ["post_ln", "pre_ln", "no_norm"]
    assert traces[0]["y"].count(None) == 5, "a gap after every run"
    seen.choose("filter-scheme", "pre_ln")
    assert [trace["name"] for trace in seen.traces("curve-plot")] == ["pre_ln"]
    seen.choose("curve-runs", "ticked runs")
    assert "No runs are listed" in seen.texts("#curve-plot")[0]
    seen.page.locator("#runs-table tbody input").nth(1).check()
    (trace,) = seen.traces("curve-plot")
    run = next(run for run in study.runs if run.id == seen.column("run")[1])
    assert trace["y"][:-1] == pytest.approx(read_metrics(run, "val")["bpb"], rel=1e-6)
    assert run.id in trace["text"][0]


def test_smoothing_is_the_running_mean_that_it_says(seen, study):
    seen.choose("curve-quantity", "training bits per byte")
    seen.choose("curve-grouping", "single runs")
    assert "mean of up to 3 steps" in seen.texts("#curve-note")[0]
    seen.page.fill("#curve-smoothing", "0")
    rough = seen.traces("curve-plot")[1]["y"]
    assert seen.texts("#curve-window") == ["off"]
    seen.page.fill("#curve-smoothing", "5")
    smoothed = seen.traces("curve-plot")[1]["y"]
    assert seen.texts("#curve-window") == ["mean of 50 steps"]
    first = rough.index(None)
    expected = smooth(np.asarray(rough[:first]), 17)  # a point every 3 steps: 17 of them lie within 50
    assert smoothed[8 : first - 10] == pytest.approx(expected[8:-10], rel=1e-5)
    assert np.std(np.diff(smoothed[50:first])) < 0.2 * np.std(np.diff(rough[50:first]))


def test_logarithmic_axes(seen):
    assert seen.layout("curve-plot", "yaxis")["type"] == "linear"
    seen.page.check("#curve-log-y")
    seen.page.check("#curve-log-x")
    assert (seen.layout("curve-plot", "yaxis")["type"], seen.layout("curve-plot", "xaxis")["type"]) == ("log", "log")
    seen.page.uncheck("#curve-log-y")
    assert seen.layout("curve-plot", "yaxis")["type"] == "linear"


def test_the_steep_start_is_shown_on_a_double_click(seen, study):
    low, high = seen.layout("curve-plot", "yaxis")["range"]
    late = [read_metrics(run, "val")["bpb"][2:] for run in study.phases["report"] if run.status == "done"]
    assert low < np.min(late) < np.quantile(late, 0.95) < high < 5
    seen.page.locator("#curve-plot .nsewdrag").first.dblclick()
    seen.page.wait_for_function("document.getElementById('curve-plot').layout.yaxis.range[1] > 7.9")


def test_no_button_sends_anything_anywhere(untouched):
    buttons = untouched.page.locator(".modebar-btn").evaluate_all("all => all.map(one => one.dataset.title || '')")
    assert set(buttons) == {"Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes", "Download plot as a PNG"}
    assert "form-action 'none'" in untouched.page.locator("meta[http-equiv]").get_attribute("content")
    for id in ("curve-plot", "heat-plot", "rates-plot"):
        context = untouched.page.evaluate("id => document.getElementById(id)._context", id)
        assert (context["showSendToCloud"], context["plotlyServerURL"]) == (False, "")


def test_pointing_at_a_curve_tells_its_run(seen):
    seen.choose("curve-grouping", "single runs")
    seen.page.locator("#curves").scroll_into_view_if_needed()
    box = seen.page.locator("#curve-plot .scatterlayer .trace").nth(1).bounding_box()
    seen.page.mouse.move(box["x"] + box["width"] - 1, box["y"] + box["height"] - 2, steps=3)
    seen.page.wait_for_selector("#curve-plot .hovertext")
    words = seen.page.locator("#curve-plot .hovertext").text_content()
    assert "step 1000: 2.4" in words
    assert "pre_ln seed 10" in words


def test_heatmaps_show_the_chosen_run_and_quantity(seen, study):
    (panel,) = seen.traces("heat-plot")
    first = read_layers(study.phases["report"][0])
    assert panel["customdata"][0] == pytest.approx(first.arrays["grad_stream"][:, 0], rel=2e-4)
    run = report(study, "pre_ln")[2]
    place = next(i for i, text in enumerate(seen.texts("#heat-run option")) if text.startswith("pre_ln seed 102"))
    seen.page.select_option("#heat-run", index=place)
    seen.page.select_option("#heat-quantity", "grad_weight")
    (panel,) = seen.traces("heat-plot")
    layers = read_layers(run)
    assert np.asarray(panel["customdata"]) == pytest.approx(layers.arrays["grad_weight"].T, rel=2e-4)
    assert panel["labels"][:2] == ["0 attn query", "0 attn out"]
    seen.choose("heat-family", "feed_forward/down/kernel")
    (panel,) = seen.traces("heat-plot")
    assert np.asarray(panel["customdata"]) == pytest.approx(layers.arrays["grad_weight"].T[3::4], rel=2e-4)
    assert panel["labels"] == [f"{block} ff down" for block in range(4)]
    seen.page.select_option("#heat-beside", index=1)
    assert len(seen.traces("heat-plot")) == 2


def test_learning_rates_have_their_means_and_diverged_runs_their_crosses(untouched, study):
    traces = untouched.traces("rates-plot")
    lines = [trace for trace in traces if trace["showlegend"]]
    assert [trace["name"] for trace in lines] == ["post_ln", "pre_ln", "no_norm"]
    tune = [run for run in study.phases["tune"] if run.scheme == "post_ln"]
    means = [value for value in lines[0]["y"] if value is not None]
    assert means == pytest.approx([run.number("val", "final", "bpb") for run in tune if run.status == "done"])
    crosses = [len(trace["x"]) for trace in traces if trace["marker"].get("symbol") == "x-thin"]
    assert sum(crosses) == sum(run.status == "diverged" for run in study.phases["tune"])


def test_two_ticked_runs_are_compared_key_by_key(seen, study):
    assert "Tick two runs" in seen.texts("#difference-note")[0]
    for run in (report(study, "post_ln")[0], report(study, "pre_ln")[1]):
        seen.page.get_by_label(f"tick {run.id}", exact=True).check()
    one, two = report(study, "post_ln")[0].flat, report(study, "pre_ln")[1].flat
    differing = sorted(key for key in one if one[key] != two[key])
    shown = seen.texts("#difference-table tr[data-key] th")
    assert shown[: len(differing)] == differing
    assert "final_norm" in shown[len(differing) :], "what is resolved stands below the config"
    assert seen.texts("#difference-table tr[data-key='optim.lr'] td") == [str(one["optim.lr"]), str(two["optim.lr"])]
    assert seen.texts("#difference-note") == [f"2 runs differ in {len(differing)} keys of the config."]
    finals = [
        f"{run.number('test', 'final', 'bpb'):.4f}" for run in (report(study, "post_ln")[0], report(study, "pre_ln")[1])
    ]
    row = seen.page.locator("#difference-table tr").filter(has_text="test bpb")
    assert row.locator("td").all_inner_texts() == finals
    seen.page.check("#difference-all")
    assert set(one) < set(seen.texts("#difference-table tr[data-key] th"))
    seen.page.click("#untick")
    assert seen.texts("#difference-table tr") == []


@pytest.mark.parametrize(
    ("width", "dark"),
    [(1280, True), *(pytest.param(*window, marks=pytest.mark.full) for window in ((390, False), (1280, False)))],
)
def test_the_page_fits_its_window_by_day_and_by_night(browser, folder, tmp_path, width, dark):
    seen = Watched(browser, folder / "dashboard.html", width=width, dark=dark)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width, "nothing reaches beyond the window"
    picture = seen.page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert len(picture) > 50_000
    ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(251, 251, 249)") != dark
    for plot in ("curve-plot", "heat-plot", "rates-plot"):
        box = seen.page.locator(f"#{plot} svg.main-svg").first.bounding_box()
        assert box["width"] > 0.7 * width
        assert box["height"] > 150
    assert seen.trouble == []
    seen.page.close()


def test_names_are_text_and_nothing_else(browser, tmp_path):
    plan = []
    for place, name in enumerate(HOSTILE):
        rows = curve(np.random.default_rng(0), 2.4, 200)
        rows += [{"step": step, "split": "val", name: 1.0} for step in (0, 100)]
        summary = summary_of(name, 2.4, step=200, reason=name) | {"git": name}
        entry = write_run(tmp_path / f"r{place}", name, 0, summary, metrics=rows, **{"init.law": name})
        plan.append(entry)
    write_plan(tmp_path, {"run": plan}, name=HOSTILE[0], baseline=HOSTILE[0], tuned=[])
    command.run([str(tmp_path)])
    seen = Watched(browser, tmp_path / "dashboard.html")
    assert seen.page.title() == f"{HOSTILE[0]} · addnorm_exp"
    assert seen.page.locator("#name").text_content() == HOSTILE[0]
    cells = seen.page.locator("#runs-table tbody td:nth-child(2)").all_text_contents()
    assert cells == list(HOSTILE)
    seen.choose("curve-grouping", "single runs")
    legend = seen.page.locator("#curve-plot .legendtext").evaluate_all("all => all.map(one => one.textContent)")
    assert [text.replace("\xa0", " ") for text in legend] == list(HOSTILE)
    for index in range(len(seen.texts("#curve-quantity option"))):
        seen.page.select_option("#curve-quantity", index=index)
    seen.page.locator("#runs-table thead input").check()
    assert seen.page.locator("#difference-table tr[data-key='init.law'] td").all_text_contents() == list(HOSTILE)
    assert seen.page.locator("img").count() == 0
    assert seen.trouble == []
    seen.page.close()


@pytest.mark.full
def test_studies_that_have_hardly_begun_and_the_choice_between_them(browser, tmp_path):
    rng = np.random.default_rng(0)
    write_plan(tmp_path / "a", {"tune": [{"id": "x", "overrides": {"scheme": "pre_ln", "seed": 0}}], "report": []})
    first = [row for row in curve(rng, 2.0, 2) if row["split"] == "train"][:1]
    plan = [write_run(tmp_path / "b" / "r", "pre_ln", 0, summary_of("pre_ln", 2, "running", 1), metrics=first)]
    plan.append(write_run(tmp_path / "b" / "s", "post_ln", 0, None))
    one = {name: array[:1] for name, array in layer_arrays(rng, "pre_ln", 10).items()}
    plan.append(write_run(tmp_path / "b" / "t", "pre_ln", 1, summary_of("pre_ln", 2, "diverged", 1), layers=one))
    write_plan(tmp_path / "b", {"run": plan}, tuned=[])
    command.run([str(tmp_path)])
    seen = Watched(browser, tmp_path / "dashboard.html")
    assert seen.texts("#study option") == ["a", "b"]
    assert seen.column("status") == ["missing"]
    assert seen.texts("#curve-plot") == ["No metrics of these runs yet."]
    assert "No per-layer record" in seen.texts("#heat-plot")[0]
    assert "No finished runs" in seen.texts("#rates-plot")[0]
    seen.choose("study", "b")
    assert seen.column("status") == ["stopped", "stopped", "diverged"]
    (trace,) = seen.traces("curve-plot")
    assert (trace["x"], trace["mode"]) == ([1], "markers"), "a curve of one point is a dot"
    (panel,) = seen.traces("heat-plot")
    assert np.asarray(panel["customdata"])[:, 0] == pytest.approx(one["grad_stream"][0], rel=2e-4)
    seen.page.locator("#runs-table thead input").check()
    seen.choose("curve-runs", "ticked runs")
    seen.choose("study", "a")
    assert seen.texts("#curve-plot") == ["No metrics of these runs yet."]
    seen.page.click("#theme")
    assert seen.trouble == []
    seen.page.close()


@pytest.mark.full
def test_hundreds_of_runs_are_a_page_of_few_megabytes_that_can_be_filtered(browser, tmp_path):
    rng, plan = np.random.default_rng(0), []
    rows = {scheme: curve(rng, level, 300) for scheme, level in SCHEMES.items()}
    for place in range(300):
        scheme = list(SCHEMES)[place % 3]
        summary = summary_of(scheme, SCHEMES[scheme] + 0.01 * rng.standard_normal(), step=300)
        plan.append(write_run(tmp_path / f"r{place:03d}", scheme, place, summary, metrics=rows[scheme]))
    write_plan(tmp_path, {"run": plan}, tuned=[])
    command.run([str(tmp_path)])
    assert (tmp_path / "dashboard.html").stat().st_size < 6e6, "equal arrays are held once"
    seen = Watched(browser, tmp_path / "dashboard.html")
    for field, value in (("filter-text", "pre_ln"), ("filter-text", ""), ("curve-grouping", "single")):
        seen.page.evaluate(
            """([id, value]) => { const place = document.getElementById(id);
            place.value = value; place.dispatchEvent(new Event("input")); }""",
            [field, value],
        )
    assert json.loads(seen.texts("#runs-count")[0].split()[0]) == 300
    assert seen.trouble == []
    seen.page.close()
