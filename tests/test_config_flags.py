"""The command line: what it accepts, and the one line that it answers to everything else."""

import random
import sys
from pathlib import Path

import pytest
from absl import flags as absl_flags
from of_config import checked

from addnorm_exp.config import Flag, leaves, load, parse
from addnorm_exp.errors import UserError

ROOT = Path(__file__).parents[1]
FLAGS = (
    Flag("workdir", Path, metavar="DIR", help="where the run is written"),
    Flag("resume", bool, default=True, help="go on where it stopped"),
    Flag("dry_run", bool, default=False),
    Flag("max_runs", int, minimum=1),
    Flag("format", choices=("md", "csv")),
)


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # or a cache beside a person's file would go unseen here


def resolved(*argv):
    """As `main.py train` takes them."""
    typed = train(*argv)
    return checked(typed.config, typed.config_file, typed.overrides)


def train(*argv, config="required", positionals=()):
    return parse(argv, FLAGS, command="train", config=config, positionals=positionals)


LM = "--config=configs/lm.py"


def test_defaults():
    arguments = train(LM)
    assert arguments.flags == {"workdir": None, "resume": True, "dry_run": False, "max_runs": None, "format": None}
    assert arguments.config is not None
    assert arguments.config.scheme == "pre_ln"
    assert (arguments.positionals, arguments.overrides, arguments.config_file) == ((), {}, "configs/lm.py")


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        (["--config.optim.lr=3e-3"], "optim.lr", 3e-3),
        (["--config.optim.lr", "3e-3"], "optim.lr", 3e-3),
        (["-config.optim.lr=3e-3"], "optim.lr", 3e-3),
        (["--config.optim.lr=1", "--config.optim.lr=2"], "optim.lr", 2.0),
        (["--config.model.tie_embeddings"], "model.tie_embeddings", True),
        (["--config.model.bias=false"], "model.bias", False),
        (["--noconfig.model.bias"], "model.bias", False),
        (["--noconfig.model.bias", "--config.model.bias"], "model.bias", True),
        (["--config.norm.eps=None"], "norm.eps", None),
        (["--config.norm.eps=none"], "norm.eps", None),
        (["--config.norm.eps=1e-6"], "norm.eps", 1e-6),
        (["--config.norm.kind=none"], "norm.kind", "none"),
        (["--config.data.path=a=b"], "data.path", "a=b"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_config_keys_in_every_spelling_before_and_behind_the_file(argv, key, value, first):
    arguments = train(*argv, LM) if first else train(LM, *argv)
    assert arguments.overrides == {key: value}
    group, _, name = key.rpartition(".")
    held = getattr(getattr(arguments.config, group), name)
    assert held == value
    assert type(held) is type(value)


def test_flags_and_positionals_mix():
    arguments = train(
        "a", "--workdir", "out", LM, "--noresume", "b", "--dry_run", "--", "--format", positionals=("A", "B", "C")
    )
    assert arguments.positionals == ("a", "b", "--format")
    assert (arguments["workdir"], arguments["resume"], arguments["dry_run"]) == (Path("out"), False, True)


def test_flags_may_stand_in_a_file(tmp_path):
    """In their place among those of the command line: of several values the last one counts."""
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    base.write_text("--config.steps=5\n--noresume\n")
    tuned.write_text(f"# the winner\n\n--flagfile={base}\n--config.optim.lr=3e-3\n")
    arguments = train("--config.steps=4", f"--flagfile={tuned}", "--config.optim.lr=1e-2", LM)
    assert arguments.overrides == {"steps": 5, "optim.lr": 1e-2}
    assert arguments["resume"] is False


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"--config.steps=5\n--config.lr=1\n", "--config.lr: no such key; did you mean '--config.optim.lr'?"),
        (b"--workdir\n--noresume\n", "--workdir needs a value: --workdir=DIR"),
        (b"--workdir out\n", "--workdir out: no such flag; did you mean '--workdir'?"),
        (b"\xff\xfe\x00", "--flagfile: this is not a text file; write one flag on each line"),
    ],
)
def test_a_mistake_in_a_file_of_flags_is_one_line_too(content, message, tmp_path):
    file = tmp_path / "flags"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        train(LM, f"--flagfile={file}")
    assert str(caught.value) == message


def test_the_flags_of_the_process_stay_as_they_are():
    """Those of a notebook, or of another program that uses absl and calls this one."""
    before = (absl_flags.FLAGS.flag_values_dict(), absl_flags.FLAGS.is_parsed())
    train(LM, "--config.steps=5", "--workdir=out")
    assert (absl_flags.FLAGS.flag_values_dict(), absl_flags.FLAGS.is_parsed()) == before


