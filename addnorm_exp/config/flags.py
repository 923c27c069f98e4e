"""The command line: absl flags and, for a command that takes a config, `--config=FILE[:ARG]` and
`--config.KEY=VALUE`.

Every command line has an absl registry of its own; the process's global flags stay as they are.
Each key of the schema is a flag in it. `config_flags` of ml_collections is not used: it takes a
key's type from the value in the config file, refuses `--config.norm.eps=None`, and reads
`--config.optim.warmup 100` as True. Every mistake gets one line with the nearest valid name.
"""

import functools
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from absl import flags as absl_flags

from addnorm_exp.config import door, keys, slips
from addnorm_exp.config.files import expanded, load
from addnorm_exp.config.lengths import MeasureSizes
from addnorm_exp.config.schema import Config
from addnorm_exp.errors import UserError, nearest, program

Need = Literal["none", "optional", "required"]


@dataclass(frozen=True)
class Flag:
    """A flag of a command. `type` is str, int, float, bool or Path (`~` is expanded); `leaf` is the
    config key that the flag sets."""

    name: str
    type: type = str
    default: object = None
    help: str = ""
    metavar: str = "VALUE"
    minimum: float | None = None
    choices: tuple[str, ...] = ()
    leaf: keys.Leaf | None = None


CONFIG = Flag("config", help="the config file, e.g. configs/lm.py:pre_ln", metavar="FILE[:ARG]")
FLAGFILE = Flag("flagfile", help="a text file with more flags, one on each line", metavar="FILE")


@dataclass(frozen=True)
class Arguments:
    """What the user typed. `config` is checked and complete if `--config` was typed; `overrides` are only the typed
    `--config.KEY=VALUE`; `flags` hold every flag of the command, with its default if it was not typed."""

    flags: dict[str, Any]
    positionals: tuple[str, ...] = ()
    config: Config | None = None
    config_file: str | None = None
    overrides: dict[str, object] | None = None

    def __getitem__(self, name: str) -> Any:
        return self.flags[name]


def parse(
    argv: Sequence[str],
    flags: Sequence[Flag] = (),
    *,
    command: str,
    about: str = "",
    config: Need = "none",
    positionals: Sequence[str] = (),
    study_keys: bool = False,
    measure: MeasureSizes | None = None,
) -> Arguments:
    """Reads a command's arguments; `--help` prints the usage and raises SystemExit(0).

    `positionals` names the positional arguments. A name in brackets ("[FILE]") is optional; "[ID…]" at the end may be repeated. With
    `config="optional"` and no `--config`, only the types of the overrides are checked. `study_keys`: the command takes config keys
    from a study file, and the hint at a misplaced key says so. `measure`: as of `config.read`.
    """

    def show_help(_: str) -> NoReturn:
        print(usage(flags, command=command, about=about, config=config, positionals=positionals), end="")
        raise SystemExit(0)

    of_config = [CONFIG, *(Flag(f"config.{key}", leaf.type, leaf=leaf) for key, leaf in keys.leaves().items())]
    table = {flag.name: flag for flag in (*flags, *(of_config if config != "none" else ()), FLAGFILE)}
    registry = _registry(table, show_help)
    words = _expanded(argv, registry, table)
    try:
        rest = registry([command, *words])[1:]
    except absl_flags.UnrecognizedFlagError as error:
        raise _unknown(error.flagname, table, command, study_keys) from None
    except ValueError as error:
        # absl says "--noFLAG=VALUE does not take an argument".
        word = str(error).removesuffix(" does not take an argument").lstrip("-")
        name = word.partition("=")[0].removeprefix("no")
        raise UserError(f"--{word}: takes no value; write --no{name} or --{name}=false") from None
    typed = {name: registry[name].value for name in table if registry[name].present}
    file = typed.get(CONFIG.name)
    _check_positionals(rest, words, positionals, command, table, file)
    if config == "required" and file is None:
        raise UserError(f"{command} needs --config=FILE, e.g. --config=configs/lm.py:pre_ln")
    overrides = {leaf.key: typed[name] for name in typed if (leaf := table[name].leaf)}
    checked = None if file is None else _configured(file, overrides, measure)
    return Arguments(
        {flag.name: typed.get(flag.name, flag.default) for flag in flags}, tuple(rest), checked, file, overrides
    )


class _Text(absl_flags.ArgumentParser):
    """Reads the text of one flag by `convert`, which raises UserError."""

    def __init__(self, *, convert: Callable[[str], object]):
        self.convert = convert

    def parse(self, argument: str) -> object:
        return self.convert(argument)


def _registry(table: Mapping[str, Flag], show_help: Callable[[str], NoReturn]) -> absl_flags.FlagValues:
    registry = absl_flags.FlagValues()
    registry.set_gnu_getopt()
    text = _Text(convert=show_help)
    absl_flags.DEFINE(text, "help", None, "", registry, module_name=__name__, boolean=True, short_name="h")
    for name, flag in table.items():
        text = _Text(convert=functools.partial(_value, flag))
        absl_flags.DEFINE(text, name, None, "", registry, module_name=__name__, boolean=flag.type is bool)
    return registry


def _expanded(argv: Sequence[str], registry: absl_flags.FlagValues, table: Mapping[str, Flag]) -> list[str]:
    """The words of the command line, with those of each `--flagfile` in its place."""
    _check_values(argv, table)
    try:
        words = registry.read_flags_from_files(list(argv))
    except absl_flags.CantOpenFlagFileError as error:
        fault = error.__context__
        assert isinstance(fault, OSError)
        raise UserError(f"--flagfile={fault.filename}: {(fault.strerror or '').lower()}") from None
    except UnicodeDecodeError:
        raise UserError("--flagfile: this is not a text file; write one flag on each line") from None
    _check_values(words, table)
    return words


