"""Some groups of a table as the rows of a pass, against all of them in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.ops import blocks, chunked, rows

GROUPS, SIZE, DIM, BATCH = 9, 4, 3, 5
NUM_CODES = GROUPS * SIZE - 2
CHOSEN = {"few": [7, 2, -1, 8], "most": [8, 0, 3, 4, GROUPS, 7]}


@pytest.fixture(params=CHOSEN)
def problem(request):
    """Table, features, ids, labels, and which codes compete."""
    rng = np.random.default_rng(0)
    ids = np.array(CHOSEN[request.param])
    weight = rng.normal(size=(GROUPS, SIZE, DIM)).astype(np.float32)
    features = rng.normal(size=(BATCH, DIM)).astype(np.float32)
    codes = np.concatenate([np.arange(g * SIZE, (g + 1) * SIZE) for g in sorted(ids) if 0 <= g < GROUPS])
    codes = codes[codes < NUM_CODES]
    labels = rng.choice(codes, size=BATCH)
    labels[1] = 1 * SIZE  # of a group that was not chosen
    return weight, features, ids, labels, codes


def lse_among(weight, features, ids, labels, block_size):
    found = rows.chosen(weight, ids, labels, NUM_CODES, block_size)
    return chunked.blocked_lse(features, found.table, None, found.labels, found.mask, block_size, True)


@pytest.mark.parametrize("block_size", [1, 2, 4, 12, 100])
def test_statistics_and_gradients_are_those_of_the_chosen_codes(problem, block_size):
    weight, features, ids, labels, codes = problem
    weight, features = jnp.asarray(weight), jnp.asarray(features)

    def dense(weight, features):
        logits = features @ weight.reshape(-1, DIM).T
        own = jnp.take_along_axis(logits, jnp.asarray(labels)[:, None], axis=1)[:, 0]
        return jax.nn.logsumexp(logits[:, codes], axis=1), own * np.isin(labels, codes), logits[:, codes].sum(axis=1)

    ours = lambda weight, features: lse_among(weight, features, jnp.asarray(ids), jnp.asarray(labels), block_size)
    mixed = lambda parts: (parts[0] * jnp.arange(1.0, 6) - 2 * parts[1] + 0.1 * parts[2]).sum()
    for found, want in zip(ours(weight, features), dense(weight, features), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)
    gradient = lambda parts: jax.grad(lambda *tables: mixed(parts(*tables)), (0, 1))(weight, features)
    for found, want in zip(gradient(ours), gradient(dense), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


def test_most_groups_are_not_gathered():
    weight, labels = jnp.zeros((GROUPS, SIZE, DIM)), jnp.zeros(BATCH, jnp.int32)
    table = lambda name: rows.chosen(weight, jnp.array(CHOSEN[name]), labels, NUM_CODES, 8).table
    assert isinstance(table("few"), rows.Groups)
    assert table("most").shape == (GROUPS * SIZE, DIM)


@pytest.mark.parametrize(("most_rows", "unit"), [(1, 1), (5, 4), (6, 6), (12, 12), (100, 12)])
def test_long_groups_are_cut_where_they_divide(most_rows, unit):
    weight = jnp.arange(5 * 12.0).reshape(5, 12, 1)
    groups = rows.of_groups(weight, jnp.array([3, 0, -1]), most_rows)
    assert rows.unit(groups) == unit
    assert rows.count(groups) == 36
    np.testing.assert_array_equal(rows.take(groups, 0, 24)[:, 0], [*range(36, 48), *range(12)])
    np.testing.assert_array_equal(rows.numbers(groups, 0, 24), [*range(36, 48), *range(12)])
    # What is none is written nowhere.
    moved = rows.stored(rows.put(groups, 0, jnp.full((36, 1), -1.0))).reshape(5, 12)
    np.testing.assert_array_equal((moved == -1).all(axis=1), [True, False, False, True, False])
    np.testing.assert_array_equal(moved[np.array([1, 2, 4])], weight[np.array([1, 2, 4]), :, 0])


def test_groups_of_a_prime_length_stay_whole():
    assert rows.unit(rows.of_groups(jnp.zeros((3, 13, 1)), jnp.array([1]), 6)) == 13


def test_a_block_holds_whole_groups():
    groups = rows.of_groups(jnp.zeros((20, 6, 1)), jnp.arange(7), 100)
    assert blocks.layout(jnp.zeros((2, 1)), groups, 14) == (12, 4)
    assert blocks.layout(jnp.zeros((2, 1)), groups, 0) == (42, 1)


def test_labels_are_found_among_groups_that_were_gathered():
    # Group 4 stands after a filler with its number; 9 is no group that exists.
    ids, live = jnp.array([1, 4, 4, 7, 9]), jnp.array([True, False, True, True, False])
    labels = jnp.array([3, 12, 14, 22, 0, -1, 28])
    found = rows.located(jnp.zeros((15, 2)), ids, live, labels, 23, 9, 3)
    assert found.labels.tolist() == [0, 6, 8, 10, -1, -1, -1]
    # Members of live groups that are below 23: of group 7 the codes 21 and 22.
    assert np.flatnonzero(found.mask).tolist() == [0, 1, 2, 6, 7, 8, 9, 10]
