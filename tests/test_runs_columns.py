"""What the columns of the per-layer record are: the same to who writes them, who reads them, and the page about them."""

import re

import numpy as np
import pytest
from of_config import run
from training import ROOT, config

from addnorm_exp.report.dashboard.heat import QUANTITIES
from addnorm_exp.runs.columns import COLUMNS, Within, by_layer, within
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.layers import KINDS, chunks, read_layers
from addnorm_exp.runs.mirror.picture import PANELS


def test_training_records_every_quantity_with_its_columns(data, tmp_path):
    run(config(execution__attention_every=4), data, RunFolder(tmp_path))
    assert {kind for _, kind in chunks(tmp_path / "layers")} == set(KINDS)
    found = [read_layers(tmp_path / "layers", kind) for kind in KINDS]
    arrays = {name: (layers, array) for layers in found for name, array in layers.arrays.items()}
    assert set(arrays) == set(COLUMNS)
    for name, (layers, array) in arrays.items():
        assert array.shape == (len(layers.step), len(getattr(layers.index, COLUMNS[name])))
        assert layers.index.columns(name) == getattr(layers.index, COLUMNS[name])


def test_the_page_and_the_pictures_know_these_quantities():
    assert set(QUANTITIES) == set(COLUMNS)
    assert set(PANELS) < set(COLUMNS)
    page = (ROOT / "docs" / "record.md").read_text().partition("## layers/")[2].partition("\n## ")[0]
    told = {
        name: of.replace(" ", "_")
        for names, of in re.findall(r"^\| (`.+`) \| \(\w, ([a-z ]+)\) \|", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert told == COLUMNS


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("decoder.0.attention", ("decoder", 0, "attention")),
        ("encoder.12.attention+feed_forward", ("encoder", 12, "attention+feed_forward")),
        ("decoder/blocks/3/attention/out/kernel", ("decoder", 3, "attention/out/kernel")),
        ("blocks/3/norm/gain", ("", 3, "norm/gain")),
        ("model/decoder/blocks/3/norm/gain", ("model/decoder", 3, "norm/gain")),
        ("embed/table", None),
        ("myblocks/3/norm", None),
        ("decoder/final/gain", None),
    ],
)
def test_where_a_column_stands(name, place):
    assert within(name) == (place and Within(*place))


def test_layers_are_sites_or_weight_matrices_of_a_block():
    names = ["embed/table", "decoder/blocks/0/norm/gain", "encoder/blocks/10/attention/out/kernel"]
    assert by_layer(names) == {"encoder.10": [2]}
    assert by_layer(["decoder.0.attention", "decoder.0.feed_forward", "decoder.1.attention"]) == {
        "decoder.0": [0, 1],
        "decoder.1": [2],
    }


def test_chunks_are_told_from_what_is_somebodys_own(tmp_path):
    for name in ("00000012.npz", "attention-00000012.npz", "notes.npz", "12.npz", ".00000013.npz.abcdefgh.writing"):
        np.savez(tmp_path / "made.npz", step=np.arange(1))
        (tmp_path / "made.npz").rename(tmp_path / name)
    assert [(path.name, kind) for path, kind in chunks(tmp_path)] == [
        ("00000012.npz", ""),
        ("attention-00000012.npz", "attention-"),
    ]