def _check_values(words: Sequence[str], table: Mapping[str, Flag]) -> None:
    """Raises UserError for a flag without its value. absl would take the next flag as the value."""
    rest = iter(words)
    for word in rest:
        if word in ("--", "--help", "-h"):
            return
        flag = table.get(word.removeprefix("-").removeprefix("-")) if word.startswith("-") else None
        if flag and flag.type is not bool and next(rest, "--").startswith("--"):
            raise UserError(f"--{flag.name} needs a value: --{flag.name}={flag.metavar}")


def _unknown(name: str, table: Mapping[str, Flag], command: str, study_keys: bool) -> UserError:
    bare = name.removeprefix("no")
    if bare in table:
        return UserError(f"--{name}: '{bare}' is not a true-or-false flag; write --{bare}=VALUE")
    if CONFIG.name in table and name.startswith("config."):
        return keys.unknown(name.removeprefix("config."), f"--{name}", prefix="--config.")
    known = {name: flag for name, flag in table.items() if not flag.leaf}
    hint = slips.of_flag(name, known, study_keys)
    if hint:
        return UserError(f"--{name}: no such flag{hint}")
    valid = [f"--{flag}" for flag in known if flag != FLAGFILE.name] + ["--config.KEY"] * (CONFIG.name in known)
    return UserError(f"--{name}: no such flag; flags of {command}: {', '.join(valid) or 'none'}")


def _value(flag: Flag, text: str) -> object:
    if flag.leaf:
        return door.convert(flag.leaf, text, f"--{flag.name}")
    if flag.type is Path:
        if not text:
            raise UserError(f"--{flag.name} is empty: expected a path")
        return expanded(text, f"--{flag.name}={text}")
    if flag.type is str and not text.strip():
        example = re.search(r"e\.g\. (\S+)", flag.help)
        word = example[1].removeprefix(f"--{flag.name}=").rstrip(",;") if example else flag.metavar
        raise UserError(f"--{flag.name} is empty; write --{flag.name}={word}")
    value = door.convert(keys.Leaf(flag.name, flag.type), text, f"--{flag.name}")
    if flag.choices and value not in flag.choices:
        raise UserError(f"--{flag.name}={door.abbreviated(value)}: {nearest(str(value), flag.choices)}")
    if flag.minimum is not None and isinstance(value, int | float) and value < flag.minimum:
        raise UserError(f"--{flag.name}={value}: must be at least {flag.minimum}")
    return value


def _configured(file: str, overrides: Mapping[str, object], measure: MeasureSizes | None) -> Config:
    """The config of this file. Overrides are set in the ConfigDict itself, so that keys that the file
    derives by reference follow them."""
    if file.lstrip().startswith("{"):
        raise UserError("--config={…}: expected a file, e.g. --config=configs/lm.py:pre_ln")
    tree = load(file)
    door.values(tree, file)
    tree.update_from_flattened_dict(overrides)
    values = door.values(tree, file)
    for key, value in overrides.items():
        if values[key] != value:
            raise UserError(
                f"--config.{key}={value!r}: the config file derives this key from another one, which makes it {values[key]!r}"
            )
    return door.read(tree, file, typed=overrides, measure=measure)


def _check_positionals(
    rest: Sequence[str],
    words: Sequence[str],
    names: Sequence[str],
    command: str,
    table: Mapping[str, Flag],
    file: str | None,
) -> None:
    """Raises UserError if `rest`, the positionals of this command line, are too few or too many."""
    needed = [name for name in names if not name.startswith("[")]
    if len(rest) < len(needed):
        raise UserError(f"{command} needs {needed[len(rest)]}: {program()} {command} {' '.join(names)}")
    if len(rest) > len(names) and not (names and names[-1].endswith("…]")):
        word = rest[len(names)]
        before = dict(zip(words[1:], words, strict=False)).get(word, "")
        hint = slips.of_word(word, table, file=file, before=before)
        takes = " ".join(names) or "flags only"
        raise UserError(f"{command}: unexpected {door.abbreviated(word)} (it takes {takes}){hint}")


def usage(
    flags: Sequence[Flag], *, command: str, about: str = "", config: Need = "none", positionals: Sequence[str] = ()
) -> str:
    """The help text of a command: its flags and, if it takes a config, every key with its default and meaning."""
    file, *shown = [_spelt(flag) for flag in (CONFIG, *flags)]
    words = [program(), command, *positionals]
    if config != "none":
        words += [file if config == "required" else f"[{file}]", "[--config.KEY=VALUE …]"]
    words += [f"[{flag}]" for flag in shown]
    text = f"{about}\n\n" if about else ""
    text += textwrap.fill("usage: " + " ".join(words), 100, subsequent_indent="       ", break_on_hyphens=False) + "\n"
    listed = (*[CONFIG] * (config != "none"), *flags, FLAGFILE)
    text += _rows("flags", [(_spelt(flag), flag.help) for flag in listed])
    if config != "none":
        defaults = keys.flatten(Config())
        table = [(f"--config.{leaf.key}={defaults[key]}", leaf.said.meaning) for key, leaf in keys.leaves().items()]
        text += _rows("config keys with their defaults (None: not set)", table)
    return text


def _spelt(flag: Flag) -> str:
    return f"--[no]{flag.name}" if flag.type is bool else f"--{flag.name}={flag.metavar}"


def _rows(title: str, rows: Sequence[tuple[str, str]]) -> str:
    wide = max(len(name) for name, _ in rows)
    return f"\n{title}:\n" + "".join(f"  {name:<{wide}}  {text}".rstrip() + "\n" for name, text in rows)