def test_a_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert train(LM, "--workdir=~/runs")["workdir"] == Path("/home/ada/runs")


def test_a_negative_number_is_a_value_or_a_positional():
    assert train(LM, "--", "-1", positionals=("N",)).positionals == ("-1",)
    with pytest.raises(UserError, match=r"^--config\.optim\.lr=-1\.0: must be above 0$"):
        train(LM, "--config.optim.lr", "-1")


def test_a_command_may_do_without_a_config():
    assert train("--max_runs=3", config="none")["max_runs"] == 3
    arguments = train("--config.steps=5", config="optional")
    assert (arguments.config, arguments.overrides) == (None, {"steps": 5})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([LM, "--config.optim.lrr=1"], "--config.optim.lrr: no such key; did you mean '--config.optim.lr'?"),
        ([LM, "--config.lr=1"], "--config.lr: no such key; did you mean '--config.optim.lr'?"),
        ([LM, "--optim.lr=1"], "--optim.lr: no such flag; did you mean '--config.optim.lr'?"),
        ([LM, "--lr=1"], "--lr: no such flag; did you mean '--config.optim.lr'?"),
        ([LM, "--max-runs=1"], "--max-runs: no such flag; did you mean '--max_runs'?"),
        ([LM, "--wrkdir=x"], "--wrkdir: no such flag; did you mean '--workdir'?"),
        ([LM, "--zzz"], "--zzz: no such flag; flags of train: --workdir, --resume"),
        ([LM, "--config.model={}"], "--config.model: a group of keys, not a value"),
        ([LM, "--config.model={'width': 8}"], "--config.model: a group of keys, not a value"),
        (["--config={'steps': 1}"], "--config={…}: expected a file"),
        ([LM, "--config.steps=1e3"], "--config.steps='1e3': expected a whole number"),
        ([LM, "--config.steps=True"], "--config.steps='True': expected a whole number"),
        ([LM, "--config.optim.lr=nan"], "--config.optim.lr='nan': expected a finite number"),
        ([LM, "--config.optim.lr=inf"], "--config.optim.lr='inf': expected a finite number"),
        ([LM, "--config.optim.lr="], "--config.optim.lr='': expected a number"),
        ([LM, "--config.model.bias=maybe"], "--config.model.bias='maybe': expected true or false"),
        (
            [LM, "--config.model.bias", "false"],
            "train: unexpected 'false' (it takes flags only); did you mean '--config.model.bias=false'?",
        ),
        ([LM, "--noconfig.optim.lr"], "--noconfig.optim.lr: 'config.optim.lr' is not a true-or-false flag"),
        (
            [LM, "--noconfig.model.bias=true"],
            "--noconfig.model.bias=true: takes no value; write --noconfig.model.bias or",
        ),
        ([LM, "-noresume=true"], "--noresume=true: takes no value; write --noresume or --resume=false"),
        ([LM, "--config.norm.kind=None"], "--config.norm.kind=None: write 'none' to use none"),
        ([LM, "--config.model.num_heads=3"], "--config.model.num_heads=3 does not divide model.width=128"),
        (
            [LM, "--config.model.width=98"],
            "configs/lm.py: model.num_heads=4 does not divide --config.model.width=98; the nearest divisor is 2",
        ),
        ([LM, "--config.optim.lr=-1"], "--config.optim.lr=-1.0: must be above 0"),
        (
            [LM, "--config.optim.beta2=0.9999999999"],
            "--config.optim.beta2=0.9999999999: must be at least 0 and below 1; it is 1",
        ),
        ([LM, "--config.optim.schedule=cosin"], "--config.optim.schedule='cosin': did you mean 'cosine'?"),
        (
            [LM, "--config.optim.warmup=9", "--config.steps=5"],
            "--config.optim.warmup=9 is longer than the run (--config.steps=5)",
        ),
        ([LM, "--config.scheme=pre_nl"], "--config.scheme=pre_nl: unknown scheme 'pre_nl'; did you mean 'pre_ln'"),
        (
            ["--config=configs/lm.py:no_norm", "--config.norm.alpha=2"],
            "configs/lm.py:no_norm: scheme 'no_norm' has no norm, so --config.norm.alpha has no meaning",
        ),
        (
            [LM, "--config.data.name=enwik8", "--config.data.path=x"],
            "--config.data.name='enwik8' and --config.data.path='x'",
        ),
        ([LM, "--workdir"], "--workdir needs a value: --workdir=DIR"),
        ([LM, "--workdir", "--resume"], "--workdir needs a value: --workdir=DIR"),
        ([LM, "--workdir="], "--workdir is empty: expected a path"),
        ([LM, "--max_runs=0"], "--max_runs=0: must be at least 1"),
        ([LM, "--max_runs=x"], "--max_runs='x': expected a whole number"),
        ([LM, "--format=html"], "--format='html': valid names: csv, md"),
        ([LM, "extra"], "train: unexpected 'extra' (it takes flags only)"),
        ([LM, ""], "train: unexpected '' (it takes flags only)"),
        ([LM, "-1"], "--1: no such flag; flags of train: --workdir"),
        ([LM, "--flagfile"], "--flagfile needs a value: --flagfile=FILE"),
        ([LM, "--flagfile", "--resume"], "--flagfile needs a value: --flagfile=FILE"),
        ([LM, "--flagfile=no/such"], "--flagfile=no/such: no such file or directory"),
        ([LM, "--flagfile=configs"], "--flagfile=configs: is a directory"),
        ([LM, "--flag-file=x"], "--flag-file: no such flag; did you mean '--flagfile'?"),
        (
            [LM, "optim.lr=3"],
            "train: unexpected 'optim.lr=3' (it takes flags only); did you mean '--config.optim.lr=3'?",
        ),
        ([], "train needs --config=FILE, e.g. --config=configs/lm.py:pre_ln"),
        (["--config.steps=3"], "train needs --config=FILE"),
        (["--config"], "--config needs a value: --config=FILE[:ARG]"),
        (["--config="], "--config is empty; write --config=configs/lm.py:pre_ln"),
        (["--config= "], "--config is empty; write --config=configs/lm.py:pre_ln"),
        (["--config=configs/lmm.py"], "configs/lmm.py: no such config file; did you mean 'configs/lm.py'?"),
        (["--config=nowhere/lm.py"], "nowhere/lm.py: no such config file; did you mean 'configs/lm.py'?"),
        (["--config=configs"], "configs: is a folder, not a config file"),
        (["--config=configs/lm.py:pre_nl"], "configs/lm.py:pre_nl: unknown scheme 'pre_nl'; did you mean 'pre_ln'"),
    ],
    ids=lambda part: " ".join(part)[-40:] if isinstance(part, list) else "",
)
def test_a_mistake_is_one_line(argv, message):
    with pytest.raises(UserError) as caught:
        resolved(*argv)
    line = str(caught.value)
    assert line.startswith(message)
    assert len(line.splitlines()) == 1


