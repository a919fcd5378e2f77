import gzip

import numpy as np
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts.formats.layouts import read_corpora

FILES = {
    "train_raw_texts.txt": "Red  fox /SEP/ runs\n\nGreen frog\n",
    "train_labels.txt": "2 10\n\n100\n",
    "test_raw_texts.txt": "green FOX\n \n",
    "test_labels.txt": "10 3\n2 2\n",
}


def write(folder, files, packed=False):
    for name, text in files.items():
        data = text.encode()
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_labels_are_ranks_of_strings_over_both_splits(tmp_path, packed):
    corpora = read_corpora(write(tmp_path, FILES, packed))
    assert corpora.label_names == ("10", "100", "2", "3")
    np.testing.assert_array_equal(corpora.train.labels.toarray(), [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    np.testing.assert_array_equal(corpora.test.labels.toarray(), [[1, 0, 0, 1], [0, 0, 1, 0]])
    assert list(corpora.train.texts()) == ["Red  fox /SEP/ runs", "", "Green frog"]
    assert list(corpora.test.texts()) == ["green FOX", " "]
    assert corpora.train.source == str(tmp_path / ("train_raw_texts.txt" + ".gz" * packed))
    assert corpora.layout.startswith("LightXML / AttentionXML (train_raw_texts.txt")
    assert "training: 3 documents, 1 empty texts, 1 documents without labels;" in corpora.layout
    assert corpora.layout.endswith("test: 2 documents, 1 empty texts, 1 labels listed again")


def test_the_fingerprint_is_that_of_the_texts(tmp_path):
    before = read_corpora(write(tmp_path, FILES))
    assert before.train.fingerprint != before.test.fingerprint
    (tmp_path / "train_labels.txt").write_text("a\nb\nc\n")
    write(tmp_path, {"test_raw_texts.txt": FILES["test_raw_texts.txt"].replace("FOX", "fox")})
    after = read_corpora(tmp_path)
    assert after.train.fingerprint == before.train.fingerprint
    assert after.test.fingerprint != before.test.fingerprint


def test_texts_are_streamed(tmp_path):
    corpora = read_corpora(write(tmp_path, FILES))
    with (tmp_path / "train_raw_texts.txt").open("ab") as file:
        file.write(b"\xff\n")
    texts = corpora.train.texts()
    assert [next(texts) for _ in range(3)] == ["Red  fox /SEP/ runs", "", "Green frog"]
    with pytest.raises(DataError, match="train_raw_texts.txt:4: .* not UTF-8"):
        next(texts)


def test_names_of_labels(tmp_path):
    write(tmp_path, {**FILES, "label_names.tsv": "10\tfox\n2\tred, or\tscarlet\n77\tunused\n10\tfox\n"})
    assert read_corpora(tmp_path).label_names == ("fox", "100", "red, or\tscarlet", "3")
    write(tmp_path, {"label_names.tsv": "10\tfox\n2 red\n"})
    with pytest.raises(
        DataError, match=rf"{tmp_path}/label_names.tsv:2: .* a label, a tab and its name, but is '2 red'"
    ):
        read_corpora(tmp_path)
    write(tmp_path, {"label_names.tsv": "10\tfox\n10\tfrog\n"})
    with pytest.raises(DataError, match=r"label_names.tsv:2: label '10' is 'frog' here, but 'fox' above"):
        read_corpora(tmp_path)


def test_tokenised_texts(tmp_path):
    write(tmp_path, {name.replace("_raw", ""): text for name, text in FILES.items()})
    corpora = read_corpora(tmp_path)
    assert corpora.train.labels.nnz == 3
    assert corpora.train.source == str(tmp_path / "train_texts.txt")


@pytest.mark.parametrize(("split", "texts", "labels"), [("train", 3, 2), ("train", 3, 4), ("test", 2, 0)])
def test_files_of_different_length(tmp_path, split, texts, labels):
    write(tmp_path, {**FILES, f"{split}_labels.txt": "1\n" * labels})
    with pytest.raises(DataError, match=rf"{split}_raw_texts.txt has {texts} texts but .* has labels for {labels}$"):
        read_corpora(tmp_path)


def test_noughts_and_ones_are_read_as_such(tmp_path):
    write(tmp_path, {**FILES, "train_labels.txt": "0 0 1\n1 0 1\n0 0 0\n", "test_labels.txt": "0 1 0\n1 1 1\n"})
    corpora = read_corpora(tmp_path)
    assert corpora.label_names == ("0", "1", "2")
    np.testing.assert_array_equal(corpora.train.labels.toarray(), [[0, 0, 1], [1, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(corpora.test.labels.toarray(), [[0, 1, 0], [1, 1, 1]])
    assert corpora.layout.endswith("; labels are noughts and ones, for 3 labels")
    write(tmp_path, {"train_labels.txt": "0 0 1\n\n0 1 0\n", "test_labels.txt": "\n\n"})
    np.testing.assert_array_equal(read_corpora(tmp_path).train.labels.toarray(), [[0, 0, 1], [0, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize("separator", [",", ", ", ";", "|", " , "])
def test_numbers_between_commas_are_labels_too(tmp_path, separator):
    files = {**FILES, "train_labels.txt": "2 10\n\n100\n", "test_labels.txt": "10 3\n2 2\n"}
    expected = read_corpora(write(tmp_path, files))
    for name in ("train_labels.txt", "test_labels.txt"):
        (tmp_path / name).write_text(files[name].replace(" ", separator))
    found = read_corpora(tmp_path)
    assert found.label_names == expected.label_names == ("10", "100", "2", "3")
    for split in ("train", "test"):
        np.testing.assert_array_equal(getattr(found, split).labels.toarray(), getattr(expected, split).labels.toarray())


def test_words_between_commas_are_refused(tmp_path):
    write(
        tmp_path, {**FILES, "train_labels.txt": "New York, Rome\n\nRome, Paris\n", "test_labels.txt": "a,b c,d\ne,f\n"}
    )
    with pytest.raises(
        DataError, match=r"test_labels.txt: 5 of 8 labels are like 'Rome,'; labels must be separated by"
    ):
        read_corpora(tmp_path)
    write(tmp_path, {"train_labels.txt": "a,b\n\nc;d\n", "test_labels.txt": "a,b\na\n"})
    with pytest.raises(DataError, match="2 of 3 labels are like 'a,b'"):
        read_corpora(tmp_path)
    # A name may hold a comma.
    write(tmp_path, {"train_labels.txt": "Rome,_Italy cat\ndog\nred\n", "test_labels.txt": "cat\ndog\n"})
    assert read_corpora(tmp_path).label_names == ("Rome,_Italy", "cat", "dog", "red")
    write(tmp_path, {"train_labels.txt": "C04;557 C05;1\nBooks|Fiction\nred\n", "test_labels.txt": "red\nC05;1\n"})
    with pytest.warns(UserWarning, match=r"3 of 4 are like 'Books\|Fiction'"):
        assert read_corpora(tmp_path).label_names == ("Books|Fiction", "C04;557", "C05;1", "red")


def test_labels_that_are_not_utf8(tmp_path):
    write(tmp_path, FILES)
    (tmp_path / "test_labels.txt").write_bytes(b"10 3\n2 \xe9\n")
    with pytest.raises(DataError, match=rf"{tmp_path}/test_labels.txt:2: byte 3 of the line is not UTF-8"):
        read_corpora(tmp_path)


def test_no_label_at_all(tmp_path):
    write(tmp_path, {**FILES, "train_labels.txt": "\n\n\n", "test_labels.txt": "\n\n"})
    with pytest.raises(DataError, match="no document has a label"):
        read_corpora(tmp_path)
