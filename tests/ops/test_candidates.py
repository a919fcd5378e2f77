"""Block scores, beams and groups against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.labels import LabelSpace
from mhe_jax.ops import candidates


@pytest.mark.parametrize("space", [LabelSpace(53, (5, 4, 3)), LabelSpace(5, (7, 2, 3)), LabelSpace(7, (3, 3))], ids=str)
def test_child_mask_marks_the_prefixes_of_classes(space):
    digits = space.encode(np.arange(space.num_classes))
    for level in range(1, space.num_heads):
        real = {tuple(row[: level + 1]) for row in digits}
        shape = space.head_sizes[:level]
        mask = candidates.child_mask(space, level, jnp.arange(int(np.prod(shape))))
        for parent, prefix in enumerate(np.ndindex(*shape)):
            for child in range(space.head_sizes[level]):
                assert bool(mask[parent, child]) == ((*prefix, child) in real)


def test_beam_step_keeps_the_best_children_and_fills_up():
    scores, nodes = jnp.array([[-1.0, -2.0, -jnp.inf]]), jnp.array([[4, 0, -1]])
    children = jnp.array([[[-0.5, -3.0], [-jnp.inf, -0.1], [-0.1, -0.2]]])
    best, kept = candidates.beam_step(scores, nodes, children, 2)
    np.testing.assert_allclose(best, [[-1.5, -2.1]], rtol=1e-6)
    np.testing.assert_array_equal(kept, [[8, 1]])
    best, kept = candidates.beam_step(scores, nodes, children, 8)
    np.testing.assert_array_equal(kept, [[8, 1, 9, -1, -1, -1, -1, -1]])
    assert (best[0, 3:] == -jnp.inf).all()


def test_a_score_that_is_no_number_keeps_no_node():
    scores, nodes = jnp.array([[jnp.nan, -2.0, -jnp.inf]]), jnp.array([[4, 0, -1]])
    children = jnp.array([[[-0.5, -jnp.inf], [jnp.nan, -0.1], [jnp.nan, jnp.nan]]])
    best, kept = candidates.beam_step(scores, nodes, children, 4)
    np.testing.assert_array_equal(kept, [[1, -1, -1, -1]])
    np.testing.assert_allclose(best, [[-2.1, -jnp.inf, -jnp.inf, -jnp.inf]])


@pytest.mark.parametrize(("width", "expected"), [(1, [7]), (2, [7, 10]), (3, [7, 10, 9]), (5, [7, 10, 9, 6, -1])])
def test_the_true_child_is_kept_first_whatever_its_logit(width, expected):
    logits = jnp.array([[[0.2, -5.0, 9.0], [0.3, 0.8, 9.0], [9.0, 9.0, 9.0]]])
    live = jnp.array([[[True, True, False], [True, True, False], [False, False, False]]])
    kept, nodes = candidates.keep_true(logits, live, jnp.array([[2, 3, -1]]), jnp.array([1]), width)
    np.testing.assert_array_equal(nodes, [expected])
    np.testing.assert_allclose(kept[0, : min(width, 4)], [-5.0, 0.8, 0.3, 0.2][:width])


def test_the_logits_of_what_is_kept_have_a_gradient():
    nodes, digit = jnp.array([[0]]), jnp.array([2])
    kept = lambda x: candidates.keep_true(x, x > -9, nodes, digit, 2)[0] @ jnp.array([1.0, 10.0])
    np.testing.assert_allclose(jax.grad(lambda x: kept(x).sum())(jnp.array([[[0.1, 3.0, 0.2]]])), [[[0.0, 10.0, 1.0]]])
