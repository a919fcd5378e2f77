"""Block scores, beams and groups against plain loops."""

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
