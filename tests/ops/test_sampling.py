"""Invariants of the samplers for every draw, and their distribution over many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.ops import sampling


@pytest.mark.parametrize(("num_groups", "count"), [(1, 1), (2, 2), (11, 1), (11, 4), (11, 10), (11, 11)])
def test_per_example_puts_the_true_group_first_and_repeats_none(num_groups, count):
    groups = jnp.arange(200) % num_groups
    drawn = np.asarray(sampling.per_example(jax.random.key(0), groups, num_groups, count))
    assert drawn.shape == (200, count)
    np.testing.assert_array_equal(drawn[:, 0], groups)
    assert ((drawn >= 0) & (drawn < num_groups)).all()
    assert all(len(set(row)) == count for row in drawn.tolist())


@pytest.mark.parametrize("count", [2, 4, 8])
def test_per_example_draws_all_subsets_of_others_alike(count):
    draws, true = 60_000, 3
    drawn = np.asarray(sampling.per_example(jax.random.key(1), jnp.full(draws, true), 9, count))[:, 1:]
    frequency = np.bincount(drawn.ravel(), minlength=9) / draws
    assert frequency[true] == 0
    np.testing.assert_allclose(np.delete(frequency, true), (count - 1) / 8, rtol=0.03)
    # Pairs too: a sampler may be uniform in its marginals and still favour neighbours.
    if count == 4:
        together = [(drawn == a).any(1) & (drawn == b).any(1) for a in range(9) for b in range(a) if true not in (a, b)]
        np.testing.assert_allclose(np.mean(together, axis=1), 3 * 2 / (8 * 7), rtol=0.06)


def test_per_example_refuses_more_groups_than_there_are():
    with pytest.raises(ValueError, match="cannot draw 5 distinct groups out of 4"):
        sampling.per_example(jax.random.key(0), jnp.zeros(2, jnp.int32), 4, 5)


def test_positive_only_is_the_true_group():
    np.testing.assert_array_equal(sampling.PositiveOnly().draw(jnp.array([3, 0]), 5), [[3], [0]])


@pytest.mark.parametrize(
    ("groups", "num_groups", "union"),
    [
        ([4, 1, 4, 1], 9, [1, 4, 9, 9]),
        ([2, 1, 0, 2, 1, 0, 2], 3, [0, 1, 2]),
        ([-1, 5, -1], 7, [5, 7, 7]),
        ([6], 7, [6]),
    ],
)
def test_batch_union_is_ascending_and_filled(groups, num_groups, union):
    sampler = sampling.BatchUnion()
    ours = jax.jit(lambda groups: sampling.as_one_set(sampler.draw(groups, num_groups), num_groups))(jnp.array(groups))
    np.testing.assert_array_equal(ours, union)


@pytest.mark.parametrize(
    ("rate", "groups", "held"),
    [(0.5, [7, 2, 2, 7], 5), (0.1, [7, 2, 9, 0], 4), (0.0, [7, 7, 7, 7], 1), (1.0, [1, 1, -1, 1], 10)],
    ids=["room", "more positives", "nothing else", "all"],
)
def test_random_groups_keep_every_true_group(rate, groups, held):
    for seed in range(5):
        ids = np.asarray(sampling.RandomGroups(rate=rate).draw(jnp.array(groups), 10, jax.random.key(seed)))[0]
        assert ids.shape == (max(int(rate * 10), 4),)
        assert (np.diff(ids) >= 0).all()
        real = ids[ids < 10]
        assert len(real) == len(set(real.tolist())) == held
        assert set(groups) - {-1} <= set(real.tolist())
        assert (ids[held:] == 10).all()


def test_random_groups_draw_the_others_alike():
    keys = jax.random.split(jax.random.key(0), 20_000)
    draw = jax.jit(jax.vmap(lambda key: sampling.RandomGroups(rate=0.6).draw(jnp.array([2, 5, 5]), 11, key)))
    frequency = np.bincount(np.asarray(draw(keys)).ravel(), minlength=11) / len(keys)
    np.testing.assert_array_equal(frequency[[2, 5]], 1.0)
    np.testing.assert_allclose(np.delete(frequency, [2, 5]), 4 / 9, rtol=0.04)


@pytest.mark.parametrize(("num_groups", "parts", "rate"), [(23, 1, 0.3), (23, 4, 0.3), (24, 8, 0.0), (5, 4, 1.0)])
def test_parted_groups_keeps_the_true_ones_and_fills_each_part(num_groups, parts, rate):
    groups = jnp.array([3, 1, 3, -1, num_groups - 1, 0])
    drawn = np.asarray(
        jax.jit(lambda key: sampling.parted_groups(key, groups, num_groups, parts, rate))(jax.random.key(4))
    )
    length = -(-num_groups // parts)
    wanted = int(rate * length)
    assert drawn.shape == (parts, max(wanted, min(len(groups), length)))
    assert (np.diff(drawn.reshape(-1)) >= 0).all()
    for part, row in enumerate(drawn):
        own = row[row < (part + 1) * length].tolist()
        true = {g for g in (3, 1, num_groups - 1, 0) if part * length <= g < (part + 1) * length}
        exist = min(length, max(num_groups - part * length, 0))
        assert len(set(own)) == len(own)
        assert true <= set(own) <= set(range(part * length, part * length + exist))
        assert len(own) == min(max(wanted, len(true)), exist)
        assert (row[len(own) :] == (part + 1) * length).all()


def test_parts_on_devices_are_those_without():
    mesh = jax.make_mesh((2, 4), ("data", "class"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    draw = jax.jit(lambda key: sampling.parted_groups(key, jnp.array([3, 1, 22]), 23, 4, 0.5))
    alone = draw(jax.random.key(1))
    with jax.set_mesh(mesh):
        text = draw.lower(jax.random.key(1)).compile().as_text()
        np.testing.assert_array_equal(draw(jax.random.key(1)), alone)
    assert "sort(" not in text


def test_parted_groups_draws_others_uniformly_and_asks_for_a_key():
    draws = jax.vmap(lambda key: sampling.parted_groups(key, jnp.array([0]), 20, 2, 0.5))(
        jax.random.split(jax.random.key(0), 2000)
    )
    counts = np.bincount(np.asarray(draws).reshape(-1), minlength=21)[:20] / 2000
    assert counts[0] == 1
    np.testing.assert_allclose(counts[1:10], 4 / 9, atol=0.05)
    np.testing.assert_allclose(counts[10:], 0.5, atol=0.05)
    with pytest.raises(ValueError, match="needs a key"):
        sampling.parted_groups(None, jnp.array([0]), 20, 2, 0.5)


@pytest.mark.parametrize(("num_groups", "parts"), [(23, 1), (23, 4), (24, 8)])
def test_parts_in_one_set_are_the_same_groups_each_once(num_groups, parts):
    parted = sampling.parted_groups(jax.random.key(4), jnp.array([3, 1, num_groups - 1]), num_groups, parts, 0.5)
    one_set = np.asarray(sampling.as_one_set(parted, num_groups))
    length = -(-num_groups // parts)
    held = [g for part, row in enumerate(np.asarray(parted)) for g in row[row // length == part] if g < num_groups]
    assert one_set[: len(held)].tolist() == sorted(set(held))
    assert (one_set[len(held) :] == num_groups).all()


@pytest.mark.parametrize(
    "sampler",
    [
        sampling.PerExample(num_groups=3, subtract_log_q=True),
        sampling.RandomGroups(rate=0.5, subtract_log_q=True),
        sampling.RandomGroups(rate=0.8, parts=3, subtract_log_q=True),
    ],
    ids=str,
)
def test_what_is_drawn_stands_on_average_for_all(sampler):
    """With 1/q as their weights the drawn numbers have the sum of all as their mean."""
    num_groups, true, draws = 11, jnp.array([4, 7, 4, 9]), 20_000
    values = jnp.arange(1.0, num_groups + 1)

    def total(key):
        drawn = sampler.draw(true, num_groups, key)
        weights = jnp.exp(sampler.minus_log_q(true, num_groups, drawn))
        if sampler.one_set:
            part = jnp.arange(drawn.shape[0])[:, None]
            drawn = jnp.where(drawn // -(-num_groups // drawn.shape[0]) == part, drawn, num_groups)
            np.testing.assert_array_equal(drawn.shape, weights.shape)
        return (weights * jnp.take(values, drawn, mode="fill", fill_value=0.0)).sum() / (1 if sampler.one_set else 4)

    found = jax.jit(jax.vmap(total))(jax.random.split(jax.random.key(0), draws))
    assert float(found.std()) > 1
    assert float(found.mean()) == pytest.approx(float(values.sum()), rel=5e-3)


@pytest.mark.parametrize("name", sampling.SAMPLERS)
def test_without_a_correction_nothing_is_added(name):
    sampler, groups = sampling.SAMPLERS[name](), jnp.array([4, 7])
    assert sampler.minus_log_q(groups, 11, sampler.draw(groups, 11, jax.random.key(0))) is None
