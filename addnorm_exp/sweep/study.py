"""The plan of a study: checked configs with their ids, phase by phase, before anything runs. The file itself is read in study_file.py.

`report(best)` gets one dict of overrides per group: the group's own keys and the winning values of the tuned ones, without a seed.
"""

import itertools
import struct
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from addnorm_exp.config import files, flatten, override
from addnorm_exp.config.door import overridden
from addnorm_exp.config.keys import EXECUTION
from addnorm_exp.config.schema import Config
from addnorm_exp.config.tasks.task import DataConfig
from addnorm_exp.errors import UserError, nearest
from addnorm_exp.experiment import Experiment, structural
from addnorm_exp.runs.caveats import in_keys
from addnorm_exp.runs.metrics import primary
from addnorm_exp.runs.published import Published
from addnorm_exp.runs.records import Summary
from addnorm_exp.runs.winners import Candidate, Pairs, Winner, final_value, winners
from addnorm_exp.runs.winners import score as score_of
from addnorm_exp.sweep.combine import Overrides
from addnorm_exp.tasks import resolve, sizes, spec
from addnorm_exp.words import show

# By the function of the study file that yields the runs.
PHASE_OF = {"tune": "tune", "report": "report", "sweep": "run"}
PHASES = (*PHASE_OF.values(), "rerun")
MOST = 100_000  # most runs in a phase
CONFIG = "config"  # the key by which a run of a study file names its config file


def keeps(phase: str) -> str:
    """Which parameters a finished run of a phase keeps if `execution.keep` is not set. Tuning needs only a number."""
    return "none" if phase == "tune" else "final"


@dataclass(frozen=True)
class Planned:
    """One run of the plan. `overrides` are the keys that the study file yielded for it, with their values in the config;
    `typed` has the values as yielded ("5%" of the steps)."""

    id: str
    experiment: Experiment
    overrides: Overrides
    sha256: str = ""  # of its data
    typed: Overrides = field(default_factory=dict)
    phase: str = "run"

    @property
    def config(self) -> Config:
        return self.experiment.config

    @property
    def flat(self) -> dict[str, object]:
        """The values of the config by key."""
        return self.experiment.flat

    def pairs(self, keys: Iterable[str]) -> Pairs:
        """These keys with their values."""
        return tuple((key, self.flat[key]) for key in keys)

    @property
    def label(self) -> str:
        rest = (f"{key}={value}" for key, value in self.overrides.items() if key != "scheme")
        return " ".join((self.config.scheme, *rest))


