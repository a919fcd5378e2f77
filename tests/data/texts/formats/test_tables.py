"""The same documents as CSV, TSV and Parquet."""

import csv
import gzip
import io
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.tables.columns import USUAL, Columns
from mhe_jax.data.texts.formats.layouts import read_corpora

KINDS = (".csv", ".tsv", ".csv.gz", ".parquet")
AWKWARD = [
    'say "yes"',
    '"',
    "two\nlines\n",
    "carriage\r\nreturn",
    "a\tb, c; d | e",
    "ünïcode: \u2028 \x85 and 日本語",
    "",
    "   ",
    "\ufeffmark",
    "# no comment \\n",
    "long " * 60000,
    "NaN",
]


def write(folder, split, columns, kind=".csv"):
    """Columns by name, of strings, or in Parquet of anything."""
    path = folder / f"{split}{kind}"
    if kind == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=5)
        return
    text = io.StringIO(newline="")
    rows = csv.writer(text, delimiter="\t" if kind == ".tsv" else ",")
    rows.writerow(columns)
    rows.writerows(zip(*columns.values(), strict=True))
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if kind.endswith(".gz") else data)


def dense(corpus):
    return corpus.labels.toarray().astype(int).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_awkward_texts_come_back_as_they_are(tmp_path, kind):
    labels = ["a;ü b"] + ["c:1"] * (len(AWKWARD) - 1)
    write(tmp_path, "train", {"id": [str(i) for i in range(len(AWKWARD))], "text": AWKWARD, "labels": labels}, kind)
    write(tmp_path, "test", {"text": AWKWARD[::-1]}, kind)
    corpora = read_corpora(tmp_path)
    assert list(corpora.train.texts()) == list(corpora.train.texts()) == AWKWARD
    assert list(corpora.test.texts()) == AWKWARD[::-1]
    assert corpora.label_names == ("a", "c:1", "ü b")
    assert dense(corpora.train) == [[1, 0, 1]] + [[0, 1, 0]] * (len(AWKWARD) - 1)
    assert dense(corpora.test) == [[0, 0, 0]] * len(AWKWARD)
    assert f"; text: 'text'; labels: 'labels', separated by ';'; training: {len(AWKWARD)} documents" in corpora.layout


