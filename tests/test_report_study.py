"""Reading studies from disk, over folders that a small builder writes by the record's format (not through the store's writer)."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training import held

from addnorm_exp.errors import UserError
from addnorm_exp.report.load import load_study, study_folders
from addnorm_exp.report.run import read_layers, read_metrics, read_run
from addnorm_exp.runs.metrics import DEFAULT

LN2 = math.log(2)
UNIFORM = {"loss": math.log(256), "bpb": 8.0}
METRICS = [vars(replace(metric, trivial=UNIFORM[metric.name])) for metric in DEFAULT]
BLOCKS = 4
SITES = [f"decoder.{b}.{kind}" for b in range(BLOCKS) for kind in ("attention", "feed_forward")]
TENSORS = [
    f"decoder/blocks/{b}/{name}/kernel"
    for b in range(BLOCKS)
    for name in ("attention/query", "attention/out", "feed_forward/up", "feed_forward/down")
]


def summary_of(scheme: str, bpb: float, status: str = "done", step: int = 1000, **more) -> dict:
    """A run's summary.json; `bpb` is the final test metric, validation lies 0.01 below."""
    over = status == "done"
    pair = {"loss": bpb * LN2, "bpb": bpb} if over else None
    val = {"loss": (bpb - 0.01) * LN2, "bpb": bpb - 0.01, "step": step} if over else None
    return {
        "format": 1,
        "scheme": scheme,
        "status": status,
        "reason": None,
        "step": step,
        "steps": 1000,
        "val": {"final": val, "best": val},
        "test": {"final": pair, "best": pair},
        "metrics": METRICS,
        "keep": "none",
        "diverged": {"step": step, "cause": "loss is not finite", "value": None} if status == "diverged" else None,
        "parameters": 839_936 + (256 if scheme != "no_norm" else 0),
        "tokens_per_example": 128,
        "flops_per_token": 4.9e6,
        "step_time_s": 0.0573,
        "device": {"kind": "cpu", "count": 1},
        "confounds": {
            "norm": {"no_norm": "none", "pre_rms": "rms"}.get(scheme, "layer"),
            "final_norm": scheme.startswith("pre"),
            "eps": 1e-5,
            "affine": "full",
            "init": "xavier",
            "factors": {"ngpt": "in the blocks decay × 0 (matrix)"}.get(scheme),
            "warmup": 50,
            "dtype": "float32",
            "evidence": "paper",
        },
    } | more


def write_run(
    folder: Path,
    scheme: str,
    seed: int,
    summary: dict | None,
    *,
    lr: float = 1e-3,
    semantics: int = 1,
    sha: str = "a" * 64,
    metrics: list[dict] | None = None,
    layers: dict[str, np.ndarray] | None = None,
    **science,
) -> dict:
    """Write one run's folder; `science` are further flat dotted keys. Returns its entry in the study's plan."""
    folder.mkdir(parents=True, exist_ok=True)
    tree: dict = {"scheme": scheme, "seed": seed, "steps": 1000, "batch_size": 16, "seq_len": 128}
    for key, value in ({"optim.lr": lr, "model.depth": BLOCKS, "model.width": 128} | science).items():
        *path, leaf = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = value
    config = {"format": 1, "id": folder.name, "semantics": semantics, "scheme": scheme, "science": tree}
    config["data"] = {"name": "enwik8", "sha256": sha, "train": 90_000_000}
    (folder / "config.json").write_text(json.dumps(config))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary | {"id": folder.name}))
    if metrics is not None:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    if layers is not None:
        (folder / "layers").mkdir(exist_ok=True)
        index = {"sites": SITES, "tensors": TENSORS, "attention_sites": SITES[::2]}
        (folder / "layers" / "index.json").write_text(json.dumps(index))
        half = len(layers["step"]) // 2
        for part in (slice(None, half), slice(half, None)):
            chunk = {name: array[part] for name, array in layers.items()}
            if len(chunk["step"]):
                np.savez(folder / "layers" / f"{chunk['step'][-1]:08d}.npz", **chunk)
    return {"id": folder.name, "overrides": {"scheme": scheme, "seed": seed, "optim.lr": lr} | science}


def write_plan(folder: Path, phases: dict[str, list[dict]], **more) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plan = {"format": 1, "name": folder.name, "file": "sweeps/x.py", "phases": phases, "tuned": ["optim.lr"]}
    plan |= {"baseline": "pre_ln", "group": ["scheme"]} | more
    (folder / "study.json").write_text(json.dumps(plan))


