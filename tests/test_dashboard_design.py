"""The dashboard of a crossed design in a browser: two rows of one scheme can be told apart, and a wide table scrolls in its box."""

import numpy as np
import pytest
from browser import Watched, chromium
from test_report_study import layer_arrays, summary_of, write_plan, write_run

from addnorm_exp.cli import dashboard as command


def lines(level: float) -> list[dict]:
    """Training losses, and validations of which the first after step 0 lies far above the others."""
    rows = [{"step": 0, "split": "val", "loss": 5.6, "bpb": 8.0}]
    for step in range(1, 201):
        rows.append({"step": step, "split": "train", "loss": level, "bpb": level, "grad_norm": 1.0, "lr": 1e-3})
        if step in (10, 100, 200):
            value = level + (3.0 if step == 10 else 0.0)
            rows.append({"step": step, "split": "val", "loss": value, "bpb": value})
    return rows


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "design"
    rng = np.random.default_rng(0)
    plan = []
    for i, scheme in enumerate(("pre_ln", "post_ln")):
        for j, kind in enumerate(("layer", "rms")):
            level = 2.0 + 0.2 * (2 * i + j)
            summary = summary_of(scheme, level, step=200, steps=200, parameters=10 + i, flops_per_token=1e6 * (1 + j))
            summary["confounds"] |= {"evidence": "a long text without a break, " * (1 + i), "init": f"xavier {j}"}
            arrays = layer_arrays(rng, scheme, 200)
            folder_of = folder / f"{scheme}-{kind}"
            more = {"metrics": lines(level), "layers": arrays, "norm.kind": kind}
            plan.append(write_run(folder_of, scheme, 0, summary, **more))
    write_plan(folder, {"run": plan}, tuned=[], group=["scheme", "norm.kind"])
    command.run([str(folder)])
    with chromium() as browser:
        page = Watched(browser, folder / "dashboard.html", width=900)
        yield page
        assert page.trouble == []


def test_the_range_of_validations_contains_all_after_step_0(seen):
    low, high = seen.layout("curve-plot", "yaxis")["range"]
    assert low < 2.0
    assert 2.6 + 3.0 < high < 8.0


def test_titles_of_heatmaps_name_the_axes(seen):
    seen.page.select_option("#heat-beside", index=2)
    titles = [annotation["text"] for annotation in seen.layout("heat-plot", "annotations")]
    assert titles == ["<b>pre_ln</b>, norm.kind = layer, seed 0", "<b>pre_ln</b>, norm.kind = rms, seed 0"]


def test_swatches_of_two_norms_differ_as_in_the_pictures(seen):
    for table in ("#ablation", "#runs-table"):
        swatches = seen.page.eval_on_selector_all(f"{table} tbody .swatch", "all => all.map(one => one.outerHTML)")
        assert len(swatches) == len(set(swatches)) == 4
        assert ["stroke-dasharray" in swatch for swatch in swatches] == [False, True, False, True]


def test_a_wide_table_scrolls_in_its_box(seen):
    sizes = """() => { const box = document.querySelector("#ablation").parentElement; box.scrollLeft = 1e6;
        const last = document.querySelector("#ablation thead th:last-child").getBoundingClientRect(), edge = box.getBoundingClientRect();
        return [box.scrollWidth, box.clientWidth, document.documentElement.scrollWidth, innerWidth, last.right, edge.right]; }"""
    inner, box, page, window, last, edge = seen.page.evaluate(sizes)
    assert inner > box
    assert page <= window
    assert last <= edge + 1
