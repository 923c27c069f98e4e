"""Slips that people make on this command line, each with the whole line that it gets; and what a hint suggests works."""

import importlib
import json
import random
import re
import shlex
from pathlib import Path

import pytest

from addnorm_exp import hints
from addnorm_exp.cli import commands, main
from addnorm_exp.config import leaves, load
from addnorm_exp.residual import catalogue

ROOT = Path(__file__).parents[1]
FLAGS = {name: getattr(importlib.import_module(f"addnorm_exp.cli.{name}"), "FLAGS", ()) for name in commands()}
TRAIN = "train --config=configs/lm.py"
STEPS = "a whole number of steps, or a length such as 3epochs"
SWEEP = "sweep sweeps/quickstart.py"

# What was typed, and the line that it gets.
OWN = "a scheme defined in a study file is known only to that study (CONTRIBUTING.md)"
SLIPS = {
    f"{TRAIN} norm=rms": "train: unexpected 'norm=rms' (it takes flags only); did you mean '--config.norm.kind=rms' or "
    "'--config.embedding.norm=rms'?",
    f"{TRAIN} --norm=rms": "--norm: no such flag; did you mean '--config.norm.kind' or '--config.embedding.norm'?",
    "traing": "unknown command 'traing'; did you mean 'train'?",
    "tabel": "unknown command 'tabel'; did you mean 'table'?",
    "halp": "unknown command 'halp'; did you mean 'help'?",
    "help trian": "unknown command 'trian'; did you mean 'train'?",
    "upload": "unknown command 'upload'; did you mean 'sync'?",
    "status": "unknown command 'status'; did you mean 'runs'?",
    "catalogue": "unknown command 'catalogue'; did you mean 'schemes'?",
    "sweeps/quickstart.py": "unknown command 'sweeps/quickstart.py'; did you mean 'main.py sweep sweeps/quickstart.py'?",
    "optim.lr=1e-3": "unknown command 'optim.lr=1e-3'; did you mean 'main.py train --config=… --config.optim.lr=1e-3'?",
    "lr=1e-3": "unknown command 'lr=1e-3'; did you mean 'main.py train --config=… --config.optim.lr=1e-3'?",
    "configs/lm.py:pre_ln": "unknown command 'configs/lm.py:pre_ln'; did you mean 'main.py train "
    "--config=configs/lm.py:pre_ln'?",
    "--config=configs/lm.py": "--config=configs/lm.py: the command comes first; main.py train --config=configs/lm.py …",
    # The config file
    "train": "train needs --config=FILE, e.g. --config=configs/lm.py:pre_ln",
    "train -config": "--config needs a value: --config=FILE[:ARG]",
    "train pre_ln": "train: unexpected 'pre_ln' (it takes flags only); did you mean '--config=configs/lm.py:pre_ln'?",
    "train configs/lm.py": "train: unexpected 'configs/lm.py' (it takes flags only); did you mean "
    "'--config=configs/lm.py'?",
    "train --config configs/lm.py pre_ln": "train: unexpected 'pre_ln' (it takes flags only); did you mean "
    "'--config=configs/lm.py:pre_ln'?",
    "train --config=lm": "lm: no such config file; did you mean 'configs/lm.py'?",
    "train --config=lm.py:pre_ln": "lm.py: no such config file; did you mean 'configs/lm.py:pre_ln'?",
    "train --config=config/lm.py": "config/lm.py: no such config file; did you mean 'configs/lm.py'?",
    "train --config=configs": "configs: is a folder, not a config file; give a file in it, e.g. configs/classify_text.py",
    "train --config=pre_ln": "pre_ln: no such config file; did you mean 'configs/lm.py:pre_ln'?",
    # Schemes
    **{
        f"{TRAIN}:{typed}": f"configs/lm.py:{typed}: unknown scheme '{typed}'; did you mean '{name}'?"
        for typed, name in {
            "prenorm": "pre_ln",
            "PreNorm": "pre_ln",
            "preln": "pre_ln",
            "pre-ln": "pre_ln",
            "Pre-LN": "pre_ln",
            "pre_layernorm": "pre_ln",
            "postln": "post_ln",
            "vanilla": "post_ln",
            "rmsnorm": "pre_rms",
            "pre-rmsnorm": "pre_rms",
            "deep_norm": "deepnorm",
            "nGPT": "ngpt",
            "layer_scale": "layerscale",
            "hyper-connections": "hyper",
            "peri-norm": "peri_ln",
            "rezro": "rezero",
        }.items()
    },
    f"{TRAIN} --config.scheme=prenorm": "--config.scheme=prenorm: unknown scheme 'prenorm'; did you mean 'pre_ln'?",
    f"{TRAIN} --config.scheme=pre_ln,post_ln": "--config.scheme=pre_ln,post_ln: unknown scheme 'pre_ln,post_ln'; give one "
    "name (a study compares several)",
    "schemes peri": "unknown scheme 'peri'; did you mean 'peri_ln'?",
    "schemes leaky": f"unknown scheme 'leaky'; {OWN}",
    "probe --schemes=leaky": f"--schemes=leaky: unknown scheme 'leaky'; {OWN}",
    "schemes Pre-LN": "unknown scheme 'Pre-LN'; did you mean 'pre_ln'?",
    "probe pre_ln": "probe: unexpected 'pre_ln' (it takes flags only); did you mean '--schemes=pre_ln'?",
    "probe --schemes=preln": "--schemes=preln: unknown scheme 'preln'; did you mean 'pre_ln'?",
    # Keys without their dashes, without --config, without their group, under other names
    f"{TRAIN} optim.lr=1e-3": "train: unexpected 'optim.lr=1e-3' (it takes flags only); did you mean "
    "'--config.optim.lr=1e-3'?",
    f"{TRAIN} config.optim.lr=1e-3": "train: unexpected 'config.optim.lr=1e-3' (it takes flags only); did you mean "
    "'--config.optim.lr=1e-3'?",
    f"{TRAIN} lr=1e-3": "train: unexpected 'lr=1e-3' (it takes flags only); did you mean '--config.optim.lr=1e-3'?",
    f"{TRAIN} workdir=a": "train: unexpected 'workdir=a' (it takes flags only); did you mean '--workdir=a'?",
    f"{TRAIN} —workdir=a": "train: unexpected '—workdir=a' (it takes flags only); a flag begins with two plain "
    "hyphens, '--'",
    f"{TRAIN} help": "train: unexpected 'help' (it takes flags only); did you mean '--help'?",
    **{
        f"{TRAIN} --{typed}=1": f"--{typed}: no such flag; did you mean '--config.{key}'?"
        for typed, key in {
            "optim.lr": "optim.lr",
            "lr": "optim.lr",
            "learning-rate": "optim.lr",
            "seed": "seed",
            "steps": "steps",
            "scheme": "scheme",
            "batch-size": "batch_size",
            "num_layers": "model.depth",
        }.items()
    },
    **{
        f"{TRAIN} --config.{typed}=1": f"--config.{typed}: no such key; did you mean '--config.{key}'?"
        for typed, key in {
            "lr": "optim.lr",
            "optim.learning_rate": "optim.lr",
            "optimizer.lr": "optim.lr",
            "optim_lr": "optim.lr",
            "optim.weight-decay": "optim.weight_decay",
            "wd": "optim.weight_decay",
            "optim.warmup_steps": "optim.warmup",
            "grad_clip": "optim.clip",
            "model.layers": "model.depth",
            "model.n_layer": "model.depth",
            "model.d_model": "model.width",
            "model.hidden_size": "model.width",
            "model.heads": "model.num_heads",
            "dropout": "model.dropout",
            "batchsize": "batch_size",
            "context_length": "seq_len",
            "eval_every": "eval.every",
            "save_every": "execution.checkpoint_every",
            "norm.epsilon": "norm.eps",
            "norm_type": "norm.kind",
            "dataset": "data.name",
            "model.depht": "model.depth",
        }.items()
    },
    f"{TRAIN} --config.epsilon=1": "--config.epsilon: no such key; did you mean '--config.norm.eps' or "
    "'--config.optim.eps'?",
    f"{TRAIN} --config.epochs=3": "--config.epochs: no such key; did you mean '--config.steps' (in optimiser steps, or as 3epochs)?",
    f"{TRAIN} --config.min_lr=1e-5": "--config.min_lr: no such key; did you mean '--config.optim.final_lr' (as a share "
    "of optim.lr)?",
    f"{TRAIN} --config.norm=rms": "--config.norm: a group of keys, not a value; set its keys one at a time, e.g. "
    "--config.norm.kind",
    # Values
    f"{TRAIN} --config.norm.kind=rmsnorm": "--config.norm.kind='rmsnorm': did you mean 'rms'?",
    f"{TRAIN} --config.norm.kind=LayerNorm": "--config.norm.kind='LayerNorm': did you mean 'layer'?",
    f"{TRAIN} --config.model.compute_dtype=bf16": "--config.model.compute_dtype='bf16': did you mean 'bfloat16'?",
    f"{TRAIN} --config.model.positions=rope": "--config.model.positions='rope': did you mean 'rotary'?",
    f"{TRAIN} --config.optim.schedule=Cosine": "--config.optim.schedule='Cosine': did you mean 'cosine'?",
    f"{TRAIN} --config.model.bias False": "train: unexpected 'False' (it takes flags only); did you mean "
    "'--config.model.bias=false'?",
    f"{TRAIN} --config.model.bias=no": "--config.model.bias='no': expected true or false; did you mean 'false'?",
    f"{TRAIN} --config.steps=1e3": f"--config.steps='1e3': expected {STEPS}; did you mean '1000'?",
    f"{TRAIN} --config.steps=3epoch-s": f"--config.steps='3epoch-s': expected {STEPS}",
    f"{TRAIN} --config.steps=3eps": f"--config.steps='3eps': expected {STEPS}; did you mean '3epochs'?",
    f"{TRAIN} --config.steps=5%": f"--config.steps='5%': expected {STEPS}; only other keys can be a share of it",
    f"{TRAIN} --config.optim.warmup=0.05": f"--config.optim.warmup='0.05': expected {STEPS} or 5%; did you mean '5%'?",
    f"{TRAIN} --config.optim.warmup=500%": f"--config.optim.warmup='500%': expected {STEPS} or 5%; a share is from 0% "
    "to 100%",
    f"{TRAIN} --config.optim.lr=1e-3,3e-3": "--config.optim.lr='1e-3,3e-3': expected a number; a run takes one value, a "
    "study takes several: axis('optim.lr', [1e-3, 3e-3])",
    f"{TRAIN} --config.optim.lr = 1e-3": "--config.optim.lr='=': expected a number; write KEY=VALUE without spaces",
    # Flags
    f"{TRAIN} --workdir": "--workdir needs a value: --workdir=DIR",
    TRAIN: "train needs --workdir=DIR, the folder of the run",
    f"{TRAIN} --output_dir=a": "--output_dir: no such flag; did you mean '--workdir'?",
    f"{TRAIN} --wandb-project=a": "--wandb-project: no such flag; did you mean '--wandb_project'?",
    f"{TRAIN} --wandb=on": "--wandb='on': did you mean 'online'?",
    f"{TRAIN} --wandb=off": "--wandb='off': did you mean 'disabled'?",
    f"{TRAIN} --no-wandb": "--no-wandb: no such flag; did you mean '--wandb=disabled'?",
    f"{TRAIN} --offline": "--offline: no such flag; did you mean '--wandb=offline'?",
    f"{TRAIN} --resume": "--resume: no such flag; run the same command again to resume",
    f"{TRAIN} --device=cpu": "--device: no such flag; JAX uses the best device that it finds; set the variable "
    "JAX_PLATFORMS=cpu (or cuda, tpu) to choose one",
    "probe --depth=6": "--depth: no such flag; did you mean '--depths'?",
    # Studies
    "sweep": "sweep needs FILE: main.py sweep FILE",
    "sweep quickstart": "quickstart: no such sweep file; did you mean 'sweeps/quickstart.py'?",
    "sweep sweeps/quickstart": "sweeps/quickstart: no such sweep file; did you mean 'sweeps/quickstart.py'?",
    "sweep sweeps/quikstart.py": "sweeps/quikstart.py: no such sweep file; did you mean 'sweeps/quickstart.py'?",
    "sweep runs/quickstart": "runs/quickstart: is a folder, not a sweep file; did you mean 'sweeps/quickstart.py'?",
    f"{SWEEP} pre_ln": "sweep: unexpected 'pre_ln' (it takes FILE); did you mean '--filter=scheme=pre_ln'?",
    f"{SWEEP} scheme=pre_ln": "sweep: unexpected 'scheme=pre_ln' (it takes FILE); did you mean '--filter=scheme=pre_ln'?",
    f"{SWEEP} --filter=pre_ln": "--filter=pre_ln: 'pre_ln' is not KEY=VALUE; did you mean 'scheme=pre_ln'?",
    f"{SWEEP} --filter=lr=1e-3": "--filter: lr: no such key; did you mean 'optim.lr'?",
    f"{SWEEP} --config.steps=10": "--config.steps: no such flag; set it in the study file: BASE = {'steps': …}",
    f"{SWEEP} --dry-run": "--dry-run: no such flag; did you mean '--dry_run'?",
    f"{SWEEP} --workdir=a": "--workdir: no such flag; did you mean '--runs'?",
    "sweep empty": "empty: is a folder, not a sweep file; name a sweep file, e.g. sweeps/quickstart.py",
    "sweep runs/made": "runs/made: is a folder, not a sweep file; did you mean 'sweeps/catalogue.py'?",
    "table runs/quickstart --columns=": "--columns is empty; write --columns=test_bpb,difference,parameters",
    f"{TRAIN} --workdir=text": "text is a file; --workdir needs a folder",
    "table quickstart": "quickstart: no such folder; did you mean 'runs/quickstart'?",
    "table runs/quikstart": "runs/quikstart: no such folder; did you mean 'runs/quickstart'?",
    "table sweeps/quickstart.py": "sweeps/quickstart.py: is a file; did you mean 'runs/quickstart'?",
    "table runs/quickstart --format=markdown": "--format='markdown': did you mean 'md'?",
    "table runs/quickstart --latex": "--latex: no such flag; did you mean '--format=latex'?",
    "plot quickstart": "quickstart: no such folder; did you mean 'runs/quickstart'?",
    "dashboard": "dashboard needs DIR: main.py dashboard DIR",
    "runs quickstart": "quickstart: no such folder; did you mean 'runs/quickstart'?",
    "runs runs/quickstart --status=finished": "--status=finished: unknown; did you mean 'done'?",
    "gc runs/quickstart --force": "--force: no such flag; did you mean '--yes'?",
    "gc runs/quickstart --dry-run": "--dry-run: no such flag; without --yes nothing is removed",
    "diff runs/quickstart": "diff needs B: main.py diff A B",
    "diff quickstart runs/quickstart": "quickstart: no such folder; did you mean 'runs/quickstart'?",
    "sync quickstart": "quickstart: no runs here; did you mean 'runs/quickstart'?",
    "rerun quickstart": "quickstart: no such folder; did you mean 'runs/quickstart'?",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with configs, sweeps and one study."""
    for name in ("configs", "sweeps"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    (tmp_path / "runs" / "quickstart" / "study.json").write_text("{}")
    (tmp_path / "runs" / "made").mkdir()
    plan = {"file": str(tmp_path / "sweeps" / "catalogue.py")}
    (tmp_path / "runs" / "made" / "study.json").write_text(json.dumps(plan))
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("text")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("typed", "line"), SLIPS.items(), ids=list(SLIPS))
def test_a_slip_gets_its_line(typed, line, project, capsys):
    argv = shlex.split(typed)
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {line}\n")
    suggested = re.search(r"did you mean (.*?)(?: \(.*\))?\?$", line)
    for suggestion in suggested[1].split(" or ") if suggested else ():
        assert works(suggestion.strip("'"), argv[0]), suggestion


def works(suggestion: str, command: str) -> bool:
    """Whether what a hint suggests is a command, file, folder, flag, key, value or scheme that there is."""
    if suggestion.startswith("main.py "):
        return suggestion.split()[1] in commands()
    if suggestion.startswith("--config="):
        return load(suggestion.removeprefix("--config=")).scheme in catalogue.names()
    if suggestion.startswith("--config."):
        return suggestion.removeprefix("--config.").partition("=")[0] in leaves()
    if suggestion.startswith("--"):
        name, equals, value = suggestion.removeprefix("--").partition("=")
        flag = next((flag for flag in FLAGS[command] if flag.name == name), None)
        choices = flag.choices if flag else ()
        return name == "help" or (flag is not None and (not equals or not choices or value in choices))
    path, _, argument = suggestion.partition(":")
    if "/" in path:
        return Path(path).exists() and (not argument or argument in catalogue.names())
    words = {"help", "true", "false", "1000", "3epochs", "5%", "done", *commands(), *leaves(), *catalogue.names()}
    values = {value for choices in CHOICES.values() for value in choices}
    values |= {value for flag in FLAGS[command] for value in flag.choices} if command in FLAGS else set()
    return suggestion.removeprefix("scheme=") in words | values


def misspelt(name: str, rng: random.Random) -> str:
    """A name with one letter left out, doubled or exchanged with its neighbour."""
    place = rng.randrange(len(name))
    left, letter, right = name[:place], name[place], name[place + 1 :]
    return rng.choice([left + right, left + letter + name[place:], left + right[:1] + letter + right[1:]])


CHOICES = {key: leaf.choices for key, leaf in leaves().items() if leaf.choices}
POOLS = {
    "keys": tuple(leaves()),
    "commands": tuple(commands()),
    **{command: tuple(flag.name for flag in flags) for command, flags in FLAGS.items() if flags},
    **CHOICES,
}


@pytest.mark.parametrize("pool", POOLS)
def test_whatever_is_typed_the_nearest_name_is_one_that_works(pool):
    rng, names = random.Random(pool), POOLS[pool]
    for name in names:
        for typed in (misspelt(name, rng), misspelt(misspelt(name, rng) or name, rng), name[: len(name) // 2], "zz"):
            for also in (None, hints.VALUES, hints.FLAGS):
                assert hints.near(typed, names, also) in (None, *names)
            if pool == "keys":
                assert set(hints.keys(typed, names)) <= set(names)


@pytest.mark.parametrize("pool", POOLS)
def test_another_spelling_is_the_name(pool):
    for name in POOLS[pool]:
        for typed in (name.upper(), name.replace("_", "-"), name.replace("_", ""), name.replace("_", " ")):
            assert hints.near(typed, POOLS[pool]) == name
            assert hints.keys(typed, POOLS[pool]) == (name,)


@pytest.mark.parametrize("name", catalogue.names())
def test_a_scheme_answers_to_its_title(name):
    title = re.sub(r"\(.*?\)", "", catalogue.get(name).title)
    assert catalogue.spelt(title) == name
    assert catalogue.spelt(name.upper().replace("_", "-")) == name


def test_what_others_call_a_thing_leads_to_one_that_there_is():
    assert set(hints.KEYS) <= set(leaves())
    assert set(hints.COMMANDS.values()) <= set(commands())
    assert not set(hints.COMMANDS) & set(commands())
    choices = {value for one in CHOICES.values() for value in one}
    choices |= {value for flags in FLAGS.values() for flag in flags for value in flag.choices}
    choices |= set(importlib.import_module("addnorm_exp.runs.status").STANDINGS)
    for word, names in hints.VALUES.items():
        assert word == hints.normal(word)
        assert set(names) <= choices, word
    flags = {flag.name for of_command in FLAGS.values() for flag in of_command} | {"config"}
    for word, names in hints.FLAGS.items():
        assert word == hints.normal(word)
        assert set(names) & flags, word
    words = [word for of_key in hints.KEYS.values() for word in of_key]
    assert all(word == hints.normal(word) for word in words)
    assert set(hints.UNITS) <= set(words)
