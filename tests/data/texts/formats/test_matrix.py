import contextlib
import gzip

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts.formats.layouts import read_corpora
from mhe_jax.data.texts.formats.sparse import read_label_matrix

TRAIN = np.array([[0, 1, 0, 0.5, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 2]], np.float32)
TEST = np.array([[0, 0, 1, 0, 0]], np.float32)
TEXTS = {"trn": "red fox\n\ngreen frog\n", "tst": "toad\n"}
NAMES = "nought\none\ntwo\nthree\nfour\n"


def sparse_text(matrix):
    rows = (" ".join(f"{i}:{row[i]:g}" for i in np.flatnonzero(row)) for row in matrix)
    return f"{matrix.shape[0]} {matrix.shape[1]}\n" + "".join(row + "\n" for row in rows)


def write_repository(folder, texts_in="."):
    texts = folder / texts_in
    texts.mkdir(exist_ok=True)
    for short, matrix in (("trn", TRAIN), ("tst", TEST)):
        (folder / f"{short}_X_Y.txt").write_text(sparse_text(matrix))
        (texts / f"{short}_X.txt").write_text(TEXTS[short])
    (texts / "Y.txt").write_text(NAMES)
    return folder


def write_pecos(folder, names="output-items.txt"):
    for short, matrix in (("trn", TRAIN), ("tst", TEST)):
        scipy.sparse.save_npz(folder / f"Y.{short}.npz", scipy.sparse.csr_matrix(matrix))
        (folder / f"X.{short}.txt").write_text(TEXTS[short])
    (folder / names).write_text(NAMES)
    return folder


def write_dexml(folder):
    (folder / "raw").mkdir()
    write_pecos(folder, "raw/Y.txt")
    for short in ("trn", "tst"):
        (folder / f"X.{short}.txt").rename(folder / "raw" / f"{short}_X.txt")
    return folder


LAYOUTS = {
    "XC repository, sparse": write_repository,
    "XC repository, sparse, texts in raw/": lambda folder: write_repository(folder, "raw"),
    "PECOS / X-Transformer": write_pecos,
    "DEXML": write_dexml,
}


@pytest.mark.parametrize("title", LAYOUTS)
@pytest.mark.parametrize("filtered", [False, True])
def test_texts_beside_a_label_matrix(tmp_path, title, filtered):
    folder = LAYOUTS[title](tmp_path)
    if filtered:
        (folder / "filter_labels_test.txt").write_text("0 3\n")
    corpora = read_corpora(folder)
    np.testing.assert_array_equal(corpora.train.labels.toarray(), TRAIN)
    np.testing.assert_array_equal(corpora.test.labels.toarray(), TEST)
    assert corpora.train.labels.dtype == np.float32
    assert corpora.label_names == ("nought", "one", "two", "three", "four")
    assert list(corpora.train.texts()) == ["red fox", "", "green frog"]
    assert list(corpora.test.texts()) == ["toad"]
    assert corpora.train.filtered.nnz == 0
    np.testing.assert_array_equal(corpora.test.filtered.toarray(), [[0, 0, 0, filtered, 0]])
    assert corpora.layout.startswith(f"{title} (")
    assert "training: 3 documents, 1 empty texts, 1 documents without labels;" in corpora.layout


def test_labels_without_names_are_numbers(tmp_path):
    write_pecos(tmp_path)
    (tmp_path / "output-items.txt").unlink()
    assert read_corpora(tmp_path).label_names == ("0", "1", "2", "3", "4")


