"""Codes of new classes: nobody else moves, similar ones are neighbours, tables grow when they are full."""

import numpy as np
import pytest

from mhe_jax.codes.extension import extended
from mhe_jax.labels import LabelCodes, LabelSpace

# Three clusters, far apart, of which each is a group of the codes below.
CENTRES = 10 * np.eye(3, 4, dtype=np.float32)


def near(*clusters):
    noise = np.random.default_rng(0).normal(size=(len(clusters), 4)).astype(np.float32)
    return CENTRES[list(clusters)] + 0.1 * noise


def test_new_classes_enter_the_groups_that_they_resemble():
    # Nine classes in three groups of five; ids 0 .. 2 are in the last one.
    codes = LabelCodes.placed([3, 4, 5, -1, -1, 6, 7, 8, -1, -1, 0, 1, 2], 9)
    space = LabelSpace(13, (3, 5), free=(3, 4, 8, 9))
    vectors = near(2, 2, 2, 0, 0, 0, 1, 1, 1, *(1, 0, 2, 0))
    found, sizes = extended(space, codes, vectors, np.ones(13, bool))
    assert sizes == (3, 5)
    np.testing.assert_array_equal(found.code_of_id[:9], codes.code_of_id)
    assert found.code_of_id[9:].tolist() == [8, 3, 13, 4]


def test_full_groups_are_joined_by_new_ones_of_similar_classes():
    codes, space = LabelCodes.identity(6), LabelSpace(6, (2, 3))
    vectors = near(0, 0, 0, 1, 1, 1, *(2, 0, 2, 0, 2))
    found, sizes = extended(space, codes, vectors, np.ones(11, bool))
    assert sizes == (4, 3)
    assert found.code_of_id[:6].tolist() == list(range(6))
    groups = found.code_of_id[6:] // 3
    assert len({*groups[[0, 2, 4]]}) == len({*groups[[1, 3]]}) == 1
    assert sorted(set(groups)) == [2, 3]


def test_groups_without_classes_are_used_before_the_table_grows():
    found, sizes = extended(LabelSpace(6, (4, 3)), LabelCodes.identity(6), near(*[0] * 6, 1, 1, 2), np.ones(9, bool))
    assert sizes == (4, 3)
    assert sorted(found.code_of_id[6:].tolist()) == [6, 7, 8]


def test_new_classes_may_each_get_a_group():
    found, sizes = extended(
        LabelSpace(5, (3, 3)), LabelCodes.identity(5), near(*[0] * 5, 1, 2), np.ones(7, bool), alone=True
    )
    assert sizes == (4, 3)
    assert found.code_of_id[5:].tolist() == [6, 9]


@pytest.mark.parametrize("new", [1, 2, 4])
def test_one_digit_has_free_codes_and_rows_behind_them(new):
    space = LabelSpace(5, (5,), free=(1, 3))
    found, sizes = extended(space, LabelCodes.identity(5), near(*[0] * (5 + new)), np.ones(5 + new, bool))
    assert sizes == (max(5, 3 + new),)
    assert found.code_of_id.tolist()[5:] == [1, 3, 5, 6][:new]
    # Who had a free code is retired, and has none any more.
    assert found.code_of_id[:5].tolist() == [0, -1, 2, -1, 4]


def test_classes_without_examples_are_placed_too():
    present = np.array([True] * 6 + [False, True, False])
    found, _ = extended(LabelSpace(6, (2, 3)), LabelCodes.identity(6), near(*[0] * 9) * present[:, None], present)
    assert (found.code_of_id >= 0).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(3))
def test_new_groups_have_classes_all(seed):
    """Nine classes in three pairs of groups of two: equal vectors are divided too."""
    vectors = np.concatenate([near(0, 0, 0), np.repeat(CENTRES, 3, axis=0)])
    found, sizes = extended(LabelSpace(3, (2, 2)), LabelCodes.identity(3), vectors, np.ones(12, bool), seed)
    assert sizes == (6, 2)
    assert sorted(found.code_of_id.tolist()) == list(range(12))
