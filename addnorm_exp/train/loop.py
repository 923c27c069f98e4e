"""One run from its config to its summary: resume, train, validate, checkpoint, test."""

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp

from addnorm_exp.config import science
from addnorm_exp.config.schema import Config
from addnorm_exp.config.scheme import blocks, resolve
from addnorm_exp.data.corpus import Corpus, check_lengths
from addnorm_exp.errors import UserError, disk_trouble
from addnorm_exp.runs import facts
from addnorm_exp.runs.folder import FINISHED, RunFolder
from addnorm_exp.runs.identity import SEMANTICS, run_id
from addnorm_exp.runs.layers import rewind as rewind_layers
from addnorm_exp.train.checkpoint import Checkpoints, like
from addnorm_exp.train.hypers import Hypers
from addnorm_exp.train.program import Program, check_devices, program
from addnorm_exp.train.recorder import Progress, Recorder, Watcher
from addnorm_exp.train.step import CAUSES, TrainState

Summary = dict[str, Any]


class Stopped(Exception):
    """The run was asked to stop; its state is saved, and the same command goes on from there."""


def identify(config: Config, corpus_sha256: str) -> str:
    """The run's id."""
    return run_id(config, corpus_sha256, resolve(config).digest(blocks(config)))


def run(
    config: Config,
    corpus: Corpus,
    folder: RunFolder,
    *,
    study: str | None = None,
    watch: Watcher = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Trains to the end, or on from where an earlier attempt stopped, and returns the summary. A finished run is not run again.

    Raises: UserError where the folder holds another run or the corpus is too short; Stopped when `stop()` became true;
    folder.Busy where another process trains this run. Any other exception is recorded in the folder as a failure and raised.
    """
    check(config, corpus)
    with folder.claimed():
        _enter(folder, config, corpus, study)
        done = folder.summary()
        if done is not None and done.get("status") in FINISHED:
            return done
        try:
            return _train(config, corpus, folder, watch, stop)
        except (UserError, Stopped, KeyboardInterrupt):
            raise
        except Exception as error:
            if not disk_trouble(error):  # the run is sound then, and there is no room to write of it
                fail(folder, config, error)
            raise


def check(config: Config, corpus: Corpus) -> None:
    """Raises UserError where the corpus is too short for the config, or a batch does not split over the devices."""
    check_lengths(corpus, config.seq_len)
    check_devices(config)
    task = program(config).task
    task.windows(corpus.val, "validation")
    task.windows(corpus.test, "test")


def fail(folder: RunFolder, config: Config, error: Exception) -> None:
    """Records that an attempt failed: reason in the summary, traceback beside it."""
    told = " ".join(str(error).split())[:300]
    before = folder.summary() or {"id": folder.path.name, "scheme": config.scheme, "steps": config.steps, "step": 0}
    folder.write_summary(
        {**before, "status": "failed", "reason": f"{type(error).__name__}: {told}", "finished": time.time()}
    )
    folder.fail("".join(traceback.format_exception(error)))


def _enter(folder: RunFolder, config: Config, corpus: Corpus, study: str | None) -> None:
    """Writes config.json, or makes sure that the one there is this run's."""
    identity = identify(config, corpus.sha256)
    there = folder.config()
    if there is None:
        if (folder.path / "metrics.jsonl").exists():
            raise UserError(f"{folder.path}: has metrics.jsonl but no readable config.json; choose another folder")
        folder.write_config(
            {
                "id": identity,
                "semantics": SEMANTICS,
                "scheme": config.scheme,
                "study": study,
                "science": science(config),
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
    elif there.get("semantics") != SEMANTICS:
        raise UserError(
            f"{folder.path}: made under semantics {there.get('semantics')}, and training means something else since "
            f"(semantics {SEMANTICS}); choose another folder"
        )
    elif there.get("id") != identity:
        raise UserError(
            f"{folder.path}: holds another run, {_difference(there, config, corpus)}; choose another folder"
        )


def _difference(there: Mapping[str, Any], config: Config, corpus: Corpus) -> str:
    def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in tree.items():
            found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
        return found

    ours, theirs = flat(science(config)), flat(there.get("science", {}))
    for key in ours:
        # Where the bytes lie is no difference; what they are comes below.
        if key != "data.path" and ours[key] != theirs.get(key):
            return f"with {key}={theirs.get(key)!r} where this one has {ours[key]!r}"
    if there.get("data", {}).get("sha256") != corpus.sha256:
        return f"on other data ({there.get('data', {}).get('name')})"
    return f"{there.get('id')} (the scheme's record has changed since)"


def _train(config: Config, corpus: Corpus, folder: RunFolder, watch: Watcher, stop: Callable[[], bool]) -> Summary:
    started = time.time()
    compiled = program(config)
    already = compiled.compile_seconds
    numbers, held = compiled.hypers(config), compiled.hold(corpus)
    recorder = Recorder(folder, config, compiled.task, _base(config, corpus, compiled, started), watch)
    checkpoints = Checkpoints(folder.path / "checkpoints", config.execution.keep_checkpoints)
    state, best = _resume(compiled, numbers, checkpoints, recorder, folder)
    step, every = int(state.step), config.execution.attention_every if config.execution.diagnostics else 0
    recorder.summary("running", step)
    watch({"event": "start", "step": step})

    def save() -> None:
        if recorder.layers:
            recorder.layers.flush()
        if best is not None and recorder.progress.best is not None:
            at = recorder.progress.best["step"]
            if at not in checkpoints.best_steps():
                checkpoints.save_best(at, best)
        checkpoints.save(step, state, asdict(recorder.progress))
        checkpoints.remove_best_but(checkpoints.needed_best())

    if step == 0:
        if recorder.validation(0, compiled.evaluate(state.parameters, held.val)):
            best = jax.tree.map(jnp.copy, state.parameters)
        if every:
            recorder.attention(0, compiled.attention(state.parameters, numbers, held, 0))
    cause = int(state.cause)
    waiting = None
    while step < config.steps and not cause:
        count = _boundary(config, step, every) - step
        begun, compiling = time.perf_counter(), compiled.compile_seconds
        state, metrics = compiled.train(state, numbers, held, count)
        if waiting is not None:  # while the device computes
            recorder.chunk(*waiting)
        reached, cause = (int(value) for value in jax.device_get((state.step, state.cause)))
        seconds = time.perf_counter() - begun - (compiled.compile_seconds - compiling)
        waiting = (step + 1, count, metrics, seconds, reached - step)
        step = reached
        ended = step == config.steps or bool(cause)
        validates = step % config.eval.every == 0 or step == config.steps
        measures = bool(every) and (step % every == 0 or step == config.steps)
        saves = ended or _due(step, config.execution.checkpoint_every)
        stops = stop()
        if not (validates or measures or saves or stops):
            continue
        recorder.chunk(*waiting)
        waiting = None
        if cause:
            break
        if validates and recorder.validation(step, compiled.evaluate(state.parameters, held.val)):
            best = jax.tree.map(jnp.copy, state.parameters)
        if measures:
            recorder.attention(step, compiled.attention(state.parameters, numbers, held, step))
        if saves or stops:
            save()
        if stops and not ended:
            recorder.summary("running", step)
            raise Stopped(
                f"{folder.path}: stopped after {step} of {config.steps} steps; the same command goes on from there"
            )
    more = {"compile_time_s": compiled.compile_seconds - already, "peak_memory_bytes": compiled.peak_bytes}
    if cause:
        if recorder.layers:
            recorder.layers.flush()
        diverged = {"step": step + 1, "cause": CAUSES[cause], "value": float(state.value)}
        reason = f"{CAUSES[cause]} in update {step + 1}"
        summary = recorder.summary("diverged", step, reason=reason, diverged=diverged, **more)
    else:
        results = {"final": compiled.evaluate(state.parameters, held.test)}
        results["best"] = results["final"] if best is None else compiled.evaluate(best, held.test)
        recorder.test(step, results)
        test = {weights: compiled.task.metrics(loss) for weights, loss in results.items()}
        summary = recorder.summary("done", step, test=test, **more)
    watch({"event": summary["status"], **summary})
    return summary


def _resume(
    compiled: Program, numbers: Hypers, checkpoints: Checkpoints, recorder: Recorder, folder: RunFolder
) -> tuple[TrainState, Any]:
    """State and best parameters to start from: the newest sound checkpoint, else step 0. The record is rewound to it."""
    state, best = compiled.init(numbers), None
    found = checkpoints.latest(like(state))
    if found is not None:
        state, meta = found
        recorder.progress = Progress(**meta)
        if recorder.progress.best is not None:
            best = checkpoints.best(recorder.progress.best["step"], like(state.parameters))
    step = int(state.step)
    folder.rewind(step if found is not None else -1)
    rewind_layers(folder.path / "layers", step if found is not None else -1)
    return state, best


def _boundary(config: Config, step: int, attention_every: int) -> int:
    """The step at which this chunk ends: a function of the step alone, so a resumed run cuts its chunks as the first did."""
    periods = (config.execution.chunk_steps, config.eval.every, config.execution.checkpoint_every, attention_every)
    return min(config.steps, *((step // period + 1) * period for period in periods if period))


def _due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0


def _base(config: Config, corpus: Corpus, compiled: Program, started: float) -> Summary:
    """The part of the summary that is known before the first step."""
    task, scheme = compiled.task, resolve(config)
    windows = config.eval.sequences * config.seq_len
    return {
        "id": identify(config, corpus.sha256),
        "scheme": config.scheme,
        "steps": config.steps,
        "started": started,
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
            "eps": scheme.norm.eps if scheme.norm.kind != "none" else None,
            "affine": scheme.norm.affine,
            "init": (config.init.law or scheme.law) + (", depth-scaled" if config.init.depth_scaled else ""),
            "warmup": config.optim.warmup,
            "dtype": config.model.compute_dtype,
            "evidence": scheme.evidence,
        },
    }
