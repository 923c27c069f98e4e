"""Keys of language modelling."""

from dataclasses import dataclass
from typing import Literal

from addnorm_exp.config.key import HOST, key
from addnorm_exp.config.tasks.task import DataConfig, TaskConfig


@dataclass(frozen=True)
class ByteStreamConfig(DataConfig):
    """A text as one stream of bytes. A file is split 90/5/5; compressed text and UTF-16 are read as text."""

    name: Literal["enwik8", "shakespeare", "file"] = key("enwik8", "enwik8 | shakespeare | file", role=HOST)


@dataclass(frozen=True)
class LanguageModellingConfig(TaskConfig):
    """Predict the next byte: a decoder."""

    name: str = "lm"

    data = ByteStreamConfig
