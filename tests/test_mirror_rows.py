"""The record as W&B's rows: the same however and whenever it is read; what W&B is told leads back to the record."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from of_config import run
from training import config, interrupt, layers, lines

from addnorm_exp.errors import UserError
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.layers import LayersWriter, merge
from addnorm_exp.runs.mirror import forms
from addnorm_exp.runs.mirror.picture import heatmap, panel
from addnorm_exp.runs.mirror.rows import RowReader, scalars
from addnorm_exp.runs.mirror.window import Window
from addnorm_exp.runs.reading import LineReader
from addnorm_exp.runs.records import LayerIndex

# Three blocks have a first, a middle and a last one; without norms they are compiled in half the time.
SETTINGS = {"scheme": "no_norm", "model__depth": 3, "execution__attention_every": 4}


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run(config(**SETTINGS), data, RunFolder(folder))
    return folder


def test_each_step_once_and_whole(finished):
    """Against the record's own lines, and against means over a layer's columns that are picked by hand."""
    rows = dict(RowReader(finished).poll(ended=True))
    assert list(rows) == list(range(13))
    for line in lines(finished):
        if line["split"] != "test":
            for name, value in line.items():
                if name not in ("step", "split"):
                    assert rows[line["step"]][f"{line['split']}/{name}"] == value
    index = json.loads((finished / "layers" / "index.json").read_text())
    recorded, attention = layers(finished), layers(finished, "attention-")
    for number, step in enumerate(recorded["step"]):
        row = rows[int(step)]
        second = [index["sites"].index(f"decoder.1.{kind}") for kind in ("attention", "feed_forward")]
        assert row["layers/stream_rms/middle"] == pytest.approx(recorded["stream_rms"][number][second].mean(), rel=1e-6)
        last = [i for i, n in enumerate(index["tensors"]) if n.startswith("decoder/blocks/2/") and n.endswith("kernel")]
        assert len(last) > 3
        assert row["layers/grad_weight/last"] == pytest.approx(recorded["grad_weight"][number][last].mean(), rel=1e-6)
    assert [step for step in rows if "layers/entropy/first" in rows[step]] == [0, 4, 8, 12]
    assert rows[8]["layers/entropy/first"] == pytest.approx(attention["entropy"][2][0])
    assert rows[7]["tokens"] == 7 * 8 * 16


def test_the_numbers_of_layers_are_few():
    """Deep models have as many curves as shallow ones."""
    for depth in (3, 96):
        sites = [f"decoder.{block}.{kind}" for block in range(depth) for kind in ("attention", "feed_forward")]
        row = {"stream_rms": np.ones(2 * depth), "grad_stream": np.ones(2 * depth)}
        assert len(scalars(LayerIndex(sites=sites, tensors=[], attention_sites=[]), row)) == 6


def test_rows_do_not_depend_on_when_they_are_read(data, finished, tmp_path):
    """Read after every event of training: the same rows, none before it is whole, and after a rewound resume none twice."""
    interrupt(config(**SETTINGS), data, tmp_path, chunks=2)
    seen: list = []
    early = RowReader(tmp_path)
    seen += early.poll()
    assert seen
    with open(tmp_path / "metrics.jsonl", "a") as file:  # what a kill leaves: later lines, and half of one
        file.write('{"step": 9, "split": "train", "loss": 1.0}\n{"step": 10, "spl')
    reader = None

    def watch(event):
        nonlocal reader
        if event["event"] == "start":
            reader = RowReader(tmp_path, seen[-1][0])
        seen.extend(reader.poll())

    run(config(**SETTINGS), data, RunFolder(tmp_path), watch=watch)
    assert seen[-1][0] < 12
    seen += reader.poll(ended=True)
    assert seen == RowReader(finished).poll(ended=True)


def test_a_row_waits_for_its_layers(data, tmp_path):
    """Per-layer rows come to the disk in chunks, later than the scalars of their step."""
    readers, seen = [], []

    def watch(event):
        if event["event"] == "start":
            readers.append(RowReader(tmp_path))
        if event["event"] in ("train", "val"):
            seen.extend(step for step, _ in readers[0].poll())

    run(config(execution__checkpoint_every=0, execution__layers_every=3), data, RunFolder(tmp_path), watch=watch)
    assert seen == [0]  # step 1 has a per-layer row, which is written with the last step
    assert [step for step, _ in readers[0].poll(ended=True)] == list(range(1, 13))


@pytest.mark.full
def test_rows_come_though_the_next_measurement_is_far_away(data, tmp_path, monkeypatch):
    """Attention is measured at steps 0 and 12 alone, and half a minute passes between two dispatches: its row is not waited for."""
    clock, seen, readers = [0.0], [], []
    monkeypatch.setattr("addnorm_exp.runs.layers.time", SimpleNamespace(monotonic=lambda: clock[0]))

    def watch(event):
        if event["event"] == "start":
            readers.append(RowReader(tmp_path))
        if event["event"] == "train":
            clock[0] += 31.0
            seen.append([step for step, _ in readers[0].poll()])

    rare = {"execution__checkpoint_every": 0, "execution__layers_every": 100, "execution__attention_every": 100}
    run(config(**rare), data, RunFolder(tmp_path), watch=watch)
    assert len(seen) > 2
    assert seen[0] == []  # no time has passed
    assert 0 in seen[1]
    assert max(step for steps in seen for step in steps) > 3
    assert {path.name for path in (tmp_path / "layers").glob("*.npz")} == {"00000012.npz", "attention-00000012.npz"}


def test_rows_of_chunks_that_were_merged_before_they_were_read_are_not_lost(tmp_path):
    """The last chunk is known by its name, and comes to hold all."""
    index = {"sites": ["decoder.0.attention"], "tensors": [], "attention_sites": []}
    (tmp_path / "layers").mkdir()
    rows = RowReader(tmp_path)
    for step in (1, 2, 3):
        writer = LayersWriter(tmp_path / "layers", index)
        writer.add(step, {"stream_rms": np.full(1, float(step))})
        writer.flush()
        if step == 2:
            (tmp_path / "layers" / "00000001.npz").rename(tmp_path / "aside")
            rows.poll()
            (tmp_path / "aside").rename(tmp_path / "layers" / "00000001.npz")
    merge(tmp_path / "layers")
    (tmp_path / "metrics.jsonl").write_text(
        "".join(f'{{"step": {n}, "split": "train", "loss": 1.0}}\n' for n in (1, 2, 3))
    )
    told = dict(rows.poll(ended=True))
    assert [told[step]["layers/stream_rms/first"] for step in (1, 2, 3)] == [1.0, 2.0, 3.0]


def test_chunks_of_layers_are_not_held_back_long(tmp_path, monkeypatch):
    clock = iter([0.0, 1.0, 29.0, 31.0, 31.0, 40.0])
    monkeypatch.setattr("addnorm_exp.runs.layers.time.monotonic", lambda: next(clock))
    writer = LayersWriter(tmp_path / "layers", {"sites": ("a",)})
    for step, written in ((1, False), (2, False), (3, True), (4, False)):
        writer.add(step, {"stream_rms": np.ones(1)})
        assert (tmp_path / "layers" / "00000003.npz").exists() == (written or step > 3)


def test_what_is_no_sound_chunk_costs_its_own_numbers_alone(finished, tmp_path):
    """Training goes on beside it, and the mirror must: the others' numbers are sent all the same."""
    shutil.copytree(finished, tmp_path / "run")
    folder = tmp_path / "run" / "layers"
    whole = dict(RowReader(tmp_path / "run").poll(ended=True))
    np.savez(folder / "20251124.npz", step=np.array([3]), grad_stream=np.zeros((1, 2), np.float32))
    np.savez(folder / "notes.npz", mine=np.arange(3))
    (folder / "attention-00000009.npz").write_bytes(b"damaged")
    assert dict(RowReader(tmp_path / "run").poll(ended=True)) == whole
    chunk = folder / "00000012.npz"
    np.savez(chunk, **dict(np.load(chunk)), added_later=np.ones(2))
    assert dict(RowReader(tmp_path / "run").poll(ended=True)) == whole
    chunk.unlink()
    os.mkfifo(chunk)
    left = dict(RowReader(tmp_path / "run").poll(ended=True))
    assert left[12] == {name: value for name, value in whole[12].items() if name in left[12]}
    assert ("layers/entropy/first" in left[12], "layers/grad_stream/first" in left[12]) == (True, False)


