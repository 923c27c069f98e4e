"""Layer × step with fewer cells than steps: one joining, by hand, and the same in the three pictures of a run."""

import base64
import json
import warnings

import numpy as np
import pytest
from test_report_study import SITES, summary_of, write_run

from addnorm_exp.report.dashboard import heat
from addnorm_exp.report.dashboard.page import data
from addnorm_exp.report.figures import gradients, style
from addnorm_exp.report.load import load_study
from addnorm_exp.report.protocol.groups import reported
from addnorm_exp.runs.layers import read_layers
from addnorm_exp.runs.mirror import picture
from addnorm_exp.runs.thinning import joined, steps_a_cell

STEP = np.array([1, 2, 4, 6, 8, 10, 12])
VALUES = np.array([[1, 4, 3], [4, np.nan, 0], [9, 1, np.inf], [2, 9, 0], [2, 0, 0], [2, 1, np.nan], [5, 5, 5]])


def test_geometric_means_over_what_is_positive_and_finite():
    edges, cells = joined(STEP, VALUES.astype(np.float32), 3)
    assert edges.tolist() == [1, 5, 11, 12]
    nothing = np.nan
    expected = [[36 ** (1 / 3), 2, 3], [2, 3, nothing], [5, 5, 5]]
    np.testing.assert_allclose(cells, expected, rtol=1e-12)


def test_arithmetic_means_over_what_is_finite():
    edges, cells = joined(STEP, -VALUES, 3, geometric=False)
    assert edges.tolist() == [1, 5, 11, 12]
    np.testing.assert_allclose(cells, [[-14 / 3, -2.5, -1.5], [-2, -10 / 3, 0], [-5, -5, -5]], rtol=1e-12)


def test_what_has_room_stays_as_it_is():
    for most in (7, 100):
        edges, cells = joined(STEP, VALUES, most, geometric=False)
        assert edges.tolist() == [1, 1.5, 3, 5, 7, 9, 11, 12]
        np.testing.assert_array_equal(cells, np.where(np.isfinite(VALUES), VALUES, np.nan))
    assert joined(STEP[:1], VALUES[:1], 5)[0].tolist() == [1, 2]
    assert [steps_a_cell(count, 200) for count in (1, 200, 201, 400, 401)] == [1, 1, 2, 2, 3]


@pytest.fixture
def long(tmp_path):
    """A record of 13 steps whose gradients differ by decades from step to step, so that no mean is another; some are zero or missing."""
    rng = np.random.default_rng(5)
    values = 10.0 ** rng.uniform(-4, 4, (13, len(SITES)))
    values[4], values[5, 0], values[6:9, 1] = np.nan, 0, 0
    arrays = {"step": np.arange(10, 140, 10), "grad_stream": values.astype(np.float32)}
    write_run(tmp_path / "study" / "a", "pre_ln", 0, summary_of("pre_ln", 2.0), layers=arrays)
    return tmp_path / "study"


def test_the_three_pictures_of_a_run_show_the_same_numbers(long, monkeypatch):
    for module, name in ((picture, "CELLS"), (gradients, "CELLS"), (heat, "ROWS")):
        monkeypatch.setattr(module, name, 5)
    layers = read_layers(long / "a" / "layers")
    values = layers.arrays["grad_stream"].astype(np.float64)
    kept = np.where(values > 0, values, np.nan)
    parts = [kept[start : start + 3] for start in range(0, 13, 3)]
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # the mean of nothing
        expected = np.exp([np.nanmean(np.log(part), axis=0) for part in parts])
    assert np.isnan(expected).any()

    edges, cells = picture.panel(layers, "grad_stream")
    assert edges.tolist() == [10, 35, 65, 95, 125, 130]
    np.testing.assert_allclose(cells, expected, rtol=1e-6)

    with style.paper():
        figure = gradients.heatmap(reported(load_study(long)))
    mesh = figure.axes[0].collections[0]
    np.testing.assert_allclose(np.ma.filled(mesh.get_array(), np.nan).T, expected, rtol=1e-6)
    assert mesh.get_coordinates()[0, :, 0].tolist() == edges.tolist()
    assert figure.axes[0].get_xlim() == (1, 130), (
        "the last record is within the frame, and nothing of the frame is beyond it"
    )

    held = json.loads(json.dumps(data(load_study(long))))
    _, steps, codes, low, high = held["layers"]["runs"]["0"]["grad_stream"]
    codes = np.frombuffer(base64.b64decode(held["pool"][codes]), "<u2").reshape(expected.shape).astype(np.float64)
    shown = np.where(codes == 0, np.nan, 10 ** (low + (codes - 1) / 65534 * (high - low)))
    np.testing.assert_allclose(shown, expected, rtol=1e-3)
    assert np.frombuffer(base64.b64decode(held["pool"][steps]), "<f4").tolist() == [20, 50, 80, 110, 130]
    assert held["layers"]["joined"] == 3
