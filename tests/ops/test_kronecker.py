"""Kronecker sums against the materialised tensor of all codes, with and without padding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mhe_jax.labels import LabelSpace
from mhe_jax.ops import kronecker

SPACES = [
    LabelSpace(13, (13,)),
    LabelSpace(11, (13,)),
    LabelSpace(40, (8, 5)),
    LabelSpace(37, (8, 5)),
    LabelSpace(31, (2, 31)),
    LabelSpace(53, (5, 4, 3)),
    LabelSpace(60, (5, 4, 3)),
    LabelSpace(5, (7, 2, 3)),
    LabelSpace(101, (3, 4, 3, 3)),
]


def random_logits(space, *lead, seed=0):
    keys = jax.random.split(jax.random.key(seed), space.num_heads)
    return tuple(jax.random.normal(key, (*lead, n)) * 2 for key, n in zip(keys, space.head_sizes, strict=True))


def all_scores(logits, space):
    """[..., num_classes], by forming the whole Kronecker sum."""
    total = np.zeros((*logits[0].shape[:-1], 1), np.float32)
    for logit in map(np.asarray, logits):
        total = (total[..., :, None] + logit[..., None, :]).reshape(*logit.shape[:-1], -1)
    return total[..., : space.num_classes]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_partition_mean_and_scores_equal_the_enumerated_ones(space):
    logits = random_logits(space, 3)
    dense = all_scores(logits, space)
    np.testing.assert_allclose(kronecker.log_partition(logits, space), jax.nn.logsumexp(dense, axis=-1), rtol=1e-5)
    np.testing.assert_allclose(kronecker.mean_score(logits, space), dense.mean(axis=-1), rtol=1e-5, atol=1e-5)
    ids = jnp.broadcast_to(jnp.arange(space.num_classes)[None, :], dense.shape)
    np.testing.assert_allclose(kronecker.code_scores(logits, space.encode(ids)), dense, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_gradient_of_the_partition_is_the_marginal_of_each_digit(space):
    logits = random_logits(space, 2)
    ours = jax.jit(jax.grad(lambda x: kronecker.log_partition(x, space).sum()))(logits)
    probabilities = jax.nn.softmax(all_scores(logits, space), axis=-1)
    digits = space.encode(np.arange(space.num_classes))
    for h, gradient in enumerate(ours):
        marginal = probabilities @ jax.nn.one_hot(digits[:, h], space.head_sizes[h])
        np.testing.assert_allclose(gradient, marginal, atol=1e-5)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_top_codes_equal_sorting_for_every_k(space):
    logits = random_logits(space, 4)
    dense = np.asarray(all_scores(logits, space))
    order = np.argsort(-dense, axis=-1, kind="stable")
    for k in {1, 2, 5, space.num_classes // 2, space.num_classes}:
        scores, ids = jax.jit(lambda x, k=k: kronecker.top_codes(x, space, k))(logits)
        np.testing.assert_array_equal(ids, order[:, :k])
        np.testing.assert_allclose(scores, np.take_along_axis(dense, order[:, :k], axis=-1), rtol=1e-5, atol=1e-5)


def test_padding_never_wins_however_large_its_digits():
    space = LabelSpace(37, (8, 5))
    logits = (jnp.zeros((1, 8)).at[0, 7].set(50.0), jnp.zeros((1, 5)).at[0, 4].set(50.0))  # code 39 is no class
    _, ids = kronecker.top_codes(logits, space, 37)
    assert sorted(np.asarray(ids)[0].tolist()) == list(range(37))
    log_z = kronecker.log_partition(logits, space)
    np.testing.assert_allclose(log_z, jax.nn.logsumexp(all_scores(logits, space), axis=-1), rtol=1e-6)


@pytest.mark.parametrize("sizes", [(4, 5), (3, 4, 5), (7,)])
def test_without_padding_the_loss_is_the_sum_of_one_cross_entropy_per_head(sizes):
    space = LabelSpace(int(np.prod(sizes)), sizes)
    logits, labels = random_logits(space, 6), jnp.arange(6)
    digits = space.encode(labels)
    joint = kronecker.log_partition(logits, space) - kronecker.code_scores(logits, digits[:, None])[:, 0]
    heads = [optax.softmax_cross_entropy_with_integer_labels(x, digits[:, h]) for h, x in enumerate(logits)]
    np.testing.assert_allclose(joint, sum(heads), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("space", [LabelSpace(37, (8, 5)), LabelSpace(53, (5, 4, 3))], ids=str)
def test_mixture_adds_probabilities_and_ranks_them(space):
    logits = random_logits(space, 5, 3)
    dense = np.asarray(jax.nn.logsumexp(all_scores(logits, space), axis=1))
    ids = jnp.broadcast_to(jnp.arange(space.num_classes)[None, :], dense.shape)
    scores = kronecker.mixture_code_scores(logits, space.encode(ids))
    np.testing.assert_allclose(scores, dense, rtol=1e-5, atol=1e-5)
    # With all codes as candidates the ranking is exact.
    best, ids = jax.jit(lambda x: kronecker.mixture_top_codes(x, space, 9, space.num_classes))(logits)
    order = np.argsort(-dense, axis=1, kind="stable")[:, :9]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_allclose(best, np.take_along_axis(dense, order, axis=1), rtol=1e-5, atol=1e-5)


def test_mixture_with_few_candidates_is_right_above_its_certificate():
    space, k = LabelSpace(211, (15, 15)), 5
    logits = random_logits(space, 16, 2)
    dense = np.asarray(jax.nn.logsumexp(all_scores(logits, space), axis=1))
    best, ids = map(np.asarray, jax.jit(lambda x: kronecker.mixture_top_codes(x, space, k, 12))(logits))
    assert all(len(set(row)) == k for row in ids.tolist())
    np.testing.assert_allclose(best, np.take_along_axis(dense, ids, axis=1), rtol=1e-5)
    last = jax.jit(lambda x: kronecker.top_codes(x, space, 12))(logits)[0][..., -1]
    bound = np.asarray(jax.nn.logsumexp(last, axis=1))
    exact = np.argsort(-dense, axis=1)[:, :k]
    certain = best > bound[:, None]
    assert certain.any()
    np.testing.assert_array_equal(ids[certain], exact[certain])


def test_slots_and_split_agree():
    sizes, digits = (5, 4, 3), jnp.array([[4, 0, 2], [0, 3, 1]])
    flat = jax.random.normal(jax.random.key(0), (2, 12))
    parts = kronecker.split_heads(flat, sizes)
    assert [part.shape for part in parts] == [(2, 5), (2, 4), (2, 3)]
    picked = jnp.stack([jnp.take_along_axis(part, digits[:, h, None], 1)[:, 0] for h, part in enumerate(parts)], axis=1)
    np.testing.assert_array_equal(jnp.take_along_axis(flat, kronecker.slots(digits, sizes), axis=1), picked)
