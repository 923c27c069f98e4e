"""The metadata that a run's folder has before step 0: its identity, and everything known beforehand."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from addnorm_exp.config import leaves, override, science
from addnorm_exp.config.schema import Config
from addnorm_exp.data.spec import DataSpec
from addnorm_exp.errors import UserError
from addnorm_exp.experiment import Experiment
from addnorm_exp.experiment.kernels import attention_kernel
from addnorm_exp.residual.factors import in_words
from addnorm_exp.runs import machine
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.identity import SEMANTICS
from addnorm_exp.runs.reading import dotted
from addnorm_exp.runs.records import RunConfig
from addnorm_exp.tasks import recipe, resolve
from addnorm_exp.tasks.task import Task
from addnorm_exp.train.device import device


def enter(folder: RunFolder, experiment: Experiment, data: DataSpec, study: str | None) -> None:
    """Writes config.json, or checks that the existing one is this run's."""
    config, identity = experiment.config, experiment.id(data.sha256)
    there = folder.config()
    if there is None:
        folder.write_config(
            {
                "id": identity,
                "semantics": SEMANTICS,
                "scheme": config.scheme,
                "study": study,
                "science": science(config),
                "resolved": asdict(recipe(experiment)),
                "execution": asdict(config.execution),
                "data": {
                    "name": data.name,
                    "sha256": data.sha256,
                    "train": data.train,
                    "val": data.val,
                    "test": data.test,
                    "notes": list(data.notes),
                },
                "scheme_digest": experiment.digest,
            }
        )
    elif there.semantics != SEMANTICS:
        raise UserError(
            f"{folder.path}: made under semantics {there.semantics}, but the meaning of training has changed "
            f"(semantics {SEMANTICS}); choose another folder"
        )
    elif there.id != identity:
        raise UserError(
            f"{folder.path}: contains another run, {_difference(there, experiment, data)}; choose another folder"
        )


def enter_pack(folders: Sequence[RunFolder], ids: Sequence[str]) -> None:
    """Writes pack.json, the runs that one program trains together, into the folder of each, or checks the existing one. A run alone has
    none. A run must continue as it began: the width of a pack changes numbers in their last digits."""
    ours = list(ids) if len(ids) > 1 else None
    for folder in folders:
        theirs = folder.pack()
        begun = folder.recorded() > 0
        if theirs == ours:
            continue
        if theirs is not None:
            raise UserError(
                f"{folder.path}: is one of {len(theirs)} runs that are trained together (pack.json); run the sweep that began them"
            )
        if begun:
            raise UserError(f"{folder.path}: has begun to train alone, so it cannot continue in a pack; run it alone")
        folder.write_pack(ours or ())


def _difference(there: RunConfig, experiment: Experiment, data: DataSpec) -> str:
    """How the run of this config differs from the existing one: the first key that changes the run's id."""
    ours, theirs = dotted(science(experiment.config)), dotted(there.science)
    # The location of the data does not matter; its content is compared below.
    typed = {key: ours[key] for key in ours if key not in ("data.name", "data.path") and ours[key] != theirs.get(key)}
    key = _telling(typed, theirs, experiment)
    if key is not None:
        return f"with {key}={theirs.get(key)!r} where this run has {ours[key]!r}"
    if there.data.sha256 != data.sha256:
        return f"on other data ({there.data.name})"
    return f"{there.id} (the scheme's record has changed)"


def _telling(typed: Mapping[str, Any], theirs: Mapping[str, Any], experiment: Experiment) -> str | None:
    """Of the keys with different values, the first that changes the id; None if the ids are equal."""
    try:
        former = override(Config(), {key: value for key, value in theirs.items() if key in leaves()})
        identity = resolve(former).id("")
    except UserError:  # the other version allowed other values
        return next(iter(typed), None)
    if identity == experiment.id(""):
        return None
    for key, value in typed.items():
        try:
            changed = resolve(override(former, {key: value})).id("")
        except UserError:  # it is valid only with other differing keys
            return key
        if changed != identity:
            return key
    return next(iter(typed), None)


def describe(
    experiment: Experiment,
    data: DataSpec,
    task: Task,
    examples: Mapping[str, int],
    step: int,
    started: float,
    folder: RunFolder,
) -> dict[str, Any]:
    """The part of the summary that is known before the first step of this attempt, which follows `step`."""
    config, scheme, beside, former = experiment.config, experiment.scheme, recipe(experiment), folder.summary()
    attempt = {
        "from_step": step,
        "started": started,
        "execution": asdict(config.execution),
        "attention": attention_kernel(experiment.shape, device()),
        "versions": machine.versions(),
        "device": machine.device(),
        "git": machine.revision(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "threads": machine.threads(),
    }
    return {
        "id": experiment.id(data.sha256),
        "scheme": config.scheme,
        "title": scheme.title,
        "steps": config.steps,
        "started": started,
        "attempts": [*(each.plain() for each in (former and former.attempts) or ()), attempt],
        "metrics": [asdict(metric) for metric in task.metrics],
        "parameters": task.model.size,
        "tokens_per_example": task.cost.tokens,
        "flops_per_token": task.cost.flops_per_token,
        "examples": dict(examples),
        "versions": machine.versions(),
        "device": machine.device(),
        "git": machine.revision(),
        "data_sha256": data.sha256,
        "confounds": {
            "norm": beside.norm,
            "final_norm": beside.final_norm,
            "eps": beside.eps,
            "affine": beside.affine if scheme.stacks else scheme.norm.affine,
            "factors": in_words(task.model.specs.values()) or None,
            "init": beside.init,
            "embedding_norm": None if beside.embedding_norm == "none" else beside.embedding_norm,
            "embedding_scale": None if beside.embedding_scale_by_law else f"× {beside.embedding_scale}",
            "drop_path": beside.drop_path or None,
            "warmup": config.optim.warmup,
            "dtype": dtype_of(config),
            "evidence": ", ".join(dict.fromkeys(each.evidence for each in scheme.members)),
        },
    }


def dtype_of(config: Config) -> str:
    """The type of matrix products, with their precision if it is not the type's own."""
    model = config.model
    plain = model.compute_dtype != "float32" or model.matmul_precision == "highest"
    return model.compute_dtype if plain else f"{model.compute_dtype}, {model.matmul_precision} matmul precision"
