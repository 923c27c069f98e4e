"""A study file, read and checked.

A study file defines `tune()` and `report(best)`, or a plain `sweep()`; each yields flat dotted overrides (combine.py). It may set

    CONFIG = "configs/lm.py"     the config that the overrides apply to
    BASE = {"steps": 300}        overrides common to all runs
    TUNED = ("optim.lr",)        keys that tuning chooses, group by group
    BASELINE = "post_ln"         the row that the table compares with
    PUBLISHED = [{"scheme": "post_ln", "value": 34.15, "metric": "test BLEU", "source": "Author et al. 2020, table 1"}]
                                 published numbers; the table shows them beside the rows with these values

A study may range over configs: `axis("config", ("configs/lm.py", "configs/classify_text.py"))`. Then each config has a study of its own,
with its own data, winners, pairs of seeds and table. BASE may have overrides for one of them, {"configs/lm.py": {"steps": 300}}, and
BASELINE a row, {"configs/lm.py": "pre_ln"}.
"""

import inspect
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from addnorm_exp.config import files, leaves, load, override, read
from addnorm_exp.config.door import convert, overridden, values
from addnorm_exp.config.keys import groups, unknown
from addnorm_exp.errors import UserError, check_text, nearest
from addnorm_exp.runs.published import Published, read_entry
from addnorm_exp.sweep.study import CONFIG, Study, yielded
from addnorm_exp.tasks import resolve, sizes

SETTINGS = ("CONFIG", "BASE", "TUNED", "BASELINE", "PUBLISHED")


def read_studies(path: str) -> tuple[Study, ...]:
    """The study in a file, or one for each config that it ranges over. Raises UserError for any mistake in it."""
    check_text(path, path)
    module = files.run_file(path, "sweep file")
    functions = [name for name in ("tune", "report", "sweep") if callable(getattr(module, name, None))]
    if functions not in (["tune", "report"], ["sweep"]):
        raise UserError(_lacking(path, functions))
    if "report" in functions:
        _check_parameter(path, module.report)
    for name in vars(module):
        if name.isupper() and not name.startswith("_") and name not in SETTINGS and name.rstrip("S") in SETTINGS:
            raise UserError(f"{path}: {name} is not a setting; {nearest(name, SETTINGS)}")
    tuned = _tuned(path, getattr(module, "TUNED", ("optim.lr",)) if "tune" in functions else ())
    default = getattr(module, "CONFIG", "configs/lm.py")
    if not isinstance(default, str):
        raise UserError(
            f"{path}: CONFIG is {default!r}; write the name of a config file, e.g. CONFIG = 'configs/lm.py', or let the runs "
            "range over several: axis('config', ('configs/lm.py', 'configs/classify_text.py'))"
        )
    runs = yielded(Path(path), functions[0], getattr(module, functions[0]))
    configs = _configs(path, runs, default)
    ranges = any(CONFIG in run for run in runs)
    common = _mapping(path, "BASE", getattr(module, "BASE", {}))
    baseline = getattr(module, "BASELINE", None)
    published = _entries(path, getattr(module, "PUBLISHED", ()))
    _check_names(
        path, "BASE", (key for key in common if isinstance(common[key], Mapping) and key not in groups()), configs
    )
    _check_names(path, "BASELINE", baseline if isinstance(baseline, Mapping) else (), configs)
    _check_names(path, "PUBLISHED", (name for name, _ in published if name is not None), configs)
    studies = tuple(
        Study(
            path=Path(str(module.__file__)),
            module=module,
            base=_base(path, config, common, configs),
            tuned=tuned,
            baseline=baseline.get(config) if isinstance(baseline, Mapping) else baseline,
            published=_published(path, (entry for name, entry in published if name in (None, config))),
            config=config if ranges else "",
            default=default,
            configs=configs,
        )
        for config in configs
    )
    parts = [study.part for study in studies]
    for study in studies:
        if parts.count(study.part) > 1:
            raise UserError(f"{path}: two configs are named {study.part}; rename the file of one of them")
    return studies


def _configs(path: str, runs: Iterable[Mapping[str, Any]], default: str) -> tuple[str, ...]:
    """The config files that the runs of a study file name, in their order."""
    configs: dict[str, None] = {}
    for run in runs:
        config = run.get(CONFIG, default)
        if not isinstance(config, str):
            raise UserError(f"{path}: config={config!r}: write the name of a config file, e.g. 'configs/lm.py'")
        configs[config] = None
    return tuple(configs)