def test_lines_are_read_once_as_they_come(tmp_path):
    """A line that is none is damage where others follow it: by the same reading or by a later one, whole or half written."""
    path = tmp_path / "metrics.jsonl"
    sound = [json.dumps({"step": step, "split": "train", "loss": 1.0}) for step in range(1, 5)]
    reader = LineReader(path)
    assert reader.read() == []
    path.write_text(f"{sound[0]}\n{sound[1]}\n{sound[2][:9]}")
    assert [line.step for line in reader.read()] == [1, 2]
    path.write_text("".join(f"{line}\n" for line in sound))
    assert [line.step for line in reader.read()] == [3, 4]
    assert reader.read() == []
    for bad in ("[1]", '{"step": 3}', '{"step": 3, "spl', '{"step": 5, "split": "train", "loss": "low"}', "NaN", ""):
        path.write_text(f"{sound[0]}\n{bad}\n\n")
        reader = LineReader(path)
        assert [line.step for line in reader.read()] == [1]
        with open(path, "a") as file:
            file.write(sound[1][:5])
        with pytest.raises(UserError, match=r"metrics\.jsonl:2: is not a metrics line"):
            reader.read()
        with pytest.raises(UserError, match=r"metrics\.jsonl:2: is not a metrics line"):
            LineReader(path).read()