SCHEMES = {"post_ln": 2.62, "pre_ln": 2.45, "pre_rms": 2.452, "no_norm": 2.75}
TOP = {"post_ln": 1e-3, "pre_ln": 1e-2, "pre_rms": 1e-2, "no_norm": 3e-3}  # the greatest rate that does not diverge


def curve(rng, bpb: float, last: int = 1000, ends_nan: bool = False) -> list[dict]:
    """Metrics that fall from the uniform prediction to `bpb`."""
    rows = []
    for step in range(last + 1):
        level = bpb + (8.0 - bpb) * (0.6 * math.exp(-step / 25) + 0.4 * math.exp(-step / 180))
        if step:
            noisy = level + 0.06 * rng.standard_normal()
            rows.append(
                {"step": step, "split": "train", "loss": noisy * LN2, "bpb": noisy, "grad_norm": 1.0, "lr": 1e-3}
            )
        if step % 100 == 0:
            rows.append({"step": step, "split": "val", "loss": level * LN2, "bpb": level})
    if ends_nan:
        rows.append({"step": last + 1, "split": "train", "loss": None, "bpb": None, "grad_norm": None, "lr": 1e-3})
    return rows


def layer_arrays(rng, scheme: str, last: int = 1000) -> dict[str, np.ndarray]:
    step = np.asarray([1, *range(10, last + 1, 10)])
    depth = np.arange(len(SITES)) / len(SITES)
    slope = {"post_ln": 0.4, "pre_ln": -1.2, "pre_rms": -1.1, "no_norm": -2.5}.get(scheme, 0.0)
    base = np.exp(slope * depth)[None] * 0.02 * (1 + 3 * np.exp(-step / 80))[:, None]
    site = base * np.exp(0.08 * rng.standard_normal((len(step), len(SITES))))
    block = np.repeat(np.arange(BLOCKS), 4) / BLOCKS
    weight = np.exp(slope * block)[None] * 0.1 * (1 + 2 * np.exp(-step / 80))[:, None]
    weight = weight * np.exp(0.08 * rng.standard_normal((len(step), len(TENSORS))))
    return {"step": step, "grad_stream": site.astype(np.float32), "grad_weight": weight.astype(np.float32)}


def write_laws(folder: Path) -> Path:
    """An untuned study of two schemes under two init laws, two seeds each."""
    plan = [
        write_run(
            folder / f"{law}-{scheme}-{seed}",
            scheme,
            seed,
            summary_of(scheme, level + i + 0.001 * seed),
            **{"init.law": law},
        )
        for i, law in enumerate(("xavier", "normal"))
        for scheme, level in {"post_ln": 2.5, "pre_ln": 2.25}.items()
        for seed in (1, 2)
    ]
    write_plan(folder, {"run": plan}, tuned=[], group=["scheme", "init.law"])
    return folder


def write_study(
    folder: Path,
    seeds: int = 3,
    tuning_seeds: int = 2,
    schemes: dict[str, float] | None = None,
    diverged: tuple[tuple[str, int], ...] = (),
    full: bool = True,
) -> Path:
    """A tuned study as a sweep leaves it. `diverged` names report runs (scheme, seed) that diverged; `full` writes arrays too."""
    rng = np.random.default_rng(0)
    rates = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2]
    tune, report = [], []
    for scheme, level in (schemes or SCHEMES).items():
        best = TOP.get(scheme, 3e-3) / (1 if scheme == "post_ln" else 3.3)
        for lr in rates:
            for seed in range(tuning_seeds):
                bpb = level + 0.05 * math.log(lr / best) ** 2 + 0.01 * rng.standard_normal()
                over = "diverged" if lr > TOP.get(scheme, 3e-3) * 1.01 else "done"
                entry = write_run(
                    folder / f"t-{scheme}-{lr:g}-{seed}", scheme, seed, summary_of(scheme, bpb, over), lr=lr
                )
                tune.append(entry)
        rate = min(rates, key=lambda lr: abs(math.log(lr / best)))
        for seed in range(100, 100 + seeds):
            bpb = level + 0.004 * rng.standard_normal() + 0.003 * math.sin(seed)
            lost = (scheme, seed) in diverged
            last = 370 if lost else 1000
            summary = summary_of(scheme, bpb, "diverged" if lost else "done", last)
            metrics = curve(rng, bpb, last, lost) if full else None
            layers = layer_arrays(rng, scheme, last) if full else None
            report.append(
                write_run(folder / f"r-{scheme}-{seed}", scheme, seed, summary, lr=rate, metrics=metrics, layers=layers)
            )
    write_plan(folder, {"tune": tune, "report": report})
    return folder