def test_counts_that_contradict_each_other(tmp_path):
    write_pecos(tmp_path)
    (tmp_path / "X.tst.txt").write_text("toad\nnewt\n")
    with pytest.raises(DataError, match=r"Y.tst.npz: it has labels for 1 documents, but there are 2 texts$"):
        read_corpora(tmp_path)
    (tmp_path / "X.tst.txt").write_text("toad\n")
    (tmp_path / "output-items.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"output-items.txt names 2 labels but .*/Y.trn.npz has 5$"):
        read_corpora(tmp_path)
    scipy.sparse.save_npz(tmp_path / "Y.tst.npz", scipy.sparse.csr_matrix(TEST[:, :4]))
    with pytest.raises(DataError, match=r"Y.trn.npz has 5 labels but .*/Y.tst.npz has 4$"):
        read_corpora(tmp_path)


def test_other_formats_of_scipy(tmp_path):
    path = tmp_path / "Y.npz"
    scipy.sparse.save_npz(path, scipy.sparse.coo_array(TRAIN.astype(np.int64)))
    np.testing.assert_array_equal(read_label_matrix(path).toarray(), TRAIN.astype(np.int64))


def test_a_matrix_that_is_none(tmp_path):
    path = tmp_path / "Y.npz"
    with pytest.raises(DataError, match=rf"^{path} does not exist"):
        read_label_matrix(path)
    path.write_text("3 4\n")
    with pytest.raises(DataError, match=rf"^{path} is not a matrix of scipy.sparse.save_npz"):
        read_label_matrix(path)
    np.savez(path, data=TRAIN)
    with pytest.raises(DataError, match=rf"^{path} is not a matrix of scipy.sparse.save_npz"):
        read_label_matrix(path)


def test_a_matrix_with_impossible_contents(tmp_path):
    write_pecos(tmp_path)
    good = scipy.sparse.csr_matrix(TRAIN)
    parts = {"format": b"csr", "shape": good.shape, "data": good.data, "indptr": good.indptr}
    np.savez(tmp_path / "Y.trn.npz", indices=np.array([1, 3, 0, 5], np.int32), **parts)
    with pytest.raises(DataError, match=r"Y.trn.npz: .*5"):
        read_corpora(tmp_path)
    scipy.sparse.save_npz(tmp_path / "Y.trn.npz", scipy.sparse.csr_matrix(-TRAIN))
    with pytest.raises(DataError, match=r"Y.trn.npz: a relevance is negative"):
        read_corpora(tmp_path)


@pytest.mark.parametrize("kind", ["csc", "csr"])
@pytest.mark.parametrize("index", [-1, 5, 2**30])
def test_an_index_out_of_range_is_found_before_the_matrix_is_converted(tmp_path, kind, index):
    good = scipy.sparse.csr_matrix(np.eye(5, dtype=np.float32)).asformat(kind)
    parts = {"format": kind.encode(), "shape": good.shape, "data": good.data, "indptr": good.indptr}
    np.savez(tmp_path / "Y.npz", indices=np.array([0, 1, 2, 3, index], np.int32), **parts)
    with pytest.raises(DataError, match=r"Y.npz: "):
        read_label_matrix(tmp_path / "Y.npz")


def test_a_coordinate_out_of_range(tmp_path):
    parts = {"format": b"coo", "shape": (2, 3), "data": np.ones(1), "row": np.array([0]), "col": np.array([3])}
    np.savez(tmp_path / "Y.npz", **parts)
    with pytest.raises(DataError, match=r"Y.npz is not a matrix of scipy.sparse.save_npz: .*3"):
        read_label_matrix(tmp_path / "Y.npz")


def test_relevances_are_real_and_the_shape_is_possible(tmp_path):
    scipy.sparse.save_npz(tmp_path / "Y.npz", scipy.sparse.csr_matrix(TRAIN * 1j))
    with pytest.raises(DataError, match=r"Y.npz: relevances must be real numbers but are complex64"):
        read_label_matrix(tmp_path / "Y.npz")
    scipy.sparse.save_npz(tmp_path / "Y.npz", scipy.sparse.csr_matrix((2, 99999999999), dtype=np.float32))
    with pytest.raises(DataError, match=r"Y.npz: the shape is \(2, 99999999999\); it must be .* at most 2147483647"):
        read_label_matrix(tmp_path / "Y.npz")


def test_a_damaged_archive(tmp_path):
    path = tmp_path / "Y.npz"
    scipy.sparse.save_npz(path, scipy.sparse.csr_matrix(np.arange(4000.0).reshape(40, 100)))
    whole = path.read_bytes()
    for at in range(40, len(whole), len(whole) // 40):
        path.write_bytes(whole[:at] + bytes(byte ^ 255 for byte in whole[at : at + 20]) + whole[at + 20 :])
        with contextlib.suppress(DataError):  # a few bytes do not matter
            read_label_matrix(path)


def test_a_packed_npz_is_not_looked_for(tmp_path):
    write_pecos(tmp_path)
    path = tmp_path / "Y.tst.npz"
    (tmp_path / "Y.tst.npz.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    with pytest.raises(DataError, match=r"for 'PECOS / X-Transformer', Y.tst.npz is missing"):
        read_corpora(tmp_path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("body", "entries"),
    [
        ("1:1 0:0.5\n\n2:1e-1\n", [(0, 1, 1), (0, 0, 0.5), (2, 2, 0.1)]),
        ("3:1.0 1:1.0\n2:1.0\n\n", [(0, 3, 1), (0, 1, 1), (1, 2, 1)]),
        # Rows at the end that are left out, blanks around, a label twice, the last line without its end.
        ("  2:1 \t 2:1 \n 0:1", [(0, 2, 2), (1, 0, 1)]),
        ("3:0.50 3:0.5\n", [(0, 3, 1)]),
        ("\n\n\n", []),
        ("", []),
        # No relevance is taken for the beginning or the end of another.
        ("0:1 1:11 2:1\n3:1.5 2:.5\n1:1", [(0, 0, 1), (0, 1, 11), (0, 2, 1), (1, 3, 1.5), (1, 2, 0.5), (2, 1, 1)]),
        ("1:11 0:1\n", [(0, 1, 11), (0, 0, 1)]),
    ],
)
def test_sparse_text(tmp_path, body, entries, packed):
    path = tmp_path / ("trn_X_Y.txt.gz" if packed else "trn_X_Y.txt")
    data = f"3 4\n{body}".encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    expected = np.zeros((3, 4), np.float32)
    for row, column, value in entries:
        expected[row, column] += value
    np.testing.assert_array_equal(read_label_matrix(path).toarray(), expected)


@pytest.mark.parametrize("values", [("1.0",), ("1", "0.25", "3e2")])
def test_many_lines_against_python(tmp_path, values):
    rng = np.random.default_rng(0)
    rows = [[f"{i}:{rng.choice(values)}" for i in rng.integers(0, 97, rng.integers(0, 6))] for _ in range(17_001)]
    path = tmp_path / "trn_X_Y.txt"
    path.write_text("17001 97\n" + "".join(" ".join(row) + "\n" for row in rows))
    matrix = read_label_matrix(path)
    np.testing.assert_array_equal(np.diff(matrix.indptr), [len(row) for row in rows])
    pairs = [pair.split(":") for row in rows for pair in row]
    np.testing.assert_array_equal(matrix.indices, [int(label) for label, _ in pairs])
    np.testing.assert_array_equal(matrix.data, [float(value) for _, value in pairs])


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "the header must be 'documents labels', two numbers, but is ''"),
        ("3\n", 1, "the header must be"),
        ("3 4 5\n", 1, "the header must be .* but is '3 4 5'"),
        ("0:1 1:1\n", 1, "the header must be"),
        ("-3 4\n", 1, "the header must be"),
        ("999999999999999 3\n0:1\n", 1, "the header says 999999999999999, which is more than 2147483647"),
        ("2 99999999999\n0:1\n", 1, "the header says 99999999999, which is more than"),
        (f"2 {'9' * 5000}\n0:1\n", 1, "the header says 9{80}, which"),
        ("2 4\n0:1\n\n2:1\n", 4, "the header says 2 documents, but here is one more line"),
        ("2 4\n0:1\n3:1 4:1\n", 3, "label 4, but the header says 4 labels, counted from 0"),
        ("2 4\n0:1 99999999999999999999:1\n", 2, "label 99999999999999999999, but the header says 4"),
        ("2 4\n0:1 4:0.5\n", 2, "label 4, but the header"),
        ("2 4\n0:1\n-1:1\n", 3, "'-1:1' must be 'label:relevance'"),
        ("2 4\n0:1 1:-1\n", 2, "'1:-1' must be"),
        ("2 4\n0:1 1:1-2\n", 2, "'1:1-2' must be"),
        ("2 4\n0:1 1:nan\n", 2, "'1:nan' must be"),
        ("2 4\n0:1 1:1e999\n", 2, "'1:1e999' must be"),
        ("2 4\n0:1e999\n", 2, "'0:1e999' must be"),
        ("2 4\n0:1\n1.5:1\n", 3, "'1.5:1' must be"),
        ("2 4\n0:1\n1,2\n", 3, "'1,2' must be"),
        ("2 4\n0:1\n0:1:1\n", 3, "'0:1:1' must be"),
        ("2 4\n0:1 1 2\n", 2, "'1' must be"),
        ("2 4\n0:1 x:1\n", 2, "'x:1' must be"),
        # Faults that make up for each other.
        ("2 4\n0:1 1 :1\n", 2, "'1' must be"),
        ("2 4\n:1 1\n", 2, "':1' must be"),
        ("2 4\n0:1\n:1 1 2:1\n", 3, "':1' must be"),
        ("2 4\n1 2:\n", 2, "'1' must be"),
        ("2 4\n0:1 1 2:1:1\n", 2, "'1' must be"),
        ("2 4\n0:\n", 2, "'0:' must be"),
        ("2 4\n0:1\u00a01:1\n", 2, "must be 'label:relevance'"),
    ],
)
def test_a_bad_sparse_text_is_told_with_its_line(tmp_path, text, line, message):
    path = tmp_path / "trn_X_Y.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"^{path}:{line}: .*{message}"):
        read_label_matrix(path)


