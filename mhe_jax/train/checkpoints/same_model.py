"""Whether a checkpoint is of the model that it shall be restored into."""

from typing import Any

import jax

from mhe_jax.labels import LabelCodes, LabelSpace


def describe_space(space: LabelSpace, codes: LabelCodes | None = None) -> str:
    """The form in which a checkpoint's `meta["label_space"]` holds the classes; without `codes` they are the ids."""
    digits = f"{space.num_classes} as {'x'.join(map(str, space.head_sizes))}"
    return digits if codes is None or codes.is_identity else f"{digits} by codes {codes.digest}"


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """The shape of each array of a tree, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in leaves}


def differences(stored: dict[str, tuple[int, ...]], abstract: Any) -> list[str]:
    """The arrays that differ between a file and here, one text each.

    Args:
      stored: `shapes` of the file.
      abstract: shapes and shardings to restore on.
    """
    expected, tables = shapes(abstract), _class_tables(abstract)
    found = []
    for name in sorted(stored.keys() | expected.keys()):
        # The padding of a table's rows depends on the mesh; all else must agree.
        rows = slice(1 if name in tables else 0, None)
        there, here = stored.get(name), expected.get(name)
        if there is None or here is None or there[rows] != here[rows]:
            found.append(f"{name} is {there or _absent(there)} in the file and {here or _absent(here)} here")
    return found


def _absent(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "a scalar"


def _class_tables(abstract: Any) -> set[str]:
    """Names of the arrays whose rows are split over mesh axis 'class'."""
    leaves = jax.tree_util.tree_leaves_with_path(abstract)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in leaves
        if tuple(leaf.sharding.spec)[:1] == ("class",)
    }
