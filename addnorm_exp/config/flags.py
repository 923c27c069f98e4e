"""The command line: a thin parser with absl's conventions, for commands that take `--config=FILE[:ARG]
--config.KEY=VALUE`.

absl itself reports a misspelt config key with a traceback, and does not let flags and positionals mix. This parser reports
every mistake in one line with the nearest valid name. `--flag=value` and `--flag value` mean the same, booleans are `--flag`
and `--noflag`, the last value of a repeated flag counts, and `--` ends the flags.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ml_collections import ConfigDict

from addnorm_exp.config import door, keys, slips
from addnorm_exp.config.files import expanded, load
from addnorm_exp.config.schema import Config
from addnorm_exp.errors import UserError, nearest, program

Need = Literal["none", "optional", "required"]


@dataclass(frozen=True)
class Flag:
    """A flag of a command. `type` is str, int, float, bool or Path (`~` is expanded)."""

    name: str
    type: type = str
    default: object = None
    help: str = ""
    metavar: str = "VALUE"
    minimum: float | None = None
    choices: tuple[str, ...] = ()


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
) -> Arguments:
    """Reads a command's arguments; `--help` prints the usage and raises SystemExit(0).

    `positionals` names the positional arguments. A name in brackets ("[FILE]") is optional; "[ID…]" at the end may be repeated. With
    `config="optional"` and no `--config`, only the types of the overrides are checked. `study_keys`: the command takes config keys
    from a study file, and the hint at a misplaced key says so.
    """
    parser = _Parser(flags, config, command, study_keys)
    words = parser.run(argv)
    if parser.help:
        print(usage(flags, command=command, about=about, config=config, positionals=positionals), end="")
        raise SystemExit(0)
    _check_positionals(words, positionals, parser)
    if config == "required" and parser.file is None:
        raise UserError(f"{command} needs --config=FILE, e.g. --config=configs/lm.py:pre_ln")
    values = {flag.name: flag.default for flag in flags} | parser.values
    checked = None
    if parser.file is not None:
        tree = load(parser.file)
        door.values(tree, parser.file)
        _apply(tree, parser.overrides)
        checked = door.read(tree, parser.file, typed=parser.overrides)
    return Arguments(values, tuple(words), checked, parser.file, parser.overrides)


class _Parser:
    def __init__(self, flags: Sequence[Flag], config: Need, command: str, study_keys: bool = False):
        self.flags = {flag.name: flag for flag in flags}
        self.leaves = {} if config == "none" else {f"config.{key}": leaf for key, leaf in keys.leaves().items()}
        self.takes_config = config != "none"
        self.command, self.study_keys = command, study_keys
        self.booleans: dict[int, str] = {}  # place among the positionals → the boolean flag before it
        self.values: dict[str, object] = {}
        self.overrides: dict[str, object] = {}
        self.file: str | None = None
        self.help = False

    def run(self, argv: Sequence[str]) -> list[str]:
        """Sorts the words into flags and overrides; returns the positionals."""
        words: list[str] = []
        rest = list(argv)
        while rest:
            word = rest.pop(0)
            if word == "--":
                return words + rest
            if word == "-" or not word.startswith("-") or _is_number(word):
                words.append(word)
                continue
            name, equals, text = word.removeprefix("-").removeprefix("-").partition("=")
            if name in ("help", "h"):
                self.help = True
                return words
            self._take(name, text if equals else None, rest)
            if self._is_bool(name) and not equals:
                self.booleans[len(words)] = name
        return words

    def _take(self, name: str, text: str | None, rest: list[str]) -> None:
        if self._is_bool(name.removeprefix("no")) and name not in self.flags and name.startswith("no"):
            if text is not None:
                raise UserError(f"--{name}={text}: takes no value; write --{name} or --{name[2:]}=false")
            name, text = name[2:], "false"
        if not (name in self.flags or name in self.leaves or (name == "config" and self.takes_config)):
            raise self._unknown(name)
        if text is None and self._is_bool(name):
            text = "true"
        if text is None:
            if not rest or rest[0].startswith("--"):
                metavar = self.flags[name].metavar if name in self.flags else "FILE" if name == "config" else "VALUE"
                raise UserError(f"--{name} needs a value: --{name}={metavar}")
            text = rest.pop(0)
        if name == "config" and not text:
            raise UserError("--config needs a value: --config=FILE")
        if name in self.leaves:
            leaf = self.leaves[name]
            self.overrides[leaf.key] = door.convert(leaf, text, f"--{name}")
        elif name in self.flags:
            self.values[name] = _value(self.flags[name], text)
        elif text.lstrip().startswith("{"):
            raise UserError("--config={…}: expected a file, e.g. --config=configs/lm.py:pre_ln")
        else:
            self.file = text

    def _is_bool(self, name: str) -> bool:
        flag = self.flags.get(name) or self.leaves.get(name)
        return flag is not None and flag.type is bool

    def _unknown(self, name: str) -> UserError:
        bare = name.removeprefix("no")
        if bare in self.flags or bare in self.leaves:
            return UserError(f"--{name}: '{bare}' is not a true-or-false flag; write --{bare}=VALUE")
        if self.takes_config and name.startswith("config."):
            return keys.unknown(name.removeprefix("config."), f"--{name}", prefix="--config.")
        hint = slips.of_flag(name, self.flags, self.takes_config, self.study_keys)
        if hint:
            return UserError(f"--{name}: no such flag{hint}")
        valid = [f"--{flag}" for flag in self.flags] + ["--config", "--config.KEY"] * self.takes_config
        return UserError(f"--{name}: no such flag; flags of {self.command}: {', '.join(valid) or 'none'}")


def _value(flag: Flag, text: str) -> object:
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


def _apply(tree: ConfigDict, overrides: dict[str, object]) -> None:
    """Sets typed keys in the ConfigDict itself, so that keys that a config file derives by reference follow them."""
    for key, value in overrides.items():
        *path, last = key.split(".")
        place = tree
        for part in path:
            place = place[part]
        place[last] = value
    for key, value in overrides.items():
        actual = door.values(tree)[key]
        if actual != value:
            raise UserError(
                f"--config.{key}={value!r}: the config file derives this key from another one, which makes it {actual!r}"
            )


def _check_positionals(words: Sequence[str], names: Sequence[str], parser: _Parser) -> None:
    command = parser.command
    needed = [name for name in names if not name.startswith("[")]
    if len(words) < len(needed):
        raise UserError(f"{command} needs {needed[len(words)]}: {program()} {command} {' '.join(names)}")
    if len(words) > len(names) and not (names and names[-1].endswith("…]")):
        word, place = words[len(names)], len(names)
        hint = slips.of_word(
            word,
            parser.flags,
            takes_config=parser.takes_config,
            file=parser.file,
            boolean=parser.booleans.get(place),
        )
        takes = " ".join(names) or "flags only"
        raise UserError(f"{command}: unexpected {door.abbreviated(word)} (it takes {takes}){hint}")


def usage(
    flags: Sequence[Flag], *, command: str, about: str = "", config: Need = "none", positionals: Sequence[str] = ()
) -> str:
    """The help text of a command: its flags and, if it takes a config, every key with its default and meaning."""
    words = [program(), command, *positionals]
    rows = [
        (f"--[no]{flag.name}" if flag.type is bool else f"--{flag.name}={flag.metavar}", flag.help) for flag in flags
    ]
    if config != "none":
        file = "--config=FILE[:ARG]"
        words.append(file if config == "required" else f"[{file}]")
        words.append("[--config.KEY=VALUE …]")
        rows.insert(0, (file, "the config file, e.g. configs/lm.py:pre_ln"))
    words += [f"[{row[0]}]" for row in rows if not row[0].startswith("--config")]
    text = f"{about}\n\n" if about else ""
    text += textwrap.fill("usage: " + " ".join(words), 100, subsequent_indent="       ", break_on_hyphens=False) + "\n"
    text += _rows("flags", rows)
    if config != "none":
        defaults = keys.flatten(Config())
        table = [(f"--config.{leaf.key}={defaults[key]}", leaf.meaning) for key, leaf in keys.leaves().items()]
        text += _rows("config keys with their defaults (None: not set)", table)
    return text


def _rows(title: str, rows: Sequence[tuple[str, str]]) -> str:
    if not rows:
        return ""
    wide = max(len(name) for name, _ in rows)
    return f"\n{title}:\n" + "".join(f"  {name:<{wide}}  {text}".rstrip() + "\n" for name, text in rows)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
