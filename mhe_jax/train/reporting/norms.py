"""Norms of the gradient, the parameters and the update of each part of the model, inside a train step."""

from typing import Any

import jax
import jax.numpy as jnp

from mhe_jax.train.optim import rules
from mhe_jax.train.reporting import metrics


def norms(
    kinds: tuple[str, ...],
    wanted: jax.Array,
    grads: dict,
    before: dict,
    after: dict,
    blocks: dict[str, jax.Array],
) -> metrics.Sums:
    """`grad_norm/head` and the like of a step as metrics, computed and counted only where `wanted`.

    The gradient is as it was before it is clipped, the parameters are those after the step, and the update is what they
    moved by. Of a row-sparse table all three are of the blocks that the step uses; they are part of the head's, and
    `grad_norm/head/NAME` is the table's own.

    Args:
      kinds: some of `mhe_jax.settings.NORMS`. An update needs all parameters from before the step until after it, which
        takes memory; the others take none.
      wanted: bool [].
      grads: by part; a frozen backbone has none, and a sparse table those of its blocks.
      before, after: the parameters of the parts.
      blocks: of each sparse table, see `mhe_jax.train.optim.rules.gather`.
    """
    if not kinds:
        return {}
    held = {name: rules.held(ids, after["head"][name].shape[0]) for name, ids in blocks.items()}

    def used(params: dict) -> dict:
        rows = {name: rules.gather(params["head"][name], ids) for name, ids in blocks.items()}
        return {part: params[part] if part != "head" else {**params[part], **rows} for part in grads}

    # Outside of the condition, or the whole table would be kept until there.
    rows_before = used(before) if "update" in kinds else {}

    def computed() -> metrics.Sums:
        trees = {
            "grad": lambda: grads,
            "param": lambda: used(after),
            "update": lambda: jax.tree.map(jnp.subtract, used(after), rows_before),
        }
        found = {}
        for kind in kinds:
            for part, tree in trees[kind]().items():
                tables = held if part == "head" else {}
                squares = {name: _squares(_masked(tree[name], mask)) for name, mask in tables.items()}
                rest = _squares({name: leaf for name, leaf in tree.items() if name not in tables})
                found[f"{kind}_norm/{part}"] = jnp.sqrt(rest + sum(squares.values()))
                found |= {f"{kind}_norm/{part}/{name}": jnp.sqrt(square) for name, square in squares.items()}
        return {name: jnp.stack([norm, 1.0]) for name, norm in found.items()}

    nothing = lambda: {name: jnp.zeros(2) for name in jax.eval_shape(computed)}
    return jax.lax.cond(wanted, computed, nothing)


def _squares(tree: Any) -> Any:
    return sum((jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)), jnp.float32(0))


def _masked(rows: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.where(mask.reshape(-1, *[1] * (rows.ndim - 1)), rows, 0)
