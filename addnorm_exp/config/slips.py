"""What the user probably meant on the command line: the hint that ends the error about an unknown word.

Each function returns the end of a line, `; did you mean '…'?` or advice, or "" if there is no hint. Every suggestion is valid.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from addnorm_exp import hints
from addnorm_exp.config import keys
from addnorm_exp.config.keys import Leaf

if TYPE_CHECKING:
    from addnorm_exp.config.flags import Flag

# Advice for flags of other programs that this one does not need.
ADVICE: Mapping[str, str] = {
    **dict.fromkeys(("resume", "continue", "restart", "noresume"), "run the same command again to resume"),
    **dict.fromkeys(
        ("gpu", "gpus", "cpu", "tpu", "device", "devices", "cuda", "platform", "accelerator"),
        "JAX uses the best device that it finds; set the variable JAX_PLATFORMS=cpu (or cuda, tpu) to choose one",
    ),
}
_TRUE, _FALSE = ("yes", "on", "y"), ("no", "off", "n")


def of_value(leaf: Leaf, value: object) -> str:
    """The hint for a value that does not have the key's type."""
    if not isinstance(value, str):
        return _number_for_share(leaf, value) if isinstance(value, float) else ""
    word = value.strip()
    if word == "=":
        return "; write KEY=VALUE without spaces"
    if leaf.type is bool:
        meant = "true" if word.lower() in _TRUE else "false" if word.lower() in _FALSE else None
        return f"; did you mean '{meant}'?" if meant else ""
    if leaf.type not in (int, float):
        return ""
    parts = [part.strip() for part in word.strip("[]()").split(",")]
    if len(parts) > 1 and leaf.key in keys.leaves() and all(_as_float(part) is not None for part in parts):
        several = ", ".join(parts)
        return f"; a run takes one value, a study takes several: axis('{leaf.key}', [{several}])"
    if word.endswith("%") and leaf.units:
        return "; a share is from 0% to 100%" if "%" in leaf.units else "; only other keys can be a share of it"
    length = re.fullmatch(r"([\d.]+)\s*([a-z]+)", word.lower()) if leaf.units else None
    if length and (unit := hints.near(length[2], leaf.units)):
        return f"; did you mean '{length[1]}{unit}'?"
    number = _as_float(word)
    return "" if number is None else _number_for_share(leaf, number)


def _number_for_share(leaf: Leaf, number: float) -> str:
    if leaf.type is int and number == round(number) and abs(number) < 2**53:
        return f"; did you mean '{round(number)}'?"
    if "%" in leaf.units and 0 < number < 1:
        return f"; did you mean '{100 * number:.12g}%'?"
    return ""


