"""What a run left on disk, for tests that compare runs."""

import jax
import numpy as np
import orbax.checkpoint as ocp


def final_weights(workdir):
    """All arrays of the newest checkpoint, by path."""
    folder = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    tree = ocp.PyTreeCheckpointer().restore(folder / "state")
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def assert_same(left, right, **tolerance):
    """Bitwise, or to a tolerance of numpy.testing.assert_allclose."""
    assert left.keys() == right.keys()
    for name, value in left.items():
        if tolerance:
            np.testing.assert_allclose(value, right[name], err_msg=name, **tolerance)
        else:
            np.testing.assert_array_equal(value, right[name], err_msg=name)
