"""Tasks: what is predicted from what, and how well. One file a task, entered in the table below."""

from collections.abc import Collection

from addnorm_exp.config.checks import placed
from addnorm_exp.config.schema import Config
from addnorm_exp.errors import UserError
from addnorm_exp.experiment import Experiment, Shape
from addnorm_exp.experiment.schemes import scheme_of
from addnorm_exp.nn.footprint import Footprint
from addnorm_exp.residual.recipe import Recipe
from addnorm_exp.tasks.lm import LanguageModelling
from addnorm_exp.tasks.task import Task

TASKS: dict[str, type[Task]] = {"lm": LanguageModelling}


def resolve(config: Config, where: str = "config", typed: Collection[str] = ()) -> Experiment:
    """The experiment of a config.

    Raises UserError if the scheme does not exist, or does not go together with the other keys. `where` and `typed` are as in
    `config.read`.
    """
    sites = TASKS[config.task].sites(config)
    try:
        return Experiment(config, scheme_of(config, sites), sites)
    except ValueError as error:  # from `residual/`, which does not import UserError
        blamed = f"--config.scheme={config.scheme}" if "scheme" in typed else where
        raise UserError(placed(str(error), blamed, typed)) from error


def make_task(shape: Shape) -> Task:
    """The task of a shape, with its model."""
    return TASKS[shape["task"]](shape)


def least(shape: Shape) -> Footprint:
    """The least that the task's model takes up, without building it."""
    return TASKS[shape["task"]].least(shape)


def recipe(experiment: Experiment) -> Recipe:
    """What the experiment's scheme brings beside its method, without building the model."""
    return TASKS[experiment.config.task].recipe(experiment)
