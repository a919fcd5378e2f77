import collections
import math
import re

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.data.propensity import inverse_propensity
from mhe_jax.evaluation.baselines.tfidf import NearestDocuments, measure

WORDS = ["red", "green", "blue", "fox", "frog", "toad", "runs", "leaps", "Sleeps", "x"]


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
@pytest.mark.parametrize("with_filter", [False, True])
def test_rankings_against_brute_force(documents, queries, neighbors, block, with_filter):
    rng = np.random.default_rng(documents)
    train, test, labels = texts_of(rng, documents), texts_of(rng, queries), labels_of(rng, documents, 7)
    scores = label_scores(train, labels, test, neighbors)
    filtered = None
    if with_filter:
        dropped = rng.random(scores.shape) < 0.3
        filtered = scipy.sparse.csr_matrix(dropped)
        scores[dropped] = 0
    ids = NearestDocuments(iter(train), labels, neighbors=neighbors, block=block).rank(iter(test), 5, filtered)
    assert (ids.shape, ids.dtype) == ((queries, 5), np.int32)
    for row, score in zip(ids, scores, strict=True):
        best = np.sort(score)[::-1][:5]
        kept = row[row >= 0]
        assert len(set(kept.tolist())) == len(kept) == (best > 0).sum()
        assert (row[len(kept) :] == -1).all()
        np.testing.assert_allclose(score[kept], best[: len(kept)], rtol=1e-4)


def test_the_first_of_equally_near_documents_and_labels_win():
    labels = scipy.sparse.csr_matrix(np.eye(5, dtype=np.float32)[[4, 2, 3, 1]])
    nearest = NearestDocuments(["red fox"] * 4, labels, neighbors=2)
    assert nearest.rank(["red fox"], 4).tolist() == [[2, 4, -1, -1]]


def test_rare_words_can_be_left_out():
    train = ["fox red", "fox red", "frog red"]
    labels = scipy.sparse.csr_matrix(np.eye(3, dtype=np.float32))
    assert NearestDocuments(train, labels, neighbors=1).rank(["red frog"], 1).tolist() == [[2]]
    assert NearestDocuments(train, labels, neighbors=1, max_features=1).rank(["red frog"], 1).tolist() == [[0]]


def test_texts_without_words():
    labels = scipy.sparse.csr_matrix(np.eye(2, dtype=np.float32))
    with pytest.raises(DataError, match="the training texts cannot be compared: empty vocabulary"):
        NearestDocuments(["", "a b"], labels)


@pytest.mark.parametrize("with_filter", [False, True])
def test_metrics_against_brute_force(with_filter):
    rng = np.random.default_rng(5)
    train, test, labels, true = texts_of(rng, 43), texts_of(rng, 11), labels_of(rng, 43, 7), labels_of(rng, 11, 7)
    dropped = (rng.random(true.shape) < 0.3) & with_filter
    filtered = scipy.sparse.csr_matrix(dropped) if with_filter else None
    ids = NearestDocuments(train, labels, neighbors=4).rank(test, 5, filtered)
    inverse = inverse_propensity(labels, 0.5, 0.4)
    found = measure(ids, true, filtered, inverse)
    hit, counted = (true.toarray() > 0) & ~dropped, (true.toarray() > 0).any(axis=1)
    assert not counted.all()
    for k in (1, 3, 5):
        hits = [[hit[i, label] and label >= 0 for label in row[:k]] for i, row in enumerate(ids)]
        assert found[f"P@{k}"] == pytest.approx(np.sum(hits) / (counted.sum() * k))
        gained = sum(inverse[label] for i, row in enumerate(ids) for label in row[:k] if label >= 0 and hit[i, label])
        possible = sum(np.sort(inverse[hit[i]])[::-1][:k].sum() for i in range(11))
        assert found[f"PSP@{k}"] == pytest.approx(gained / possible, rel=1e-5)
    discount = 1 / np.log2(np.arange(5) + 2)
    # A document without labels is not counted, and one whose labels are all left out counts as 0.
    ndcg = [
        np.sum(discount * [label >= 0 and hit[i, label] for label in row]) / discount[: max(hit[i].sum(), 1)].sum()
        for i, row in enumerate(ids)
    ]
    assert found["nDCG@5"] == pytest.approx(np.mean(np.array(ndcg)[counted]), rel=1e-5)
    assert 0 < found["P@1"] < 1


def test_what_was_not_counted_is_nan():
    found = measure(np.zeros((2, 5), np.int32), scipy.sparse.csr_matrix((2, 7)), None, np.ones(7, np.float32))
    assert math.isnan(found["PSP@1"])
    assert math.isnan(found["P@1"])