def test_the_record_comes_back(finished):
    record, summary = RunFolder(finished).config().plain(), RunFolder(finished).summary()
    told = forms.about(finished)
    back = forms.from_config(json.loads(json.dumps(told.config)))
    assert {key: back[key] for key in record} == {
        **record,
        "science": {**record["science"], "data": {**record["science"]["data"], "path": None}},
    }
    sent = {**forms.to_summary(summary), "train/loss": 1.0, "_step": 12}
    kept = {key: value for key, value in summary.plain().items() if key not in ("attempts", "heartbeat", "format")}
    assert forms.from_summary(sent) == kept
    assert "/" not in json.dumps(told.config).replace("none | ", "")  # no path of this machine


def test_a_run_that_is_made_anew_is_another_on_the_server(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    assert forms.about(tmp_path / "copy").id == forms.about(finished).id
    summary = json.loads((finished / "summary.json").read_text())
    summary["attempts"][0]["started"] += 1
    (tmp_path / "copy" / "summary.json").write_text(json.dumps(summary))
    assert forms.about(tmp_path / "copy").id != forms.about(finished).id


def test_a_picture_of_layers(finished):
    from addnorm_exp.runs.layers import read_layers

    found = read_layers(finished / "layers")
    assert panel(found, "grad_stream")[0].tolist() == [1, 1.5, 3, 5, 7, 9, 11, 12]  # the axis ends with the run
    picture = heatmap(found)
    assert picture.shape[2] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100  # colours
    for values in found.arrays.values():
        values[:] = np.nan
    assert heatmap(found) is None


def test_a_damaged_chunk_costs_the_picture_alone(finished, tmp_path):
    """Curves are sent beside it, as above."""
    shutil.copytree(finished, tmp_path / "run")
    window = SimpleNamespace(folder=tmp_path / "run", rows=SimpleNamespace(last_layers=12), _share=lambda step: 8)
    window._pictures = window._pictured = 0
    assert list(Window._picture(window, 12, True)) == ["layers/heatmap"]
    (tmp_path / "run" / "layers" / "00000012.npz").write_bytes(b"PK")
    assert Window._picture(window, 12, True) == {}
