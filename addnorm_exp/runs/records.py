"""The files of a run's record as types. docs/record.md explains the keys.

Keys that are not declared here are kept: a newer version may write more. A key with a default may be
absent or null, because not every run writes it, or not before its end.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from addnorm_exp.runs.columns import COLUMNS
from addnorm_exp.runs.values import Count, Execution, Facts, FolderName, Keys, Number, Scores, is_number


class Record(BaseModel):
    """A JSON object of the record."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    def plain(self) -> dict[str, Any]:
        """The object as it was read."""
        return self.model_dump(exclude_unset=True)

    def at(self, *path: str) -> Any:
        """The value at a path of keys, declared or not; None if it is absent."""
        value: Any = self
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
        return value

    def _require(self, *paths: str) -> None:
        """Refuses the record if one of these dotted paths is absent or null."""
        for path in paths:
            if self.at(*path.split(".")) is None:
                raise PydanticCustomError("missing", "is missing", {"place": path})


class Resolved(Record):
    """What the scheme brings besides its method (residual/recipe.py)."""

    init: str
    law: str
    deviations: Facts
    law_deviations: Facts
    embedding_norm: str
    embedding_scale: str
    embedding_scale_by_law: bool
    factors: str
    drop_path: Number
    norm: str
    eps: Number | str | None = None
    eps_place: str | None = None
    affine: str | None = None
    gain: str | None = None
    final_norm: bool | str


class DataRecord(Record):
    name: str
    sha256: str


class RunConfig(Record):
    """config.json."""

    id: FolderName
    semantics: Count
    scheme: str
    study: str | None = None
    science: Keys
    execution: Execution | None = None
    resolved: Resolved | None = None
    scheme_digest: str | None = None
    data: DataRecord

    @model_validator(mode="after")
    def _of_every_run(self) -> "RunConfig":
        self._require("science.seed", "science.steps", "science.optim.lr")
        return self


class Ticket(RunConfig):
    """plan/<id>.json: what config.json will have, as far as it is known before the run begins; and the phase of the run."""

    phase: str
    study: str
    execution: Execution
    scheme_digest: str


class Evaluations(Record):
    """The scores of one split, with the final weights and with those of the best validation."""

    final: Scores | None = None
    best: Scores | None = None


class MetricRecord(Record):
    """A metric of the run's task (runs/metrics.py)."""

    name: str
    label: str
    unit: str
    better: Literal["lower", "higher"]
    trivial: Number | None = None
    trivially: str = "trivial"
    rescales: str | None = None


class Divergence(Record):
    step: Count
    cause: str
    value: Number | None = None


class SavedParameters(Record):
    file: str
    step: Count
    sha256: str


class AttemptRecord(Record):
    """One attempt at a run. `pending`: what was due at its first checkpoint and not measured yet; `threads`: that computed, on CPU;
    `exactness`: set if the run began with another number of them."""

    from_step: Count | None = None
    started: Number | None = None
    pending: list[str] | None = None
    execution: Execution | None = None
    attention: str | None = None
    versions: Facts | None = None
    device: Facts | None = None
    threads: Count | None = None
    exactness: Literal["rounding"] | None = None


class Summary(Record):
    """summary.json."""

    title: str | None = None
    scheme: str | None = None
    status: Literal["running", "done", "diverged", "failed"]
    reason: str | None = None
    step: Count | None = None
    steps: Count | None = None
    started: Number | None = None
    heartbeat: Number | None = None
    finished: Number | None = None
    val: Evaluations | None = None
    test: Evaluations | None = None
    metrics: list[MetricRecord] | None = None
    diverged: Divergence | None = None
    parameters: Count | None = None
    tokens_per_example: Count | None = None
    flops_per_token: Number | None = None
    step_time_s: Number | None = None
    record_time_s: Number | None = None
    train_time_s: Number | None = None
    compile_time_s: Number | None = None
    keep: str | None = None
    saved: dict[str, SavedParameters] | None = None
    confounds: Facts | None = None
    versions: Facts | None = None
    device: Facts | None = None
    attempts: list[AttemptRecord] | None = None

    @model_validator(mode="after")
    def _of_an_end(self) -> "Summary":
        if self.status in ("done", "diverged"):
            self._require("scheme", "metrics", "keep")
        if self.status == "done" and self.metrics:
            primary = self.metrics[0].name
            self._require(f"val.final.{primary}", f"test.final.{primary}", "step", "steps", "step_time_s")
        if self.status == "diverged":
            self._require("diverged")
        return self

    def number(self, *path: str) -> float | None:
        """A finite number, e.g. `number("val", "final", "loss")`; None if it is absent or null."""
        value = self.at(*path)
        return float(value) if is_number(value) else None


class PlannedRun(Record):
    id: FolderName
    overrides: Keys


class TwinRecord(Record):
    """Functions that were compared, and groups of equal ones, by id."""

    among: list[str]
    groups: list[list[str]]


class StudyPlan(Record):
    """study.json."""

    name: str
    file: str
    phases: dict[str, list[PlannedRun]]
    tuned: list[str]
    group: list[str]
    baseline: str | None = None
    waiting: Count | None = None
    twins: TwinRecord | None = None
    published: list[Facts] | None = None


class LayerIndex(Record):
    """layers/index.json: the names of the columns."""

    sites: list[str]
    tensors: list[str]
    attention_sites: list[str]

    def columns(self, name: str) -> list[str]:
        """The names of a quantity's columns."""
        return list(getattr(self, COLUMNS[name]))


MANIFEST = TypeAdapter(dict[str, str])  # manifest.json of a checkpoint: file -> SHA-256


class PackRecord(Record):
    """pack.json: the ids of the runs that one program trains together, in order."""

    ids: list[FolderName]


class BestStep(Record):
    step: Count


class CheckpointMeta(Record):
    """meta.json of a checkpoint. `best`: the best validation so far, whose parameters belong to the state."""

    best: BestStep | None = None


class MetricsLine(Record):
    """A line of metrics.jsonl: the numbers of one split after `step` updates."""

    __pydantic_extra__: dict[str, Number | None] = Field(init=False)

    step: Count
    split: str
    weights: str | None = None

    @property
    def numbers(self) -> dict[str, float | None]:
        return self.__pydantic_extra__
