"""Heads with more groups: what was there is the same to the bit, and back again; rows begun from means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.heads import beginning, build_head, growth
from mhe_jax.heads.beginning import Placed
from mhe_jax.labels import LabelSpace
from mhe_jax.ops.margins import ArcFace

DIM = 6
SMALL, LARGE = LabelSpace(17, (4, 5)), LabelSpace(31, (7, 5))
HEADS = {
    "ohe": {},
    "bottleneck": {"name": "ohe", "bottleneck": 4},
    "tail": {"name": "ohe", "frequent": 9, "bottleneck": 3},
    "bare": {"name": "ohe", "use_bias": False},
    "mhs": {},
    "mhp": {"rank": 3},
    "mhc": {"hidden_dim": 5, "objective": "candidates"},
    "three": {"name": "mhc", "hidden_dim": 5},
    "labels": {"name": "mhc", "hidden_dim": 5, "kind": "multilabel"},
    "angles": {"name": "ohe", "margin": ArcFace()},
    "groups": {"name": "mhs", "margin": ArcFace()},
    "digits": {"name": "mhp", "margin": ArcFace()},
    "tree": {"name": "mhc", "margin": ArcFace()},
}


def made(case):
    """The head with few groups and with more, and parameters of the first; on the host."""
    fields = {"name": case, **HEADS[case]}
    spaces = (SMALL, LARGE)
    if fields["name"] == "ohe":
        spaces = LabelSpace(17, (17,)), LabelSpace(31, (31,))
    if case == "three":
        spaces = LabelSpace(17, (4, 3, 2)), LabelSpace(31, (6, 3, 2))
    heads = [
        build_head(fields["name"], space, DIM, **{k: v for k, v in fields.items() if k != "name"}) for space in spaces
    ]
    features = jax.random.normal(jax.random.key(1), (5, DIM))
    found = [head.init(jax.random.key(0), features, 1, method="topk")["params"] for head in heads]
    params, wanted = (jax.device_get(jax.tree.map(lambda x: x, jax.tree.map(jnp.asarray, _unboxed(p)))) for p in found)
    return heads, params, wanted, features


def _unboxed(params):
    import flax.linen as nn

    return nn.unbox(params)


@pytest.mark.parametrize("case", HEADS)
def test_more_groups_and_back_are_the_same_bits(case):
    (small, large), params, wanted, _ = made(case)
    grown = growth.resized(params, small, large, wanted)
    assert jax.tree.map(np.shape, grown) == jax.tree.map(np.shape, wanted)
    back = growth.resized(grown, large, small, params)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)


@pytest.mark.parametrize("case", ["ohe", "bottleneck", "tail", "mhs", "mhp", "three"])
def test_old_classes_keep_their_logits(case):
    (small, large), params, wanted, features = made(case)
    grown = {"params": growth.resized(params, small, large, wanted)}
    ids = jnp.broadcast_to(jnp.arange(17), (len(features), 17))
    before = jax.nn.log_softmax(small.apply({"params": params}, features, ids, method="scores"), axis=1)
    after = jax.nn.log_softmax(large.apply(grown, features, ids, method="scores"), axis=1)
    if case != "three":  # whose first level is a softmax of its own
        np.testing.assert_allclose(after, before, atol=1e-5)
    assert np.isfinite(after).all()


def test_a_regression_finds_a_map_and_no_more_than_there_is():
    rng = np.random.default_rng(0)
    means, asked = rng.normal(size=(40, DIM)), rng.normal(size=(5, DIM))
    linear, level = rng.normal(size=(DIM, DIM + 1)), rng.normal(size=DIM + 1)
    found = beginning.regressed(means, means @ linear + level, asked)
    np.testing.assert_allclose(found, asked @ linear + level, atol=0.02)
    # Two classes say a multiple of the mean; one says its own row.
    np.testing.assert_allclose(beginning.regressed(means[:2], 3 * means[:2], asked), 3 * asked, atol=1e-4)
    np.testing.assert_allclose(beginning.regressed(means[:1], 3 * means[:1], asked), np.tile(3 * means[:1], (5, 1)))


@pytest.mark.parametrize("case", HEADS)
def test_new_classes_are_found_by_their_means(case):
    """Rows that are like their means make all classes with examples the best of theirs, new ones too."""
    (small, large), params, wanted, _ = made(case)
    rng = np.random.default_rng(0)
    space, size = large.label_space, large.label_space.num_classes
    means = rng.normal(size=(size, DIM)).astype(np.float32) * 4
    old, new = np.arange(17), np.arange(17, size)
    if large.label_space.num_heads > 1 and case not in ("mhs", "groups"):
        new = new[new // space.strides[0] > 16 // space.strides[0]][:: space.strides[0]]  # one in each new group
    grown = growth.resized(params, small, large, wanted)
    found = beginning.begun(grown, large, Placed(old, means[old]), Placed(new, means[new]))
    assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, wanted)
    back = growth.resized(found, large, small, params)
    if space.num_heads == 1:
        jax.tree.map(np.testing.assert_array_equal, back, params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    changed = [not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(grown), strict=True)]
    assert any(changed)


def test_trained_rows_that_are_their_means_lead_to_the_means():
    (_, head), _, wanted, _ = made("mhs")
    means = np.random.default_rng(0).normal(size=(31, DIM)).astype(np.float32)
    weight = np.zeros_like(wanted["weight"])
    weight.reshape(-1, DIM)[:17] = 2 * means[:17]
    old, new = np.arange(17), np.arange(17, 31)
    found = beginning.begun({"weight": weight}, head, Placed(old, means[old]), Placed(new, means[new]))
    np.testing.assert_allclose(found["weight"].reshape(-1, DIM)[:31], 2 * means, atol=1e-4)


@pytest.mark.parametrize("case", ["mhp", "mhc", "three", "digits", "tree"])
def test_rows_of_classes_that_are_not_looked_at_stay(case, monkeypatch):
    """One group has no examples, and of the other classes two are enough to find rows by: no group is new."""
    monkeypatch.setattr(beginning, "_MOST", 2)
    (_, head), _, params, _ = made(case)
    space, means = head.label_space, np.random.default_rng(0).normal(size=(31, DIM)).astype(np.float32)
    new = space.strides[0] * np.arange(space.head_sizes[0] - 1) + 1
    old = np.setdiff1d(np.arange(space.num_classes), new)
    seen = old[old >= space.strides[0]]
    found = beginning.begun(params, head, Placed(seen, means[seen], old), Placed(new, means[new]))
    for name, value in params.items():
        before, after = (
            np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(of)]) for of in (value, found[name])
        )
        if name.startswith("table_"):
            stride = space.strides[int(name[-1])]
            before, after = (of.reshape(-1, value.shape[-1])[np.unique(old // stride)] for of in (before, after))
        np.testing.assert_array_equal(before, after)


def test_nothing_is_begun_without_examples():
    (_, head), _, wanted, _ = made("mhs")
    none = Placed(np.zeros(0, np.int32), np.zeros((0, DIM), np.float32))
    some = Placed(np.arange(3), np.ones((3, DIM), np.float32))
    assert beginning.begun(wanted, head, none, some)["weight"] is wanted["weight"]
    assert beginning.begun(wanted, head, some, none)["weight"] is wanted["weight"]


def test_float8_tables_cannot_be_extended():
    import ml_dtypes

    from mhe_jax.ops.storage import Scaled

    (small, large), params, wanted, _ = made("bare")
    scaled = Scaled(params["kernel"].astype(ml_dtypes.float8_e4m3fn), np.ones((17, 1), np.float32))
    with pytest.raises(ValueError, match="storage = 'bfloat16' or 'float32'"):
        growth.resized({"kernel": scaled}, small, large, wanted)
