"""One run inside a pack, on the host: its folder, record, best parameters and checkpoints. What it computes, the pack computes."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp

from addnorm_exp.data.spec import DataSpec
from addnorm_exp.experiment import Experiment
from addnorm_exp.runs.events import Watcher
from addnorm_exp.runs.folder import FINISHED, RunFolder
from addnorm_exp.runs.layers import rewind as rewind_layers
from addnorm_exp.runs.records import Summary
from addnorm_exp.tasks.task import Task
from addnorm_exp.train.checkpoint import Checkpoints
from addnorm_exp.train.entry import describe
from addnorm_exp.train.recorder import Recorder, RunTotals
from addnorm_exp.words import counted


@dataclass(frozen=True)
class Member:
    """What a lane is made of: an experiment, the folder of its run, and who is told of its events."""

    experiment: Experiment
    folder: RunFolder
    watch: Watcher = lambda event: None


class Lane:
    """A run from its newest sound checkpoint, or step 0, to its end. `ended` is its summary once it has ended; a run that had ended before
    the pack was resumed only fills its place."""

    def __init__(self, member: Member, keep: str, number: int):
        self.experiment, self.folder, self.watch = member.experiment, member.folder, member.watch
        self.keep, self.number = self.experiment.config.execution.keep or keep, number
        self.checkpoints = Checkpoints(
            self.folder.path / "checkpoints",
            self.experiment.config.execution.keep_checkpoints,
            self.experiment.config.steps,
            say=lambda line: self.watch({"event": "note", "text": line}),
        )
        self.best: Any = None  # weights (TrainState.weights) of the best validation
        self.totals = RunTotals()
        summary = self.folder.summary()
        self.ended: Summary | None = summary if summary and summary.status in FINISHED else None

    def restart(self, calibrated: Mapping[str, float]) -> None:
        """Begins at step 0. `calibrated`: means of the parameters that the scheme has set from data."""
        if discarded := self.folder.recorded():
            steps = counted(discarded, "recorded step")
            text = f"no checkpoint; starting again from step 0 ({steps} {'is' if discarded == 1 else 'are'} discarded)"
            self.watch({"event": "note", "text": text})
        self.totals = RunTotals(pending=list(self.experiment.timetable.measurements(0)))
        self.totals.calibrated = dict(calibrated)
        self.checkpoints.remove_after(0)
        self._rewind(-1)

    def resume(self, step: int, like: Any) -> Any:
        """The saved state after `step` updates. The record is rewound to it."""
        self.checkpoints.remove_after(step)  # another lane lacks them
        state, meta = self.checkpoints.read(step, like)
        self.totals = RunTotals(**meta)
        if self.totals.best is not None:
            self.best = self.checkpoints.best(self.totals.best["step"], like.weights)
        self._rewind(step)
        return state

    def _rewind(self, step: int) -> None:
        pending = self.totals.pending
        self.folder.rewind(step, validated="validation" not in pending)
        rewind_layers(self.folder.path / "layers", step, measured="attention" not in pending)

    def begin(
        self,
        spec: DataSpec,
        task: Task,
        examples: Mapping[str, int],
        step: int,
        started: float,
        place: Mapping[str, Any],
        clock: Callable[[], float],
    ) -> None:
        """Opens the record of this attempt, which follows `step`. `examples`: how many are evaluated, by split; `place`: of the lane in its
        pack, for the record."""
        base = describe(self.experiment, spec, task, examples, step, started, self.folder)
        attempt = base["attempts"][-1]
        attempt |= {"pending": list(self.totals.pending) if step else [], "pack": dict(place)}
        threads = [each["threads"] for each in base["attempts"] if each.get("threads")]
        if step and len(set(threads)) > 1:  # sums over parts of an array depend on how many there are
            attempt["exactness"] = "rounding"
            text = (
                f"goes on with {counted(threads[-1], 'thread')} and began with {threads[0]}: the last digits may differ"
            )
            self.watch({"event": "note", "text": text})
        self.recorder = Recorder(self.folder, self.experiment.config, task, base, self.watch, self.totals, clock)
        self.recorder.summary("running", step)

    def validated(self, step: int, values: Mapping[str, float], weights: Callable[[], Any]) -> str | None:
        """Records a validation, and copies the weights if it is the best so far. Returns the name of a metric that is not finite: the run
        has diverged since its last training loss."""
        if self.recorder.validation(step, values):
            self.best = jax.tree.map(jnp.copy, weights())
        return self.recorder.broken(values)

    def save(self, step: int, state: Any) -> None:
        """Saves the state. The record up to this step is synced to disk first, because a resumed run continues it. `prune` must follow."""
        self.recorder.settle()
        best = self.totals.best
        if best is not None and self.best is not None and best["step"] not in self.checkpoints.best_steps():
            self.checkpoints.save_best(best["step"], self.best)
        self.checkpoints.save(step, state, asdict(self.totals))

    def prune(self) -> None:
        """Removes the checkpoints that are no longer needed."""
        self.checkpoints.prune()

    def test(
        self, step: int, results: Mapping[str, Mapping[str, float]], weights: Any, more: Mapping[str, Any]
    ) -> None:
        """Ends the run, whose metrics on the test split are `results`, of the final and the best weights."""
        self.recorder.test(step, results)
        self.recorder.settle()  # a summary with status `done` must not exist without its metrics
        for values in results.values():
            broken = self.recorder.broken(values)
            if broken is not None:
                self.diverge(f"non-finite test {broken}", values[broken], step, False, more)
                return
        self._conclude("done", step, {**more, "test": results, "saved": self._save_weights(step, weights)})

    def diverge(self, cause: str, value: float, step: int, in_update: bool, more: Mapping[str, Any]) -> None:
        """Ends the run after `step` updates, `in_update` in the one that follows."""
        self.recorder.settle()
        place = f"in update {step + 1}" if in_update else f"after {step} updates"
        record = {"step": step + in_update, "cause": cause, "value": value}
        self._conclude("diverged", step, {**more, "reason": f"{cause} {place}", "diverged": record})

    def _conclude(self, status: str, step: int, more: Mapping[str, Any]) -> None:
        record = self.recorder.summary(status, step, keep=self.keep, **more)
        self.ended = self.folder.summary()
        self.watch({"event": status, **record})

    def _save_weights(self, step: int, weights: Any) -> dict[str, Any]:
        """Saves the weights that the policy keeps; returns where they are, for the summary. Equal ones are saved once."""
        best, saved = self.totals.best, {}
        if self.keep != "none":
            saved["final"] = self.checkpoints.save_parameters("final", step, weights)
        if self.keep in ("best", "state") and best is not None and self.best is not None:
            is_last = best["step"] == step
            saved["best"] = (
                saved["final"] if is_last else self.checkpoints.save_parameters("best", best["step"], self.best)
            )
        return saved
