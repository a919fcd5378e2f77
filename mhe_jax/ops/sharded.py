"""The classifier operations with the batch split over mesh axis 'data' and the table over 'class'.

Without an ambient mesh (`jax.set_mesh`) that has both axes, or with one device, each function is the plain operation.
Otherwise every device works on its own examples and its own rows only, in blocks laid out for these, and what crosses
'class' is the features and a few numbers per example, never a table or a row of all logits. Gradients need no code
here: a table is replicated over 'data', the features are gathered over 'class', and the transposes of these are sums,
one for each table.

Outside, examples are split over both axes, as the network below has them. The gather of the features and the scatter of
candidates' logits are written out, and not left to XLA's partitioner: it would gather the masks and the inputs of whole
layers as well, and where one half of the traffic is enough, reduce to all devices what each needs a part of. Of a loop
over blocks it would add up the devices' gradients block by block, and gather all logits for a top-k.

A table's leading axis must be a multiple of the devices along 'class'; masks hide the padding.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from mhe_jax.ops import blocked_bce, blocks, chunked, mapped, per_row, splits
from mhe_jax.ops import candidate_logits as candidate_ops
from mhe_jax.ops import cosines as cosine_ops
from mhe_jax.ops import rows as row_ops
from mhe_jax.ops.owned import Visit
from mhe_jax.ops.owned_candidates import owned_candidate_logits


def lse(
    features,
    kernel,
    bias,
    labels,
    mask,
    block_size: int | None,
    with_total: bool,
    visit: Visit | None = None,
    weights=None,
):
    """`chunked.blocked_lse` of a table [C, D] split over 'class'; results are split over 'data'."""
    if splits.is_one_device():
        return chunked.blocked_lse(features, kernel, bias, labels, mask, block_size, with_total, visit, weights)

    over = splits.split_of(features)

    def local(features, kernel, bias, labels, mask, visit, weights):
        features, kernel, visit, bias = splits.align_visited(over, features, kernel, visit, bias)
        arguments = features, kernel, bias, labels - splits.first_row(kernel), mask, block_size, with_total
        return splits.combine(*chunked.blocked_lse(*arguments, visit, weights))

    batch = P(over.axis)
    in_specs = (over.own, P("class"), P("class"), batch, P("class"), splits.visit_specs(visit), batch)
    arguments = features, kernel, bias, labels, mask, visit, weights
    return mapped.shard_map(local, in_specs=in_specs, out_specs=batch)(*arguments)


def bce(
    features,
    kernel,
    bias,
    labels,
    mask,
    want_value,
    block_size: int | None,
    visit: Visit | None = None,
    targets=None,
    weights=None,
):
    """`blocked_bce.blocked_bce` of a table [C, D] split over 'class'; labels int [B, W]. Split over 'data'."""
    if splits.is_one_device():
        whole = features, kernel, bias, labels, mask, want_value, block_size, visit, targets, weights
        return blocked_bce.blocked_bce(*whole)

    over = splits.split_of(features)

    def local(features, kernel, bias, labels, mask, want_value, visit, targets, weights):
        features, kernel, visit, bias = splits.align_visited(over, features, kernel, visit, bias)
        arguments = features, kernel, bias, labels - splits.first_row(kernel), mask, want_value, block_size, visit
        return lax.psum(blocked_bce.blocked_bce(*arguments, targets, weights), "class")

    batch = P(over.axis)
    in_specs = (over.own, P("class"), P("class"), batch, P("class"), P(), splits.visit_specs(visit), batch, batch)
    arguments = features, kernel, bias, labels, mask, want_value, visit, targets, weights
    return mapped.shard_map(local, in_specs=in_specs, out_specs=batch)(*arguments)


def topk(features, kernel, bias, mask, k: int, block_size: int | None, unit_rows: bool = False, centers: int = 1):
    """`chunked.blocked_topk` of a table split over 'class': each device's own best k, merged."""
    if splits.is_one_device():
        return chunked.blocked_topk(features, kernel, bias, mask, k, block_size, unit_rows, centers)

    over = splits.split_of(features)

    def local(features, kernel, bias, mask):
        features, kernel, bias = splits.align(over, features, kernel, bias)
        best, ids, lse = chunked.blocked_topk(features, kernel, bias, mask, k, block_size, unit_rows, centers)
        return best, jnp.where(ids < 0, -1, ids + splits.first_row(kernel) // centers), splits.combine_lse(lse)

    # The candidates stay split over 'class' until here; k * shards numbers of each example go to its device.
    out_specs = (P(over.axis, "class"), P(over.axis, "class"), P(over.axis))
    in_specs = (over.own, P("class"), P("class"), P("class"))
    best, ids, lse = mapped.shard_map(local, in_specs=in_specs, out_specs=out_specs)(features, kernel, bias, mask)
    if best.shape[1] == k:
        return best, ids, lse
    best, order = per_row.top_k(best, k)
    return best, jnp.take_along_axis(ids, order, axis=1), lse


def block_logits(table, queries, block_ids, split: bool = True, unit_rows: bool = False, visit: Visit | None = None):
    """`candidate_logits` of blocks alone."""
    return candidate_logits(table, queries, block_ids, block_ids[:, :0], split, unit_rows, visit)[0]


def candidate_logits(
    table, queries, block_ids, row_ids, split: bool = True, unit_rows: bool = False, visit: Visit | None = None
):
    """`candidate_logits.candidate_logits` of a table [P, n, D] that is split over 'class', or whole on every device.

    In both cases a device takes its own examples only, which it goes through one after the other. With a visit it is
    `owned_candidates.owned_candidate_logits`, of a table that is split.
    """
    if visit is not None and splits.is_one_device():
        return owned_candidate_logits(table, queries, block_ids, row_ids, visit, unit_rows)
    score = functools.partial(candidate_ops.candidate_logits, unit_rows=unit_rows)
    score_owned = functools.partial(owned_candidate_logits, unit_rows=unit_rows)
    if visit is None and (not split or per_row.axis_size("class") == 1):
        return on_own_examples(score, table, queries, block_ids, row_ids)

    over = splits.split_of(queries)

    def local(table, queries, block_ids, row_ids, visit):
        queries, table, visit = splits.align_visited(over, queries, table, visit)
        first = lax.axis_index("class") * table.shape[0]
        # Ids that another device holds are outside here, and count 0.
        ids = block_ids - first, row_ids - first * table.shape[1]
        found = score(table, queries, *ids) if visit is None else score_owned(table, queries, *ids, visit)
        return splits.sum_rows(over, found)

    in_specs = (P("class"), over.own, P(over.axis), P(over.axis), splits.visit_specs(visit))
    return mapped.shard_map(local, in_specs=in_specs, out_specs=over.own)(table, queries, block_ids, row_ids, visit)


def group_lse(
    features,
    weight,
    groups,
    labels,
    num_codes: int,
    block_size: int | None,
    with_total: bool,
    visit: Visit | None = None,
    offsets=None,
    weights=None,
):
    """`chunked.blocked_lse` over the members of some groups of a table [P, n, D] split over 'class'.

    Args:
      features, block_size, with_total, visit, weights: as there.
      weight: float [P, n, D].
      groups: int [U], ascending; others, such as P or above, are none.
      labels: int [B] or [B, W], codes group * n + member.
      num_codes: members at or above are no classes.
      offsets: float [U], added to the logits of each group's members, or [U, n], to each member's; or None.
    """

    def among(features, weight, held, offsets, labels, num_codes, visit, weights):
        most_rows = blocks.most_rows(features, block_size)
        held = jnp.where(held * weight.shape[1] < num_codes, held, -1)  # padding of the table, perhaps several times
        rows = row_ops.chosen(weight, held, labels, num_codes, most_rows, offsets)
        arguments = features, rows.table, rows.offsets, rows.labels, rows.mask, block_size, with_total, visit
        return chunked.blocked_lse(*arguments, weights)

    if splits.is_one_device():
        return among(features, weight, groups, offsets, labels, num_codes, visit, weights)

    over = splits.split_of(features)

    def local(features, weight, groups, labels, visit, offsets, weights):
        features, weight, visit, offsets = splits.align_visited(over, features, weight, visit, offsets)
        first, size = lax.axis_index("class") * weight.shape[0], weight.shape[1]
        # The groups are sorted, so those of this device are a contiguous run, no longer than its part of the table.
        run = jnp.searchsorted(groups, first, method="scan_unrolled") + jnp.arange(min(len(groups), weight.shape[0]))
        held = jnp.take(groups, run, mode="fill", fill_value=-1) - first
        own_labels = jnp.where(labels < 0, -1, labels - first * size)
        own_offsets = None if offsets is None else jnp.take(offsets, run, axis=0, mode="fill", fill_value=0.0)
        found = among(features, weight, held, own_offsets, own_labels, num_codes - first * size, visit, weights)
        return splits.combine(*found)

    batch = P(over.axis)
    in_specs = (over.own, P("class"), P(), batch, splits.visit_specs(visit), P(), batch)
    arguments = features, weight, groups, labels, visit, offsets, weights
    return mapped.shard_map(local, in_specs=in_specs, out_specs=batch)(*arguments)


def cosines(
    queries,
    table,
    labels,
    mask,
    scale: float,
    hard,
    block_size: int | None,
    visit: Visit | None = None,
    centers: int = 1,
):
    """`cosines.own_and_others` of a table [C, D] split over 'class'; results are split over 'data'."""
    own_and_others = functools.partial(cosine_ops.own_and_others, centers=centers)
    if splits.is_one_device():
        return own_and_others(queries, table, labels, mask, scale, hard, block_size, visit)

    over = splits.split_of(queries)

    def local(queries, table, labels, mask, hard, visit):
        queries, table, visit = splits.align_visited(over, queries, table, visit)
        labels = labels - splits.first_row(table)
        own, lse = own_and_others(queries, table, labels, mask, scale, hard, block_size, visit)
        return lax.psum(own, "class"), splits.combine_lse(lse)

    batch = P(over.axis)
    in_specs = (over.own, P("class"), batch, P("class"), _hard_specs(hard, batch), splits.visit_specs(visit))
    return mapped.shard_map(local, in_specs=in_specs, out_specs=batch)(queries, table, labels, mask, hard, visit)


def group_cosines(
    queries,
    weight,
    groups,
    labels,
    num_codes: int,
    num_groups: int,
    gathered: bool,
    scale: float,
    hard,
    block_size: int | None,
    visit: Visit | None = None,
    offsets=None,
    centers: int = 1,
):
    """`cosines.own_and_others` over the members of groups [parts, U] of `sampling.parted_groups`.

    Args:
      queries, labels, scale, hard, block_size, visit, centers: as there; labels are rows, group * n + member.
      weight: float [P, n, D], the whole table, or with `gathered` [parts * U, n, D], the groups alone in their order.
        Split over 'class', of which each device then holds whole parts.
      groups: int [parts, U], parts a multiple of the devices along 'class'.
      num_codes: members at or above are no classes.
      num_groups: groups that exist.
      gathered: see `weight`.
      offsets: float [parts, U], added to the logits of each group's members; or None.
    """
    parts = groups.shape[0]
    length = -(-num_groups // parts)

    def local(queries, weight, groups, labels, hard, visit, offsets, first):
        flat = groups.reshape(-1)
        part = jnp.repeat(first + jnp.arange(groups.shape[0]), groups.shape[1])
        # A part is filled up with the id after its last, which may be a group of the next part.
        live = (flat // length == part) & (flat < num_groups)
        of_groups = None if offsets is None else offsets.reshape(-1)
        if gathered:
            size = weight.shape[1]
            everything = weight.reshape(-1, weight.shape[2])
            rows = row_ops.located(everything, flat, live, labels, num_codes, parts * length, size, of_groups)
        else:
            begin, size = first * length, weight.shape[1]
            held, own_labels = jnp.where(live, flat - begin, -1), jnp.where(labels < 0, -1, labels - begin * size)
            most_rows = blocks.most_rows(queries, block_size)
            rows = row_ops.chosen(weight, held, own_labels, num_codes - begin * size, most_rows, of_groups, centers)
        arguments = queries, rows.table, rows.labels, rows.mask, scale, hard, block_size, visit, rows.offsets, centers
        return cosine_ops.own_and_others(*arguments)

    if splits.is_one_device():
        return local(queries, weight, groups, labels, hard, visit, offsets, 0)

    over = splits.split_of(queries)

    def on_device(queries, weight, groups, labels, hard, visit, offsets):
        queries, weight, visit, offsets = splits.align_visited(over, queries, weight, visit, offsets)
        first = lax.axis_index("class") * groups.shape[0]
        own, lse = local(queries, weight, groups, labels, hard, visit, offsets, first)
        return lax.psum(own, "class"), splits.combine_lse(lse)

    batch = P(over.axis)
    in_specs = (
        over.own,
        P("class"),
        P("class"),
        batch,
        _hard_specs(hard, batch),
        splits.visit_specs(visit),
        P("class"),
    )
    arguments = queries, weight, groups, labels, hard, visit, offsets
    return mapped.shard_map(on_device, in_specs=in_specs, out_specs=batch)(*arguments)


def on_own_examples(function, tables, *examples):
    """`function(tables, *examples)` of tables that every device has whole, each taking its own of the examples [B, ..].

    Examples are split over both axes if they divide, or else over 'data'; without a mesh it is a plain call.
    """
    shape = jax.sharding.get_abstract_mesh().shape
    axes = next((axes for axes in (("data", "class"), ("data",)) if splits.divides(examples[0], axes, shape)), None)
    if axes is None:
        return function(tables, *examples)

    def on_device(tables, *examples):
        return function(jax.tree.map(lambda table: lax.pcast(table, axes, to="varying"), tables), *examples)

    in_specs = (P(), *[P(axes)] * len(examples))
    return mapped.shard_map(on_device, in_specs=in_specs, out_specs=P(axes))(tables, *examples)


def _hard_specs(hard, batch):
    """Of `cosines.HardNegatives` the thresholds go with their examples, the boost is everybody's."""
    return P() if hard is None else cosine_ops.HardNegatives(batch, P())
