"""Kronecker sums against the materialised tensor of all codes, with and without padding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

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


def mixture_scores(logits, space):
    """float64 [B, num_classes], by forming the whole Kronecker sum of each product."""
    total = np.zeros((*logits[0].shape[:-1], 1))
    for logit in logits:
        total = (total[..., :, None] + np.asarray(logit, np.float64)[..., None, :]).reshape(*logit.shape[:-1], -1)
    return np.logaddexp.reduce(total[..., : space.num_classes], axis=1)


def mixture_logits(space, rank, examples=6, scales=(0.1, 1.0, 5.0, 40.0)):
    """Flat to peaked logits, `examples` of each scale: H arrays [B, rank, n_h]."""
    spread = jnp.repeat(jnp.array(scales), examples)[:, None, None]
    return tuple(spread * logit / 2 for logit in random_logits(space, len(scales) * examples, rank))


def assert_best(found, logits, space, k):
    """Results are k different classes whose scores in float64 are the k largest, as float32 can tell."""
    (scores, ids), dense = map(np.asarray, found), mixture_scores(logits, space)
    best = -np.sort(-dense, axis=1)[:, :k]
    assert ids.shape == best.shape
    assert space.is_valid(ids).all()
    assert all(len(set(row)) == k for row in ids.tolist())
    np.testing.assert_allclose(np.take_along_axis(dense, ids, axis=1), best, rtol=1e-6, atol=2e-6)
    np.testing.assert_allclose(scores, best, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(
    ("space", "rank"),
    [
        *((space, rank) for space in (LabelSpace(997, (34, 30)), LabelSpace(53, (5, 4, 3))) for rank in (1, 2, 8, 32)),
        (LabelSpace(13, (13,)), 2),
        (LabelSpace(11, (13,)), 3),
        (LabelSpace(1009, (101, 11)), 2),
        (LabelSpace(31, (2, 31)), 3),
        (LabelSpace(5, (7, 2, 3)), 2),
        (LabelSpace(101, (3, 4, 3, 3)), 8),
    ],
    ids=str,
)
def test_top_codes_of_a_mixture_are_exact_from_flat_to_peaked(space, rank):
    logits = mixture_logits(space, rank)
    k = min(7, space.num_classes)
    found = jax.jit(lambda x: kronecker.mixture_top_codes(x, space, k, 4))(logits)  # several blocks of rows
    assert_best(found, logits, space, k)


@pytest.mark.parametrize("k", [1, 32, 33, 997])
def test_top_codes_of_a_mixture_for_every_k(k):
    space = LabelSpace(997, (34, 30))  # 33 full rows and one of 7 classes
    logits = mixture_logits(space, 3, examples=2)
    assert_best(jax.jit(lambda x: kronecker.mixture_top_codes(x, space, k))(logits), logits, space, k)


def test_the_size_of_a_searched_block_does_not_change_the_result():
    space = LabelSpace(997, (34, 30))
    logits = mixture_logits(space, 3, examples=2)
    found = [jax.jit(lambda x, n=n: kronecker.mixture_top_codes(x, space, 6, n))(logits) for n in (1, 5, 1000)]
    jax.tree.map(lambda *same: [np.testing.assert_array_equal(x, same[0]) for x in same], *found)


def test_top_codes_of_a_flat_mixture_that_is_best_in_no_product():
    """One class is third in each of three products, behind two that only that product likes: it wins the sum alone."""
    space = LabelSpace(10_007, (101, 100))
    logits = [np.zeros((1, 3, n), np.float32) for n in space.head_sizes]
    for r in range(3):
        logits[0][0, r, [10 + r, 20 + r, 50]] = 1.0, 0.99, 0.98
        logits[1][0, r, [30 + r, 40 + r, 77]] = 1.0, 0.99, 0.98
    found = jax.jit(lambda x: kronecker.mixture_top_codes(x, space, 5))(tuple(map(jnp.asarray, logits)))
    assert found[1][0, 0] == 5077
    assert_best(found, logits, space, 5)


def test_products_far_apart_do_not_underflow():
    """Row 3 is led by a product whose other columns are 300 below; its further codes come from the other product."""
    space = LabelSpace(60, (6, 10))
    rows, columns = random_logits(space, 1, 2)
    rows = rows.at[0, 0, 3].add(300.0)
    columns = columns.at[0, 0, 1:].add(-400.0)
    for k in (3, 60):
        found = jax.jit(lambda x, k=k: kronecker.mixture_top_codes(x, space, k))((rows, columns))
        assert_best(found, (rows, columns), space, k)


def test_padding_never_wins_in_a_mixture_however_large_its_digits():
    space = LabelSpace(37, (8, 5))  # the last row has two classes and three padding codes
    rows, columns = random_logits(space, 2, 3)
    logits = rows.at[:, :, 7].add(200.0), columns.at[:, :, 4].add(200.0)
    for k in (2, 37):
        assert_best(jax.jit(lambda x, k=k: kronecker.mixture_top_codes(x, space, k, 2))(logits), logits, space, k)


def test_equal_scores_of_a_mixture_come_in_the_order_of_their_ids():
    space = LabelSpace(997, (34, 30))
    logits = tuple(jnp.zeros((2, 4, n)) for n in space.head_sizes)
    for k in (20, 997):
        _, ids = jax.jit(lambda x, k=k: kronecker.mixture_top_codes(x, space, k, 3))(logits)
        np.testing.assert_array_equal(ids, np.tile(np.arange(k), (2, 1)))


def test_each_device_searches_for_its_own_examples(mesh):
    space = LabelSpace(997, (34, 30))
    logits = mixture_logits(space, 8, examples=4)
    split = jax.device_put(logits, NamedSharding(mesh, P(("data", "class"))))
    program = jax.jit(lambda x: kronecker.mixture_top_codes(x, space, 5, 4)).lower(split).compile()
    assert_best(program(split), logits, space, 5)
    collectives = ("all-gather", "all-reduce", "all-to-all", "collective-permute")
    assert not [name for name in collectives if name in program.as_text()]


def test_examples_that_do_not_divide_over_the_devices_are_searched_together():
    mesh = jax.make_mesh((4, 2), ("data", "class"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    space = LabelSpace(997, (34, 30))
    logits = mixture_logits(space, 8, examples=3)
    with jax.set_mesh(mesh):
        split = jax.device_put(logits, NamedSharding(mesh, P("data")))
        assert_best(jax.jit(lambda x: kronecker.mixture_top_codes(x, space, 5, 4))(split), logits, space, 5)


def test_a_mixture_refuses_to_search_nothing_at_a_time():
    with pytest.raises(ValueError, match="num_candidates is 0; it must be at least 1"):
        kronecker.mixture_top_codes(mixture_logits(SPACES[2], 2), SPACES[2], 1, 0)


def test_slots_and_split_agree():
    sizes, digits = (5, 4, 3), jnp.array([[4, 0, 2], [0, 3, 1]])
    flat = jax.random.normal(jax.random.key(0), (2, 12))
    parts = kronecker.split_heads(flat, sizes)
    assert [part.shape for part in parts] == [(2, 5), (2, 4), (2, 3)]
    picked = jnp.stack([jnp.take_along_axis(part, digits[:, h, None], 1)[:, 0] for h, part in enumerate(parts)], axis=1)
    np.testing.assert_array_equal(jnp.take_along_axis(flat, kronecker.slots(digits, sizes), axis=1), picked)
