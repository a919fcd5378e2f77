"""Boxes of codes: each class once and nothing else, few of them."""

import itertools

import numpy as np
import pytest

from mhe_jax.labels import LabelSpace
from mhe_jax.ops.boxes import boxes
from tests.test_labels import SPACES


def codes_of(space, found):
    return [
        int(space.decode(np.array(digits)))
        for box in found
        for digits in itertools.product(*(range(low, high) for low, high in box))
    ]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_boxes_hold_each_class_once_and_nothing_else(space):
    found = boxes(space)
    assert len(found) <= space.num_heads
    assert sorted(codes_of(space, found)) == list(range(space.num_classes))


@pytest.mark.parametrize("space", [space for space in SPACES if space.num_classes > 1], ids=str)
def test_free_codes_lie_in_no_box(space):
    rng = np.random.default_rng(0)
    for count in (1, space.num_classes // 2, space.num_classes - 1):
        free = tuple(rng.permutation(space.num_classes)[:count].tolist())
        with_free = LabelSpace(space.num_classes, space.head_sizes, free)
        found = boxes(with_free)
        assert sorted(codes_of(space, found)) == sorted(set(range(space.num_classes)) - set(free))
        assert len(found) <= space.num_heads * (2 * count + 1)


def test_rows_that_lack_the_same_codes_share_boxes():
    free = tuple(row * 5 + column for row in range(3, 9) for column in (0, 1, 3, 4))
    assert boxes(LabelSpace(45, (9, 5), free)) == (((0, 3), (0, 5)), ((3, 9), (2, 3)))
