import gzip
import json

import numpy as np
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts.formats.layouts import read_corpora


def write(folder, train, test, packed=False):
    for name, documents in (("train", train), ("test", test)):
        lines = (document if isinstance(document, str) else json.dumps(document) for document in documents)
        data = "".join(line + "\n" for line in lines).encode()
        (folder / (f"{name}.jsonl" + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    return folder


def document(text, *labels):
    return {"text": text, "labels": list(labels), "id": 7}


@pytest.mark.parametrize("packed", [False, True])
def test_strings_are_ranked_as_strings(tmp_path, packed):
    train = [document("a\nb", "x y", "10"), document(""), document("c", "2", "2")]
    corpora = read_corpora(write(tmp_path, train, [document("d", "100")], packed))
    assert corpora.label_names == ("10", "100", "2", "x y")
    np.testing.assert_array_equal(corpora.train.labels.toarray(), [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_array_equal(corpora.test.labels.toarray(), [[0, 1, 0, 0]])
    assert list(corpora.train.texts()) == list(corpora.train.texts()) == ["a\nb", "", "c"]
    assert corpora.layout.startswith("JSON lines (train.jsonl")
    assert "3 documents, 1 empty texts, 1 documents without labels, 1 labels listed again;" in corpora.layout


def test_integers_are_ranked_as_numbers(tmp_path):
    corpora = read_corpora(write(tmp_path, [document("a", 10, 2)], [document("b", 100, 10**30), document("c", -1)]))
    assert corpora.label_names == ("-1", "2", "10", "100", str(10**30))
    np.testing.assert_array_equal(corpora.train.labels.toarray(), [[0, 1, 1, 0, 0]])
    np.testing.assert_array_equal(corpora.test.labels.toarray(), [[0, 0, 0, 1, 1], [1, 0, 0, 0, 0]])


def test_integers_from_0_are_their_own_ids(tmp_path):
    corpora = read_corpora(write(tmp_path, [document("a", i) for i in (11, *range(10))], [document("b", 10)]))
    np.testing.assert_array_equal(corpora.train.labels.indices, [11, *range(10)])
    np.testing.assert_array_equal(corpora.test.labels.indices, [10])


@pytest.mark.parametrize("name", ["dev.jsonl", "valid.jsonl"])
def test_a_validation_file_is_read(tmp_path, name):
    write(tmp_path, [document("a", "x")], [document("b", "z")])
    (tmp_path / name).write_text(json.dumps(document("c", "y", "x")) + "\n")
    corpora = read_corpora(tmp_path)
    assert corpora.label_names == ("x", "y", "z")
    np.testing.assert_array_equal(corpora.valid.labels.toarray(), [[1, 1, 0]])
    assert list(corpora.valid.texts()) == ["c"]
    assert corpora.layout.endswith("; test: 1 documents; validation: 1 documents")


def test_files_that_are_not_read_are_told(tmp_path):
    write(tmp_path, [document("a", "x")], [document("b", "z")])
    for name in ("classes.txt", "extra.jsonl.gz", "README.md"):
        (tmp_path / name).write_text("")
    assert "; not read: classes.txt, extra.jsonl.gz; " in read_corpora(tmp_path).layout


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"text": "a"}, r"the field 'labels' is missing \(there are: 'text'\)"),
        ({"labels": ["a"]}, "the field 'text' is missing"),
        ({"text": "a", "labels": 1.5}, "the field 'labels' must be a list of labels, or one label, but is a number"),
        ({"text": ["a"], "labels": ["b"]}, "the field 'text' must be a string but is a list"),
        (document("a", 3), "'labels' holds 3, a number; all labels must be strings, or all must be integers"),
        (document("a", "b", None), "'labels' holds None, null"),
        (document("a", ["b"]), r"'labels' holds \['b'\], a list"),
        ('{"text": "a", "labels": ["b"', "malformed JSON"),
    ],
)
def test_a_bad_line_is_told_with_its_number(tmp_path, bad, message):
    write(tmp_path, [document("a", "x")], [document("b", "x"), "", bad])
    with pytest.raises(DataError, match=rf"^{tmp_path}/test.jsonl:3: {message}"):
        read_corpora(tmp_path)


ROWS = [[0, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]], [[0, 1, 0, 0]]


@pytest.mark.parametrize("kind", [int, bool, float, str])
def test_noughts_and_ones_are_read_as_such(tmp_path, kind):
    train, test = ([document("a", *map(kind, row)) for row in rows] for rows in ROWS)
    corpora = read_corpora(write(tmp_path, train, test))
    assert corpora.label_names == ("0", "1", "2", "3")
    np.testing.assert_array_equal(corpora.train.labels.toarray(), ROWS[0])
    np.testing.assert_array_equal(corpora.test.labels.toarray(), ROWS[1])
    assert corpora.layout.endswith("; 'labels' are noughts and ones, for 4 labels")


def test_documents_without_labels_leave_noughts_and_ones_what_they_are(tmp_path):
    empty = document("b")
    for test in ([empty], [empty, document("c", *ROWS[1][0])]):
        corpora = read_corpora(write(tmp_path, [*(document("a", *row) for row in ROWS[0]), empty], test))
        assert corpora.label_names == ("0", "1", "2", "3")
        np.testing.assert_array_equal(corpora.train.labels.toarray(), [*ROWS[0], [0] * 4])
        np.testing.assert_array_equal(corpora.test.labels.toarray(), [[0] * 4, ROWS[1][0]][: len(test)])


@pytest.mark.parametrize("row", [(0, 1, 0), (0, 0, 2, 0), (3,)])
def test_another_row_beside_noughts_and_ones_is_named(tmp_path, row):
    write(tmp_path, [document("a", *row) for row in ROWS[0]], [document("b"), document("c", *row)])
    with pytest.raises(DataError, match=r"test\.jsonl: document 2 is no row of 4 noughts and ones, as"):
        read_corpora(tmp_path)


def test_lists_of_the_labels_0_and_1_stay_lists(tmp_path):
    for rows in ([[0], [1], [1]], [[0, 1], [1, 0], [1, 0]], [[0, 1], [1], [0]]):
        corpora = read_corpora(write(tmp_path, [document("a", *row) for row in rows], []))
        expected = [[int(label in row) for label in (0, 1)] for row in rows]
        np.testing.assert_array_equal(corpora.train.labels.toarray(), expected)


def test_noughts_and_ones_of_different_length(tmp_path):
    write(tmp_path, [document("a", 0, 0, 0, 1), document("a", 0, 0, 0, 0, 1)], [document("b", 0, 0)])
    with pytest.warns(UserWarning, match="train.jsonl: 5 of 9 labels are listed again in their document; are they"):
        read_corpora(tmp_path)


@pytest.mark.parametrize("label", [1.0, True, 0.5, None, {}])
def test_labels_of_another_kind(tmp_path, label):
    write(tmp_path, [document("a", label)], [document("b", label)])
    with pytest.raises(DataError, match=rf"^{tmp_path}/train.jsonl(:1| and .*): 'labels' (holds|are)"):
        read_corpora(tmp_path)


def test_one_label_needs_no_list(tmp_path):
    write(tmp_path, [document("a", "x"), {"text": "b", "labels": "y"}], [{"text": "c", "labels": "x"}])
    corpora = read_corpora(tmp_path)
    assert corpora.label_names == ("x", "y")
    assert corpora.train.labels.toarray().tolist() == [[1, 0], [0, 1]]