@dataclass(frozen=True)
class Study:
    """A study file, read and checked; of a file that ranges over configs, the runs of one of them (`config`)."""

    path: Path
    module: types.ModuleType
    base: Mapping[str, object]  # flat values of the config file and BASE
    tuned: tuple[str, ...]
    baseline: str | None
    published: tuple[Published, ...] = ()
    config: str = ""
    default: str = ""  # the config of a run that names none
    configs: tuple[str, ...] = ()  # all of the file

    @property
    def name(self) -> str:
        return f"{self.path.stem}-{self.part}" if self.config else self.path.stem

    @property
    def part(self) -> str:
        """The name of `config` without its folder: "lm" of "configs/lm.py", "lm-pre_ln" of "configs/lm.py:pre_ln"."""
        file, _, argument = self.config.partition(":")
        return "-".join((Path(file).stem, *([argument] if argument else [])))

    def folder(self, runs: Path) -> Path:
        """Where its runs are, in the folder of all studies."""
        return runs / self.path.stem / self.part if self.config else runs / self.path.stem

    @property
    def phased(self) -> bool:
        return hasattr(self.module, "tune")

    def tune(self) -> tuple[Planned, ...]:
        plan = self._plan("tune", lambda: self.module.tune())
        self._check_rows(plan)
        for key in self.tuned:
            if not any(key in run.overrides for run in plan):
                raise UserError(
                    f"{self.path}: TUNED names {key}, which tune() never sets; yield it, or remove it from TUNED"
                )
        return plan

    def report(self, best: list[Overrides], tuning: Iterable[Planned]) -> tuple[Planned, ...]:
        """The runs of report(best). Raises UserError if a run repeats a tuning seed of its group, or uses other data."""
        chosen = [{CONFIG: self.config, **each} for each in best] if self.config else best
        plan, tuning = self._plan("report", lambda: self.module.report(chosen)), tuple(tuning)
        self._one_corpus((*tuning, *plan))
        axes = self.axes(tuning)  # the keys that distinguish groups in tuning; report() may set more
        used = {(run.pairs(axes), run.config.seed) for run in tuning}
        for run in plan:
            if (run.pairs(axes), run.config.seed) in used:
                raise UserError(
                    f"{self.path}: report() yields seed {run.config.seed} of {run.config.scheme}, which tuning has used; "
                    "the tuning seeds chose the winner, so report it on other seeds"
                )
        return plan

    def sweep(self) -> tuple[Planned, ...]:
        plan = self._plan("sweep", lambda: self.module.sweep())
        self._check_rows(plan)
        return plan

    def axes(self, runs: Iterable[Planned]) -> tuple[str, ...]:
        """The keys that distinguish groups: those that the runs set, without the tuned keys and the seed. The scheme is first."""
        keys = dict.fromkeys(("scheme", *(key for run in runs for key in run.overrides)))
        return tuple(key for key in keys if key not in (*self.tuned, "seed"))

    def group(self, run: Planned) -> Pairs:
        """All science keys of a run with their values, except the tuned keys and the seed."""
        apart = (*self.tuned, "seed", "data.path")
        return run.pairs(key for key in sorted(run.flat) if key not in apart and not key.startswith("execution."))

    def select(self, runs: Sequence[Planned], summaries: Mapping[str, Summary]) -> list[Overrides]:
        """The argument of report(): each group's overrides with its winner's tuned values (runs/winners.py).

        A group without a single scored run is absent.
        """
        candidates = [
            Candidate(
                self.group(run),
                run.pairs(self.tuned),
                run.config.seed,
                score_of(summary),
                summary.status if summary else "missing",
                final_value(summary),
            )
            for run in runs
            for summary in (summaries.get(run.id),)
        ]
        chosen: dict[Pairs, Winner] = winners(candidates, primary(summaries.values()))
        first = {self.group(run): run for run in reversed(runs)}
        return [{**self._own(first[group]), **dict(winner.tuned)} for group, winner in chosen.items()]

    def stand_in(self, runs: Iterable[Planned]) -> list[Overrides]:
        """The argument of report() if each group's first candidate won: enough to check and count the runs."""
        first = {self.group(run): run for run in reversed(tuple(runs))}
        return [{**self._own(run), **dict(run.pairs(self.tuned))} for run in reversed(first.values())]

    def _check_rows(self, plan: Sequence[Planned]) -> None:
        """Checks that BASELINE and PUBLISHED refer to rows of the plan. A row's name is its scheme, followed by other axes that
        distinguish rows (report/protocol/groups.py)."""
        if self.baseline is not None and not any(self._names(str(self.baseline), run) for run in plan):
            axes = [key for key in self.axes(plan) if key == "scheme" or len({run.flat[key] for run in plan}) > 1]
            rows = {in_keys(run.pairs(axes)) for run in plan}
            raise UserError(
                f"{self.path}: BASELINE = {self.baseline!r} is not a row of the table; "
                f"{nearest(str(self.baseline), rows | {run.config.scheme for run in plan})}"
            )
        for number, entry in enumerate(self.published, 1):
            if not any(entry.matches(run.flat) for run in plan):
                row = ", ".join(f"{key}={value!r}" for key, value in entry.row.items())
                raise UserError(
                    f"{self.path}: PUBLISHED entry {number} ({row}) matches no run of the plan; correct its keys"
                )

    def _one_corpus(self, runs: Iterable[Planned]) -> None:
        names: dict[str, str] = {}
        for run in runs:
            names.setdefault(run.sha256, run.config.data.path or run.config.data.name)
        if len(names) > 1:
            raise UserError(
                f"{self.path}: yields runs on different data ({', '.join(names.values())}), whose numbers cannot be compared in one table; "
                "write one study file for each"
            )

    def _names(self, baseline: str, run: Planned) -> bool:
        """Whether a row's name may belong to this run: its scheme alone, or followed by values as the table writes them. The report
        phase may set keys that this phase does not set."""
        scheme, *parts = baseline.split(", ")
        own = self._own(run)
        values = dict(part.partition(" = ")[::2] for part in parts)
        return scheme == run.config.scheme and all(
            key in run.flat and (key not in own or show(run.flat[key]) == value) for key, value in values.items()
        )

    def _own(self, run: Planned) -> Overrides:
        return {key: value for key, value in run.typed.items() if key not in (*self.tuned, "seed")}

    def _plan(self, function: str, call: Callable[[], Any]) -> tuple[Planned, ...]:
        plan: dict[str, Planned] = {}
        computed: dict[tuple, Planned] = {}  # by the numbers that the runs compute with
        keys, alike = structural(), dict[tuple, Experiment]()  # a scheme is resolved once, not once per run
        sums: dict[tuple[str, DataConfig], str] = {}  # a user's file is read once, not once per run
        for number, overrides in enumerate(yielded(self.path, function, call), 1):
            where = f"{self.path}: run {number} of {function}()"
            if self.config:
                config = overrides.get(CONFIG, self.default)
                if config not in self.configs:
                    raise UserError(
                        f"{where}: config={config!r} is none of the study; {nearest(str(config), self.configs)}"
                    )
                if config != self.config:
                    continue
                overrides = {key: value for key, value in overrides.items() if key != CONFIG}
            config = override(self.base, overrides, where, sizes)
            flat = flatten(config)  # plain numbers, where the file may have NumPy's
            structure = tuple(flat[key] for key in keys)
            if structure not in alike:
                alike[structure] = resolve(config, where)
            experiment = alike[structure].with_config(config)
            data = config.task.name, config.data
            if data not in sums:
                try:
                    sums[data] = spec(config).sha256
                except UserError as error:
                    raise UserError(f"{where}: {error}") from None
            resolved, sha256 = {key: flat[key] for key in overrides}, sums[data]
            typed = overridden({}, overrides, where)
            run = Planned(experiment.id(sha256), experiment, resolved, sha256, typed, PHASE_OF[function])
            if run.id in plan:
                raise UserError(f"{where} equals an earlier run ({run.label}); yield each run once")
            plan[run.id] = run
            twin = computed.setdefault(_in_float32(flat), run)
            if twin is not run:
                raise UserError(
                    f"{where} ({run.label}) equals an earlier run ({twin.label}) in float32, the runs' precision; "
                    "yield each run once"
                )
        if not plan:
            raise UserError(
                f"{self.path}: {function}() yields no run of {self.config}; yield some, or remove this config"
            )
        self._one_corpus(plan.values())
        return tuple(plan.values())


def yielded(path: Path, function: str, call: Callable[[], Any]) -> list[Mapping[str, Any]]:
    """The overrides that a function of a study file yields. Raises UserError for anything else."""
    try:
        runs = list(itertools.islice(call() or (), MOST + 1))
    except files.FAULTS as error:
        raise files.explain(error, str(path), f"{function}()") from error
    if not runs:
        raise UserError(f"{path}: {function}() yields no runs; yield dicts of overrides")
    if len(runs) > MOST:
        raise UserError(f"{path}: {function}() yields more than {MOST:,} runs; check that it ends")
    for number, overrides in enumerate(runs, 1):
        if not isinstance(overrides, Mapping):
            raise UserError(
                f"{path}: run {number} of {function}() is {overrides!r:.80}; yield dicts of overrides, e.g. "
                "{'optim.lr': 1e-3, 'seed': 0}"
            )
    return runs


def _in_float32(flat: Mapping[str, Any]) -> tuple[Any, ...]:
    """The science values of a config, with numbers in float32, the run's precision."""
    return tuple(
        struct.pack("<f", value) if isinstance(value, float) else value
        for key, value in flat.items()
        if not key.startswith(f"{EXECUTION}.")
    )