def _as_float(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


def of_flag(name: str, flags: Mapping[str, "Flag"], study_keys: bool = False) -> str:
    """The hint for a flag that the command does not have. `flags`: those that it has, `config` among
    them if it takes a config; `study_keys`: its config keys are set in a study file."""
    takes_keys = "config" in flags or study_keys
    spelt = hints.match(name, flags, hints.FLAGS)
    if spelt:
        return f"; did you mean '--{spelt}'?"
    negated = flags.get(hints.match(hints.normal(name).removeprefix("no"), flags) or "")
    if negated and hints.normal(name).startswith("no"):
        choice = hints.match("off", negated.choices, hints.VALUES)
        return f"; did you mean '--{negated.name}={choice}'?" if choice else ""
    if "yes" in flags and hints.normal(name) in ("dryrun", "dry", "n"):
        return "; without --yes nothing is removed"
    for flag in flags.values():
        choice = hints.match(name, flag.choices, hints.VALUES) if flag.choices and name not in ("on", "off") else None
        if choice:
            return f"; did you mean '--{flag.name}={choice}'?"
    bare = name.removeprefix("config.")
    certain = hints.keys(bare, keys.leaves(), fuzzy=False) if takes_keys else ()
    if certain:
        return _of_keys(bare, certain, study_keys)
    if hints.normal(name) in ADVICE:
        return f"; {ADVICE[hints.normal(name)]}"
    close = hints.near(name, flags, hints.FLAGS)
    if close:
        return f"; did you mean '--{close}'?"
    return _of_keys(bare, hints.keys(bare, keys.leaves()), study_keys) if takes_keys else ""


def _did_you_mean(words: Iterable[str], unit: str = "") -> str:
    return f"; did you mean {' or '.join(map(repr, words))}{unit}?"


def _of_keys(name: str, meant: Sequence[str], study_keys: bool) -> str:
    if not meant:
        return ""
    if study_keys:
        return f"; set it in the study file: BASE = {{'{meant[0]}': …}}{hints.unit(name)}"
    return _did_you_mean((f"--config.{key}" for key in meant), hints.unit(name))


def of_word(word: str, flags: Mapping[str, "Flag"], *, file: str | None, before: str) -> str:
    """The hint for an unexpected positional. `flags`: those of the command, config keys included;
    `file`: the config file that was typed; `before`: the word before this one."""
    flag = flags.get(before.lstrip("-"))
    if flag and flag.type is bool and word.lower() in ("true", "false", *_TRUE, *_FALSE):
        truth = "true" if word.lower() in ("true", *_TRUE) else "false"
        return f"; did you mean '--{flag.name}={truth}'?"
    if word.startswith(("—", "–", "−")):
        return "; a flag begins with two plain hyphens, '--'"
    if word == "help":
        return "; did you mean '--help'?"
    name, equals, text = word.partition("=")
    if equals:
        spelt = hints.match(name, flags)
        if spelt:
            return f"; did you mean '--{spelt}={text}'?"
        meant = hints.keys(name.removeprefix("config."), keys.leaves()) if "config" in flags else ()
        if meant:
            return _did_you_mean(f"--config.{key}={text}" for key in meant)
        if "filter" in flags and name in keys.leaves():
            return f"; did you mean '--filter={word}'?"
        return ""
    return _of_bare_word(word, flags, file)


def _of_bare_word(word: str, flags: Mapping[str, "Flag"], file: str | None) -> str:
    takes_config = "config" in flags
    if takes_config and file is None and word.partition(":")[0].endswith(".py"):
        return f"; did you mean '--config={word}'?"
    scheme = of_scheme(word) if takes_config or {"filter", "schemes"} & set(flags) else None
    if scheme is None:
        return ""
    if takes_config:
        return _did_you_mean([f"--config={(file or 'configs/lm.py').partition(':')[0]}:{scheme}"])
    if "schemes" in flags:
        return f"; did you mean '--schemes={scheme}'?"
    return f"; did you mean '--filter=scheme={scheme}'?"


def of_scheme(word: str) -> str | None:
    """The scheme of this name in another spelling. The import is here because the catalogue needs JAX."""
    from addnorm_exp.residual import catalogue

    return catalogue.spelt(word)


def of_file(path: Path, folders: Mapping[str, Path], argument: str = "") -> str:
    """The hint for a Python file that does not exist: a file with the same or the nearest name, in the same folder or in
    `folders` (prefix → folder). `argument`: the text after the file's colon."""
    parent = {str(path.parent / file.name): file for file in _python_files(path.parent)}
    known = [parent, *({f"{prefix}/{file.name}": file for file in _python_files(at)} for prefix, at in folders.items())]
    for pick in (hints.match, hints.near):
        for files in known:
            stems = {file.stem: name for name, file in reversed(files.items())}
            stem = pick(path.stem, stems)
            if stem:
                return _did_you_mean([f"{stems[stem]}{argument}"])
    return ""


def of_study(path: Path) -> str:
    """The hint for the folder of a study in the place of its file."""
    try:
        file = Path(json.loads((path / "study.json").read_bytes())["file"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return ""
    if not file.is_file():
        return f"; its study file was {file}, which is not there"
    near = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    return _did_you_mean([str(near)])


def of_folder(path: Path) -> str:
    """The hint for a folder in the place of a file."""
    names = [str(path / file.name) for file in _python_files(path)]
    return f"; give a file in it, e.g. {names[0]}" if names else ""


def _python_files(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.glob("*.py") if not file.name.startswith("_"))
    except OSError:
        return []
