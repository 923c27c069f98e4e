"""What the program does with an experiment, of a config: most tests change keys of one and ask for the result."""

from collections.abc import Collection
from typing import Any

from addnorm_exp import tasks
from addnorm_exp.config import Config
from addnorm_exp.data.corpus import Corpus
from addnorm_exp.experiment import Experiment, Hypers, Shape, Timetable
from addnorm_exp.nn.footprint import Footprint
from addnorm_exp.residual import Scheme, Site
from addnorm_exp.residual.recipe import Recipe
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.tasks.task import Task
from addnorm_exp.train import loop, programs, step
from addnorm_exp.train.optimisers import Optimiser, make_optimiser
from addnorm_exp.train.optimisers.adamw import AdamW
from addnorm_exp.train.program import Program


def experiment(config: Config) -> Experiment:
    return tasks.resolve(config, "test")


def checked(config: Config, where: str = "test", typed: Collection[str] = ()) -> Config:
    """The same config. Raises UserError if its scheme does not go together with the other keys."""
    return tasks.resolve(config, where, typed).config


def scheme_of(config: Config) -> Scheme:
    return experiment(config).scheme


def blocks(config: Config) -> tuple[Site, ...]:
    return experiment(config).sites


def shape(config: Config) -> Shape:
    return experiment(config).shape


def hypers(config: Config) -> Hypers:
    return experiment(config).hypers


def timetable(config: Config) -> Timetable:
    return experiment(config).timetable


def identify(config: Config, data_sha256: str) -> str:
    return experiment(config).id(data_sha256)


def make_task(config: Config) -> Task:
    return tasks.make_task(shape(config))


def minimum_footprint(config: Config) -> Footprint:
    return tasks.minimum_footprint(shape(config))


def recipe(config: Config) -> Recipe:
    return tasks.recipe(experiment(config))


def optimiser(config: Config) -> Optimiser:
    return make_optimiser(shape(config))


def initial_state(task: Task, numbers: Hypers, optimiser: Optimiser | None = None) -> step.TrainState:
    return step.initial_state(task, numbers, optimiser or AdamW())


def make_step(config: Config, task: Task, shard: Any = lambda batch: batch) -> step.TrainStep:
    return step.make_step(shape(config), task, shard)


def program(config: Config) -> Program:
    return programs.program(shape(config))


def run(config: Config, corpus: Corpus, folder: RunFolder, **options: Any) -> dict[str, Any]:
    return loop.run(experiment(config), corpus, folder, **options)


def check_machine(config: Config) -> None:
    loop.check_machine(experiment(config))


def check_data(config: Config, corpus: Corpus) -> None:
    tasks.check(experiment(config), corpus.spec)
