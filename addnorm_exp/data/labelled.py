"""Labelled text in fixed splits, by name or from a table of the user's, and its padded arrays.

The test split has a tenth of each class, and so has the validation split. The SHA-256 of a text
decides its split, and the order of the rows does not: a shuffled table is the same data in the same
splits.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from addnorm_exp.data import cache, datasets, own_file, table
from addnorm_exp.data.datasets import MOVIE_REVIEWS, Dataset
from addnorm_exp.data.spec import DataSpec
from addnorm_exp.data.table import Example
from addnorm_exp.data.vocabulary import Kind, Vocabulary, frequent, token_count, vocabulary_size
from addnorm_exp.errors import UserError
from addnorm_exp.words import counted

KIND = "set of labelled text"  # in messages
HELD_OUT = 10  # one part in so many of each class is tested on, and as much validated on
SMALLEST = 10  # examples of a class, so that each split has one
PARTS = 20  # a distribution of lengths is kept as its quantiles in steps of 1/20


@dataclass(frozen=True, kw_only=True)
class TextSpec(DataSpec):
    """What is known of labelled text before it is loaded. `train`, `val` and `test` count examples,
    `words` the frequent words of the training split (data/vocabulary.py). The checksum is of the
    texts with their labels."""

    classes: tuple[str, ...]
    words: int
    majority: float  # the share of the most frequent class in the training split
    in_words: tuple[int, ...]  # quantiles of the lengths of all texts, as words and as bytes
    in_bytes: tuple[int, ...]

    def vocabulary(self, kind: Kind, most: int) -> int:
        """The number of token ids."""
        return vocabulary_size(kind, self.words, most)

    def cut(self, kind: Kind, length: int) -> float:
        """The share of texts with more than `length` tokens, rounded down to 1/`PARTS`."""
        quantiles = self.in_bytes if kind == "bytes" else self.in_words
        return sum(quantile > length for quantile in quantiles[:-1]) / PARTS


class Labelled(NamedTuple):
    """`labels` int32 (texts,) number the classes."""

    texts: tuple[str, ...]
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class LabelledText:
    spec: TextSpec
    train: Labelled
    val: Labelled
    test: Labelled

    @property
    def notes(self) -> tuple[str, ...]:
        return self.spec.notes


class Padded(NamedTuple):
    """A split as arrays, equal in length: `tokens` (examples, length), filled up with
    `vocabulary.PADDING`, and `labels` int32 (examples,); of NumPy, or on a device."""

    tokens: Any
    labels: Any


@dataclass(frozen=True)
class Named:
    """A data set with a name: its file, the reader of the file, and facts known without it."""

    dataset: Dataset
    read: Callable[[bytes], Iterable[Example]]
    spec: TextSpec


def _snippets(data: bytes) -> Iterable[Example]:
    """Lines of number, mean valence of the crowd, text. The label is the sign of the valence;
    snippets at 0 are left out."""
    for line, row in enumerate(data.decode().splitlines(), 1):
        _, valence, text = row.split("\t")
        if float(valence):
            yield Example(text, "positive" if float(valence) > 0 else "negative", line)


NAMED = {
    "movie_reviews": Named(
        MOVIE_REVIEWS,
        _snippets,
        TextSpec(
            name=MOVIE_REVIEWS.name,
            sha256="8a1aafa1e8b41a4425bc9f2db4246573ef4f7f8fb762786556e323628097f692",
            classes=("negative", "positive"),
            train=8456,
            val=1056,
            test=1056,
            words=8911,
            majority=4262 / 8456,
            in_words=(7, 9, 11, 13, 14, 16, 17, 18, 20, 21, 22, 23, 25, 26, 28, 30, 32, 34, 38, 64),
            in_bytes=(33, 46, 56, 66, 74, 82, 89, 95, 102, 109, 115, 122, 129, 137, 146, 156, 166, 179, 202, 257),
        ),
    )
}


def spec(name: str, path: str | None, named: Mapping[str, Named] = NAMED) -> TextSpec:
    """What is known of the data. Nothing is fetched; a file of the user's is read. Raises UserError
    as `load` does."""
    return _spec_of_file(path) if path is not None else datasets.named(name, named, KIND).spec


@own_file.remembered
def _spec_of_file(path: str) -> TextSpec:
    return _of_file(path).spec


def to_fetch(name: str, path: str | None, named: Mapping[str, Named] = NAMED) -> str | None:
    """What has to be fetched before the data can be loaded, in words; None if they are here."""
    return None if path is not None else cache.to_fetch(datasets.named(name, named, KIND).dataset)


def load(name: str, path: str | None, named: Mapping[str, Named] = NAMED) -> LabelledText:
    """The table at `path`, else the data set `name`, fetched on first use.

    Raises:
      UserError: unknown name; a file that cannot be used; too few examples; a data set that cannot
      be had.
    """
    if path is not None:
        return _of_file(path)
    record = datasets.named(name, named, KIND)
    return _split(name, _ordered(record.read(cache.obtain(record.dataset))))


def _of_file(path: str) -> LabelledText:
    where = own_file.label(path)
    examples, notes = table.read(own_file.read(path), Path(path).name, where)
    _check(examples, where)
    return _split(Path(path).name, _ordered(examples), notes)


def vocabulary_of(data: LabelledText, kind: Kind, most: int) -> Vocabulary:
    """The vocabulary of the training split."""
    return Vocabulary.fit(kind, data.train.texts, most)


def read_as(data: LabelledText, trained_on: LabelledText) -> LabelledText:
    """The held-out splits of some data for a model that was trained on others: with its training split, which makes the vocabulary, and
    its classes. Raises UserError for a class that it does not know."""
    known = {label: number for number, label in enumerate(trained_on.spec.classes)}
    strange = [label for label in data.spec.classes if label not in known]
    if strange:
        raise UserError(
            f"{data.spec.name} has the class {strange[0][:40]!r}, and the model knows {', '.join(map(repr, list(known)[:5]))}; "
            "rename or remove the rows with this label"
        )
    numbers = np.array([known[label] for label in data.spec.classes], np.int32)

    def renumbered(split: Labelled) -> Labelled:
        return Labelled(split.texts, numbers[split.labels])

    # Neither the one nor the other: what is kept by checksum must not be taken for it.
    mixture = hashlib.sha256(f"{data.spec.sha256} read as {trained_on.spec.sha256}".encode()).hexdigest()
    spec = replace(data.spec, sha256=mixture, train=trained_on.spec.train)
    return LabelledText(spec, trained_on.train, renumbered(data.val), renumbered(data.test))


def padded(data: LabelledText, kind: Kind, most: int, length: int) -> dict[str, Padded]:
    """The splits `train`, `val` and `test` as arrays.

    The vocabulary has at most `most` words; each text has its first `length` tokens.
    """
    vocabulary = vocabulary_of(data, kind, most)
    splits = {"train": data.train, "val": data.val, "test": data.test}
    return {name: Padded(vocabulary.padded(split.texts, length), split.labels) for name, split in splits.items()}


def _check(examples: Sequence[Example], where: str) -> None:
    """Raises UserError unless there are two classes, and enough examples of each to hold some out."""
    counts = Counter(example.label for example in examples)
    if not counts:
        raise UserError(f"{where} has no examples; add rows with a text and a label")
    scarce = [label for label, count in counts.items() if count < SMALLEST]
    if len(scarce) > max(2, len(counts) // 2):
        raise UserError(
            f"{where}: {len(scarce):,} of {len(counts):,} labels have fewer than {SMALLEST} examples each; if the columns are not "
            "text, label in this order, name them in a first line"
        )
    if scarce:
        first = next(example for example in examples if example.label == scarce[0])
        header = "; if this line is a header, call its columns text and label" if first.line == 1 else ""
        raise UserError(
            f"{where}: class {first.label[:40]!r} has {counted(counts[first.label], 'example')} (line {first.line}), and a class needs "
            f"{SMALLEST} or more, of which a tenth is validated and a tenth tested on; add examples, or remove the class{header}"
        )
    if len(counts) == 1:
        raise UserError(f"{where}: all labels are {next(iter(counts))[:40]!r}; at least two classes are needed")


def _ordered(examples: Iterable[Example]) -> list[Example]:
    return sorted(examples, key=lambda example: (hashlib.sha256(example.text.encode()).digest(), example.label))


def _split(name: str, ordered: Sequence[Example], notes: tuple[str, ...] = ()) -> LabelledText:
    classes = _classes({example.label for example in ordered})
    parts: dict[str, list[Example]] = {"train": [], "val": [], "test": []}
    for label in classes:
        own = [example for example in ordered if example.label == label]
        held_out = max(1, len(own) // HELD_OUT)
        parts["test"] += own[:held_out]
        parts["val"] += own[held_out : 2 * held_out]
        parts["train"] += own[2 * held_out :]
    numbers = {label: number for number, label in enumerate(classes)}

    def labelled(part: Sequence[Example]) -> Labelled:
        labels = np.array([numbers[example.label] for example in part], np.int32)
        return Labelled(tuple(example.text for example in part), labels)

    splits = {split: labelled(part) for split, part in parts.items()}
    train = splits["train"]
    spec = TextSpec(
        name=name,
        sha256=_checksum(ordered),
        classes=classes,
        notes=notes,
        **{split: len(part.labels) for split, part in splits.items()},
        words=len(frequent(train.texts)),
        majority=float(np.bincount(train.labels).max() / len(train.labels)),
        in_words=_quantiles(token_count("words", example.text) for example in ordered),
        in_bytes=_quantiles(token_count("bytes", example.text) for example in ordered),
    )
    return LabelledText(spec, **splits)


def _quantiles(lengths: Iterable[int]) -> tuple[int, ...]:
    """The smallest lengths that at least 1/`PARTS`, 2/`PARTS`, … of them do not exceed."""
    ordered = sorted(lengths)
    return tuple(ordered[-(-len(ordered) * part // PARTS) - 1] for part in range(1, PARTS + 1))


def _checksum(ordered: Iterable[Example]) -> str:
    """SHA-256 of texts and labels, whatever the format and the order of the table."""
    lines = (json.dumps([example.text, example.label]) for example in ordered)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _classes(labels: Iterable[str]) -> tuple[str, ...]:
    """Class names in order: by value where all are integers, else by their characters."""
    names = sorted(labels)
    return tuple(sorted(names, key=int) if all(name.removeprefix("-").isdecimal() for name in names) else names)
