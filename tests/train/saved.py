"""What a run left on disk, for tests that compare runs."""

import jax
import numpy as np
import orbax.checkpoint as ocp


def final_weights(workdir):
    """All arrays of the newest checkpoint, by path, whatever devices wrote them."""
    folder = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name)) / "state"
    checkpointer = ocp.PyTreeCheckpointer()
    stored = checkpointer.metadata(folder).item_metadata.tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), stored)
    tree = checkpointer.restore(folder, restore_args=as_numpy)
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
