"""The keys of tasks and of their data, a file of the same name as the task's in addnorm_exp/tasks.

A config has the keys of the task that `task.name` names, with that task's defaults. Setting a key of another one is an error.
"""

from collections.abc import Mapping

from addnorm_exp.config.tasks.classify_text import ClassifyTextConfig
from addnorm_exp.config.tasks.lm import LanguageModellingConfig
from addnorm_exp.config.tasks.task import DataConfig, StackSchemes, TaskConfig

TASKS: Mapping[str, type[TaskConfig]] = {keys.name: keys for keys in (LanguageModellingConfig, ClassifyTextConfig)}
DATA: Mapping[str, type[DataConfig]] = {name: keys.data for name, keys in TASKS.items()}
STACKS: Mapping[str, type[StackSchemes]] = {name: keys.schemes for name, keys in TASKS.items()}
