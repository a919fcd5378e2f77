"""The mixed-radix code: every label, odd sizes, NumPy and jnp, and the reference's own examples."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.labels import LabelCodes, LabelSpace

SPACES = [
    LabelSpace(1, (1,)),
    LabelSpace(97, (97,)),
    LabelSpace(97, (100,)),
    LabelSpace(97, (10, 10)),
    LabelSpace(97, (7, 14)),
    LabelSpace(100, (4, 5, 5)),
    LabelSpace(101, (3, 5, 7)),
    LabelSpace(5, (7, 2, 3)),
    LabelSpace(211, (3, 4, 5, 6)),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_code_round_trips(space):
    ids = np.arange(space.num_codes)
    digits = space.encode(ids)
    assert digits.shape == (space.num_codes, space.num_heads)
    assert (digits >= 0).all()
    assert (digits < np.array(space.head_sizes)[None, :]).all()
    np.testing.assert_array_equal(digits, np.stack(np.unravel_index(ids, space.head_sizes), axis=-1))
    np.testing.assert_array_equal(space.decode(digits), ids)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_jnp_under_jit_equals_numpy(space):
    ids = np.arange(-1, space.num_codes)
    digits, back, valid = jax.jit(lambda x: (space.encode(x), space.decode(space.encode(x)), space.is_valid(x)))(ids)
    np.testing.assert_array_equal(digits, space.encode(ids))
    np.testing.assert_array_equal(back, ids)
    np.testing.assert_array_equal(valid, (ids >= 0) & (ids < space.num_classes))
    assert digits.dtype == jnp.int32


def test_free_codes_are_no_classes():
    space = LabelSpace(11, (3, 4), free=(10, 4, 5, 6, 7, 0))
    assert (space.free, space.num_live) == ((0, 4, 5, 6, 7, 10), 5)
    ids = np.arange(-1, 12)
    np.testing.assert_array_equal(ids[space.is_valid(ids)], [1, 2, 3, 8, 9])
    np.testing.assert_array_equal(space.is_valid(jnp.array(ids)), space.is_valid(ids))
    assert space.leads_to_class(0, jnp.arange(4)).tolist() == [True, False, True, False]
    assert LabelSpace(9, (3, 4), free=(8,)).leads_to_class(0, jnp.arange(3)).tolist() == [True, True, False]


@pytest.mark.parametrize("free", [(-1,), (11,)])
def test_free_codes_are_below_the_others(free):
    with pytest.raises(ValueError, match=r"free codes must be in 0 .. 10"):
        LabelSpace(11, (3, 4), free)
    with pytest.raises(ValueError, match="all 11 codes are free"):
        LabelSpace(11, (3, 4), tuple(range(11)))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_num_nodes_counts_the_prefixes_of_classes(space):
    digits = space.encode(np.arange(space.num_classes))
    for level in range(space.num_heads):
        assert space.num_nodes(level) == len({tuple(row[: level + 1]) for row in digits})


def test_head_zero_is_the_most_significant_digit():
    space = LabelSpace(100, (4, 5, 5))
    expected = {0: (0, 0, 0), 4: (0, 0, 4), 5: (0, 1, 0), 24: (0, 4, 4), 25: (1, 0, 0), 99: (3, 4, 4)}
    for label, digits in expected.items():
        assert tuple(space.encode(np.array(label))) == digits
    assert space.strides == (25, 5, 1)


@pytest.mark.parametrize(
    ("labels", "asked", "sizes"),
    [
        (3956, 172, (172, 23)),
        (3956, 86, (86, 46)),
        (30938, 499, (499, 62)),
        (13330, 310, (310, 43)),
        (13330, 155, (155, 86)),
        (501070, 5630, (5630, 89)),
        (670091, 8400, (8377, 80)),
        (2812281, 8761, (8761, 321)),
    ],
)
def test_grouped_follows_the_reference(labels, asked, sizes):
    space = LabelSpace.grouped(labels, asked)
    assert space.head_sizes == sizes
    assert space.num_codes - labels < sizes[1]


def test_grouped_rejects_more_groups_than_labels():
    with pytest.raises(ValueError, match="between 1 and num_labels=5, not 6"):
        LabelSpace.grouped(5, 6)


@pytest.mark.parametrize("num_classes", [1, 2, 10, 97, 1000, 10007, 670091])
@pytest.mark.parametrize("num_heads", [1, 2, 3, 4])
def test_balanced_sizes_are_near_the_root_and_waste_less_than_a_block(num_classes, num_heads):
    space = LabelSpace.balanced(num_classes, num_heads)
    assert space.num_heads == num_heads
    assert space.num_codes - num_classes < space.strides[0]
    assert max(space.head_sizes) <= math.ceil(round(num_classes ** (1 / num_heads), 9))


def test_negative_ids_mean_no_class():
    space = LabelSpace(97, (10, 10))
    np.testing.assert_array_equal(space.encode(np.array([[-1, 12]])), [[[-1, -1], [1, 2]]])
    np.testing.assert_array_equal(space.decode(np.array([[-1, -1], [0, -1], [1, 2]])), [-1, -1, 12])


def test_is_hashable_and_normalises_its_fields():
    assert LabelSpace(np.int64(6), [2, 3]) == LabelSpace(6, (2, 3))
    assert hash(LabelSpace(6, (2, 3))) == hash(LabelSpace(6, [2, 3]))


@pytest.mark.parametrize(
    ("num_classes", "head_sizes", "message"),
    [
        (100, (3, 20), "hold 60 codes but num_classes is 100"),
        (0, (3,), "num_classes must be at least 1"),
        (3, (), "one or more positive integers"),
        (3, (4, 0), "one or more positive integers"),
        (3, (2**16, 2**16), "must fit in int32"),
    ],
)
def test_impossible_spaces_are_refused(num_classes, head_sizes, message):
    with pytest.raises(ValueError, match=message):
        LabelSpace(num_classes, head_sizes)


def test_a_numpy_label_outside_the_codes_is_refused():
    with pytest.raises(ValueError, match="label 6 is outside the 6 codes"):
        LabelSpace(5, (2, 3)).encode(np.array([1, 6]))
    with pytest.raises(ValueError, match="digits have 3 columns"):
        LabelSpace(5, (2, 3)).decode(np.zeros((4, 3), int))


def test_codes_and_ids_are_each_others_inverse():
    codes = LabelCodes.of(np.random.default_rng(0).permutation(11))
    ids = np.array([[3, -1], [10, 0]])
    np.testing.assert_array_equal(codes.ids(codes.codes(ids)), ids)
    np.testing.assert_array_equal(codes.code_of_id[codes.id_of_code], np.arange(11))
    np.testing.assert_array_equal(codes.in_code_order(np.arange(11) * 2), codes.id_of_code * 2)
    assert codes.code_of_id.dtype == codes.id_of_code.dtype == np.int32


def test_codes_that_are_ids_cost_nothing_and_have_no_digest():
    for codes in (LabelCodes.identity(5), LabelCodes.of(np.arange(5))):
        ids = np.array([4, -1])
        assert codes.is_identity
        assert codes.id_of_code is None
        assert codes.ids(ids) is ids
        assert codes.codes(ids) is ids
        assert codes.digest == ""
        assert codes.code_of_id.tolist() == [0, 1, 2, 3, 4]
    assert len(LabelCodes.of([1, 0]).digest) == 16
    assert LabelCodes.of([1, 0, 2]).digest != LabelCodes.of([0, 2, 1]).digest
    assert LabelCodes.of(np.array([1, 0], np.int64)).digest == LabelCodes.of(np.array([1, 0], np.uint8)).digest


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 2], "code 1 is of class 2, but there are 2 classes"),
        ([0, 0], "class 0 has 2 codes, and class 1 has none"),
        ([-1, 0], "code 0 is of class -1"),
        ([], "codes are one whole number for each class"),
    ],
)
def test_what_is_no_permutation_is_no_code(ids, message):
    with pytest.raises(ValueError, match=message):
        LabelCodes.of(ids)


def test_classes_may_be_without_a_code_and_codes_without_a_class():
    codes = LabelCodes.placed([2, -1, 0, -1], num_classes=4)
    assert (codes.num_classes, codes.num_codes, codes.is_identity) == (4, 4, False)
    assert codes.code_of_id.tolist() == [2, -1, 0, -1]
    assert codes.codes(np.array([[0, 1], [3, -1]])).tolist() == [[2, -1], [-1, -1]]
    assert codes.ids(np.array([0, 1, 2, -1])).tolist() == [2, -1, 0, -1]
    assert codes.in_code_order(np.array([5, 6, 7, 8])).tolist() == [7, 5, 5, 5]
    assert LabelCodes.placed([0, 1, -1], 3).digest != LabelCodes.placed([0, 1], 3).digest
    assert LabelCodes.placed([0, 1, 2], 3).is_identity


@pytest.mark.parametrize(
    ("ids", "message"),
    [([0, 0], "class 0 has 2 codes"), ([0, 3], "code 1 is of class 3, but there are 3"), ([-2], "is of class -2")],
)
def test_a_class_has_one_code_at_most(ids, message):
    with pytest.raises(ValueError, match=message):
        LabelCodes.placed(ids, 3)
