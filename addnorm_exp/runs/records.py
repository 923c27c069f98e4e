"""The files of a run's record as types. docs/record.md explains the keys.

Keys that are not declared here are kept: a newer version may write more. A key with a default may be
absent or null, because an older version did not write it.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from addnorm_exp.config.keys import groups, leaves
from addnorm_exp.runs.columns import COLUMNS

WHOLE, NUMBER, BOOL, TEXT = "a whole number of at least 0", "a number", "true or false", "text"
OBJECT, VALUE = "an object", "a value or a list of values"


def is_number(value: Any) -> bool:
    """Whether it is a finite number that a float can hold; true and false are not numbers."""
    if type(value) is float:
        return math.isfinite(value)
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def is_count(value: Any) -> bool:
    """Whether it is a whole number of at least 0."""
    return is_number(value) and isinstance(value, int) and 0 <= value < 2**63


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | str) or is_number(value)


def _is_value(value: Any) -> bool:
    return all(map(_is_scalar, value)) if isinstance(value, list) else _is_scalar(value)


def _refuse(value: Any, expected: str, place: str = "") -> NoReturn:
    """Raises the error of a value at `place`, below the key that is being validated."""
    raise PydanticCustomError("record", "expected {expected}", {"expected": expected, "place": place, "value": value})


def _value(value: Any) -> Any:
    if not _is_value(value):
        _refuse(value, VALUE)
    return value


def _score(value: Any) -> float | None:
    if value is not None and not is_number(value):
        _refuse(value, NUMBER)
    number: float | None = value
    return number


def _folder_name(name: str) -> str:
    if name != Path(name).name or not name.isprintable() or name in ("", ".."):
        _refuse(name, "the name of a folder")
    return name


_PLAIN = {
    int: (is_count, WHOLE),
    float: (is_number, NUMBER),
    bool: (lambda value: isinstance(value, bool), BOOL),
    str: (lambda value: isinstance(value, str), TEXT),
}


def _keys(tree: dict[str, Any], prefix: str = "", place: str = "") -> dict[str, Any]:
    """Config keys, nested or dotted; keys of the schema have values of their type. `prefix` and `place`: the keys around the tree,
    in the config and in the field that is validated; each ends in a dot."""
    for name, item in tree.items():
        key, label = prefix + name, place + name
        leaf = leaves().get(key)
        if key in groups() or (leaf is None and isinstance(item, dict)):
            if not isinstance(item, dict):
                _refuse(item, OBJECT, label)
            _keys(item, f"{key}.", f"{label}.")
        elif leaf is None or (item is None and leaf.optional):
            if not _is_value(item):
                _refuse(item, VALUE, label)
        elif leaf.sequence and not isinstance(item, list):
            _refuse(item, "a list", label)
        else:
            fits, expected = _PLAIN[leaf.type]
            for part in item if leaf.sequence else [item]:
                if not fits(part):
                    _refuse(part, expected, label)
    return tree


Count = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Value = Annotated[Any, AfterValidator(_value)]  # what a config key may hold
FolderName = Annotated[str, AfterValidator(_folder_name)]
Keys = Annotated[dict[str, Any], AfterValidator(_keys)]
Execution = Annotated[dict[str, Any], AfterValidator(lambda tree: _keys(tree, "execution."))]
Score = Annotated[float | None, PlainValidator(_score)]  # a whole number stays one
Facts = dict[str, Value]
Scores = dict[str, Score]  # by metric


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
    eps: Number | None = None
    eps_place: str | None = None
    affine: str | None = None
    gain: str | None = None
    final_norm: bool


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


class Evaluations(Record):
    """The scores of one split, with the final weights and with those of the best validation."""

    final: Scores | None = None
    best: Scores | None = None


class Divergence(Record):
    step: Count
    cause: str
    value: Number | None = None


class SavedParameters(Record):
    file: str
    step: Count
    sha256: str


class AttemptRecord(Record):
    """One attempt at a run. `pending`: what was due at its first checkpoint and not measured yet."""

    from_step: Count | None = None
    started: Number | None = None
    pending: list[str] | None = None
    execution: Execution | None = None
    versions: Facts | None = None
    device: Facts | None = None


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
    uniform: Scores | None = None
    diverged: Divergence | None = None
    parameters: Count | None = None
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
        if self.status == "done":
            self._require("scheme", "val.final.loss", "test.final.loss", "step", "steps", "step_time_s")
        if self.status == "diverged":
            self._require("scheme", "diverged", "uniform.loss")
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
        names: list[str] = getattr(self, COLUMNS[name])
        return names


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