def test_a_missing_positional_is_named():
    with pytest.raises(UserError, match=r"^sweep needs FILE: main\.py sweep FILE \[DIR\]$"):
        parse([], command="sweep", positionals=("FILE", "[DIR]"))
    assert parse(["f"], command="sweep", positionals=("FILE", "[DIR]")).positionals == ("f",)


def test_help_names_every_flag_and_every_key(capsys):
    with pytest.raises(SystemExit) as caught:
        train("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "usage: main.py train --config=FILE[:ARG]" in text
    assert all(f"--config.{key}=" in text for key in leaves())
    assert "--workdir=DIR" in text
    assert "--[no]resume" in text
    assert "--flagfile=FILE" in text
    assert "examples of the validation and of the test split" in text  # the words of the schema


NAMES = (
    "workdir",
    "resume",
    "noresume",
    "nomax_runs",
    "max_runs",
    "format",
    "flagfile",
    "help",
    "zzz",
    "no",
    "",
    "config",
)
KEYS = (
    "config.steps",
    "config.optim.lr",
    "config.model",
    "config.model.bias",
    "noconfig.model.bias",
    "config.",
    "config.x.y",
)
TEXTS = ("1", "5%", "true", "None", "-1", "-x", "1e-3", "configs/lm.py", "md", "=", "a=b", "--", "-", "nan", "", " ")


def outcome(words, **need):
    try:
        train(*words, **need)
    except UserError as error:
        return len(str(error).splitlines())
    except SystemExit as stop:
        return f"exit {stop.code}"
    return "values"


def test_whatever_is_typed_gives_values_or_help_or_one_line():
    rng, outcomes = random.Random(0), {}
    for _ in range(150):
        words = [LM] * rng.randrange(2)
        for _ in range(rng.randrange(1, 4)):
            flag, text = rng.choice(("--", "-")) + rng.choice(NAMES + KEYS), rng.choice(TEXTS)
            words += rng.choice([[f"{flag}={text}"], [flag, text], [flag], [text]])
        need = rng.choice(["required", "optional", "none"])
        outcomes.setdefault(outcome(words, config=need, positionals=rng.choice([(), ("A", "[B…]")])), words)
    assert set(outcomes) == {"values", "exit 0", 1}, outcomes


@pytest.mark.parametrize("argv", [["-h"], ["--help", "--workdir"], ["--wrkdir=x", "--help"], [LM, "a", "--help"]])
def test_help_is_given_beside_mistakes(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        train(*argv)
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("usage: main.py train")


FILES = {
    "syntax": ("def get_config(:\n", "{file}:1: running it failed: SyntaxError: "),
    "raises": ("x = 1\nx / 0\n", "{file}:2: running it failed: ZeroDivisionError: division by zero"),
    "imports": ("import no_such_package\n", "{file}:1: running it failed: ModuleNotFoundError: No module named"),
    "exits": ("raise SystemExit('enough')\n", "{file}:1: running it failed: SystemExit: enough"),
    "lacks": ("", "{file}: get_config() is missing"),
    "none": ("def get_config(): pass\n", "{file}: get_config() returned NoneType, not a ConfigDict"),
    "fails": ("def get_config():\n    return {}['a']\n", "{file}:2: get_config() failed: KeyError: 'a'"),
    "lines": ("def get_config():\n    raise ValueError('a\\nb')\n", "{file}:2: get_config() failed: "),
    "null": ("\0", "{file}"),
    "leaves": ("raise GeneratorExit('enough')\n", "{file}:1: running it failed: GeneratorExit: enough"),
}
HEAD = "from addnorm_exp.config import Config, as_configdict\ndef get_config(arg=''):\n    config = as_configdict(Config())\n"
EDITS = {
    "config.optim.lrr = 1": "{file}:4: config has no key 'lrr'; did you mean 'optim.lr'?",
    "config.optm.lr = 1.": "{file}:4: config has no key 'optm'; did you mean 'optim'?",
    "config.model.depht += 1": "{file}:4: config has no key 'depht'; did you mean 'model.depth'?",
    "config['modle']['depth'] = 1": "{file}:4: config has no key 'modle'; did you mean 'model'?",
    "config.optim.lr = 'fast'": "{file}:4: get_config() failed: TypeError: Could not override field 'lr'",
    "config.steps = True": "{file}: steps=True: expected a whole number",
    "config.model = {'depth': 2}": "{file}: model.width is missing: 'model' was replaced as a whole",
    "config.optim.warmup = 2000": "{file}: optim.warmup=2000 is longer than the run (steps=1000)",
}
FILES |= {edit: (f"{HEAD}    {edit}\n    return config\n", message) for edit, message in EDITS.items()}


@pytest.mark.parametrize("name", FILES)
def test_a_broken_config_file_is_one_line_with_its_place(name, tmp_path):
    text, message = FILES[name]
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        train(f"--config={file}")
    line = str(caught.value)
    assert line.startswith(message.format(file=file))
    assert len(line.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [file]  # no bytecode left beside it


def test_an_argument_that_get_config_refuses(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def get_config():\n    pass\n")
    with pytest.raises(UserError, match=r"mine\.py: get_config\('big'\) failed: TypeError: .* takes 0 positional"):
        load(f"{file}:big")


def test_what_a_config_file_derives_follows_the_command_line(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(f"{HEAD}    config.optim.warmup = config.get_ref('steps') // 10\n    return config\n")
    assert train(f"--config={file}").config.optim.warmup == 100
    assert train("--config.steps=500", f"--config={file}").config.optim.warmup == 50
    assert train("--config.optim.warmup=7", "--config.steps=500", f"--config={file}").config.optim.warmup == 7


def test_two_keys_that_a_config_file_ties_cannot_differ(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(f"{HEAD}    config.seq_len = config.get_ref('batch_size')\n    return config\n")
    with pytest.raises(
        UserError, match=r"--config\.batch_size=8: the config file derives this key from another one, which makes it 4"
    ):
        train("--config.batch_size=8", "--config.seq_len=4", f"--config={file}")


def test_a_mistake_of_the_file_can_be_mended_on_the_command_line(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(f"{HEAD}    config.optim.warmup = 2000\n    return config\n")
    assert train(f"--config={file}", "--config.steps=3000").config.steps == 3000


def test_an_edit_within_the_same_second_is_seen(tmp_path):
    file = tmp_path / "mine.py"
    for depth in (2, 3, 4):
        file.write_text(f"{HEAD}    config.model.depth = {depth}\n    return config\n")
        assert load(str(file)).model.depth == depth


def test_the_shorthand_sets_the_scheme():
    assert train("--config=configs/lm.py:post_ln").config.scheme == "post_ln"
    assert train("--config=configs/lm.py:post_ln", "--config.scheme=pre_rms").config.scheme == "pre_rms"
