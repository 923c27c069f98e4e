"""Labelled text: splits that depend on the texts alone, vocabularies of the training split, padding, and refusals."""

import hashlib
import io
import tarfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from addnorm_exp.data import own_file
from addnorm_exp.data.datasets import Dataset, _nested
from addnorm_exp.data.labelled import NAMED, Named, TextSpec, load, padded, read_as, spec, vocabulary_of
from addnorm_exp.data.vocabulary import PADDING, UNKNOWN, Vocabulary, vocabulary_size, words
from addnorm_exp.errors import UserError

SENTENCE = "the film and a plot of it was good but dull in a very fine scene"


def rows(count: int, seed: int = 0, labels: tuple[str, ...] = ("neg", "pos")) -> list[str]:
    """Lines of text and label; three in four have the first label."""
    g = np.random.default_rng(seed)
    texts = [" ".join(g.choice(SENTENCE.split(), g.integers(3, 9))) + f" {number}" for number in range(count)]
    return [f"{text}\t{labels[0 if number % 4 else 1]}" for number, text in enumerate(texts)]


def table(path, lines: list[str]) -> str:
    path.write_text("\n".join(lines))
    return str(path)


def test_a_tenth_of_each_class_is_tested_on_and_a_tenth_validated_on(tmp_path):
    data = load("file", table(tmp_path / "my.tsv", rows(403)))
    assert data.spec.classes == ("neg", "pos")
    counts = {name: Counter(getattr(data, name).labels.tolist()) for name in ("train", "val", "test")}
    assert counts == {"train": {0: 242, 1: 81}, "val": {0: 30, 1: 10}, "test": {0: 30, 1: 10}}
    assert (data.spec.train, data.spec.val, data.spec.test) == (323, 40, 40)
    assert data.spec.majority == 242 / 323
    everything = [
        f"{text}\t{data.spec.classes[label]}"
        for split in (data.train, data.val, data.test)
        for text, label in zip(split.texts, split.labels, strict=True)
    ]
    assert sorted(everything) == sorted(rows(403))


def test_order_and_format_of_the_rows_change_nothing(tmp_path):
    lines = rows(200)
    first = load("file", table(tmp_path / "a", lines))
    shuffled = np.random.default_rng(1).permutation(lines).tolist()
    second = load(
        "file", table(tmp_path / "b", ["label,text", *(",".join(line.split("\t")[::-1]) for line in shuffled)])
    )
    assert replace(second.spec, name="a") == first.spec
    for split in ("train", "val", "test"):
        assert getattr(first, split).texts == getattr(second, split).texts
        np.testing.assert_array_equal(getattr(first, split).labels, getattr(second, split).labels)


def test_another_label_or_text_is_other_data(tmp_path):
    lines = rows(100)
    ids = {load("file", table(tmp_path / "a", lines)).spec.sha256}
    ids.add(load("file", table(tmp_path / "b", [lines[0].replace("pos", "neg"), *lines[1:]])).spec.sha256)
    ids.add(load("file", table(tmp_path / "c", ["x" + lines[0], *lines[1:]])).spec.sha256)
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("labels", "classes"), [(("b", "a"), ("a", "b")), (("10", "9"), ("9", "10")), (("1", "-1"), ("-1", "1"))]
)
def test_classes_are_in_order(labels, classes, tmp_path):
    assert load("file", table(tmp_path / "a", rows(80, labels=labels))).spec.classes == classes


def test_words_and_their_ids():
    assert words("Don't stop: it's NAÏVE…  (3 of 10)!") == [
        "don't",
        "stop",
        ":",
        "it's",
        "naïve",
        "…",
        "(",
        "3",
        "of",
        "10",
        ")",
        "!",
    ]
    assert words("cafe\N{COMBINING ACUTE ACCENT}") == ["café"]
    vocabulary = Vocabulary.fit("words", ["b b b a a c c c once"], most=100)
    assert vocabulary.ids == {"b": 2, "c": 3, "a": 4}
    assert vocabulary.size == 5
    assert vocabulary.encode("A b once new") == [4, 2, UNKNOWN, UNKNOWN]
    assert Vocabulary.fit("words", ["b b b a a c c c once"], most=1).ids == {"b": 2}