def test_a_planned_study_is_read_by_phase(tmp_path):
    study = load_study(write_study(tmp_path / "quick", full=False))
    assert {phase: len(runs) for phase, runs in study.phases.items()} == {"tune": 40, "report": 12}
    assert (study.name, study.tuned, study.baseline, study.group) == ("quick", ("optim.lr",), "pre_ln", ("scheme",))
    run = study.phases["report"][0]
    assert (run.scheme, run.seed, run.flat["optim.lr"], run.status) == ("post_ln", 100, 1e-3, "done")
    assert run.number("test", "final", "bpb") == pytest.approx(2.62, abs=0.03)
    assert run.number("test", "final", "nothing") is None


def test_a_folder_without_a_plan_is_one_phase(tmp_path):
    write_run(tmp_path / "s" / "b", "pre_ln", 1, summary_of("pre_ln", 2.0))
    write_run(tmp_path / "s" / "a", "pre_ln", 0, summary_of("pre_ln", 2.0))
    (tmp_path / "s" / "figures").mkdir()
    (tmp_path / "s" / ".attempt").mkdir()
    study = load_study(tmp_path / "s")
    assert list(study.phases) == ["run"]
    assert [run.seed for run in study.runs] == [0, 1]


def test_a_single_run_and_a_root_of_several(tmp_path):
    write_study(tmp_path / "one", seeds=1, tuning_seeds=1, full=False)
    write_run(tmp_path / "two" / "x", "pre_ln", 0, summary_of("pre_ln", 2.0))
    assert [load_study(folder).name for folder in study_folders(tmp_path)] == ["one", "two"]
    (folder,) = study_folders(tmp_path / "two" / "x")
    single = load_study(folder)
    assert (single.name, [run.id for run in single.runs]) == ("x", ["x"])
    write_run(tmp_path / "loose", "pre_ln", 5, summary_of("pre_ln", 2.0))
    assert study_folders(tmp_path) == [tmp_path, tmp_path / "one", tmp_path / "two"]


def test_runs_that_are_planned_but_absent_or_broken(tmp_path):
    folder = tmp_path / "s"
    plan = [write_run(folder / "a", "pre_ln", 0, summary_of("pre_ln", 2.0))]
    plan.append(write_run(folder / "b", "pre_ln", 1, None))
    plan.append(write_run(folder / "c", "pre_ln", 2, summary_of("pre_ln", 2.0)))
    (folder / "c" / "config.json").unlink()
    plan.append(write_run(folder / "d", "pre_ln", 3, summary_of("pre_ln", 2.0, "running", 400)))
    plan.append({"id": "e", "overrides": {"scheme": "pre_ln", "seed": 4}})
    plan.append({"id": "f", "overrides": {"scheme": "pre_ln", "seed": 5}})
    (folder / "f").mkdir()
    (folder / "f" / "lock").touch()  # all that an attempt leaves which was killed at once
    write_run(folder / "stranger", "pre_ln", 9, summary_of("pre_ln", 2.0), sha="f" * 64)
    write_plan(folder, {"run": plan})
    study = load_study(folder)
    assert [(run.status, run.reason) for run in study.runs] == [
        ("done", None),
        ("running", "unfinished, before its first step"),
        ("failed", "no config.json"),
        ("running", "unfinished, at step 400 of 1000"),
        ("missing", "not run yet"),
        ("missing", "not run yet"),
    ]
    assert study.runs[4].flat["optim.lr"] == 1e-3, "what the plan does not say is taken from the runs that are there"
    assert study.strangers == 1
    # As one is seen that wrote its config.json after the folders had been listed.
    with held(folder / "c"):
        begun = load_study(folder).runs[2]
    assert (begun.status, begun.reason) == ("running", "unfinished, before its first step")


