"""Tasks: what is predicted from what, and how well. One file a task, entered in the table below."""

import copyreg
from collections.abc import Collection

from addnorm_exp.config.checks import placed
from addnorm_exp.config.lengths import Sizes
from addnorm_exp.config.schema import Config
from addnorm_exp.config.tasks.task import DataConfig
from addnorm_exp.data.spec import Data, DataSpec
from addnorm_exp.errors import UserError
from addnorm_exp.experiment import Experiment, Shape
from addnorm_exp.experiment.schemes import scheme_of
from addnorm_exp.nn.footprint import Footprint
from addnorm_exp.residual.recipe import Recipe
from addnorm_exp.tasks.classify_text import ClassifyText
from addnorm_exp.tasks.lm import LanguageModelling
from addnorm_exp.tasks.task import Task

TASKS: dict[str, type[Task]] = {"lm": LanguageModelling, "classify_text": ClassifyText}


def resolve(config: Config, where: str = "config", typed: Collection[str] = ()) -> Experiment:
    """The experiment of a config.

    Raises UserError if the scheme does not exist, or does not go together with the other keys. `where` and `typed` are as in
    `config.read`.
    """
    task = TASKS[config.task.name]
    sites = task.sites(config)
    if config.optim.accumulate > 1 and task.coupled:
        blamed = "--config.optim.accumulate" if "optim.accumulate" in typed else where
        raise UserError(f"{blamed}: optim.accumulate={config.optim.accumulate}, but {task.coupled}; use 1")
    try:
        return Experiment(config, scheme_of(config, sites), sites, task.form(config))
    except ValueError as error:  # from `residual/`, which does not import UserError
        blamed = f"--config.scheme={config.scheme}" if "scheme" in typed else where
        raise UserError(placed(str(error), blamed, typed)) from error


def sizes(task: str, data: DataConfig, seq_len: int) -> Sizes:
    """Those of the data under a task (`lengths.MeasureSizes`). Raises UserError if the data cannot be used."""
    return TASKS[task].sizes(TASKS[task].spec(data), seq_len)


def evaluated(config: Config) -> dict[str, int]:
    """How many examples an evaluation takes, by split. Raises UserError if the data cannot be used."""
    return TASKS[config.task.name].evaluated(config, spec(config))


def spec(config: Config) -> DataSpec:
    """What is known of the config's data without fetching them. Raises UserError if they cannot be used."""
    return TASKS[config.task.name].spec(config.data)


def load(config: Config) -> Data:
    """The config's data, fetched on first use. Raises UserError if they cannot be had or used."""
    return TASKS[config.task.name].load(config.data)


def to_fetch(config: Config) -> str | None:
    """What must be fetched before the data can be loaded, in words; None if they are here."""
    return TASKS[config.task.name].to_fetch(config.data)


def check(experiment: Experiment, spec: DataSpec) -> None:
    """Raises UserError if the data do not suit the experiment."""
    TASKS[experiment.config.task.name].check(experiment, spec)


def remarks(experiment: Experiment, spec: DataSpec) -> tuple[str, ...]:
    """What the user should know about the data before training, a line each."""
    return (*spec.notes, *TASKS[experiment.config.task.name].remarks(experiment, spec))


def make_task(shape: Shape) -> Task:
    """The task of a shape, with its model."""
    return TASKS[shape["task.name"]](shape)


def minimum_footprint(shape: Shape) -> Footprint:
    """A lower bound on what the task's model takes up, without building it."""
    return TASKS[shape["task.name"]].minimum_footprint(shape)


def recipe(experiment: Experiment) -> Recipe:
    """What the experiment's scheme brings beside its method, without building the model."""
    return TASKS[experiment.config.task.name].recipe(experiment)


# An experiment goes to another process as its config, and is resolved there: a scheme holds functions, which cannot be sent.
copyreg.pickle(Experiment, lambda experiment: (resolve, (experiment.config,)))
