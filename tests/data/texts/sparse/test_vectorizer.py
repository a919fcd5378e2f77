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
