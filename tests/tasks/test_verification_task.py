"""Which evaluation of a run on faces is the best."""

from mhe_jax.tasks.verification import Verification


def test_accuracy_decides_and_auc_where_it_ties():
    better = Verification.is_better
    assert better({"accuracy": 0.5, "auc": 0.1}, None)
    assert better({"accuracy": 0.6, "auc": 0.1}, {"accuracy": 0.5, "auc": 0.9})
    assert not better({"accuracy": 0.4, "auc": 0.9}, {"accuracy": 0.5, "auc": 0.1})
    assert better({"accuracy": 0.5, "auc": 0.6}, {"accuracy": 0.5, "auc": 0.5})
    assert not better({"accuracy": 0.5, "auc": 0.5}, {"accuracy": 0.5, "auc": 0.5})
    # Of pairs of one kind, and of runs before this figure, there is none.
    assert not better({"accuracy": 0.5, "auc": 0.6}, {"accuracy": 0.5})
    assert not better({"accuracy": 0.5}, {"accuracy": 0.5, "auc": 0.5})
