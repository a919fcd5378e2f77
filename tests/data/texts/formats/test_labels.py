import itertools

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import TextScan
from mhe_jax.data.texts.formats.label_strings import read_label_strings
from mhe_jax.data.texts.formats.labels import LabelNumbers, LabelRows, canonical, make_corpus, read_pairs


@pytest.mark.parametrize("seed", range(5))
def test_canonical_rows_against_dictionaries(seed):
    rng = np.random.default_rng(seed)
    documents, num_labels = 23, 7
    rows, expected, in_order, repeated = LabelRows(), [], [], 0
    for i in range(documents):
        columns = rng.integers(0, num_labels, 0 if i in (0, 11, documents - 1) else rng.integers(0, 12)).tolist()
        values = rng.integers(0, 4, len(columns)).tolist()
        rows.add(columns, values)
        largest: dict[int, int] = {}
        for column, value in zip(columns, values, strict=True):
            largest[column] = max(value, largest.get(column, 0))
        expected.append({column: value for column, value in sorted(largest.items()) if value})
        in_order.append([column for column in largest if largest[column]])
        repeated += len(columns) - len(largest)
    matrix, found, listed = canonical(rows.matrix(num_labels))
    assert found == repeated > 0
    assert matrix.shape == (documents, num_labels)
    assert matrix.dtype == np.float32
    ends = matrix.indptr
    assert [list(zip(matrix.indices[a:b], matrix.data[a:b], strict=True)) for a, b in itertools.pairwise(ends)] == [
        list(row.items()) for row in expected
    ]
    assert listed is not None
    assert [listed[a:b].tolist() for a, b in itertools.pairwise(ends)] == in_order


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[2, 0, 1], [], [1, 2]], [2, 0, 1, 1, 2]),
        ([[2, 0, 2, 1, 0]], [2, 0, 1]),
        ([[0, 1, 0], [2, 2]], None),
        ([[0, 1], [0]], None),
        ([[1, 1, 2]], None),
        ([], None),
    ],
)
def test_labels_keep_the_order_of_the_line_the_first_place_counting(rows, expected):
    listed = LabelRows()
    for row in rows:
        listed.add(row)
    matrix, _, found = canonical(listed.matrix(3))
    assert (found if found is None else found.tolist()) == expected
    assert matrix.has_sorted_indices


def test_a_label_without_relevance_has_no_place():
    rows = LabelRows()
    rows.add([2, 1, 0, 1], [1.0, 0.0, 0.5, 0.0])
    matrix, _, listed = canonical(rows.matrix(3))
    assert (matrix.indices.tolist(), listed.tolist()) == ([0, 2], [2, 0])


def test_the_same_label_in_one_document_after_another_is_not_repeated():
    rows = LabelRows()
    for row in ([2], [2, 1], [], [2, 2], [2]):
        rows.add(row)
    matrix, repeated, _ = canonical(rows.matrix(3))
    np.testing.assert_array_equal(matrix.toarray(), [[0, 0, 1], [0, 1, 1], [0, 0, 0], [0, 0, 1], [0, 0, 1]])
    assert repeated == 1


def test_a_matrix_without_any_label():
    rows = LabelRows()
    for _ in range(3):
        rows.add([])
    matrix, repeated, _ = canonical(rows.matrix(5))
    assert (matrix.shape, matrix.nnz, repeated) == ((3, 5), 0, 0)
    assert canonical(LabelRows().matrix(0))[0].shape == (0, 0)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_impossible_relevances(value):
    with pytest.raises(ValueError, match="negative or not finite"):
        canonical(scipy.sparse.csr_matrix(np.array([[0.0, value]])))


def test_rows_added_singly_and_in_bulk_are_the_same():
    singly, bulk = LabelRows(), LabelRows()
    for row in ([3, 1], [], [2]):
        singly.add(row)
    bulk.add([3, 1])
    bulk.extend(np.array([0, 1]), np.array([2], np.int32))
    assert (singly.matrix(4) != bulk.matrix(4)).nnz == 0
    rank = np.array([9, 5, 0, 2])
    np.testing.assert_array_equal(bulk.matrix(10, rank).indices, [2, 5, 0])


def test_numbers_become_ranks():
    numbers = LabelNumbers()
    strings = ["2", "10", "ä", "100", "z", "Z"]
    first = [numbers[label] for label in strings]
    labels, rank = numbers.ranked()
    assert labels == sorted(strings) == ["10", "100", "2", "Z", "z", "ä"]
    assert [labels[r] for r in rank[first]] == strings


