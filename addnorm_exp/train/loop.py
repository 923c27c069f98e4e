"""One run from its config to its summary: resume, train, validate, checkpoint, test."""

import math
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NoReturn

import jax
import jax.numpy as jnp

from addnorm_exp.config.schema import Config
from addnorm_exp.data.corpus import Corpus, check_lengths
from addnorm_exp.errors import UserError, disk_trouble, one_line
from addnorm_exp.runs.events import Watcher
from addnorm_exp.runs.finish import finish
from addnorm_exp.runs.folder import FINISHED, RunFolder
from addnorm_exp.runs.layers import rewind as rewind_layers
from addnorm_exp.runs.records import Summary
from addnorm_exp.train.calibration import means_of_changed
from addnorm_exp.train.checkpoint import Checkpoints, like
from addnorm_exp.train.entry import describe, enter
from addnorm_exp.train.memory import check_devices, check_memory
from addnorm_exp.train.pace import CHECKPOINT_SECONDS, DeviceTimer, Pace
from addnorm_exp.train.platform import refused_switch
from addnorm_exp.train.program import never, program
from addnorm_exp.train.recorder import Dispatch, Progress, Recorder
from addnorm_exp.train.step import CAUSES
from addnorm_exp.train.timetable import timetable
from addnorm_exp.words import counted


class Stopped(Exception):
    """The user asked the run to stop; its state is saved, and the same command continues it."""


def run(
    config: Config,
    corpus: Corpus,
    folder: RunFolder,
    *,
    study: str | None = None,
    watch: Watcher = lambda event: None,
    stop: Callable[[], bool] = never,
    keep: str = "best",
    clock: Callable[[], float] = time.perf_counter,
) -> Summary:
    """Trains to the end, from step 0 or from where an earlier attempt stopped, and returns the summary. A finished run is not repeated.

    `stop` is checked between dispatches of a few seconds each (`pace`), of training and of measurements; `clock` returns seconds.
    `keep`: what a finished run keeps in checkpoints/ if `execution.keep` is not set.

    Raises: UserError if the folder contains another run or the corpus is too short; Stopped if `stop()` became true;
    lock.Busy if another process is training this run. Any other exception is recorded in the folder as a failure and raised,
    except a full disk: the run is sound then, and there is no room for the record of a failure.
    """
    check(config, corpus)
    with folder.claimed():
        enter(folder, config, corpus, study)
        done = folder.summary()
        if done is not None and done.status in FINISHED:
            finish(folder, done)
            return done
        folder.tidy()
        try:
            keep = config.execution.keep or keep
            Attempt(config, corpus, folder, watch, keep, stop, clock).train()
        except (UserError, Stopped, KeyboardInterrupt):
            raise
        except Exception as error:
            if not disk_trouble(error):
                _fail(folder, config, error)
            raise
        folder.forgive()
        summary = folder.summary()
        assert summary is not None
        finish(folder, summary)
        return summary


def check_machine(config: Config) -> None:
    """Raises UserError if the run does not fit the devices or the memory of this machine, without building it."""
    switch = refused_switch()
    if switch:
        raise UserError(switch)
    check_devices(config)
    check_memory(config)


def check(config: Config, corpus: Corpus) -> None:
    """Raises UserError if the run does not fit this machine, or the corpus is too short for the config."""
    check_machine(config)
    check_data(config, corpus)


def check_data(config: Config, corpus: Corpus) -> None:
    """Raises UserError if the corpus is too short for the config."""
    check_lengths(corpus, config.seq_len)


def _fail(folder: RunFolder, config: Config, error: Exception) -> None:
    """Records that an attempt failed: the reason in the summary, the traceback beside it."""
    former = folder.summary()
    first = {"id": folder.path.name, "scheme": config.scheme, "steps": config.steps, "step": 0}
    folder.write_summary(
        {
            **(former.plain() if former else first),
            "status": "failed",
            "reason": f"{type(error).__name__}: {one_line(error, 300)}",
            "finished": time.time(),
        }
    )
    folder.fail("".join(traceback.format_exception(error)))


