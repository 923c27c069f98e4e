"""Runs Python files of the user (`configs/*.py`, `sweeps/*.py`) and reports their mistakes in one line."""

import re
import sys
import traceback
import types
from pathlib import Path

from ml_collections import ConfigDict

from addnorm_exp import hints
from addnorm_exp.config import slips
from addnorm_exp.config.keys import groups, leaves, nearest_key
from addnorm_exp.errors import UserError

# Where configs/ and sweeps/ are: inside the package as a wheel installs it, or beside the package in a checkout.
_PACKAGE = Path(__file__).parents[1]
_SHIPPED = next((root for root in (_PACKAGE / "shipped", _PACKAGE.parent) if (root / "configs").is_dir()), None)
_EXAMPLES = {"config file": "configs/lm.py", "sweep file": "sweeps/quickstart.py"}
_FOLDERS = {kind: str(Path(example).parent) for kind, example in _EXAMPLES.items()}

FAULTS = (Exception, SystemExit, GeneratorExit)  # what a user's file may raise; an interrupt comes from the user


def load(spec: str) -> ConfigDict:
    """The ConfigDict of `FILE` or `FILE:ARG`: what `get_config()` or `get_config(ARG)` of that file returns."""
    path, _, argument = spec.partition(":")
    module = run_file(path, "config file", argument)
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
        raise UserError(f"{path}: get_config() is missing; a config file must define it")
    try:
        config = get_config(argument) if argument else get_config()
    except FAULTS as error:
        raise explain(error, path, f"get_config({argument!r})" if argument else "get_config()") from error
    if not isinstance(config, ConfigDict):
        kind = type(config).__name__
        raise UserError(f"{path}: get_config() returned {kind}, not a ConfigDict; end it with `return config`")
    return config


def run_file(path: str, kind: str, argument: str = "") -> types.ModuleType:
    """Runs a user's file and returns its module. `kind` names the file in messages ("config file", "sweep file");
    `argument` is the text after the colon of FILE:ARG."""
    file = located(path)
    try:
        if file.exists() and not file.is_dir() and not file.is_file():  # reading it might never end
            raise UserError(f"{path}: is not a regular file; save the {kind} as one")
        source = file.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such {kind}{_neighbour(file, kind, argument)}") from None
    except IsADirectoryError:
        hint = slips.of_study(file) or slips.of_folder(file) or _neighbour(file, kind)
        raise UserError(
            f"{path}: is a folder, not a {kind}{hint or f'; name a {kind}, e.g. {_EXAMPLES[kind]}'}"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot read this {kind}: {error.strerror}") from None
    module = types.ModuleType(f"addnorm_exp_user_{file.stem}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses in the file look themselves up there
    try:
        # Not through an importer: it leaves a bytecode cache beside the file and may trust it after an edit.
        exec(compile(source, str(file), "exec"), module.__dict__)
    except FAULTS as error:
        raise explain(error, path, "running it") from error
    return module


def located(path: str) -> Path:
    """The file at this path. A file in `configs/` or `sweeps/` that the current folder lacks is taken from those that come with
    the program."""
    file = expanded(path, path)
    ours = file.parts[:1] and file.parts[0] in _FOLDERS.values()
    if ours and not file.exists() and _SHIPPED is not None and (_SHIPPED / file).is_file():
        return _SHIPPED / file
    return file


def expanded(path: str, label: str) -> Path:
    """The path with `~` expanded; if there is no such user, the message begins with `label`."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{label}: no home folder for '{Path(path).parts[0]}'; write the full path") from None


def explain(error: BaseException, path: str, action: str) -> UserError:
    """The error for an exception in a user's file, in one line: the file, the line number and the exception."""
    if isinstance(error, UserError):
        text = str(error)
        return UserError(text if text.startswith(path) else f"{path}: {text}")
    line = _line(error, str(located(path)))
    place = f"{path}:{line}" if line else path
    unknown_key = _UNKNOWN_KEY.match(str(error))
    if unknown_key:
        name = unknown_key[1] or unknown_key[2]
        group = hints.near(name, groups(), cutoff=0.7) if not hints.keys(name, leaves(), fuzzy=False) else None
        hint = f"did you mean '{group}'?" if group else nearest_key(name, leaves())
        return UserError(f"{place}: config has no key '{name}'; {hint}")
    lines = [text.strip() for text in traceback.format_exception_only(error) if text.strip()]
    message = " ".join(lines[-1].split())
    return UserError(f"{place}: {action} failed: {message if len(message) <= 300 else message[:299] + '…'}")


# The messages of ml_collections for an unknown key that is set (with the whole tree) and for one that is read (quoted twice).
_UNKNOWN_KEY = re.compile(r"""["']*Key "([^"]*)" does not exist|["'\\]*'([^'\\]+)\\*'\\n""")


def _line(error: BaseException, file: str) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    frames = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return frames[-1] if frames else None


def _neighbour(file: Path, kind: str, argument: str = "") -> str:
    """A hint at an existing file: in the same folder, or in the folder for files of this kind."""
    folder = _FOLDERS[kind]
    at = Path(folder) if Path(folder).is_dir() else (_SHIPPED or Path()) / folder
    behind = f":{argument}" if argument else ""
    hint = slips.of_file(file, {folder: at}, behind)
    scheme = slips.of_scheme(str(file)) if kind == "config file" and not hint and not behind else None
    if scheme:
        return f"; did you mean 'configs/lm.py:{scheme}'?"
    return hint if hint or file.parent.is_dir() else f" (there is no folder {file.parent})"
