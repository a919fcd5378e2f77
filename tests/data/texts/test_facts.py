import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data.texts import facts
from mhe_jax.data.texts.facts import popularity, split_facts
from mhe_jax.data.texts.tokens import Tokens


def random_labels(documents, labels, share, seed):
    dense = np.random.default_rng(seed).random((documents, labels)) < share
    return scipy.sparse.csr_matrix(dense.astype(np.float32))


def brute_force(train, labels, filtered):
    counts = (train.toarray() > 0).sum(0)
    ranking = sorted(range(len(counts)), key=lambda label: (-counts[label], label))
    found = {}
    for k in (1, 3, 5):
        hits = 0
        for row, left_out in zip(labels.toarray(), filtered.toarray(), strict=True):
            best = [label for label in ranking if not left_out[label]][:k]
            hits += sum(row[label] > 0 for label in best)
        found[f"P@{k}"] = hits / (int((labels.toarray() > 0).any(1).sum()) * k)
    return found


@pytest.mark.parametrize("labels", [2, 5, 37])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_popularity_is_that_of_a_loop(monkeypatch, labels, share):
    monkeypatch.setattr(facts, "_BLOCK", 10)
    train, true = random_labels(53, labels, 0.2, 0), random_labels(31, labels, 0.3, 1)
    filtered = random_labels(31, labels, share, 2).astype(bool)
    found = popularity(train, true, filtered)
    assert found == pytest.approx(brute_force(train, true, filtered), abs=1e-5)


def test_relevance_is_no_count():
    train = scipy.sparse.csr_matrix(np.array([[5, 0], [0, 1], [0, 1]], np.float32))
    assert popularity(train, train[1:], scipy.sparse.csr_matrix((2, 2), dtype=bool))["P@1"] == 1


def test_facts_of_a_split():
    labels = scipy.sparse.csr_matrix(np.array([[1, 0, 1], [0, 0, 0], [1, 0, 0], [1, 0, 1]], np.float32))
    tokens = Tokens(np.zeros(10, np.int32), np.array([0, 2, 4, 6, 10]), 1)
    assert split_facts(labels, tokens) == {
        "documents": 4,
        "labels_per_document": {"mean": 1.25, "max": 2},
        "documents_without_labels": 1,
        "labels_seen": 2,
        "tokens_per_document": 2.5,
        "truncated_documents": 0.25,
    }