STRINGS = {
    "numbers": ["7 10  2\n\n100\t2\n10\n", "0 99999999\n7\n"],
    "no end of line": ["7 10\n3", "5"],
    "no labels": ["\n\n", ""],
    "a leading zero": ["7 10\n", "07 7\n"],
    "a long number": ["7 123456789 12345678901234567890\n", "7\n"],
    "words": ["b a\n", "7 ä a_b c-d\n\n"],
    "words late": ["1 2\n" * 9000 + "x\n", "2 1\n"],
    "other white space": ["1\u00a02\n", "3\n"],
    "signs": ["-1 +1 1_0 1.0\n", "\u0661\n"],
}


@pytest.mark.parametrize("name", STRINGS)
def test_label_strings_against_python(tmp_path, name):
    paths = []
    for i, text in enumerate(STRINGS[name]):
        paths.append(tmp_path / f"{i}.txt")
        paths[-1].write_text(text)
    labels, rank, found = read_label_strings(paths)
    documents = [[line.split() for line in text.removesuffix("\n").split("\n")] for text in STRINGS[name] if text]
    assert labels == tuple(sorted({label for rows in documents for row in rows for label in row}))
    for rows, expected in zip(found, documents, strict=False):
        matrix = rows.matrix(len(labels), rank)
        names = [[labels[i] for i in matrix.indices[a:b]] for a, b in itertools.pairwise(matrix.indptr)]
        assert names == expected


def test_many_numbers_against_python(tmp_path):
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 3000, rng.integers(0, 5)).astype(str).tolist() for _ in range(20_011)]
    path = tmp_path / "labels.txt"
    path.write_text("".join(" ".join(row) + "\n" for row in rows))
    labels, rank, (found,) = read_label_strings([path])
    assert labels == tuple(sorted({label for row in rows for label in row}))
    matrix = found.matrix(len(labels), rank)
    np.testing.assert_array_equal(np.diff(matrix.indptr), [len(row) for row in rows])
    assert [labels[i] for i in matrix.indices] == [label for row in rows for label in row]


def corpus_of(tmp_path, rows, texts=("a", "", "c"), filtered=None):
    labels = LabelRows()
    for row in rows:
        labels.add(row)
    files = tmp_path / "texts.txt", tmp_path / "labels.txt"
    return make_corpus(lambda: iter(texts), TextScan(texts), labels.matrix(4), files, filtered)


def test_what_is_unusual_is_counted_and_kept(tmp_path):
    corpus, notes = corpus_of(tmp_path, [[1, 1, 0], [], [2]])
    assert notes == "3 documents, 1 empty texts, 1 documents without labels, 1 labels listed again"
    np.testing.assert_array_equal(corpus.labels.toarray(), [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]])
    assert list(corpus.texts()) == list(corpus.texts()) == ["a", "", "c"]
    assert (corpus.filtered.shape, corpus.filtered.dtype, corpus.filtered.nnz) == ((3, 4), bool, 0)
    assert corpus_of(tmp_path, [[0], [1], [3]], texts="abc")[1] == "3 documents"


def test_more_texts_than_labels(tmp_path):
    message = rf"{tmp_path}/texts.txt has 3 texts but {tmp_path}/labels.txt has labels for 2"
    with pytest.raises(DataError, match=message):
        corpus_of(tmp_path, [[1], [2]])


def test_pairs(tmp_path):
    path = tmp_path / "filter_labels_test.txt"
    path.write_text("2 0\n0 3\n2 0\n0 1\n\n")
    corpus, _ = corpus_of(tmp_path, [[0]] * 3, filtered=path)
    assert corpus.filtered.dtype == bool
    np.testing.assert_array_equal(corpus.filtered.toarray(), [[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]])
    assert corpus.filtered.has_canonical_format
    path.write_text("")
    assert read_pairs(path, (3, 4)).nnz == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3 0", "document 3, label 0, but there are 3 documents and 4 labels, both counted from 0"),
        ("0 4", "document 0, label 4"),
        ("-1 0", "document -1, label 0"),
        ("1", "must be 'document label' but is '1'"),
        ("1 2 3", "must be 'document label'"),
        ("a 2", "must be 'document label'"),
    ],
)
def test_bad_pairs(tmp_path, line, message):
    path = tmp_path / "filter_labels_test.txt"
    path.write_text(f"0 0\n{line}\n")
    with pytest.raises(DataError, match=rf"^{path}:2: .*{message}"):
        read_pairs(path, (3, 4))
