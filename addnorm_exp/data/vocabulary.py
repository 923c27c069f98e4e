"""Tokens of a text: its words, with a vocabulary from the training split, or its bytes.

Words are the textbook's choice for classification, and the only one of the two under which a
snippet of 20 words is 20 tokens. Bytes suit languages that put no spaces between words, and need no
vocabulary.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["words", "bytes"]
PADDING, UNKNOWN = 0, 1  # the first two ids of words; bytes have no unknown token
# A word that the training split has less often is unknown. So the unknown token is trained.
RARE = 2

# `don't` is one word, and each mark of punctuation is another.
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def words(text: str) -> list[str]:
    """Lower-cased words and marks of punctuation, in order."""
    return _WORD.findall(unicodedata.normalize("NFC", text).lower())


def token_count(kind: Kind, text: str) -> int:
    return len(text.encode()) if kind == "bytes" else len(words(text))


def frequent(texts: Iterable[str]) -> list[str]:
    """The words that occur `RARE` times or more, the most frequent first, equals in the order of
    their characters."""
    counts = Counter(word for text in texts for word in words(text))
    return sorted((word for word, count in counts.items() if count >= RARE), key=lambda word: (-counts[word], word))


def vocabulary_size(kind: Kind, distinct: int, most: int) -> int:
    """The number of ids: padding and 256 bytes, or padding, the unknown word and at most `most` of
    the `distinct` frequent words."""
    return 257 if kind == "bytes" else 2 + min(distinct, most)


@dataclass(frozen=True)
class Vocabulary:
    """Texts to ids. `ids` is None for bytes."""

    ids: dict[str, int] | None
    size: int

    @classmethod
    def fit(cls, kind: Kind, texts: Sequence[str], most: int) -> "Vocabulary":
        """The vocabulary of a training split."""
        if kind == "bytes":
            return cls(None, vocabulary_size(kind, 0, most))
        kept = frequent(texts)[:most]
        return cls({word: number for number, word in enumerate(kept, 2)}, vocabulary_size(kind, len(kept), most))

    def encode(self, text: str) -> list[int]:
        if self.ids is None:
            return [byte + 1 for byte in text.encode()]
        return [self.ids.get(word, UNKNOWN) for word in words(text)]

    def padded(self, texts: Sequence[str], length: int) -> np.ndarray:
        """Ids (texts, length) of the smallest unsigned type, each text cut to its first `length`
        tokens or filled with `PADDING`."""
        array = np.full((len(texts), length), PADDING, np.min_scalar_type(self.size - 1))
        for row, text in zip(array, texts, strict=True):
            tokens = self.encode(text)[:length]
            row[: len(tokens)] = tokens
        return array
