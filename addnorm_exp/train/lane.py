"""One run inside a pack, on the host: its folder, record, best parameters and checkpoints. What it computes, the pack computes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp

from addnorm_exp.data.corpus import Corpus
from addnorm_exp.experiment import Experiment
from addnorm_exp.runs.events import Watcher
from addnorm_exp.runs.folder import FINISHED, RunFolder
from addnorm_exp.runs.layers import rewind as rewind_layers
from addnorm_exp.runs.records import Summary
from addnorm_exp.tasks.task import Task
from addnorm_exp.train.checkpoint import Checkpoints
from addnorm_exp.train.entry import describe
from addnorm_exp.train.recorder import Progress, Recorder
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
        self.best: Any = None  # parameters of the best validation
        self.progress = Progress()
        summary = self.folder.summary()
        self.ended: Summary | None = summary if summary and summary.status in FINISHED else None

    def restart(self, calibrated: Mapping[str, float]) -> None:
        """Begins at step 0. `calibrated`: means of the parameters that the scheme has set from data."""
        if discarded := self.folder.recorded():
            steps = counted(discarded, "recorded step")
            text = f"no checkpoint; starting again from step 0 ({steps} {'is' if discarded == 1 else 'are'} discarded)"
            self.watch({"event": "note", "text": text})
        self.progress = Progress(pending=list(self.experiment.timetable.measurements(0)))
        self.progress.calibrated = dict(calibrated)
        self.checkpoints.remove_after(0)
        self._rewind(-1)

    def resume(self, step: int, like: Any) -> Any:
        """The saved state after `step` updates. The record is rewound to it."""
        self.checkpoints.remove_after(step)  # another lane lacks them
        state, meta = self.checkpoints.read(step, like)
        self.progress = Progress(**meta)
        if self.progress.best is not None:
            self.best = self.checkpoints.best(self.progress.best["step"], like.parameters)
        self._rewind(step)
        return state

    def _rewind(self, step: int) -> None:
        pending = self.progress.pending
        self.folder.rewind(step, validated="validation" not in pending)
        rewind_layers(self.folder.path / "layers", step, measured="attention" not in pending)

    def begin(
        self,
        corpus: Corpus,
        task: Task,
        step: int,
        started: float,
        place: Mapping[str, Any],
        clock: Callable[[], float],
    ) -> None:
        """Opens the record of this attempt, which follows `step`. `place`: of the lane in its pack, for the record."""
        base = describe(self.experiment, corpus, task, step, started, self.folder)
        base["attempts"][-1] |= {"pending": list(self.progress.pending) if step else [], "pack": dict(place)}
        self.recorder = Recorder(self.folder, self.experiment.config, task, base, self.watch, self.progress, clock)
        self.task = task
        self.recorder.summary("running", step)

    def validated(self, step: int, loss: float, parameters: Callable[[], Any]) -> bool:
        """Records a validation, and copies the parameters if it is the best so far; False if the loss is not finite: the run has diverged
        since its last training loss."""
        if self.recorder.validation(step, loss):
            self.best = jax.tree.map(jnp.copy, parameters())
        return math.isfinite(loss)

    def save(self, step: int, state: Any) -> None:
        """Saves the state. The record up to this step is synced to disk first, because a resumed run continues it. `prune` must follow."""
        self.recorder.settle()
        best = self.progress.best
        if best is not None and self.best is not None and best["step"] not in self.checkpoints.best_steps():
            self.checkpoints.save_best(best["step"], self.best)
        self.checkpoints.save(step, state, asdict(self.progress))

    def prune(self) -> None:
        """Removes the checkpoints that are no longer needed."""
        self.checkpoints.prune()

    def test(self, step: int, results: Mapping[str, float], parameters: Any, more: Mapping[str, Any]) -> None:
        """Ends the run, whose losses on the test split are `results`, by weights."""
        self.recorder.test(step, results)
        self.recorder.settle()  # a summary with status `done` must not exist without its metrics
        if not all(map(math.isfinite, results.values())):
            self.diverge("non-finite test loss", results["final"], step, False, more)
            return
        test = {weights: self.task.metrics(loss) for weights, loss in results.items()}
        self._conclude("done", step, {**more, "test": test, "saved": self._save_parameters(step, parameters)})

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

    def _save_parameters(self, step: int, parameters: Any) -> dict[str, Any]:
        """Saves the parameters that the policy keeps; returns where they are, for the summary. Equal ones are saved once."""
        best, saved = self.progress.best, {}
        if self.keep != "none":
            saved["final"] = self.checkpoints.save_parameters("final", step, parameters)
        if self.keep in ("best", "state") and best is not None and self.best is not None:
            is_last = best["step"] == step
            saved["best"] = (
                saved["final"] if is_last else self.checkpoints.save_parameters("best", best["step"], self.best)
            )
        return saved
