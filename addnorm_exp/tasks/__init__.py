"""Tasks: what is predicted from what, and how well. One file a task, entered in the table below."""

from addnorm_exp.config.schema import Config
from addnorm_exp.nn.footprint import Footprint
from addnorm_exp.residual.recipe import Recipe
from addnorm_exp.tasks.lm import LanguageModelling
from addnorm_exp.tasks.task import Task

TASKS = {"lm": LanguageModelling}


def make_task(config: Config) -> Task:
    """The task that `config.task` names."""
    return TASKS[config.task](config)


def least(config: Config) -> Footprint:
    """The least that the task's model takes up, without building it."""
    return TASKS[config.task].least(config)


def recipe(config: Config) -> Recipe:
    """What the config's scheme brings beside its method, resolved, without building the model."""
    return TASKS[config.task].recipe(config)
