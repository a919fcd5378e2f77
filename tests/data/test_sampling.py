"""How often examples are drawn: the rates of each sampling, and the order that follows them."""

import numpy as np
import pytest
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax.data.order import EpochOrder, SampledOrder
from mhe_jax.data.sampling import build_sampling
from mhe_jax.data.texts.buckets import LengthOrder

LABELS = np.repeat([0, 1, 2], [60, 30, 6])
COUNTS = np.array([60, 30, 6])
MANY = scipy.sparse.csr_matrix(np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]], np.float32))


def drawn(name, labels=LABELS, counts=COUNTS, **fields):
    return build_sampling(ConfigDict({"name": name, **fields})).drawn(labels, counts)


def of_epochs(order, epochs):
    """The labels of all examples of some epochs."""
    steps = order.steps_per_epoch
    return np.concatenate([LABELS[order.rows(step).index] for step in range(epochs[0] * steps, epochs[1] * steps)])


@pytest.mark.parametrize(("power", "shares"), [(0.0, [32, 32, 32]), (0.5, [45.6, 32.3, 14.4]), (1.0, COUNTS)])
def test_classes_are_drawn_by_a_power_of_their_size(power, shares):
    order = SampledOrder(96, 8, seed=1, rates=drawn("class_balanced", power=power).rates)
    expected = np.sqrt(COUNTS) / np.sqrt(COUNTS).sum() * 96 if power == 0.5 else shares
    found = np.bincount(of_epochs(order, (0, 20))) / 20
    np.testing.assert_allclose(found, expected, atol=1.0)


def test_an_example_of_several_labels_is_drawn_for_each():
    rates = drawn("class_balanced", MANY, np.array([3, 1, 1])).rates
    np.testing.assert_allclose(rates, [1 / 3, 4 / 3, 0, 4 / 3])


def test_the_repeat_factor_is_that_of_the_rarest_label():
    np.testing.assert_allclose(drawn("repeat_factor", threshold=0.25).rates[[0, 60, 90]], [1, 1, 2])
    rates = drawn("repeat_factor", MANY, np.array([3, 1, 1]), threshold=1.0).rates
    np.testing.assert_allclose(rates, [np.sqrt(4 / 3), 2, 1, 2])


def test_the_order_is_a_function_of_seed_and_step_and_begins_when_it_shall():
    make = lambda seed=1: SampledOrder(96, 8, seed=seed, rates=drawn("class_balanced").rates, first_epoch=2)
    plain, order, other = EpochOrder(96, 8, seed=1), make(), make(seed=2)
    for step in range(24):
        np.testing.assert_array_equal(order.rows(step).index, plain.rows(step).index)
    for step in (40, 24, 30):  # in any order
        np.testing.assert_array_equal(make().rows(step).index, order.rows(step).index)
    assert not np.array_equal(order.rows(24).index, other.rows(24).index)
    assert not np.array_equal(order.chosen(2), order.chosen(3))
    counts = np.bincount(order.chosen(2), minlength=96)
    rates = 96 * order.rates / order.rates.sum()
    assert ((counts == np.floor(rates)) | (counts == np.ceil(rates))).all()
    assert counts.sum() == 96


def test_texts_are_drawn_alike_and_still_sorted_by_length():
    lengths = np.random.default_rng(0).integers(1, 60, 96)
    order = SampledOrder(96, 8, seed=1, rates=drawn("class_balanced").rates)
    by_length = LengthOrder(order, lengths, (16, 32, 64), sort_window=12)
    rows = [by_length.rows(step).index for step in range(12)]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), order.chosen(0))
    assert sum(np.ptp(lengths[index]) for index in rows) < 200


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "class_balanced", "power": 1.5}, "config.sampling.power is 1.5; it must be in 0 .. 1"),
        ({"name": "repeat_factor", "threshold": 0.0}, "config.sampling.threshold is 0.0; it must be above 0"),
        ({"name": "repeat_factor", "start_epoch": -1.0}, "config.sampling.start_epoch is -1.0"),
        ({"name": "repeat_factor", "power": 0.5}, "sampling.power is 0.5, but sampling.name = 'repeat_factor'"),
    ],
)
def test_a_bad_field_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        build_sampling(ConfigDict(fields))
