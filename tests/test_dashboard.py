"""The dashboard's page without a browser: what it embeds is what the records say, and no name gets out of its place."""

import base64
import json
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from test_report_study import SITES, TENSORS, curve, summary_of, write_plan, write_run, write_study

from addnorm_exp.cli import dashboard as command
from addnorm_exp.cli import main
from addnorm_exp.errors import UserError
from addnorm_exp.report.dashboard import heat, pack, scalars
from addnorm_exp.report.dashboard.page import data, page
from addnorm_exp.report.dashboard.runs import DARK, columns, lightened, luminance, scheme_look
from addnorm_exp.report.figures import style
from addnorm_exp.report.load import load_study
from addnorm_exp.report.run import read_layers, read_metrics
from addnorm_exp.report.tables.ablation import build
from addnorm_exp.runs.folder import RunFolder

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "\"'><img src=x onerror=alert(1)>",
    "a & b &lt;b&gt; \u2028 {{data}} %{x} \\",
)


class Scripts(HTMLParser):
    """The page as a browser cuts it up: script elements with their attributes and texts, and every other start tag."""

    def __init__(self, text: str):
        super().__init__()
        self.scripts: list[tuple[dict, str]] = []
        self.tags: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.inside = tag == "script"
        self.tags.append(tag)
        if self.inside:
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, text):
        if self.inside:
            attributes, former = self.scripts[-1]
            self.scripts[-1] = (attributes, former + text)


