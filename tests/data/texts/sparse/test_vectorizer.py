"""TF-IDF by hand, and which words are features."""

import numpy as np
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts.sparse.vectorizer import Vectorizer, Words

TEXTS = ["red red fox", "red frog"]


def test_a_row_by_hand():
    """fox: ln(3 / 2) + 1, red: ln(3 / 3) + 1 = 1, of which there are two: 1 + ln 2."""
    rows = Vectorizer(Words()).fit(iter(TEXTS)).toarray()
    by_hand = np.array([np.log(1.5) + 1, 0, 1 + np.log(2)])
    np.testing.assert_allclose(rows[0], by_hand / np.linalg.norm(by_hand), rtol=1e-6)
    assert rows.dtype == np.float32
    by_hand[2] = 2
    plain = Vectorizer(Words(sublinear=False)).fit(TEXTS).toarray()
    np.testing.assert_allclose(plain[0], by_hand / np.linalg.norm(by_hand), rtol=1e-6)


def test_which_words_are_columns():
    assert Vectorizer(Words(min_documents=2)).fit(TEXTS).shape == (2, 1)
    assert Vectorizer(Words(max_vocabulary=2)).fit(TEXTS).shape == (2, 2)


@pytest.mark.parametrize("hashed", [0, 64])
def test_half_a_surrogate_pair_is_a_replacement_character(hashed, tmp_path):
    pieces = Vectorizer(Words(analyzer="char_wb", hashed=hashed))
    broken, whole = ["fox \ud83d", "fro\ude00"], ["fox \ufffd", "fro\ufffd"]
    rows = pieces.fit(broken).toarray()
    np.testing.assert_array_equal(rows, pieces.transform(whole).toarray())
    np.testing.assert_array_equal(rows, pieces.transform(broken).toarray())
    pieces.save(tmp_path)


def test_other_texts_have_the_same_columns():
    words = Vectorizer(Words())
    words.fit(TEXTS)
    rows = words.transform(iter(["toad", "", "Fox!"])).toarray()
    np.testing.assert_allclose(rows, [[0, 0, 0], [0, 0, 0], [1, 0, 0]])


def test_texts_without_words():
    with pytest.raises(DataError, match="no words to tell them apart: empty vocabulary"):
        Vectorizer(Words()).fit(["", "a b"])
    with pytest.raises(DataError, match="no words to tell them apart: "):
        Vectorizer(Words(min_documents=3)).fit(TEXTS)


# Letters of several scripts, digits, signs, spaces of several kinds, and lower cases that are longer than their upper.
_ALPHABET = "abcdeé ßİΣσ  \t\n\u3000\xa0_-'.,9٣中文कि😀"


@pytest.mark.parametrize("sublinear", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ngrams": (1, 3)},
        {"ngrams": (2, 3)},
        {"min_documents": 3, "max_vocabulary": 40},
        {"hashed": 64},
        {"analyzer": "char_wb"},
        {"analyzer": "char_wb", "ngrams": (2, 5)},
        {"analyzer": "char_wb", "ngrams": (4, 6)},
    ],
    ids=str,
)
def test_texts_are_read_as_scikit_learn_reads_them(settings, sublinear, tmp_path):
    """To the bit: `fit` returns what scikit-learn makes of the same texts."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list(_ALPHABET), rng.integers(0, 120))) for _ in range(80)]
    words = Vectorizer(Words(**settings, sublinear=sublinear))
    fitted = words.fit(texts)
    words.save(tmp_path)
    for found in (words.transform(iter(texts)), Vectorizer.load(tmp_path).transform(texts)):
        assert (found.shape, found.dtype) == (fitted.shape, np.float32)
        fitted.sort_indices()
        np.testing.assert_array_equal(found.indptr, fitted.indptr)
        np.testing.assert_array_equal(found.indices, fitted.indices)
        np.testing.assert_array_equal(found.data, fitted.data)
    assert fitted.nnz > 100
