import gzip

import numpy as np
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts.formats.layouts import read_corpora


def write(folder, train, test="__label__x b\n", ending="\n"):
    for name, text in (("train.txt", train), ("test.txt", test)):
        (folder / name).write_bytes(text.replace("\n", ending).encode())
    return folder


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_labels_are_the_words_that_say_so(tmp_path, ending):
    train = "__label__b __label__a:1 red fox\n__label__a:1\tblue\n\n no label \n__label__ü\u00a0x,y  two  spaces\n"
    corpora = read_corpora(write(tmp_path, train, ending=ending))
    assert corpora.label_names == ("a:1", "b", "x", "ü\u00a0x,y")
    expected = [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(corpora.train.labels.toarray(), expected)
    assert corpora.train.listed[:2].tolist() == [1, 0]
    texts = ["red fox", "blue", " no label ", " two  spaces"]
    assert list(corpora.train.texts()) == list(corpora.train.texts()) == texts
    assert corpora.layout.startswith(
        "fastText (train.txt, test.txt); training: 4 documents, 1 documents without labels"
    )


def test_labels_behind_the_text_are_labels_too(tmp_path):
    corpora = read_corpora(write(tmp_path, "a __label__x\n__label__y b __label__z c\nmy__label__w __label__x\n"))
    assert corpora.label_names == ("x", "y", "z")
    assert list(corpora.train.texts()) == ["a ", "b  c", "my__label__w "]


AWKWARD = ['say "yes"', "a\tb", "ünïcode: \u2028 and 日本語", "", "comma, semicolon; pipe |", "\ufeffmark", "'quoted'"]


@pytest.mark.parametrize("packed", [False, True])
def test_awkward_texts_come_back_as_they_are(tmp_path, packed):
    text = "".join(f"__label__a:{i} {text}\n" for i, text in enumerate(AWKWARD)).encode("utf-8-sig")
    name = "mine.train" + ".gz" * packed
    (tmp_path / name).write_bytes(gzip.compress(text) if packed else text)
    corpora = read_corpora(tmp_path)
    assert list(corpora.train.texts()) == AWKWARD
    assert corpora.label_names == tuple(f"a:{i}" for i in range(len(AWKWARD)))
    assert corpora.layout.startswith(f"fastText ({name}); ")


def test_the_file_names_of_the_tutorial(tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / f"cooking.{split}").write_text(f"__label__{split} a\n")
    corpora = read_corpora(tmp_path)
    assert corpora.label_names == ("test", "train", "valid")
    assert (corpora.valid.labels.indices, corpora.test.labels.indices) == ([2], [0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"__label__ x a\n", "test.txt:2: __label__ has no name behind it: write __label__name, without a space"),
        (b"__label__x \xff\n", "test.txt:2: byte 12 of the line is not UTF-8"),
    ],
)
def test_a_bad_line_is_told_with_its_number(tmp_path, line, message):
    write(tmp_path, "__label__x a\n")
    (tmp_path / "test.txt").write_bytes(b"__label__x b\n" + line)
    with pytest.raises(DataError, match=f"^{tmp_path}/{message}"):
        read_corpora(tmp_path)


def test_a_damaged_training_file_is_told(tmp_path):
    (tmp_path / "train.txt.gz").write_bytes(gzip.compress(b"__label__x a\n" * 99)[:-9])
    with pytest.raises(DataError, match=rf"^{tmp_path}/train.txt.gz cannot be read after line"):
        read_corpora(tmp_path)