def test_bytes_need_no_vocabulary():
    vocabulary = Vocabulary.fit("bytes", [], most=5)
    assert vocabulary.encode("aÿ") == [98, 196, 192]
    assert max(vocabulary.encode("\N{PILE OF POO}")) < vocabulary.size == 257


def test_texts_are_cut_and_filled_up(tmp_path):
    vocabulary = Vocabulary.fit("words", ["a a b b"], most=9)
    array = vocabulary.padded(["a b a b", "b", "a b a"], 3)
    assert array.tolist() == [[2, 3, 2], [3, PADDING, PADDING], [2, 3, 2]]
    assert array.dtype == np.uint8
    assert replace(vocabulary, size=257).padded(["a"], 2).dtype == np.uint16
    data = load("file", table(tmp_path / "a", rows(100)))
    assert {name: part.tokens.shape for name, part in padded(data, "words", 1000, 12).items()} == {
        "train": (82, 12),
        "val": (9, 12),
        "test": (9, 12),
    }


@pytest.mark.parametrize(("kind", "size"), [("words", lambda text: len(words(text))), ("bytes", len)])
def test_how_many_texts_are_cut_is_known_without_the_data(kind, size, tmp_path):
    """To a twentieth, rounded down."""
    lines = [f"{'a ' * number}.\t{'np'[number % 2]}" for number in range(1, 101)]
    known = load("file", table(tmp_path / "a", lines)).spec
    for length in (1, 5, 17, 60, 99, 100, 101, 202):
        share = sum(size(line.split("\t")[0]) > length for line in lines) / 100
        assert 0 <= round(share - known.cut(kind, length), 9) <= 0.05
    assert known.cut(kind, 1000) == 0


@pytest.mark.parametrize("kind", ["words", "bytes"])
@pytest.mark.parametrize("most", [3, 1000])
def test_the_number_of_ids_is_known_without_the_data_and_no_id_is_beyond_it(kind, most, tmp_path):
    data = load("file", table(tmp_path / "a", rows(100)))
    size = data.spec.vocabulary(kind, most)
    assert size == Vocabulary.fit(kind, data.train.texts, most).size == vocabulary_size(kind, data.spec.words, most)
    tokens = padded(data, kind, most, 64)["train"].tokens
    assert tokens.max() < size
    if kind == "words":
        assert tokens.max() == size - 1


def test_only_the_training_split_makes_the_vocabulary(tmp_path):
    data = load("file", table(tmp_path / "a", rows(100)))
    unseen = replace(data, test=data.test._replace(texts=tuple("new new" for _ in data.test.texts)))
    tokens = padded(unseen, "words", 1000, 4)["test"].tokens
    assert tokens.tolist() == [[UNKNOWN, UNKNOWN, PADDING, PADDING]] * len(tokens)


def test_other_data_are_read_in_the_words_and_classes_of_training(tmp_path):
    lines = [line.split("\t") for line in rows(300)]
    mine = load(
        "file", table(tmp_path / "a", [f"{text}\t{'xyz'[number % 3]}" for number, (text, _) in enumerate(lines)])
    )
    other = load(
        "file", table(tmp_path / "b", [f"new {text}\t{'yz'[number % 2]}" for number, (text, _) in enumerate(lines)])
    )
    read = read_as(other, mine)
    assert read.test.texts == other.test.texts
    assert [mine.spec.classes[n] for n in read.test.labels] == [other.spec.classes[n] for n in other.test.labels]
    assert vocabulary_of(read, "words", 99) == vocabulary_of(mine, "words", 99) != vocabulary_of(other, "words", 99)
    assert read.spec.train == mine.spec.train
    assert read.spec.sha256 not in (mine.spec.sha256, other.spec.sha256), "neither is to be taken for it"


def test_classes_are_in_the_order_of_their_numbers_where_all_are_numbers(tmp_path):
    for labels, classes in ((("10", "-2"), ("-2", "10")), (("--5", "10"), ("--5", "10")), (("10", "9a"), ("10", "9a"))):
        lines = [f"text {number}\t{labels[number % 2]}" for number in range(40)]
        assert load("file", table(tmp_path / "a", lines)).spec.classes == classes