def _check_names(path: str, setting: str, names: Iterable[object], configs: Collection[str]) -> None:
    """Raises UserError if a setting is for a config that no run has."""
    for name in names:
        if name not in configs:
            raise UserError(
                f"{path}: {setting} names the config {name!r}, which no run has; {nearest(str(name), configs)}"
            )


def _mapping(path: str, setting: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{path}: {setting} is a {type(value).__name__}; write a dict of overrides")
    return value


def _base(path: str, config: str, base: Mapping[str, Any], configs: Collection[str]) -> dict[str, object]:
    """The flat values of a config with BASE: what holds for all configs, then what holds for this one."""
    tree = _config(path, config)
    resolve(read(tree, path, measure=sizes), path)
    own = _mapping(path, f"BASE[{config!r}]", base.get(config, {}))
    overrides = {**{key: value for key, value in base.items() if key not in configs}, **own}
    flat, where = values(tree, path), f"{path}: BASE"
    resolve(override(flat, overrides, where, sizes), where)
    return overridden(flat, overrides, where)


def _tuned(path: str, tuned: object) -> tuple[str, ...]:
    if not isinstance(tuned, tuple | list) or not all(isinstance(key, str) for key in tuned):
        raise UserError(f"{path}: TUNED is {tuned!r}; write a tuple of keys, e.g. TUNED = ('optim.lr',)")
    for key in tuned:
        if key not in leaves():
            raise unknown(key, f"{path}: TUNED: {key}")
        if key in ("scheme", "seed") or key.startswith(("task.", "data.", "eval.", "execution.")):
            raise UserError(f"{path}: TUNED names {key}, which tuning must not choose; remove it")
    return tuple(tuned)


def _lacking(path: str, functions: list[str]) -> str:
    """The error for a file without the functions of a study. `functions`: those that it has."""
    if not functions:
        return f"{path} defines neither sweep() nor tune() and report(best)"
    if "sweep" in functions:
        has = " and ".join("report(best)" if name == "report" else f"{name}()" for name in functions)
        return f"{path} defines {has}; define tune() and report(best), or only sweep()"
    has, lacks = ("tune()", "report(best)") if functions == ["tune"] else ("report(best)", "tune()")
    return f"{path} defines {has} but not {lacks}"


def _check_parameter(path: str, report: Any) -> None:
    """Raises UserError if `report` cannot be called with one argument."""
    try:
        inspect.signature(report).bind(())
    except TypeError:
        line = getattr(getattr(report, "__code__", None), "co_firstlineno", None)
        place = f"{path}:{line}" if line else path
        raise UserError(f"{place}: report() must take one parameter, the winners; write def report(best):") from None
    except ValueError:  # a built-in function without a signature
        return


def _entries(path: str, entries: Any) -> list[tuple[Any, Any]]:
    """Each entry of PUBLISHED behind the config that it names, None if it is for all."""
    if not isinstance(entries, list | tuple):
        raise UserError(f"{path}: PUBLISHED is a {type(entries).__name__}; write a list of dicts")
    return [
        (entry.get(CONFIG), {key: value for key, value in entry.items() if key != CONFIG})
        if isinstance(entry, Mapping)
        else (None, entry)
        for entry in entries
    ]


def _published(path: str, entries: Iterable[Any]) -> tuple[Published, ...]:
    published = []
    for number, entry in enumerate(entries, 1):
        where = f"{path}: PUBLISHED entry {number}"
        try:
            published.append(read_entry(entry))
        except ValueError as error:
            raise UserError(
                f"{where} {error}; write e.g. {{'scheme': 'pre_ln', 'value': 1.23, 'metric': 'test bpb', 'source': '…, table 1'}}"
            ) from None
        for key in published[-1].row:
            if key not in leaves():
                raise unknown(key, f"{where}: {key}")
        row = {key: convert(leaves()[key], value, f"{where}: {key}") for key, value in published[-1].row.items()}
        published[-1] = replace(published[-1], row=row)
    return tuple(published)


def _config(study: str, spec: str) -> ConfigDict:
    """A study's CONFIG: relative to the current folder, else to the parent of the study's folder."""
    name, colon, argument = spec.partition(":")
    beside = Path(study).resolve().parent.parent / name
    try:
        return load(spec if Path(name).exists() or not beside.exists() else f"{beside}{colon}{argument}")
    except UserError as error:
        raise UserError(f"{study}: CONFIG = {spec!r}: {error}") from error
