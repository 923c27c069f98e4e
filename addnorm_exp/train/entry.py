"""What a run's folder says before its first step: which run it is, and all that is known of it beforehand."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from addnorm_exp.config import science
from addnorm_exp.config.schema import Config
from addnorm_exp.config.scheme import blocks, resolve, resolved
from addnorm_exp.data.corpus import Corpus
from addnorm_exp.errors import UserError
from addnorm_exp.residual.factors import in_words
from addnorm_exp.runs import facts
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.identity import SEMANTICS, run_id
from addnorm_exp.runs.reading import dotted
from addnorm_exp.tasks import recipe
from addnorm_exp.tasks.task import Task


def identify(config: Config, corpus_sha256: str) -> str:
    """The run's id. Axes of the norm and the init law count as what they come to: the record's digest holds the norm itself."""
    return run_id(resolved(config), corpus_sha256, resolve(config).digest(blocks(config)))


def enter(folder: RunFolder, config: Config, corpus: Corpus, study: str | None) -> None:
    """Writes config.json, or makes sure that the one there is this run's."""
    identity = identify(config, corpus.sha256)
    there = folder.config()
    if there is None:
        folder.write_config(
            {
                "id": identity,
                "semantics": SEMANTICS,
                "scheme": config.scheme,
                "study": study,
                "science": science(config),
                "resolved": asdict(recipe(config)),
                "execution": asdict(config.execution),
                "data": {
                    "name": corpus.name,
                    "sha256": corpus.sha256,
                    "train_tokens": corpus.train.size,
                    "val_tokens": corpus.val.size,
                    "test_tokens": corpus.test.size,
                },
                "scheme_digest": resolve(config).digest(blocks(config)),
            }
        )
    elif there["semantics"] != SEMANTICS:
        raise UserError(
            f"{folder.path}: made under semantics {there['semantics']}, and training means something else since "
            f"(semantics {SEMANTICS}); choose another folder"
        )
    elif there["id"] != identity:
        raise UserError(
            f"{folder.path}: holds another run, {_difference(there, config, corpus)}; choose another folder"
        )


def _difference(there: Mapping[str, Any], config: Config, corpus: Corpus) -> str:
    ours, theirs = dotted(science(config)), dotted(there["science"])
    for key in ours:
        # Where the bytes lie is no difference; what they are comes below.
        if key != "data.path" and ours[key] != theirs.get(key):
            return f"with {key}={theirs.get(key)!r} where this one has {ours[key]!r}"
    if there["data"]["sha256"] != corpus.sha256:
        return f"on other data ({there['data']['name']})"
    return f"{there['id']} (the scheme's record has changed since)"


def describe(
    config: Config, corpus: Corpus, task: Task, step: int, started: float, folder: RunFolder
) -> dict[str, Any]:
    """The part of the summary that is known before the first step of this attempt, the one after `step`."""
    scheme, beside = resolve(config), recipe(config)
    attempt = {
        "from_step": step,
        "started": started,
        "execution": asdict(config.execution),
        "versions": facts.versions(),
        "device": facts.device(),
        "git": facts.revision(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
    windows = config.eval.sequences * config.seq_len
    return {
        "id": identify(config, corpus.sha256),
        "scheme": config.scheme,
        "steps": config.steps,
        "started": started,
        "attempts": [*((folder.summary() or {}).get("attempts") or ()), attempt],
        "uniform": task.metrics(task.uniform_loss),
        "parameters": task.model.size,
        "flops_per_token": task.flops_per_token,
        "val_tokens": windows,
        "test_tokens": windows,
        "versions": facts.versions(),
        "device": facts.device(),
        "git": facts.revision(),
        "data_sha256": corpus.sha256,
        "confounds": {
            "norm": scheme.norm.kind,
            "final_norm": scheme.final_norm,
            "eps": scheme.norm.eps if "eps" in scheme.norm.axes else None,
            "affine": scheme.norm.affine,
            "factors": in_words(task.model.specs) or None,
            "init": beside.init,
            "embedding_norm": None if beside.embedding_norm == "none" else beside.embedding_norm,
            "embedding_scale": None if beside.embedding_scale_by_law else f"× {beside.embedding_scale}",
            "drop_path": beside.drop_path or None,
            "warmup": config.optim.warmup,
            "dtype": dtype_of(config),
            "evidence": scheme.evidence,
        },
    }


def dtype_of(config: Config) -> str:
    """The type that matrix products are computed in, with their precision where it is not the type's own."""
    model = config.model
    plain = model.compute_dtype != "float32" or model.matmul_precision == "highest"
    return model.compute_dtype if plain else f"{model.compute_dtype}, {model.matmul_precision} matmul precision"
