"""Tables of labelled text: what is read from CSV and TSV, and where each mistake is named."""

import gzip

import numpy as np
import pytest

from addnorm_exp.data import table
from addnorm_exp.errors import UserError

ROWS = [("good, really", "pos"), ("bad", "neg"), ('a "quoted" word', "pos"), ("naïve", "neg")]


def pairs(data: bytes) -> list[tuple[str, str]]:
    return [example[:2] for example in table.read(data, "file", "FILE").examples]


def refusal(data: bytes) -> str:
    with pytest.raises(UserError) as caught:
        table.read(data, "file", "FILE")
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("FILE")
    return line


SAME = {
    "TSV": 'good, really\tpos\nbad\tneg\na "quoted" word\tpos\nnaïve\tneg\n',
    "TSV with a header": 'text\tlabel\ngood, really\tpos\nbad\tneg\na "quoted" word\tpos\nnaïve\tneg\n',
    "columns in another order": 'LABEL\tText\npos\tgood, really\nneg\tbad\npos\ta "quoted" word\nneg\tnaïve',
    "other columns beside them": (
        'id\tlabel\tmean\ttext\n1\tpos\t2\tgood, really\n2\tneg\t\tbad\n3\tpos\t2\ta "quoted" word\n4\tneg\t1\tnaïve'
    ),
    "CSV": '"good, really",pos\nbad,neg\n"a ""quoted"" word",pos\nnaïve,neg\n',
    "CSV with a header in quotes": (
        '"label","text"\npos,"good, really"\nneg,bad\npos,"a ""quoted"" word"\nneg,naïve\n'
    ),
    "semicolons": 'text;label\ngood, really;pos\nbad;neg\n"a ""quoted"" word";pos\nnaïve;neg\n',
    "semicolons beside a comma": (
        'text;label;source, year\ngood, really;pos;a\nbad;neg;b\n"a ""quoted"" word";pos;c\nnaïve;neg;d\n'
    ),
    "blank lines, spaces and CRLF": '\r\ntext,label\r\n"good, really", pos\r\n\r\nbad ,neg\r\n"a ""quoted"" word",pos\r\nnaïve,neg',
}


@pytest.mark.parametrize("case", SAME)
def test_one_table_in_many_formats(case):
    assert pairs(SAME[case].encode()) == ROWS


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (SAME["CSV"].encode("utf-8-sig"), None),
        (SAME["CSV"].encode("latin-1"), "file is not in UTF-8; it is read as Latin-1"),
        (SAME["CSV"].encode("utf-16"), "file is UTF-16 text"),
        (gzip.compress(SAME["CSV"].encode(), mtime=0), "file is a gzip file"),
    ],
)
def test_encodings_and_compression_make_no_difference(data, note):
    assert pairs(data) == ROWS
    notes = table.read(data, "file", "FILE").notes
    assert len(notes) == (note is not None)
    assert all(line.startswith(note) for line in notes)


def test_a_quoted_field_may_hold_lines_and_lines_are_counted_through_it():
    examples = table.read(b'text,label\n"one\ntwo",a\nthree,b\n', "file", "FILE").examples
    assert [(example.text, example.line) for example in examples] == [("one\ntwo", 2), ("three", 4)]


def test_a_quote_in_tsv_is_a_character():
    assert pairs(b'"Great" film\tpos\n"oh\tneg\n') == [('"Great" film', "pos"), ('"oh', "neg")]


def test_a_long_text_is_read_whole():
    text = "word " * 60_000
    assert pairs(f"{text}\tpos".encode()) == [(text.strip(), "pos")]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ("a,pos\nb, c,neg\nd,pos\n", "FILE: line 2 has 3 columns, not 2; put a field that contains a comma in quotes"),
        ("text;label\na;b;c\n", "FILE: line 2 has 3 columns, not 2; put a field that contains a semicolon in quotes"),
        ("id\ttext\tlabel\n1\ta\tpos\n2\tb\n", "FILE: line 3 has 2 columns, not 3; a row has one line"),
        ("a\tpos\n\t\nb\t\n", "FILE: line 3 has no label; "),
        ("a,pos\n,neg\n", "FILE: line 2 has no text; "),
        ('"x\ny",a\nz\n', "FILE: line 3 has 1 column, not 2; "),
        (
            "a\tp\n" + "b\n" * 6,
            "FILE: line 2 has 1 column, not 2; line 3 has 1 column, not 2; line 4 has 1 column, not 2; and 3 more rows; ",
        ),
        (
            'a,b\n"open,c\nd,e\n',
            "FILE: the row that begins on line 2 is malformed (unexpected end of data); close each",
        ),
        ('a,b\n"x"y,c\n', "FILE: the row that begins on line 2 is malformed"),
        ('{"text": "a", "label": 1}\n', "FILE is JSON; save it as CSV or TSV"),
        ("one column\nhere\n", "FILE has one column; "),
        ("\n \n", "FILE has one column; "),
        ("one column\nhere, two\n", "FILE: line 1 has 1 column, not 2; "),
        ("text,label,text\na,b,c\n", "FILE: its header names text twice; "),
    ],
)
def test_a_malformed_table_is_refused_by_line(data, line):
    assert refusal(data.encode()).startswith(line)


def test_what_is_no_text_is_refused():
    line = refusal(np.random.default_rng(0).bytes(30_000))
    assert line == "FILE is not text but looks like binary data; name a CSV or TSV file with the columns text and label"
    assert "looks like a Parquet table" in refusal(b"PAR1" + bytes(30_000))