def unpacked(study: dict, place: int) -> np.ndarray:
    return np.frombuffer(base64.b64decode(study["pool"][place]), "<f4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "quick"
    return write_study(
        path, seeds=2, tuning_seeds=1, schemes={"post_ln": 2.6, "pre_ln": 2.4}, diverged=(("post_ln", 101),)
    )


@pytest.fixture(scope="module")
def study(folder):
    return load_study(folder)


@pytest.fixture(scope="module")
def held(study):
    return json.loads(json.dumps(data(study), allow_nan=False))


def test_the_table_has_the_words_of_the_table_command(study, held):
    table = build(study)
    assert held["table"]["rows"] == [list(row) for row in table.rows]
    assert held["table"]["columns"] == [[column.label, column.right] for column in table.columns]
    assert (held["table"]["notes"], held["table"]["title"]) == (list(table.notes), table.title)


def test_runs_have_their_results_and_every_key_of_their_configs(study, held):
    for place, run in enumerate(study.runs):
        entry = held["runs"][place]
        assert (entry["id"], entry["status"], entry["seed"]) == (run.id, run.status, run.seed)
        assert held["schemes"][entry["scheme"]]["name"] == run.scheme
        assert entry["test"] == run.number("test", "final", "bpb")
        assert entry["phases"] == [phase for phase, members in study.phases.items() if run in members]
        for key, value in run.flat.items():
            column = held["config"][key]
            text = column[0][column[1][place]] if isinstance(column, list) else column
            assert text == str(value)
    assert held["axes"] == ["optim.lr"]
    assert (held["shown"], held["statuses"]) == ("report", ["done", "diverged"])


def test_groups_are_seeds_of_one_config(study, held):
    for group in held["groups"]:
        runs = [study.runs[place] for place in group["runs"]]
        assert len({repr(sorted((k, v) for k, v in run.flat.items() if k != "seed")) for run in runs}) == 1
        assert len({run.seed for run in runs}) == len(runs)
    report = [group for group in held["groups"] if group["phase"] == "report"]
    assert [(group["label"], len(group["runs"])) for group in report] == [("post_ln", 2), ("pre_ln", 2)]
    assert sum(len(group["runs"]) for group in held["groups"]) == len(study.runs)


def test_curves_are_the_records_numbers_or_means_of_bins_that_are_told(study, held):
    names = {(split, name) for split, name, _ in held["curves"]["quantities"]}
    assert names == {("val", "bpb"), ("train", "bpb"), ("train", "grad_norm"), ("train", "lr")}
    assert held["curves"]["thinned"] == {"train": 3}
    for place, run in enumerate(study.runs):
        for split in ("val", "train"):
            columns = read_metrics(run, split)
            packed = held["curves"]["runs"][place].get(split)
            assert (packed is None) == (not columns)
            if packed is None:
                continue
            x, y = unpacked(held, packed["x"]), unpacked(held, packed["bpb"])
            if split == "val":
                np.testing.assert_array_equal(x, columns["step"])
                np.testing.assert_array_equal(y, columns["bpb"].astype(np.float32))
            else:
                first = [np.mean(columns["bpb"][i : i + 3]) for i in range(0, 30, 3)]
                np.testing.assert_allclose(y[:10], first, rtol=1e-6)
                np.testing.assert_array_equal(x[:10], np.arange(2, 32, 3))
                assert len(x) <= scalars.POINTS
    assert len(held["pool"]) == len(set(held["pool"])), "equal arrays are held once"


def heatmap(held: dict, place: int, key: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """As heat.js reads it: labels, steps, values (rows of steps, columns)."""
    names, steps, cells, low, high = held["layers"]["runs"][str(place)][key]
    log = next(log for name, _, log, _ in held["layers"]["quantities"] if name == key)
    labels = held["layers"]["names"][names]["labels"]
    codes = np.frombuffer(base64.b64decode(held["pool"][cells]), "<u2").reshape(-1, len(labels)).astype(np.float64)
    values = np.where(codes == 0, np.nan, low + (codes - 1) / 65534 * (high - low))
    return labels, unpacked(held, steps), 10**values if log else values


def test_heatmaps_are_the_records_arrays(study, held):
    assert [entry[0] for entry in held["layers"]["quantities"]] == ["grad_stream", "grad_weight"]
    assert sorted(held["layers"]["runs"]) == [str(i) for i, run in enumerate(study.runs) if read_layers(run)]
    for place in map(int, held["layers"]["runs"]):
        layers = read_layers(study.runs[place])
        for key, first in (("grad_stream", ["0 attn", "0 ff"]), ("grad_weight", ["0 attn query", "0 attn out"])):
            labels, steps, values = heatmap(held, place, key)
            assert labels[:2] == first
            np.testing.assert_array_equal(steps, layers.step)
            np.testing.assert_allclose(values, layers.arrays[key], rtol=2e-4)
    low, high = held["layers"]["scale"]["grad_stream"]
    seen = [read_layers(run).arrays["grad_stream"] for run in study.phases["report"] if run.status == "done"]
    assert [10**low, 10**high] == pytest.approx(np.quantile(np.concatenate(seen), [0.002, 0.998]), rel=2e-2)


def test_long_per_layer_records_are_joined_by_geometric_means(tmp_path):
    steps = np.arange(1, 252)
    arrays = {"step": steps, "grad_stream": np.exp(np.random.default_rng(0).normal(size=(251, 8))).astype(np.float32)}
    arrays["grad_stream"][3] = np.nan
    arrays["grad_stream"][6:9] = 0
    write_run(tmp_path / "s" / "a", "pre_ln", 0, summary_of("pre_ln", 2.0), layers=arrays)
    attention = {"step": np.array([0, 100]), "entropy": np.array([[2.0, 0, 1, np.nan], [1, 1, -1, 1]], np.float32)}
    np.savez(tmp_path / "s" / "a" / "layers" / "attention-00000100.npz", **attention)
    held = json.loads(json.dumps(data(load_study(tmp_path / "s"))))
    assert held["layers"]["joined"] == 3
    _, x, values = heatmap(held, 0, "grad_stream")
    assert x.tolist() == [*range(2, 250, 3), 250.5]
    np.testing.assert_allclose(values[0], np.exp(np.log(arrays["grad_stream"][:3]).mean(axis=0)), rtol=2e-4)
    np.testing.assert_allclose(values[1], np.exp(np.log(arrays["grad_stream"][4:6]).mean(axis=0)), rtol=2e-4)
    assert np.isnan(values[2]).all()
    labels, x, values = heatmap(held, 0, "entropy")
    assert (labels, x.tolist()) == (["0 attn", "1 attn", "2 attn", "3 attn"], [0, 100])
    np.testing.assert_allclose(values, attention["entropy"], atol=1e-4)


def test_a_page_of_many_runs_keeps_within_its_budget(study, monkeypatch):
    assert heat._columns(study.phases["report"][0]) == 3 * len(SITES) + 3 * len(TENSORS) + 2 * len(SITES[::2])
    monkeypatch.setattr(heat, "CELLS", 3 * heat._columns(study.phases["report"][0]) * heat.FEWEST)
    found = heat.heat(study.runs, [study.phases["report"][3].id], pack.Pool())
    assert found["left_out"] == 1
    assert len(found["runs"]) == 3
    assert study.runs.index(study.phases["report"][3]) in found["runs"]
    assert found["joined"] == -(-101 // heat.FEWEST)


def test_rates_are_scored_by_the_protocol(tmp_path):
    plan = []
    for scheme, rate, seed, bpb, status in (
        ("pre_ln", 1e-3, 0, 2.0, "done"),
        ("pre_ln", 1e-3, 1, 2.5, "done"),
        ("pre_ln", 1e-2, 0, 9.5, "done"),
        ("pre_ln", 1e-2, 1, 0, "diverged"),
        ("no_norm", 1e-2, 0, 3.0, "done"),
        ("no_norm", 1e-1, 0, 3.0, "running"),
    ):
        summary = summary_of(scheme, bpb, status)
        plan.append(write_run(tmp_path / str(len(plan)), scheme, seed, summary, lr=rate))
    write_plan(tmp_path, {"tune": plan})
    held = data(load_study(tmp_path))
    (panel,) = held["rates"]["panels"]
    lines = {held["schemes"][line["scheme"]]["name"]: line for line in panel["lines"]}
    assert lines["pre_ln"]["means"] == [[1e-3, pytest.approx(2.24), 0, 2], [1e-2, 8.0, 1, 2]]
    assert lines["pre_ln"]["points"][2:] == [[1e-2, pytest.approx(9.49), 2, False], [1e-2, 8.0, 3, True]]
    assert (lines["pre_ln"]["best"], lines["no_norm"]["best"]) == (1e-3, 1e-2)
    assert [point[2] for point in lines["no_norm"]["points"]] == [4], "a run that has not ended has no score"


def test_bins_leave_out_what_is_not_finite():
    steps = np.arange(0, 8)
    x, found = pack.thin(steps, {"a": np.array([9, 1, np.nan, 3, np.nan, np.inf, np.nan, 7.0])}, 3)
    assert x.tolist() == [0, 2, 5, 7]
    assert found["a"].tolist()[:2] == [9, 2]
    assert np.isnan(found["a"][2])
    assert found["a"][3] == 7


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_gets_out_of_its_place(tmp_path, name):
    metrics = [{"step": 1, "split": "train", "loss": 1.0, name: 2.0}]
    summary = summary_of(name, 2.0, "failed", reason=name) | {"git": name, "versions": {name: name}}
    entry = write_run(tmp_path / "s" / "a", name, 0, summary, metrics=metrics, **{"init.law": name})
    write_plan(tmp_path / "s", {"run": [entry]}, name=name, baseline=name)
    held = data(load_study(tmp_path / "s"))
    text = page([held], "plotly()", NOW)
    parsed = Scripts(text)
    assert [attributes for attributes, _ in parsed.scripts] == [{"type": "application/json", "id": "data"}, {}, {}]
    assert json.loads(parsed.scripts[0][1]) == [held]
    assert parsed.scripts[1][1].strip() == "plotly()"
    assert "img" not in parsed.tags
    assert (held["name"], held["schemes"][0]["name"], held["config"]["init.law"]) == (name, name, name)


def test_the_page_is_one_file_that_asks_no_network(held):
    text = page([held], "plotly()", NOW)
    assert "{{" not in text.replace(json.dumps("{{"), "")
    for word in ("src=", "@import", "url(", "fetch(", "XMLHttpRequest", "innerHTML", "http:", "https:", "eval("):
        assert word not in text, word
    assert "default-src 'none'" in text
    assert "as of 2026-01-02 03:04 UTC" in text


def test_a_script_that_names_its_own_end_does_not_end():
    parsed = Scripts(page([], 'x = "</script>";', NOW))
    assert parsed.scripts[1][1].strip() == 'x = "<\\/script>";'


def test_unfinished_studies_have_a_page(tmp_path):
    rng = np.random.default_rng(0)
    plan = [write_run(tmp_path / "a", "pre_ln", 0, summary_of("pre_ln", 2.0, "running", 40), metrics=curve(rng, 2, 40))]
    plan.append({"id": "b", "overrides": {"scheme": "pre_ln", "seed": 1}})
    plan.append(write_run(tmp_path / "c", "pre_ln", 2, None, lr=1e-2))
    write_plan(tmp_path, {"tune": plan, "report": []})
    held = data(load_study(tmp_path))
    assert [run["status"] for run in held["runs"]] == ["stopped", "missing", "stopped"]
    assert held["statuses"] == ["stopped", "missing"]
    with RunFolder(tmp_path / "a").claimed():
        assert data(load_study(tmp_path))["runs"][0]["status"] == "running"
    assert held["rates"] is None
    assert [sorted(run) for run in held["curves"]["runs"]] == [["train", "val"], [], []]
    json.dumps(held, allow_nan=False)


def test_columns_hold_equal_values_once():
    found = columns([{"a": 1, "b": None, "c": 1e-3}, {"a": 1, "b": True, "d": (1, 2)}])
    assert found == {
        "a": "1",
        "b": [["default", "true"], [0, 1]],
        "c": [["0.001", None], [0, 1]],
        "d": [[None, "1,2"], [0, 1]],
    }


def test_colours_are_those_of_the_pictures_and_are_seen_at_night():
    ground = luminance([int(DARK[i : i + 2], 16) for i in (1, 3, 5)])
    for index in range(12):
        found = scheme_look("x", style.look(index))
        assert found["light"] == style.look(index).colour
        seen = luminance([int(found["dark"][i : i + 2], 16) for i in (1, 3, 5)])
        assert (seen + 0.05) / (ground + 0.05) >= 4.5
    assert luminance([255, 255, 255]) == pytest.approx(1)
    assert luminance([0, 0, 0]) == 0
    assert lightened("#FFFFFF") == "#FFFFFF"


def test_the_command_writes_the_page_with_plotly_in_it(folder, tmp_path, capsys):
    pytest.importorskip("plotly")
    assert command.run([str(folder), f"--out={tmp_path / 'x.html'}"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'x.html'}\n"
    parsed = Scripts((tmp_path / "x.html").read_text())
    assert len(parsed.scripts) == 3
    assert "plotly.js v" in parsed.scripts[1][1][:300]
    assert json.loads(parsed.scripts[0][1])[0]["name"] == "quick"
    assert [path.name for path in tmp_path.iterdir()] == ["x.html"], "nothing else is left"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        command.run([str(folder), f"--out={tmp_path / 'file' / 'x.html'}"])


def test_the_flags_of_the_table_are_the_pages(tmp_path):
    pytest.importorskip("plotly")
    write_study(tmp_path / "s", seeds=5, tuning_seeds=1, schemes={"post_ln": 2.6, "pre_ln": 2.4})
    assert command.run([str(tmp_path / "s"), "--baseline=post_ln"]) == 0
    (held,) = json.loads(Scripts((tmp_path / "s" / "dashboard.html").read_text()).scripts[0][1])
    assert "Δ to post_ln" in [label for label, _ in held["table"]["columns"]]
    for place, name in enumerate("ab"):
        write_run(tmp_path / "m" / name, "pre_ln", place, summary_of("pre_ln", 2.0), semantics=1 + place)
    with pytest.raises(UserError, match="semantics"):
        command.run([str(tmp_path / "m")])
    assert command.run([str(tmp_path / "m"), "--mix_semantics"]) == 0


def test_several_studies_stand_on_one_page_and_a_bad_one_costs_a_line(tmp_path, capsys):
    pytest.importorskip("plotly")
    for name in ("one", "two"):
        write_run(tmp_path / name / "a", "pre_ln", 0, summary_of("pre_ln", 2.0))
    write_run(tmp_path / "bad" / "a", "pre_ln", 0, None)
    (tmp_path / "bad" / "a" / "config.json").write_text("{")
    assert command.run([str(tmp_path)]) == 2
    assert "error: " in capsys.readouterr().err
    held = json.loads(Scripts((tmp_path / "dashboard.html").read_text()).scripts[0][1])
    assert [study["name"] for study in held] == ["one", "two"]


def test_without_plotly_one_line_names_the_remedy(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert main(["dashboard", str(folder)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "uv run --extra dashboard main.py dashboard" in said
