"""Logits of candidate blocks and single rows against the product with the whole table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.ops import candidate_logits as ops
from mhe_jax.ops.candidate_logits import candidate_logits

BLOCKS, SIZE, DIM, BATCH = 61, 5, 3, 7


@pytest.fixture(params=[1, 60, 2**22], ids=["one example at a time", "several", "all"])
def gathered_floats(request, monkeypatch):
    monkeypatch.setattr(ops, "_GATHERED_FLOATS", request.param)


def problem(width=2, rows=3, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    table = jnp.asarray(rng.standard_normal((BLOCKS, SIZE, DIM), dtype=np.float32))
    queries = jnp.asarray(rng.standard_normal((BATCH, DIM), dtype=np.float32)).astype(dtype)
    block_ids = rng.integers(0, BLOCKS, (BATCH, width))
    row_ids = rng.integers(0, BLOCKS * SIZE, (BATCH, rows))
    block_ids[1, 0], block_ids[2, -1], row_ids[3, :1], row_ids[4, :2] = -1, BLOCKS, -1, BLOCKS * SIZE
    block_ids[5] = block_ids[6]  # a block for several examples, and a row inside it
    row_ids[5, 1:2] = block_ids[5, 0] * SIZE + 2
    return table, queries, jnp.asarray(block_ids), jnp.asarray(row_ids)


def dense(table, queries, block_ids, row_ids):
    logits = jnp.einsum("bd,pnd->bpn", queries.astype(jnp.float32), table)
    padded = jnp.pad(logits, [(0, 0), (0, 1), (0, 0)])  # one block of zeros for ids outside
    at = lambda ids, bound: jnp.where((ids >= 0) & (ids < bound), ids, bound)
    blocks = jnp.take_along_axis(padded, at(block_ids, BLOCKS)[:, :, None], axis=1)
    return blocks, jnp.take_along_axis(padded.reshape(BATCH, -1), at(row_ids, BLOCKS * SIZE), axis=1)


def weighted(fn, block_ids, row_ids):
    def value(table, queries):
        blocks, rows = fn(table, queries, block_ids, row_ids)
        return (blocks * jnp.arange(blocks.size).reshape(blocks.shape)).sum() - (rows**2).sum()

    return value


@pytest.mark.parametrize(("width", "rows"), [(2, 3), (3, 0), (1, 1), (BLOCKS, 4)], ids=str)
@pytest.mark.usefixtures("gathered_floats")
def test_values_and_gradients_equal_the_dense_ones(width, rows):
    """Width 61 of 61 blocks takes the product with the whole table."""
    table, queries, block_ids, row_ids = problem(width, rows)
    ours, oracle = (jax.jit(fn)(table, queries, block_ids, row_ids) for fn in (candidate_logits, dense))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, oracle)
    ours, oracle = (
        jax.jit(jax.grad(weighted(fn, block_ids, row_ids), (0, 1)))(table, queries) for fn in (candidate_logits, dense)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, oracle)


@pytest.mark.parametrize("width", [2, BLOCKS])
def test_bfloat16_rounds_the_inputs_only(width):
    table, queries, block_ids, row_ids = problem(width, dtype=jnp.bfloat16)
    rounded = table.astype(jnp.bfloat16).astype(jnp.float32)
    ours, oracle = candidate_logits(table, queries, block_ids, row_ids), dense(rounded, queries, block_ids, row_ids)
    assert {leaf.dtype for leaf in ours} == {jnp.dtype("float32")}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, oracle)
    ours, oracle = (
        jax.grad(lambda t, q: fn(t, q, block_ids, row_ids)[0].sum(), (0, 1))(table, queries)  # noqa: B023
        for fn in (candidate_logits, dense)
    )
    assert (ours[0].dtype, ours[1].dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_allclose(ours[0], oracle[0], rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(ours[1].astype(np.float32), oracle[1].astype(np.float32), rtol=2e-2, atol=2e-2)


def test_the_backward_pass_makes_one_table_and_no_gathered_copy():
    """Whole tables are written by the zeros and by the two updates in place, and no array is larger than one."""
    table, queries, block_ids, row_ids = problem()
    gradient = jax.jit(jax.grad(weighted(candidate_logits, block_ids, row_ids), (0, 1)))
    memory = gradient.lower(table, queries).compile().memory_analysis()
    assert memory.output_size_in_bytes >= table.nbytes
    assert memory.temp_size_in_bytes < table.nbytes


@pytest.mark.parametrize("num_blocks", [3, 500], ids=["dense", "gathered"])
@pytest.mark.parametrize("unit_rows", [False, True], ids=["logits", "cosines"])
def test_block_logits_and_gradients_on_both_paths(num_blocks, unit_rows):
    keys = jax.random.split(jax.random.key(0), 4)
    table, queries = jax.random.normal(keys[0], (num_blocks, 4, 7)), jax.random.normal(keys[1], (5, 7))
    ids = jax.random.randint(keys[2], (5, 2), 0, num_blocks)
    weights = jax.random.normal(keys[3], (5, 2, 4))

    def oracle(table, queries):
        table = table / jnp.linalg.norm(table, axis=2, keepdims=True) if unit_rows else table
        return jnp.stack([jnp.stack([table[ids[b, w]] @ queries[b] for w in range(2)]) for b in range(5)])

    ours = lambda table, queries: ops.block_logits(table, queries, ids, unit_rows)
    dense_shapes = str(jax.make_jaxpr(ours)(table, queries)).count(f"[5,{num_blocks},4]")
    assert (dense_shapes > 0) == (num_blocks == 3)
    np.testing.assert_allclose(ours(table, queries), oracle(table, queries), rtol=1e-5, atol=1e-5)
    gradients = [
        jax.grad(lambda t, q, fn=fn: (weights * fn(t, q)).sum(), (0, 1))(table, queries) for fn in (ours, oracle)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *gradients)