@pytest.mark.parametrize(
    ("breakage", "words"),
    [
        (
            lambda d: write_run(d / "z", "pre_ln", 9, None, semantics=2),
            ["semantics", "1: 1 run", "2: 1 run, e.g. z", "--mix_"],
        ),
        (
            lambda d: write_run(d / "z", "pre_ln", 9, None, sha="b" * 64),
            ["different data", "bbbbbbbbbbbb", "in its own folder"],
        ),
        (lambda d: (d / "a" / "config.json").write_text("{"), ["config.json", "not a readable JSON object", "delete"]),
        (lambda d: (d / "a" / "config.json").write_text("[]"), ["config.json", "not a readable JSON object"]),
        (lambda d: (d / "a" / "config.json").write_text('{"format": 7}'), ["format 7", "format 1"]),
        (lambda d: (d / "a" / "config.json").write_text('{"format": 1}'), ["config.json: id is missing", "delete"]),
        (lambda d: (d / "study.json").write_text("nonsense"), ["study.json", "not a readable JSON object"]),
        (
            lambda d: (d / "study.json").write_text('{"format": 1, "phases": 3}'),
            ["study.json: name is missing", "run the sweep again"],
        ),
    ],
)
def test_what_must_not_stand_in_one_table_is_refused(tmp_path, breakage, words):
    write_run(tmp_path / "s" / "a", "pre_ln", 0, summary_of("pre_ln", 2.0))
    breakage(tmp_path / "s")
    with pytest.raises(UserError) as caught:
        load_study(tmp_path / "s")
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_mixed_semantics_pass_on_request(tmp_path):
    write_run(tmp_path / "s" / "a", "pre_ln", 0, summary_of("pre_ln", 2.0))
    write_run(tmp_path / "s" / "b", "pre_ln", 1, summary_of("pre_ln", 2.0), semantics=2)
    assert load_study(tmp_path / "s", mix_semantics=True).mixed_semantics == (1, 2)


def test_folders_without_runs_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, words in {"absent": "no such folder", "file": "is a file", "empty": "no runs here"}.items():
        with pytest.raises(UserError, match=words):
            study_folders(tmp_path / name)
    write_plan(tmp_path / "planned", {"run": []})
    with pytest.raises(UserError, match="no runs here"):
        load_study(tmp_path / "planned")


def test_metrics_forgive_a_torn_end_and_a_resume(tmp_path):
    rows = [{"step": s, "split": "train", "loss": float(s), "bpb": None} for s in (1, 2, 3, 2, 3)]
    rows[3]["loss"] = 20.0
    write_run(tmp_path / "a", "pre_ln", 0, None, metrics=[*rows, {"step": 3, "split": "val", "loss": 9.0}])
    with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "split": "tr')
    run = read_run(tmp_path / "a")
    train = read_metrics(run, "train")
    assert train["step"].tolist() == [1, 2, 3]
    assert train["loss"].tolist() == [1.0, 20.0, 3.0]
    assert np.isnan(train["bpb"]).all()
    assert read_metrics(run, "val")["loss"].tolist() == [9.0]
    assert read_metrics(run, "test") == {}
    with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
        file.write('\n{"step": 5, "split": "train", "loss": 1.0}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl:7"):
        read_metrics(run, "train")


def test_layers_join_their_chunks(tmp_path):
    step = np.asarray([1, 10, 20, 10, 20, 30])  # a resume wrote 10 and 20 again
    values = np.arange(6, dtype=np.float32)[:, None] + np.zeros((6, len(SITES)), np.float32)
    write_run(tmp_path / "a", "pre_ln", 0, None, layers={"step": step, "grad_stream": values})
    np.savez(
        tmp_path / "a" / "layers" / "attention-00000030.npz", step=[0, 30], entropy=np.ones((2, BLOCKS), np.float32)
    )
    (tmp_path / "a" / "layers" / ".00000050.npz").write_bytes(b"half, by a run that goes on")
    run = read_run(tmp_path / "a")
    layers = read_layers(run)
    attention = read_layers(run, "attention-")
    assert (attention.index.attention_sites, attention.step.tolist()) == (SITES[::2], [0, 30])
    assert list(attention.arrays) == ["entropy"]
    assert layers.index.sites == SITES
    assert layers.step.tolist() == [1, 10, 20, 30]
    assert layers.arrays["grad_stream"][:, 0].tolist() == [0.0, 3.0, 4.0, 5.0]
    (tmp_path / "a" / "layers" / "00000040.npz").write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged"):
        read_layers(run)
