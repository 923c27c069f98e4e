"""The keys of tasks and of their data, a file of the same name as the task's in addnorm_exp/tasks.

A config has the keys of the task that `task.name` names, with that task's defaults. Setting a key of another one is an error.
"""

from collections.abc import Mapping

from addnorm_exp.config.tasks.classify_text import ClassifyTextConfig, LabelledTextConfig
from addnorm_exp.config.tasks.lm import ByteStreamConfig, LanguageModellingConfig
from addnorm_exp.config.tasks.task import DataConfig, TaskConfig

TASKS: Mapping[str, type[TaskConfig]] = {"lm": LanguageModellingConfig, "classify_text": ClassifyTextConfig}
DATA: Mapping[str, type[DataConfig]] = {"lm": ByteStreamConfig, "classify_text": LabelledTextConfig}
