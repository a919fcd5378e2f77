import collections
import math
import re

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data.texts.sparse.vectorizer import Vectorizer, Words
from mhe_jax.evaluation.baselines.neighbours import NearestRows

WORDS = ["red", "green", "blue", "fox", "frog", "toad", "runs", "leaps", "Sleeps", "x"]


def ranked(train, labels, texts, k, max_features=0, **settings):
    """(ids, scores) of the nearest documents by TF-IDF."""
    words, nearest = Vectorizer(Words(max_vocabulary=max_features)), NearestRows(**settings)
    nearest.fit(words.fit(iter(train)), labels)
    return nearest.rank(words.transform(iter(texts)), k)


def texts_of(rng, count):
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(count)]
    if count > 5:
        texts[3], texts[5] = "", "unheard-of"
    return texts


def labels_of(rng, documents, num_labels):
    rows = [rng.permutation(num_labels)[: rng.integers(0, 5)] for _ in range(documents)]
    dense = np.zeros((documents, num_labels), np.float32)
    for i, row in enumerate(rows):
        dense[i, row] = rng.choice([0.5, 1.0], len(row))
    return scipy.sparse.csr_matrix(dense)


def vectors(train, texts):
    """TF-IDF by the book: words of two letters or more, 1 + ln tf, ln((1 + n) / (1 + df)) + 1, unit length."""
    words = lambda text: re.findall(r"\b\w\w+\b", text.lower())
    frequency = collections.Counter(word for text in train for word in set(words(text)))
    idf = {word: math.log((1 + len(train)) / (1 + count)) + 1 for word, count in frequency.items()}
    found = []
    for text in texts:
        counts = collections.Counter(word for word in words(text) if word in idf)
        vector = {word: (1 + math.log(count)) * idf[word] for word, count in sorted(counts.items())}
        norm = math.sqrt(sum(value**2 for value in vector.values())) or 1
        found.append({word: value / norm for word, value in vector.items()})
    return found


def label_scores(train, labels, texts, neighbors):
    """Summed similarities [M, L]; documents are alike to 1e-6 or different."""
    known, scores = vectors(train, train), np.zeros((len(texts), labels.shape[1]))
    for i, query in enumerate(vectors(train, texts)):
        similarity = [round(sum(query.get(word, 0) * v for word, v in vector.items()), 6) for vector in known]
        for j in sorted(range(len(known)), key=lambda j: (-similarity[j], j))[:neighbors]:
            scores[i] += similarity[j] * (labels[[j]].toarray()[0] > 0)
    return scores


@pytest.mark.parametrize(
    ("documents", "queries", "neighbors", "block"), [(43, 11, 3, 100), (43, 11, 15, 10**6), (5, 1, 15, 1), (1, 3, 1, 7)]
)
def test_rankings_against_brute_force(documents, queries, neighbors, block):
    rng = np.random.default_rng(documents)
    train, test, labels = texts_of(rng, documents), texts_of(rng, queries), labels_of(rng, documents, 7)
    expected = label_scores(train, labels, test, neighbors)
    ids, scores = ranked(train, labels, test, 5, neighbors=neighbors, block=block)
    assert (ids.shape, ids.dtype) == ((queries, 5), np.int32)
    assert (scores.shape, scores.dtype) == ((queries, 5), np.float32)
    for row, found, score in zip(ids, scores, expected, strict=True):
        best = np.sort(score)[::-1][:5]
        kept = row[row >= 0]
        assert len(set(kept.tolist())) == len(kept) == (best > 0).sum()
        assert (row[len(kept) :] == -1).all()
        np.testing.assert_allclose(score[kept], best[: len(kept)], rtol=1e-4)
        np.testing.assert_allclose(found, best / min(neighbors, documents), rtol=1e-4)


def test_the_first_of_equally_near_documents_and_labels_win():
    labels = scipy.sparse.csr_matrix(np.eye(5, dtype=np.float32)[[4, 2, 3, 1]])
    assert ranked(["red fox"] * 4, labels, ["red fox"], 4, neighbors=2)[0].tolist() == [[2, 4, -1, -1]]


def test_rare_words_can_be_left_out():
    train = ["fox red", "fox red", "frog red"]
    labels = scipy.sparse.csr_matrix(np.eye(3, dtype=np.float32))
    assert ranked(train, labels, ["red frog"], 1, neighbors=1)[0].tolist() == [[2]]
    assert ranked(train, labels, ["red frog"], 1, neighbors=1, max_features=1)[0].tolist() == [[0]]


@pytest.mark.parametrize("sparse", [True, False])
def test_features_point_anywhere(sparse):
    """Rows of any length; those that point away count for nothing, even if no others are left."""
    rows = np.array([[2, 0], [0, 0.5], [-3, 0.0]], np.float32)
    queries = np.array([[1, 1], [-7, 0], [0, 0]], np.float32)
    labels = scipy.sparse.csr_matrix(np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0]], np.float32))
    nearest, half = NearestRows(neighbors=3), np.sqrt(0.5)
    nearest.fit(*((scipy.sparse.csr_matrix(rows), labels) if sparse else (rows, labels)))
    ids, scores = nearest.rank(scipy.sparse.csr_matrix(queries) if sparse else queries, 3)
    assert ids.tolist() == [[3, 0, 1], [2, -1, -1], [-1, -1, -1]]
    np.testing.assert_allclose(scores, np.array([[2 * half, half, half], [1, 0, 0], [0, 0, 0]]) / 3, rtol=1e-6)
