"""Keys of text classification."""

from dataclasses import dataclass
from typing import Literal

from addnorm_exp.config.key import HOST, SIZE, key
from addnorm_exp.config.tasks.task import DataConfig, TaskConfig


@dataclass(frozen=True)
class LabelledTextConfig(DataConfig):
    """Texts with a class each. A file is CSV or TSV with the columns text and label, split 80/10/10 by class."""

    name: Literal["movie_reviews", "file"] = key("movie_reviews", "movie_reviews | file", role=HOST)
    tokens: Literal["words", "bytes"] = key("words", "a text as words | bytes")
    vocabulary: int = key(
        20_000,
        "at most this many words, the most frequent of the training split; all others are one unknown word",
        SIZE,
        idle=lambda config: config.data.tokens == "bytes",
    )


@dataclass(frozen=True)
class ClassifyTextConfig(TaskConfig):
    """Predict the class of a text: an encoder with padding masks, a pool of its tokens, a softmax."""

    name: str = "classify_text"
    pooling: Literal["mean", "max"] = key("mean", "of the tokens of a text: mean | max")

    data = LabelledTextConfig