def test_a_header_is_compared_with_the_texts_before_it_is_believed(tmp_path):
    write_repository(tmp_path)
    (tmp_path / "trn_X_Y.txt").write_text("2000000000 5\n0:1\n")
    with pytest.raises(DataError, match=r"trn_X_Y.txt:1: the header says 2000000000 documents, but there are 3 texts"):
        read_corpora(tmp_path)


@pytest.mark.parametrize(
    ("header", "what"), [("2 2147483647", "2147483647 labels"), ("2147483647 5", "2147483647 documents")]
)
def test_a_header_is_not_believed_beyond_reason(tmp_path, header, what):
    path = tmp_path / "Y.txt"
    path.write_text(f"{header}\n1:1 3:1\n0:1\n")
    with pytest.raises(DataError, match=rf"^{path} announces {what}, but lists [23] entries: is its header damaged\?$"):
        read_label_matrix(path)
    path.write_text("2 2812281\n1:1 3:1\n0:1\n")  # a few documents of a large data set
    assert read_label_matrix(path).shape == (2, 2812281)


@pytest.mark.parametrize(("shape", "what"), [((2, 2**31 - 1), "labels"), ((2**31 - 1, 2), "documents")])
def test_a_shape_is_not_believed_beyond_reason(tmp_path, shape, what):
    path = tmp_path / "Y.npz"
    scipy.sparse.save_npz(path, scipy.sparse.coo_array(([1.0, 1.0], ([0, 1], [1, 0])), shape))
    with pytest.raises(DataError, match=rf"^{path} announces {2**31 - 1} {what}, but lists 2 entries"):
        read_label_matrix(path)
    with pytest.raises(DataError, match=rf"^{path}: it has labels for {shape[0]} documents, but there are 3 texts$"):
        read_label_matrix(path, 3)
