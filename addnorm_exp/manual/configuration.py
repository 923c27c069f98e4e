"""docs/configuration.md, generated from the schema: `uv run python -m addnorm_exp.manual.configuration > docs/configuration.md`."""

import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterable, Mapping

from addnorm_exp.config.key import UNSET, Range
from addnorm_exp.config.keys import Leaf, flatten, leaves
from addnorm_exp.config.schema import Config

HEAD = """\
# Configuration

Keys, types, defaults and meanings come from `addnorm_exp/config/schema.py`. This page is generated
from it:

    uv run python -m addnorm_exp.manual.configuration > docs/configuration.md

## Setting values

A config file returns the defaults with its own changes. The command line and study files override
single keys:

    uv run main.py train --config=configs/lm.py:post_ln --config.optim.lr=3e-3 --config.model.depth=6 --workdir=runs/try

    BASE = {"steps": 300, "model.depth": 6}                          # in a study file: for all its runs
    yield {"scheme": "post_ln", "optim.lr": 3e-3, "seed": 0}         # in a study file: for one run

- `configs/lm.py:post_ln` calls `get_config("post_ln")` of that file, which sets `scheme`.
- Keys are written with dots. `uv run main.py train --help` lists them all.
- Numbers can be written `3e-3`; booleans are `true` or `false`.
- The command line is absl's: `--flag=value` or `--flag value`, `--noconfig.model.bias` for false, and
  `--flagfile=FILE` for more flags from a text file, one on each line. The last value of a flag
  counts. `--` ends the flags.
- A key that counts steps can be a length in another unit: `--config.steps=3epochs`,
  `100000examples`, `1e6tokens` (padding included), and all but `steps` a share of the run:
  `--config.optim.warmup=5%`, `config.eval.every = "10%"` in a config file,
  `axis("optim.warmup", ["1%", "5%"])` in a study. It becomes a whole number of steps after all
  overrides, a share the nearest one, other units rounded up: 5% of 1000 steps and 50 are the same
  run. An epoch of `lm` is as many tokens as the training split has.
- A task, its data and an optimiser have keys of their own. A config has those of the task that
  `task.name` names and of the optimiser that `optim.name` names; others are refused.
- The default `None` means "not set". The meaning states what applies then.

Everything is checked before anything runs. Each mistake gets one line with the nearest valid name or
the remedy, and exit code 2: an unknown key, a wrong type, a number that is not finite or out of
range, an impossible combination, a model or a batch larger than the memory of this machine.

## Identity of a run

The id of a run includes every key that can change a number: all keys except those under `execution.`
([record.md](record.md)). A different value is a different run. A key is not part of the id:

- at its neutral value, so that a run made before the key existed keeps its id
- if nothing depends on it, such as `init.std` under the law `xavier`
- `data.name` and `data.path`: the checksum of the data identifies the data

Most numbers that change no shape and no structure (learning rate, warmup, seed, …) also need no new
compilation.
"""


def document() -> str:
    """The whole page."""
    known = leaves()
    top = [leaf for key, leaf in known.items() if "." not in key]
    parts = [HEAD, "## The run\n", _table(top)]
    hints = typing.get_type_hints(Config)
    for item in dataclasses.fields(Config):
        members = [leaf for key, leaf in known.items() if key.startswith(f"{item.name}.")]
        if members:
            docstring = textwrap.fill(" ".join((inspect.getdoc(hints[item.name]) or "").split()), 100)
            generated = docstring.startswith(hints[item.name].__name__)  # the dataclass's own signature
            parts += [f"\n## {item.name}\n", *([] if generated or not docstring else [docstring, ""]), _table(members)]
            if variants := item.metadata.get("variants"):
                parts += _variants(variants.classes, members)
    values = {key: leaf.said.neutral for key, leaf in known.items() if leaf.said.neutral is not UNSET}
    neutral = ", ".join(f"`{key}={_typed(value)}`" for key, value in values.items())
    parts += [
        "\n## Neutral values\n",
        textwrap.fill(f"Every key that is not set, and: {neutral}.", 100, break_long_words=False),
    ]
    return "\n".join(parts) + "\n"


def _variants(classes: Mapping[str, type], members: Iterable[Leaf]) -> list[str]:
    """Each class that a group may have, with the keys that it has beside those of all."""
    lines = []
    for name, variant in classes.items():
        own = [
            leaf.key.rpartition(".")[2]
            for leaf in members
            if leaf.own and set(classes) != set(leaf.own.defaults) >= {name}
        ]
        keys = f" Keys: {', '.join(f'`{key}`' for key in own)}." if own else ""
        text = f"- `{name}`: {' '.join((inspect.getdoc(variant) or '').split())}{keys}"
        lines.append(textwrap.fill(text, 100, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
    return ["", *lines]


def _table(members: Iterable[Leaf]) -> str:
    defaults = flatten(Config())
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for leaf in members:
        cells = (f"`{leaf.key}`", _type(leaf), f"`{_typed(defaults[leaf.key])}`", leaf.said.meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _type(leaf: Leaf) -> str:
    """The valid values in words: the type, and its choices or its range."""
    if leaf.choices:
        return ", ".join(f"`{choice}`" for choice in leaf.choices)
    limits = _limits(leaf.said.range)
    words = {int: "whole number", float: "number", bool: "`true`, `false`", str: "text"}[leaf.type]
    if leaf.units:
        words += " or a length (`3epochs`, `5%`)" if "%" in leaf.units else " or a length (`3epochs`)"
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


def _typed(value: object) -> str:
    """A value as a user types it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(document(), end="")