CELLS = {
    "semicolons": ["b; a", "", "c;;a;"],
    "pipes": ["b|a", "", "c|a"],
    "lists of JSON": ['["b", "a"]', "[]", '["c", "a"]'],
    "lists of Python": ["['b', 'a']", "[]", "['c', \"a\", ]"],
}
WANTED = [[1, 1, 0], [0, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize("cells", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_several_labels_a_cell(tmp_path, cells, kind):
    write(tmp_path, "train", {"text": list("xyz"), "labels": cells}, kind)
    corpora = read_corpora(tmp_path)
    assert corpora.label_names == ("a", "b", "c")
    assert dense(corpora.train) == WANTED
    assert corpora.train.listed.tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_several_columns_of_labels(tmp_path, kind):
    columns = {"Text": list("xyz"), "label_1": ["b", "", "c d"], "label_2": ["a", "", "a"], "year": ["1", "2", "3"]}
    write(tmp_path, "train", columns, kind)
    corpora = read_corpora(tmp_path)
    assert corpora.label_names == ("a", "b", "c d")
    assert dense(corpora.train) == WANTED
    assert "labels: 'label_1', 'label_2', one a cell" in corpora.layout


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
@pytest.mark.parametrize(("no", "yes"), [("0", "1"), ("0.0", "1.0"), ("False", "true"), (0, 1), (False, True)])
def test_columns_of_noughts_and_ones(tmp_path, kind, no, yes):
    write(
        tmp_path,
        "train",
        {"id": ["7", "8", "9"], "text": list("xyz"), "zoo": [no, no, yes], "art": [yes, no, yes], "law": [no] * 3},
        kind,
    )
    write(tmp_path, "test", {"zoo": [yes], "art": [no], "law": [yes], "text": ["x"]}, kind)
    write(tmp_path, "dev", {"text": ["w"]}, kind)
    corpora = read_corpora(tmp_path)
    assert corpora.label_names == ("art", "law", "zoo")
    assert dense(corpora.train) == [[1, 0, 0], [0, 0, 0], [1, 0, 1]]
    assert dense(corpora.test) == [[0, 1, 1]]
    assert dense(corpora.valid) == [[0, 0, 0]]
    assert "labels: 3 columns of noughts and ones" in corpora.layout


def test_lists_and_numbers_of_parquet(tmp_path):
    write(tmp_path, "train", {"text": ["x", None, "z"], "labels": [[10, 2], None, [2]]}, ".parquet")
    corpora = read_corpora(tmp_path)
    assert corpora.label_names == ("2", "10")
    assert dense(corpora.train) == [[1, 1], [0, 0], [1, 0]]
    assert list(corpora.train.texts()) == ["x", "", "z"]
    # As of the data sets of the hub, whose test documents have the class -1.
    write(tmp_path, "train", {"text": list("xyz"), "label": [10, 2, 2]}, ".parquet")
    write(tmp_path, "test", {"text": list("ab"), "label": [-1, -1]}, ".parquet")
    corpora = read_corpora(tmp_path)
    assert corpora.label_names == ("2", "10")
    assert dense(corpora.test) == [[0, 0]] * 2


def test_titles_stand_before_texts(tmp_path):
    write(tmp_path, "train", {"text": ["b\n", "", "c"], "title": ["a", "t", ""], "label": list("xyx")})
    assert list(read_corpora(tmp_path).train.texts()) == ["a b", "t", "c"]
    assert list(read_corpora(tmp_path, Columns(text="text")).train.texts()) == ["b\n", "", "c"]
    assert list(read_corpora(tmp_path, Columns(text="text, label")).train.texts()) == ["b\n x", "y", "c x"]


def test_columns_and_separator_as_a_config_says(tmp_path):
    columns = {"body": list("xyz"), "topics": ["a, b", "c;d", ""], "label": list("pqr"), "id": ["1", "0", "1"]}
    write(tmp_path, "train", columns)
    corpora = read_corpora(tmp_path, Columns("body", "topics", ","))
    assert corpora.label_names == ("a", "b", "c;d")
    write(tmp_path, "train", {**columns, "p": list("010"), "q": list("111")})
    corpora = read_corpora(tmp_path, Columns("body", "q,p"))
    assert corpora.label_names == ("p", "q")
    assert dense(corpora.train) == [[0, 1], [1, 1], [0, 1]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_separator_of_a_csv_is_that_of_its_header(tmp_path, delimiter):
    (tmp_path / "train.csv").write_bytes(f'\ufeff"text"{delimiter}"labels"\r\n"a,b;c"{delimiter}x|y\r\n\r\n'.encode())
    corpora = read_corpora(tmp_path)
    assert (corpora.label_names, list(corpora.train.texts())) == (("x", "y"), ["a,b;c"])


def test_shards_are_one_split(tmp_path):
    (tmp_path / "data").mkdir()
    for number in range(3):
        columns = {"text": [f"{number} a", f"{number} b"], "labels": [[number], [number, 7]]}
        write(tmp_path / "data", f"train-0000{number}-of-00003", columns, ".parquet")
    write(tmp_path / "data", "validation-00000-of-00001", {"text": ["v"], "labels": [[7]]}, ".parquet")
    corpora = read_corpora(tmp_path)
    assert list(corpora.train.texts()) == ["0 a", "0 b", "1 a", "1 b", "2 a", "2 b"]
    assert corpora.label_names == ("0", "1", "2", "7")
    assert list(corpora.valid.texts()) == ["v"]
    assert "not read" not in corpora.layout
    (tmp_path / "data" / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(DataError, match=r"data: train-00001-of-00003.parquet of 00003 are missing"):
        read_corpora(tmp_path)


# What is written to train.csv, what a config says of its columns, and the end of the message.
BAD = {
    "a field more": ("text,labels\na,x\n\nb,c,y\n", USUAL, "csv:4: the row has 3 fields but the header 2; one that"),
    "an open quote": ('text,labels\na,x\n"b,y\nc,z\n', USUAL, "csv:3: the row that begins here is malformed: unexpec"),
    "a quote inside": ('text,labels\n"a\nb",x\n"b" c,y\n', USUAL, "csv:4: the row that begins here is malformed: ','"),
    "not UTF-8": (b"text,labels\na,x\n\xff,y\n", USUAL, "csv:3: byte 1 of the line is not UTF-8"),
    "no rows": ("text,labels\n", USUAL, r"\(CSV or TSV\): no document has a label"),
    "nothing": ("", USUAL, "csv is empty: its first line must name the columns"),
    "two of a name": ("text,text\na,b\n", USUAL, "csv:1: there are two columns 'text'"),
    "no text": ("title,labels\na,x\n", USUAL, "csv: there is no column 'text': name .* columns are 'title', 'labels'"),
    "no labels": ("text,id\na,0\nb,1\n", USUAL, "csv: there is no column 'label' or 'labels', and no two"),
    "other text": ("text,labels\na,x\n", Columns(text="body"), "csv: config.data.text_column is 'body', but there"),
    "other labels": ("text,labels\na,x\n", Columns(label="topic"), "csv: config.data.label_column is 'topic', but "),
    "two separators": ("text,labels\na,x;y\nb,x|y\n", USUAL, "csv: what separates labels is not clear, as in 'x;y'"),
    "lists and not": (
        "text,labels\na,\"['x']\"\nb,x\n",
        USUAL,
        "csv: what separates labels is not clear, as in \"\\['x'",
    ),
    "commas": ('text,labels\na,"x, y"\nb,"y, z"\n', USUAL, "csv: cells like 'x, y' may be one label or several: set"),
    "as numpy prints": ("text,labels\na,['x' 'y']\n", USUAL, r"csv:2: \"\['x' 'y'\]\" is not a list in the notation"),
    "lists of lists": ('text,labels\na,"[[""x""]]"\n', USUAL, r"csv:2: 'labels' holds \['x'\], a list; all labels"),
    "a two": ("text,p,q\n" + "a,0,1\n" * 1000 + "b,2,0\n", USUAL, "csv:1002: column 'p' holds '2', where columns of"),
    "half a row": ("text,p,q\na,0,1\nb,,1\n", USUAL, "csv:3: column 'p' holds '', where columns of labels hold 0"),
    "a separator of ones": ("text,p,q\na,0,1\n", Columns(separator=";"), "csv has columns of noughts and ones as lab"),
    "a late separator": (
        "text,label\n" + "a,x\n" * 1000 + "b,x;y\n",
        USUAL,
        r"csv:1002: 'x;y' is not like the cells of labels before it \(one a cell\): write all in one way",
    ),
}


@pytest.mark.parametrize(("content", "asked", "message"), BAD.values(), ids=BAD)
def test_a_bad_row_is_told_with_its_line(tmp_path, content, asked, message):
    path = tmp_path / "train.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as error:
        read_corpora(tmp_path, asked)
    assert str(tmp_path) in str(error.value)


def test_other_files_have_the_columns_of_labels_or_none(tmp_path):
    write(tmp_path, "train", {"text": list("xy"), "p": list("01"), "q": list("10")})
    write(tmp_path, "test", {"text": ["x"], "p": ["1"]})
    with pytest.raises(DataError, match="test.csv: there is no column 'q', which holds labels in other files"):
        read_corpora(tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"] * 7 + [None], "labels": [["x"]] * 6 + [["y"], [None]]}, "row 8: 'labels' holds None, null"),
        ({"text": [1, 2], "labels": [["x"]] * 2}, "row 1: column 'text' holds int; texts must be strings"),
        ({"text": ["a"], "labels": [[0.5]]}, "row 1: 'labels' holds 0.5, a number; all labels must be strings"),
        ({"text": ["a"] * 2, "labels": [["x"], [[1]]][:1] * 2, "label": [3, 4]}, "row 1: 'labels' holds 3, a number"),
    ],
)
def test_a_bad_row_of_parquet_is_told_with_its_number(tmp_path, columns, message):
    write(tmp_path, "train", columns, ".parquet")
    with pytest.raises(DataError, match=rf"^{tmp_path}/train.parquet: {message}"):
        read_corpora(tmp_path)


def test_a_damaged_parquet_is_told(tmp_path):
    write(tmp_path, "train", {"text": ["a"] * 99, "labels": [["x"]] * 99}, ".parquet")
    whole = (tmp_path / "train.parquet").read_bytes()
    for data, where in (
        (whole[:-20], "at its end"),
        (b"", "at its end"),
        (b"PAR1" + bytes(90) + whole[94:], "after row"),
    ):
        (tmp_path / "train.parquet").write_bytes(data)
        with pytest.raises(DataError, match=rf"^{tmp_path}/train.parquet cannot be read {where}"):
            read_corpora(tmp_path)


def test_without_pyarrow_its_extra_is_named(tmp_path, monkeypatch):
    write(tmp_path, "train", {"text": ["a"], "labels": [["x"]]}, ".parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"which is not installed: `pip install 'mhe-jax\[parquet\]'` installs it"):
        read_corpora(tmp_path)


def test_texts_are_read_row_group_by_row_group(tmp_path):
    write(tmp_path, "train", {"text": [f"text {i}" for i in range(3000)], "label": ["x", "y"] * 1500}, ".parquet")
    texts = read_corpora(tmp_path).train.texts()
    before = pyarrow.total_allocated_bytes()
    assert next(texts) == "text 0"
    assert pyarrow.total_allocated_bytes() - before < 1 << 20
    assert len(list(texts)) == 2999
    np.testing.assert_array_equal(read_corpora(tmp_path).train.labels.sum(axis=0), [[1500, 1500]])
