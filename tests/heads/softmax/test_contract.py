"""What every head must do alike: construction from a config, and one result on every mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta
from ml_collections import ConfigDict

from mhe_jax.heads import DEFAULT_NUM_HEADS, HEADS, build_head
from mhe_jax.heads.base import Context
from mhe_jax.labels import LabelSpace

SPACE, DIM, BATCH = LabelSpace(53, (5, 4, 3)), 6, 16

VARIANTS = {
    "ohe": {"name": "ohe", "block_size": 3, "label_smoothing": 0.1},
    "ohe bottleneck": {"name": "ohe", "bottleneck": 4, "block_size": 3},
    "ohe frequent": {"name": "ohe", "bottleneck": 4, "frequent": 11, "block_size": 3},
    "mhp": {"name": "mhp", "label_smoothing": 0.1},
    "mhp rank": {"name": "mhp", "rank": 2},
    "mhc": {"name": "mhc", "hidden_dim": 5, "beam_width": 3, "label_smoothing": 0.1},
    "mhc candidates": {
        "name": "mhc",
        "hidden_dim": 5,
        "objective": "candidates",
        "num_candidates": 3,
        "beam_width": 2,
        "label_smoothing": 0.1,
    },
    "mhs per_example": {"name": "mhs", "sampler": {"name": "per_example", "num_groups": 2, "subtract_log_q": True}},
    "mhs random_groups": {
        "name": "mhs",
        "sampler": {"name": "random_groups", "rate": 0.8, "parts": 1},
        "label_smoothing": 0.1,
    },
    "mhs parts": {
        "name": "mhs",
        "sampler": {"name": "random_groups", "rate": 0.9, "parts": 3, "subtract_log_q": True},
    },
}


def results(fields):
    """Loss, gradients (tables without their padding), top-k and scores, all from one jitted function."""
    head = build_head(ConfigDict({**fields, "head_sizes": (5, 4, 3)}), SPACE, DIM)
    features = 3 * jax.random.normal(jax.random.key(1), (BATCH, DIM))
    labels = jax.random.randint(jax.random.key(2), (BATCH,), 0, 53)

    @jax.jit
    def run(features):
        params = meta.unbox(head.init(jax.random.key(0), features[:1], 1, method="topk"))["params"]
        params = jax.tree.map(lambda x: 3 * x, params)

        def loss(params, features):
            per_example, _ = head.apply(
                {"params": params}, features, labels, Context(key=jax.random.key(3)), method="loss"
            )
            return per_example @ jnp.linspace(0.5, 1.5, BATCH), per_example

        (_, per_example), grads = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, features)
        scores, ids = head.apply({"params": params}, features, 7, method="topk")
        single, _ = head.apply({"params": params}, features[:1], 7, method="topk")
        again = head.apply({"params": params}, features, jnp.maximum(ids, 0), method="scores")
        return per_example, grads, scores, ids, again, single

    return jax.tree.map(np.asarray, run(features))


@pytest.fixture(scope="module")
def on_one_device():
    return {name: results(fields) for name, fields in VARIANTS.items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_mesh_gives_one_result(variant, mesh, on_one_device):
    per_example, grads, scores, ids, again, single = results(VARIANTS[variant])
    expected = on_one_device[variant]
    np.testing.assert_allclose(per_example, expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(ids, expected[3])
    for ours, oracle in ((scores, expected[2]), (again, expected[4]), (single, expected[5])):
        np.testing.assert_allclose(ours, oracle, rtol=1e-5, atol=1e-5)

    def same(path, ours, oracle):
        rows = oracle.shape[0]
        # A sum over a mesh is rounded by the largest of what it adds up.
        atol = max(2e-5, 1e-6 * np.abs(oracle).max())
        np.testing.assert_allclose(ours[:rows], oracle, rtol=1e-5, atol=atol, err_msg=str(path))
        assert not ours[rows:].any(), f"{path}: padding rows have a gradient"

    jax.tree_util.tree_map_with_path(same, grads, expected[1])


@pytest.mark.parametrize("name", ["ohe", "mhs"])
def test_no_device_holds_the_whole_table(name):
    """The compiled gradient of a sharded table neither gathers the table nor reduces a whole one."""
    mesh = jax.make_mesh((2, 4), ("data", "class"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    space, dim = LabelSpace(1003, (59, 17)), 16
    fields = {"name": name, **({"sampler": {"name": "batch_union"}} if name == "mhs" else {})}
    with jax.set_mesh(mesh):
        head = build_head(ConfigDict(fields), space, dim)
        features, labels = jnp.ones((BATCH, dim)), jnp.arange(BATCH) * 60
        boxed = jax.eval_shape(lambda: head.init(jax.random.key(0), features, 1, method="topk"))["params"]
        sharding = lambda spec: jax.sharding.NamedSharding(mesh, spec)
        shapes = jax.tree.map(
            lambda box: jax.ShapeDtypeStruct(
                box.value.shape, box.value.dtype, sharding=sharding(box.get_partition_spec())
            ),
            boxed,
            is_leaf=lambda leaf: isinstance(leaf, meta.Partitioned),
        )
        loss = lambda p: head.apply({"params": p}, features, labels, method="loss")[0].sum()
        text = jax.jit(jax.value_and_grad(loss)).lower(shapes).compile().as_text()
    whole = {"ohe": ["f32[1004,16]", "f32[1003,16]"], "mhs": ["f32[60,17,16]", "f32[1020,16]"]}[name]
    local = {"ohe": "f32[251,16]", "mhs": "f32[15,17,16]"}[name]
    assert local in text
    assert not any(shape in text for shape in whole)


@pytest.mark.parametrize("name", HEADS)
def test_more_results_than_classes_are_refused(name):
    head = build_head(ConfigDict({"name": name}), SPACE, DIM)
    with pytest.raises(ValueError, match="k=54 classes asked for, but there are 53"):
        head.init(jax.random.key(0), jnp.zeros((1, DIM)), 54, method="topk")


def test_build_head_names_wrong_fields():
    with pytest.raises(ValueError, match="config.head.name is 'mhx'; it must be one of mhc, mhp, mhs, ohe"):
        build_head(ConfigDict({"name": "mhx"}), SPACE, DIM)
    with pytest.raises(ValueError, match="config.head.beams is not a field of 'mhc'"):
        build_head(ConfigDict({"name": "mhc", "beams": 3}), SPACE, DIM)


def test_every_head_has_a_default_number_of_digits():
    assert set(DEFAULT_NUM_HEADS) == set(HEADS)
