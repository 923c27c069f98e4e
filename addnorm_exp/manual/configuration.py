"""docs/configuration.md, made of the schema: `uv run python -m addnorm_exp.manual.configuration > docs/configuration.md`."""

import dataclasses
import inspect
import typing
from collections.abc import Iterable

from addnorm_exp.config.checks import CHOICES, RANGES, Range
from addnorm_exp.config.keys import NEUTRAL, Leaf, flatten, leaves
from addnorm_exp.config.schema import Config

HEAD = """\
# Configuration

Written by `uv run python -m addnorm_exp.manual.configuration > docs/configuration.md` from addnorm_exp/config/schema.py, where keys, types,
defaults and meanings stand; a test fails where it is stale.

## Where values come from
A config file returns the defaults with what it changes; the command line, or a study file, overrides single keys of it:

    uv run main.py train --config=configs/lm.py:post_ln --config.optim.lr=3e-3 --config.model.depth=6 --workdir=runs/try

    BASE = {"steps": 300, "model.depth": 6}                          # in a study file: for all of its runs
    yield {"scheme": "post_ln", "optim.lr": 3e-3, "seed": 0}         # and for one

`configs/lm.py:post_ln` calls `get_config("post_ln")` of that file, which sets `scheme`. A key is written with dots;
`uv run main.py train --help` lists them all. Everything is checked before anything runs: an unknown key, a wrong type, a number that
is not finite or out of its range, a combination that cannot be right, a model or a batch beyond this machine's memory. Each is one
line with the nearest valid name or the remedy, and exit code 2.

`None` as a default means "not set"; the meaning says what holds then. Numbers may be written `3e-3`, truth values `true` or `false`.
Keys that count steps of the run also take a share of them: `--config.optim.warmup=5%`, `config.eval.every = "10%"` in a config file,
`axis("optim.warmup", ["1%", "5%"])` in a study. The share becomes the nearest whole number of steps when the run's config is built,
after all overrides: 5% of 1000 steps and 50 are the same run.

## What belongs to a run's identity
Every key but those under `execution.` can change a number, so it is part of the run's id ([record.md](record.md)): another value is
another run. A key leaves the id alone where it says nothing: at its neutral value (so that a run made before the key existed keeps
its id), where nothing depends on it (`init.std` under the law `xavier`), and `data.name` and `data.path`, since the data's checksum
says what they are. Most numbers that change no shape and no structure (learning rate, warmup, seed, …) need no new compilation either.
"""


def document() -> str:
    """The whole page."""
    known = leaves()
    top = [leaf for key, leaf in known.items() if "." not in key]
    parts = [HEAD, "## The run", _table(top)]
    hints = typing.get_type_hints(Config)
    for item in dataclasses.fields(Config):
        if item.name not in known:
            members = [leaf for key, leaf in known.items() if key.startswith(f"{item.name}.")]
            told = inspect.getdoc(hints[item.name]) or ""
            own = "" if told.startswith(hints[item.name].__name__) else told  # else it is the dataclass's own signature
            parts += [f"\n## {item.name}", *([own, ""] if own else []), _table(members)]
    neutral = ", ".join(f"`{key}={_shown(value)}`" for key, value in NEUTRAL.items())
    parts += ["\n## Neutral values", f"{neutral}; and every key that is not set."]
    return "\n".join(parts) + "\n"


def _table(members: Iterable[Leaf]) -> str:
    defaults = flatten(Config())
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for leaf in members:
        cells = (f"`{leaf.key}`", _type(leaf), f"`{_shown(defaults[leaf.key])}`", leaf.meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _type(leaf: Leaf) -> str:
    """What may stand there, in words: the kind of value, and its choices or its range."""
    if leaf.key in CHOICES:
        return ", ".join(f"`{choice}`" for choice in CHOICES[leaf.key])
    limits = _limits(RANGES.get(leaf.key))
    words = {int: "whole number", float: "number", bool: "`true`, `false`", str: "text"}[leaf.type]
    words += " or a share of steps (`5%`)" if leaf.share else ""
    return ("sequence, each " if leaf.sequence else "") + words + (f", {limits}" if limits else "")


def _limits(limits: Range | None) -> str:
    """A range in words, its large ends as powers."""
    if limits is None:
        return ""
    powers = {2**20: "2^20", 2**31 - 1: "2^31 - 1", 2**32 - 1: "2^32 - 1"}
    text = str(limits)
    for number, power in powers.items():
        text = text.replace(str(number), power)
    return text


def _shown(value: object) -> str:
    """A value as one types it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(document(), end="")
