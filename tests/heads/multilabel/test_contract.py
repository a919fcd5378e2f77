"""What the heads for many labels must do alike: one result on every mesh, and with some of a table's blocks only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta
from ml_collections import ConfigDict

from mhe_jax.heads import HEADS, MULTILABEL_HEADS, build_head
from mhe_jax.heads.base import Context
from mhe_jax.labels import LabelSpace

DIM, BATCH, WIDTH = 6, 16, 7
TWO, THREE = LabelSpace(53, (11, 5)), LabelSpace(53, (5, 4, 3))

RANDOM = {"name": "random_groups", "rate": 0.8, "parts": 1}

VARIANTS = {
    "ohe": ({"name": "ohe", "block_size": 3}, TWO),
    "ohe frequent": ({"name": "ohe", "block_size": 3, "bottleneck": 4, "frequent": 11}, TWO),
    "mhc": ({"name": "mhc", "hidden_dim": 5, "num_candidates": 4}, TWO),
    "mhc 3": ({"name": "mhc", "hidden_dim": 5, "num_candidates": 3, "reduction": "sum"}, THREE),
    "mhc published": (
        {"name": "mhc", "hidden_dim": 5, "num_candidates": 3, "mask_padding": False, "max_labels": 4},
        TWO,
    ),
    "mhp": ({"name": "mhp", "label_smoothing": 0.1}, THREE),
    "mhs": ({"name": "mhs", "label_smoothing": 0.1}, TWO),
    "mhs random": (
        {"name": "mhs", "sampler": {"name": "random_groups", "rate": 0.8, "parts": 1}, "reduction": "mean"},
        TWO,
    ),
    "mhs corrected": (
        {"name": "mhs", "sampler": {"name": "random_groups", "rate": 0.95, "parts": 1, "subtract_log_q": True}},
        TWO,
    ),
}
MESH = ["ohe", "ohe frequent", "mhc", "mhc 3", "mhc published", "mhs", "mhs corrected"]
SPARSE = [name for name in VARIANTS if name[:3] in ("mhc", "mhs")]


def documents(space):
    """Features, and rows of 0 .. 7 labels with padding between them."""
    rng = np.random.default_rng(0)
    labels = np.full((BATCH, WIDTH), -1, np.int32)
    for row in range(BATCH):
        count = row % (WIDTH + 1)
        labels[row, rng.permutation(WIDTH)[:count]] = rng.choice(space.num_classes, count, replace=False)
    return jnp.asarray(rng.standard_normal((BATCH, DIM), dtype=np.float32)), jnp.asarray(labels)


def made(variant):
    """A head, and parameters of order 1 that depend neither on the mesh nor on the padding of tables."""
    fields, space = VARIANTS[variant]
    head = build_head(ConfigDict({**fields, "head_sizes": ()}), space, DIM, kind="multilabel")
    boxed = jax.eval_shape(lambda: head.init(jax.random.key(0), jnp.zeros((1, DIM)), 1, method="topk"))["params"]
    first = fields.get("frequent", 53)
    table_rows = {"kernel": first, "bias": first, "tail_kernel": 53 - first, "tail_bias": 53 - first}
    table_rows |= {"table_1": space.head_sizes[0], "table_2": 20, "weight": 11}

    def draw(path, leaf):
        rng = np.random.default_rng(len(jax.tree_util.keystr(path)))
        shape = leaf.value.shape if is_box(leaf) else leaf.shape
        rows, values = table_rows[path[0].key] if is_box(leaf) else shape[0], np.zeros(shape, np.float32)
        values[:rows] = rng.standard_normal((rows, *shape[1:]))
        return jnp.asarray(values)

    return head, jax.tree_util.tree_map_with_path(draw, boxed, is_leaf=is_box)


def is_box(leaf):
    return isinstance(leaf, meta.Partitioned)


def results(variant):
    head, params = made(variant)
    features, labels = documents(head.label_space)

    @jax.jit
    def run(params, features):
        def loss(params, features):
            per_example, _ = head.apply(
                {"params": params}, features, labels, Context(key=jax.random.key(3)), method="loss"
            )
            return per_example @ jnp.linspace(0.5, 1.5, BATCH), per_example

        (_, per_example), grads = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, features)
        scores, ids = head.apply({"params": params}, features, 7, method="topk")
        single = head.apply({"params": params}, features[:1], 7, method="topk")[0]
        again = head.apply({"params": params}, features, jnp.maximum(ids, 0), method="scores")
        return per_example, grads, scores, ids, again, single

    return jax.tree.map(np.asarray, run(params, features))


@pytest.fixture(scope="module")
def on_one_device():
    return {name: results(name) for name in MESH}


@pytest.mark.parametrize("variant", MESH)
def test_every_mesh_gives_one_result(variant, mesh, on_one_device):
    per_example, grads, scores, ids, again, single = results(variant)
    expected = on_one_device[variant]
    np.testing.assert_allclose(per_example, expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(ids, expected[3])
    for ours, oracle in ((scores, expected[2]), (again, expected[4]), (single, expected[5])):
        np.testing.assert_allclose(ours, oracle, rtol=1e-5, atol=1e-5)

    def same(path, ours, oracle):
        rows = oracle.shape[0]
        np.testing.assert_allclose(ours[:rows], oracle, rtol=1e-5, atol=2e-5, err_msg=str(path))
        assert not ours[rows:].any(), f"{path}: padding rows have a gradient"

    jax.tree_util.tree_map_with_path(same, grads, expected[1])


@pytest.mark.parametrize("variant", SPARSE)
def test_some_blocks_of_a_table_do_for_the_whole(variant):
    compare_with_blocks(*made(variant))


@pytest.mark.parametrize("variant", ["mhc", "mhs"])
@pytest.mark.parametrize("shape", [(2, 4), (8, 1)], ids=str)
def test_some_blocks_of_a_sharded_table_do_for_the_whole(variant, shape):
    mesh = jax.make_mesh(shape, ("data", "class"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        compare_with_blocks(*made(variant))


def compare_with_blocks(head, params):
    features, labels = documents(head.label_space)
    weights, key = jnp.linspace(0.5, 1.5, BATCH), jax.random.key(3)
    tables = head.sparse_tables()

    def loss(params, features, blocks):
        arguments = features, labels, Context(key=key, blocks=blocks)
        per_example, values = head.apply({"params": params}, *arguments, method="loss")
        return per_example @ weights, (per_example, values)

    @jax.jit
    def run(params, features):
        blocks = head.apply({"params": params}, features, labels, Context(key=key), method="blocks")
        held = {name: jnp.take(params[name], blocks[name], axis=0, mode="clip") for name in tables}
        gradient = jax.value_and_grad(loss, (0, 1), has_aux=True)
        return blocks, gradient(params, features, None), gradient({**params, **held}, features, blocks)

    blocks, whole, part = run(params, features)
    assert set(blocks) == set(tables)
    np.testing.assert_allclose(part[0][0], whole[0][0], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), part[0][1], whole[0][1])
    np.testing.assert_allclose(part[1][1], whole[1][1], rtol=1e-5, atol=1e-5)
    for name, ours in part[1][0].items():
        oracle = whole[1][0][name]
        if name in tables:
            ids, count = np.asarray(blocks[name]), len(oracle)
            assert (np.diff(ids) > 0)[ids[1:] < count].all()
            assert ids.max() <= count
            assert not np.asarray(ours)[ids == count].any()
            unused = np.setdiff1d(np.arange(count), ids)
            assert not np.asarray(oracle)[unused].any()
            ours, oracle = np.asarray(ours)[ids < count], np.asarray(oracle)[ids[ids < count]]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, oracle)


def test_few_documents_use_few_blocks():
    """The number of blocks follows from the shapes: documents times candidates, or labels where these are more."""
    space = LabelSpace(1000, (100, 10))
    counts = {}
    for k in (2, 5):
        head = build_head(
            ConfigDict({"name": "mhc", "hidden_dim": 4, "num_candidates": k}), space, DIM, kind="multilabel"
        )
        run = lambda module: module.blocks(jnp.zeros((3, DIM)), jnp.full((3, 4), -1))
        shapes = jax.eval_shape(lambda: head.init_with_output(jax.random.key(0), method=run))[0]  # noqa: B023
        counts[k] = shapes["table_1"].shape
    assert counts == {2: (12,), 5: (15,)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_document_without_labels_has_a_finite_loss_and_gradient(variant):
    head, params = made(variant)
    features, _ = documents(head.label_space)
    nothing = jnp.full((BATCH, WIDTH), -1)

    def loss(params, features):
        per_example, _ = head.apply(
            {"params": params}, features, nothing, Context(key=jax.random.key(0)), method="loss"
        )
        return per_example.sum(), per_example

    grads, per_example = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, features)
    assert jnp.isfinite(per_example).all()
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    # A softmax over labels says nothing about a document that has none; a sigmoid says that it has none.
    assert (per_example == 0).all() == (variant[:3] in ("mhp", "mhs"))


def test_only_a_head_that_can_leaves_out_its_value():
    assert [name for name, head in MULTILABEL_HEADS.items() if head.lazy_value] == ["ohe"]
    assert set(MULTILABEL_HEADS) == set(HEADS)


@pytest.mark.parametrize("name", ["ohe", "mhc"])
def test_no_device_holds_the_whole_table_nor_any_the_logits_of_all_labels(name):
    mesh = jax.make_mesh((2, 4), ("data", "class"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    space, dim = LabelSpace(2003, (119, 17)), 16
    fields = {"name": name, **({"hidden_dim": dim, "num_candidates": 1} if name == "mhc" else {"block_size": 100})}
    with jax.set_mesh(mesh):
        head = build_head(ConfigDict(fields), space, dim, kind="multilabel")
        features, labels = jnp.ones((BATCH, dim)), jnp.arange(BATCH * 3).reshape(BATCH, 3) * 40
        boxed = jax.eval_shape(lambda: head.init(jax.random.key(0), features, 1, method="topk"))["params"]
        place = lambda box: jax.ShapeDtypeStruct(
            box.value.shape, box.value.dtype, sharding=jax.sharding.NamedSharding(mesh, box.get_partition_spec())
        )
        shapes = jax.tree.map(lambda leaf: place(leaf) if is_box(leaf) else leaf, boxed, is_leaf=is_box)
        loss = lambda p: head.apply({"params": p}, features, labels, method="loss")[0].sum()
        text = jax.jit(jax.value_and_grad(loss)).lower(shapes).compile().as_text()
    local, whole = {
        "ohe": ("f32[501,16]", ["f32[2004,16]", "f32[2003,16]"]),
        "mhc": ("f32[30,17,16]", ["f32[120,17,16]", "f32[119,17,16]"]),
    }[name]
    logits = [f"f32[{rows},{columns}]" for rows in (8, BATCH) for columns in (501, 510, 2003, 2004, 2023, 2040)]
    logits += [f"f32[{rows},{blocks},17]" for rows in (8, BATCH) for blocks in (30, 119, 120)]
    assert local in text
    assert not any(shape in text for shape in whole + logits)


def test_build_head_names_wrong_fields():
    with pytest.raises(ValueError, match="config.head.num_candidates is not a field of 'ohe'"):
        build_head(ConfigDict({"name": "ohe", "num_candidates": 3}), TWO, DIM, kind="multilabel")
    with pytest.raises(ValueError, match="config.head.objective is not a field of 'mhc'"):
        build_head(ConfigDict({"name": "mhc", "objective": "path"}), TWO, DIM, kind="multilabel")