def test_a_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    reads = []
    monkeypatch.setattr(own_file, "read", lambda name, read=own_file.read: (reads.append(name), read(name))[1])
    path = table(tmp_path / "a", rows(100))
    first = spec("file", path)
    assert spec("file", path) == first
    assert len(reads) == 1
    table(tmp_path / "a", rows(101))
    assert spec("file", path).train > first.train
    assert len(reads) == 2


def refusal(path, lines: list[str]) -> str:
    with pytest.raises(UserError) as caught:
        load("file", table(path / "file", lines))
    line = str(caught.value)
    assert line.startswith("data.path=")
    assert "\n" not in line
    return line


def test_sets_that_are_too_small_are_refused_with_advice_that_works(tmp_path):
    line = refusal(tmp_path, rows(36))
    assert "class 'pos' has 9 examples (line 1), and a class needs 10 or more" in line
    enough = load("file", table(tmp_path / "enough", rows(40))).spec
    assert (enough.train, enough.val, enough.test) == (32, 4, 4)
    assert "all labels are 'neg'; at least two classes are needed" in refusal(tmp_path, rows(40, labels=("neg", "neg")))
    assert "has no examples; add rows" in refusal(tmp_path, ["text\tlabel"])


def test_a_header_of_other_names_and_swapped_columns_are_recognised(tmp_path):
    line = refusal(tmp_path, ["review\tsentiment", *rows(80)])
    assert "class 'sentiment' has 1 example (line 1)" in line
    assert line.endswith("if this line is a header, call its columns text and label")
    swapped = ["\t".join(line.split("\t")[::-1]) for line in rows(80)]
    assert (
        "80 of 80 labels have fewer than 10 examples each; if the columns are not text, label in this order, name"
        in (refusal(tmp_path, swapped))
    )


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("movie_review", "no known set of labelled text; did you mean 'movie_reviews'"),
        ("file", "needs the file: --config.data.path=FILE"),
    ],
)
def test_a_name_that_is_wrong(name, line):
    for function in (load, spec):
        with pytest.raises(UserError, match=line):
            function(name, None)


SNIPPETS = "".join(f"{n}\t{(n % 5 - 2) / 3}\tfilm number {n} is very film\r\n" for n in range(100)).encode()


class Given:
    label = "given"

    def fetch(self, progress):
        return SNIPPETS


def test_snippets_are_labelled_by_the_sign_of_their_valence(tmp_path, monkeypatch):
    monkeypatch.setenv("ADDNORM_CACHE", str(tmp_path))
    dataset = Dataset("tiny", len(SNIPPETS), hashlib.sha256(SNIPPETS).hexdigest(), (Given(),))
    facts = TextSpec(
        name="tiny",
        sha256="",
        classes=("negative", "positive"),
        train=64,
        val=8,
        test=8,
        words=4,
        majority=0.5,
        in_words=(6,) * 20,
        in_bytes=(26,) * 2 + (27,) * 18,
    )
    named = {"tiny": Named(dataset, NAMED["movie_reviews"].read, facts)}
    assert spec("tiny", None, named) == facts
    assert not list(tmp_path.iterdir())
    data = load("tiny", None, named)
    assert replace(data.spec, sha256="") == facts
    assert len(data.train.texts) + len(data.val.texts) + len(data.test.texts) == 80
    for split in (data.train, data.val, data.test):
        for text, label in zip(split.texts, split.labels, strict=True):
            assert (int(text.split()[2]) % 5 > 2) == label


def test_an_archive_inside_an_archive_is_opened():
    def tar(name: str, content: bytes) -> bytes:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        return packed.getvalue()

    outer = tar("p-1/more/inner.tar.gz", tar("inner/text", b"here"))
    with tarfile.open(fileobj=io.BytesIO(outer)) as archive:
        assert _nested("/inner.tar.gz", "/text")(archive) == b"here"


@pytest.mark.data
def test_the_real_thing():
    """The facts that are known without the file hold for the file."""
    try:
        data = load("movie_reviews", None)
    except UserError as error:
        pytest.skip(str(error))
    assert data.spec == spec("movie_reviews", None) == NAMED["movie_reviews"].spec
    everything = data.train.texts + data.val.texts + data.test.texts
    assert len(everything) == 10_568
    assert not set(data.train.texts) & set(data.test.texts)
