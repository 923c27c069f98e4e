"""One run from its config to its summary: resume, train, validate, checkpoint, test."""

import math
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp

from addnorm_exp.config.schema import Config
from addnorm_exp.data.corpus import Corpus, check_lengths
from addnorm_exp.errors import UserError, disk_trouble, one_line
from addnorm_exp.runs.events import Watcher
from addnorm_exp.runs.folder import FINISHED, RunFolder
from addnorm_exp.runs.layers import rewind as rewind_layers
from addnorm_exp.train.calibration import means_of_changed
from addnorm_exp.train.checkpoint import Checkpoints, like
from addnorm_exp.train.entry import describe, enter
from addnorm_exp.train.memory import check_memory
from addnorm_exp.train.platform import refused_switch
from addnorm_exp.train.program import check_devices, program
from addnorm_exp.train.recorder import Progress, Recorder
from addnorm_exp.train.step import CAUSES
from addnorm_exp.words import counted

Summary = dict[str, Any]


class Stopped(Exception):
    """The run was asked to stop; its state is saved, and the same command goes on from there."""


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
    folder.Busy where another process trains this run. Any other exception is recorded in the folder as a failure and raised,
    unless it is the disk that takes no more: the run is sound then, and there is no room to write of it.
    """
    check(config, corpus)
    with folder.claimed():
        enter(folder, config, corpus, study)
        done = folder.summary()
        if done is not None and done["status"] in FINISHED:
            return done
        folder.sweep()
        try:
            summary = Attempt(config, corpus, folder, watch).train(stop)
        except (UserError, Stopped, KeyboardInterrupt):
            raise
        except Exception as error:
            if not disk_trouble(error):
                _fail(folder, config, error)
            raise
        folder.forgive()
        return summary


def check_machine(config: Config) -> None:
    """Raises UserError where the run does not fit the devices or the memory of this machine. Nothing of it is built."""
    switch = refused_switch()
    if switch:
        raise UserError(switch)
    check_devices(config)
    check_memory(config)


def check(config: Config, corpus: Corpus) -> None:
    """Raises UserError where the run does not fit this machine, or the corpus is too short for the config."""
    check_machine(config)
    check_data(config, corpus)


def check_data(config: Config, corpus: Corpus) -> None:
    """Raises UserError where the corpus is too short for the config."""
    check_lengths(corpus, config.seq_len)
    task = program(config).task
    task.windows(corpus.val, "validation")
    task.windows(corpus.test, "test")


def _fail(folder: RunFolder, config: Config, error: Exception) -> None:
    """Records that an attempt failed: reason in the summary, traceback beside it."""
    before = folder.summary() or {"id": folder.path.name, "scheme": config.scheme, "steps": config.steps, "step": 0}
    folder.write_summary(
        {
            **before,
            "status": "failed",
            "reason": f"{type(error).__name__}: {one_line(error, 300)}",
            "finished": time.time(),
        }
    )
    folder.fail("".join(traceback.format_exception(error)))


class Attempt:
    """One attempt at a run, from the newest sound checkpoint (or step 0) to the end."""

    def __init__(self, config: Config, corpus: Corpus, folder: RunFolder, watch: Watcher):
        started = time.time()
        self.config, self.folder, self.watch = config, folder, watch
        self.program = program(config)
        self.compiled_before = self.program.compile_seconds
        self.hypers, self.held = self.program.hypers(config), self.program.hold(corpus)
        self.checkpoints = Checkpoints(
            folder.path / "checkpoints",
            config.execution.keep_checkpoints,
            config.steps,
            say=lambda line: watch({"event": "note", "text": line}),
        )
        self.best: Any = None  # parameters of the best validation
        self.state, progress = self._resume()
        self.step = int(self.state.step)
        base = describe(config, corpus, self.program.task, self.step, started, folder)
        self.recorder = Recorder(folder, config, self.program.task, base, watch, progress)
        self.attention_every = config.execution.attention_every if config.execution.diagnostics else 0

    def train(self, stop: Callable[[], bool]) -> Summary:
        """Returns the summary of a run that is done or diverged; raises Stopped otherwise."""
        config, recorder = self.config, self.recorder
        recorder.summary("running", self.step)
        self.watch({"event": "start", "step": self.step})
        if self.step == 0:
            if not self._validate():
                return self._diverged("non-finite validation loss", recorder.validated())
            self._measure_attention()
        waiting = None  # the chunk that is computed but not yet written
        while self.step < config.steps:
            first, count = self.step + 1, self._boundary() - self.step
            begun, compiling = time.perf_counter(), self.program.compile_seconds
            self.state, metrics = self.program.train(self.state, self.hypers, self.held, count)
            if waiting is not None:  # while the device computes
                recorder.chunk(*waiting)
            self.step, cause = (int(value) for value in jax.device_get((self.state.step, self.state.cause)))
            seconds = time.perf_counter() - begun - (self.program.compile_seconds - compiling)
            waiting = (first, self.step - first + 1, bool(cause), metrics, seconds)
            stops = stop()
            if not (cause or stops or self._is_event()):
                continue
            recorder.chunk(*waiting)
            waiting = None
            if cause:
                return self._diverged(CAUSES[cause], float(self.state.value))
            if self._due(config.eval.every) and not self._validate():
                return self._diverged("non-finite validation loss", recorder.validated())
            if self._due(self.attention_every):
                self._measure_attention()
            if stops or self._due(config.execution.checkpoint_every) or self.step == config.steps:
                self._save()
            if stops and self.step < config.steps:
                recorder.summary("running", self.step)
                done = f"stopped after {self.step} of {counted(config.steps, 'step')}"
                raise Stopped(f"{self.folder.path}: {done}; the same command goes on from there")
        return self._test()

    def _is_event(self) -> bool:
        """Whether anything but training happens at this step."""
        periods = (self.config.eval.every, self.attention_every, self.config.execution.checkpoint_every)
        return any(self._due(period) for period in periods)

    def _due(self, period: int) -> bool:
        return bool(period) and (self.step % period == 0 or self.step == self.config.steps)

    def _boundary(self) -> int:
        """The step at which this chunk ends: a function of the step alone, so a resumed run cuts its chunks as the first did."""
        execution = self.config.execution
        periods = (execution.chunk_steps, self.config.eval.every, execution.checkpoint_every, self.attention_every)
        return min(self.config.steps, *((self.step // period + 1) * period for period in periods if period))

    def _validate(self) -> bool:
        """Validates; False where the loss is not finite: the run has diverged since its last training loss."""
        loss = self.program.evaluate(self.state.parameters, self.held.val, self.step)
        if self.recorder.validation(self.step, loss):
            self.best = jax.tree.map(jnp.copy, self.state.parameters)
        return math.isfinite(loss)

    def _measure_attention(self) -> None:
        if self.attention_every:
            rows = self.program.attention(self.state.parameters, self.hypers, self.held, self.step)
            self.recorder.attention(self.step, rows)

    def _save(self) -> None:
        """Saves the state. What was recorded up to here is on the disk first, since a resumed run goes on from it."""
        self.recorder.settle()
        best = self.recorder.progress.best
        if best is not None and self.best is not None and best["step"] not in self.checkpoints.best_steps():
            self.checkpoints.save_best(best["step"], self.best)
        self.checkpoints.save(self.step, self.state, asdict(self.recorder.progress))
        self.checkpoints.remove_best_but(self.checkpoints.needed_best())

    def _test(self) -> Summary:
        parameters = {"final": self.state.parameters, "best": self.best}
        results = {
            weights: self.program.evaluate(value, self.held.test, self.step)
            for weights, value in parameters.items()
            if value is not None
        }
        self.recorder.test(self.step, results)
        self.recorder.settle()  # a summary that says `done` must not outlive its metrics
        if not all(map(math.isfinite, results.values())):
            return self._diverged("non-finite test loss", results["final"])
        test = {weights: self.program.task.metrics(loss) for weights, loss in results.items()}
        return self._conclude("done", test=test)

    def _diverged(self, cause: str, value: float) -> Summary:
        """Ends the run. `step` is the update that failed, or the one after which the evaluation did."""
        self.recorder.settle()
        in_update = int(self.state.cause) > 0
        step = self.step + in_update
        place = f"in update {step}" if in_update else f"after {step} updates"
        record = {"step": step, "cause": cause, "value": value}
        return self._conclude("diverged", reason=f"{cause} {place}", diverged=record)

    def _conclude(self, status: str, **more: Any) -> Summary:
        summary = self.recorder.summary(
            status,
            self.step,
            compile_time_s=self.program.compile_seconds - self.compiled_before,
            peak_memory_bytes=self.program.planned_bytes,
            **more,
        )
        self.watch({"event": status, **summary})
        return summary

    def _resume(self) -> tuple[Any, Progress]:
        """State to start from; the record is rewound to it."""
        state, progress, step = self.program.init(self.hypers), Progress(), -1
        found = self.checkpoints.latest(like(state))
        if found is None:
            drawn = state.parameters
            state = self.program.calibrate(state, self.hypers, self.held)
            progress.calibrated = means_of_changed(drawn, state.parameters)
        if found is not None:
            state, meta = found
            progress, step = Progress(**meta), int(state.step)
            if progress.best is not None:
                self.best = self.checkpoints.best(progress.best["step"], like(state.parameters))
        self.folder.rewind(step)
        rewind_layers(self.folder.path / "layers", step)
        return state, progress