class Attempt:
    """One attempt at a run, from the newest sound checkpoint (or step 0) to the end."""

    def __init__(
        self,
        config: Config,
        corpus: Corpus,
        folder: RunFolder,
        watch: Watcher,
        keep: str,
        stop: Callable[[], bool] = never,
        clock: Callable[[], float] = time.perf_counter,
    ):
        started, self.begun = time.time(), clock()
        self.config, self.folder, self.watch, self.stop, self.clock = config, folder, watch, stop, clock
        self.keep = keep
        self.times = timetable(config)
        self.steps_pace, self.evaluation_pace, self.timer = Pace(), Pace(), DeviceTimer()
        self.program = program(config)
        self.compiled_before = self.program.compile_seconds
        self.hypers, self.held = self.program.hypers(config), self.program.hold(corpus)
        self.compiles = not self.program.is_prepared(self.held, train=True, attention=bool(self.times.attention))
        if self.compiles:
            watch({"event": "compiling"})
        self.checkpoints = Checkpoints(
            folder.path / "checkpoints",
            config.execution.keep_checkpoints,
            config.steps,
            say=lambda line: watch({"event": "note", "text": line}),
        )
        self.best: Any = None  # parameters of the best validation
        self.state, progress = self._resume()
        self.step = int(self.state.step)
        self.saved = self.step > 0 and not progress.pending  # whether the state on disk is this one
        base = describe(config, corpus, self.program.task, self.step, started, folder)
        base["attempts"][-1]["pending"] = list(progress.pending) if self.step else []
        self.recorder = Recorder(folder, config, self.program.task, base, watch, progress, clock)

    def train(self) -> dict[str, Any]:
        """Returns the summary of a run that is done or diverged. Raises Stopped if `stop()` becomes true before."""
        self.recorder.summary("running", self.step)
        self._compile()
        self.saved_at = self.clock()  # when the latest state was saved; nothing is unsaved before
        self.watch({"event": "start", "step": self.step})
        while True:
            if not self._measure():
                return self._diverged("non-finite validation loss", self.recorder.validated())
            if (self.times.due(self.step, "checkpoint") or self._overdue()) and not self.saved:
                self._save()
            if self.step == self.config.steps:
                return self._test()
            if cause := self._advance():
                return self._diverged(CAUSES[cause], float(self.state.value))
            self.recorder.progress.pending = list(self.times.measurements(self.step))
            if self.stop():
                self._leave()

    def _compile(self) -> None:
        """Compiles everything that the run needs while there is no progress to lose: compilation cannot be interrupted."""
        wanted = {"train": self.step < self.config.steps, "attention": bool(self.times.attention)}
        self.program.prepare(self.state, self.hypers, self.held, **wanted, stop=self.stop)
        if self.stop():
            self._leave()
        if self.compiles:
            self.watch({"event": "compiled", "seconds": self.clock() - self.begun})

    def _advance(self) -> int:
        """Trains until something is due or overdue, `stop()` is true, or the run diverges; returns the index of the cause in CAUSES, or 0.

        While the device computes a dispatch, the previous one is recorded.
        """
        waiting: Dispatch | None = None  # computed, but not recorded yet
        self.saved = False
        while True:
            if waiting and self.timer.alone():
                self.recorder.chunk(waiting)
                waiting = None
            beside, first = waiting is not None, self.step + 1
            count = self.steps_pace.count(self.times.boundary(self.step) - self.step)
            begun = self.clock()
            self.state, metrics = self.program.train(self.state, self.hypers, self.held, count)
            if waiting:
                self.recorder.chunk(waiting)
            seen = not beside or not is_ready(self.state.step)
            self.step, cause = (int(value) for value in jax.device_get((self.state.step, self.state.cause)))
            seconds = self.clock() - begun
            self.timer.ended(seen)
            self.steps_pace.took(count, seconds)
            updates = self.step - first + 1 + bool(cause)
            waiting = Dispatch(first, updates, bool(cause), metrics, seconds, seconds if seen else None)
            if cause or self.times.eventful(self.step) or self._overdue() or self.stop():
                self.recorder.chunk(waiting)
                return cause

    def _measure(self) -> bool:
        """Makes the measurements that are still due at this step; False if a validation shows that the run has diverged."""
        pending = self.recorder.progress.pending
        while pending:
            if self.stop():
                self._leave()
            if pending[0] == "attention":
                rows = self.program.attention(self.state.parameters, self.hypers, self.held, self.step)
                self.recorder.attention(self.step, rows)
            elif not self._validate():
                return False
            pending.pop(0)
            self.saved = False
        return True

    def _validate(self) -> bool:
        """Validates; False if the loss is not finite: the run has diverged since its last training loss."""
        loss = self._evaluate(self.state.parameters, self.held.val)
        if self.recorder.validation(self.step, loss):
            self.best = jax.tree.map(jnp.copy, self.state.parameters)
        return math.isfinite(loss)

    def _evaluate(self, parameters: Any, windows: jax.Array) -> float:
        """The mean loss. Leaves the run if `stop()` becomes true before the end."""
        loss = self.program.evaluate(
            parameters, windows, self.step, pace=self.evaluation_pace, stop=self.stop, clock=self.clock
        )
        return self._leave() if loss is None else loss

    def _save(self) -> None:
        """Saves the state. The record up to this step is synced to disk first, because a resumed run continues it."""
        self.recorder.settle()
        best = self.recorder.progress.best
        if best is not None and self.best is not None and best["step"] not in self.checkpoints.best_steps():
            self.checkpoints.save_best(best["step"], self.best)
        self.checkpoints.save(self.step, self.state, asdict(self.recorder.progress))
        self.checkpoints.remove_best_but(self.checkpoints.needed_best())
        self.saved, self.saved_at = True, self.clock()

    def _overdue(self) -> bool:
        """Whether a state must be saved between two that are due: a slow run would lose too much."""
        return bool(self.times.checkpoint) and self.clock() - self.saved_at > CHECKPOINT_SECONDS

    def _leave(self) -> NoReturn:
        """Saves the state if it is not saved yet, and raises Stopped. Before the first step there is nothing to save."""
        if self.step and not self.saved:
            self._save()
        self.recorder.summary("running", self.step)
        done = f"stopped after {self.step:,} of {counted(self.config.steps, 'step')}"
        raise Stopped(f"{self.folder.path}: {done}; run the same command again to continue")

    def _test(self) -> dict[str, Any]:
        parameters = {"final": self.state.parameters, "best": self.best}
        results = {
            weights: self._evaluate(value, self.held.test) for weights, value in parameters.items() if value is not None
        }
        self.recorder.test(self.step, results)
        self.recorder.settle()  # a summary with status `done` must not exist without its metrics
        if not all(map(math.isfinite, results.values())):
            return self._diverged("non-finite test loss", results["final"])
        test = {weights: self.program.task.metrics(loss) for weights, loss in results.items()}
        return self._conclude("done", test=test, saved=self._save_parameters())

    def _save_parameters(self) -> dict[str, Any]:
        """Saves the parameters that the policy keeps; returns where they are, for the summary. Equal ones are saved once."""
        best, saved = self.recorder.progress.best, {}
        if self.keep != "none":
            saved["final"] = self.checkpoints.save_parameters("final", self.step, self.state.parameters)
        if self.keep in ("best", "state") and best is not None and self.best is not None:
            is_last = best["step"] == self.step
            saved["best"] = (
                saved["final"] if is_last else self.checkpoints.save_parameters("best", best["step"], self.best)
            )
        return saved

    def _diverged(self, cause: str, value: float) -> dict[str, Any]:
        """Ends the run. `step` is the update that diverged, or the last one before the evaluation that did."""
        self.recorder.settle()
        in_update = int(self.state.cause) > 0
        step = self.step + in_update
        place = f"in update {step}" if in_update else f"after {step} updates"
        record = {"step": step, "cause": cause, "value": value}
        return self._conclude("diverged", reason=f"{cause} {place}", diverged=record)

    def _conclude(self, status: str, **more: Any) -> dict[str, Any]:
        summary = self.recorder.summary(
            status,
            self.step,
            keep=self.keep,
            compile_time_s=self.program.compile_seconds - self.compiled_before,
            peak_memory_bytes=self.program.planned_bytes,
            **more,
        )
        self.watch({"event": status, **summary})
        return summary

    def _resume(self) -> tuple[Any, Progress]:
        """The state to start from. The record is rewound to it."""
        state, step = self.program.init(self.hypers), -1
        checkpoint = self.checkpoints.latest(like(state))
        if checkpoint is None:
            if discarded := self.folder.recorded():
                steps = counted(discarded, "recorded step")
                text = (
                    f"no checkpoint; starting again from step 0 ({steps} {'is' if discarded == 1 else 'are'} discarded)"
                )
                self.watch({"event": "note", "text": text})
            drawn = state.parameters
            state = self.program.calibrate(state, self.hypers, self.held)
            progress = Progress(pending=list(self.times.measurements(0)))
            progress.calibrated = means_of_changed(drawn, state.parameters)
        else:
            state, meta = checkpoint
            progress, step = Progress(**meta), int(state.step)
            if progress.best is not None:
                self.best = self.checkpoints.best(progress.best["step"], like(state.parameters))
        self.folder.rewind(step, validated="validation" not in progress.pending)
        rewind_layers(self.folder.path / "layers", step, measured="attention" not in progress.pending)
        return state, progress


def is_ready(array: Any) -> bool:
    """Whether the device has computed the array."""
    return array.is_ready()
