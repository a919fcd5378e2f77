"""What every head on cosines must do alike: one result on every mesh, and on the blocks of a sparse table."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta
from ml_collections import ConfigDict

from mhe_jax.heads import MARGIN_HEADS, build_head
from mhe_jax.heads.base import Context
from mhe_jax.labels import LabelSpace
from mhe_jax.train.optim import rules
from mhe_jax.train.optim.table_rules import SGD

SPACE, DIM, BATCH, NUM_CLASSES = LabelSpace(53, (9, 6)), 6, 16, 53
ARCFACE, CURRICULAR = {"name": "arcface", "scale": 8.0, "m": 0.3}, {"name": "curricularface", "scale": 8.0, "m": 0.3}
VARIANTS = {
    "ohe": {"name": "ohe", "block_size": 7, "margin": ARCFACE},
    "ohe curricular": {"name": "ohe", "block_size": 7, "margin": CURRICULAR},
    "ohe sub-centers": {"name": "ohe", "block_size": 7, "margin": CURRICULAR, "sub_centers": 3},
    "mhp": {"name": "mhp", "margin": ARCFACE},
    "mhp bce": {"name": "mhp", "margin": ARCFACE, "objective": "bce_per_head"},
    "mhc": {"name": "mhc", "margin": CURRICULAR},
    "mhs batch_union": {"name": "mhs", "margin": ARCFACE, "sampler": {"name": "batch_union", "parts": 8}},
    "mhs random_groups": {
        "name": "mhs",
        "margin": CURRICULAR,
        "sampler": {"name": "random_groups", "rate": 0.5, "parts": 8},
        "block_size": 5,
    },
    "mhs corrected": {
        "name": "mhs",
        "margin": CURRICULAR,
        "sampler": {"name": "random_groups", "rate": 0.7, "parts": 8, "subtract_log_q": True},
        "block_size": 5,
    },
    "mhs sub-centers": {
        "name": "mhs",
        "margin": CURRICULAR,
        "sampler": {"name": "random_groups", "rate": 0.3, "parts": 8, "subtract_log_q": True},
        "sub_centers": 2,
        "block_size": 5,
    },
    "mhs per_example sub-centers": {
        "name": "mhs",
        "margin": ARCFACE,
        "sampler": {"name": "per_example", "num_groups": 2},
        "sub_centers": 2,
    },
    "mhs positive_only": {"name": "mhs", "margin": ARCFACE, "sampler": {"name": "positive_only"}},
    "mhs per_example": {
        "name": "mhs",
        "margin": CURRICULAR,
        "sampler": {"name": "per_example", "num_groups": 2, "subtract_log_q": True},
    },
}
SPARSE = ["mhs batch_union", "mhs random_groups", "mhs corrected", "mhs sub-centers"]


def batch():
    features = 3 * jax.random.normal(jax.random.key(1), (BATCH, DIM))
    return features, jax.random.randint(jax.random.key(2), (BATCH,), 0, NUM_CLASSES).at[3].set(-1)


def head_and_params(fields):
    head = build_head(ConfigDict({**fields, "head_sizes": SPACE.head_sizes}), SPACE, DIM)
    # Rows of about unit length, so that gradients with respect to them are of order one.
    init = lambda x: meta.unbox(head.init(jax.random.key(0), x[:1], 1, method="topk"))["params"]
    return head, lambda x: jax.tree.map(lambda leaf: 40 * leaf, init(x))


def results(fields, sparse=False):
    """Loss, metrics, gradients, top-k and scores, all from one jitted function."""
    head, init = head_and_params(fields)
    features, labels = batch()
    weight = (labels >= 0).astype(jnp.float32)
    context = Context(key=jax.random.key(3), weight=weight, statistics=head.statistics())

    @jax.jit
    def run(features):
        params = init(features)
        blocks = head.apply({"params": params}, features, labels, context, method="blocks") if sparse else {}
        held = dataclasses.replace(context, blocks=blocks)
        used = {**params, **{name: rules.gather(params[name], ids) for name, ids in blocks.items()}}

        def loss(params, features):
            per_example, values = head.apply({"params": params}, features, labels, held, method="loss")
            return jnp.where(weight > 0, per_example, 0.0) @ jnp.linspace(0.5, 1.5, BATCH), (per_example, values)

        (_, (per_example, values)), grads = jax.value_and_grad(loss, (0, 1), has_aux=True)(used, features)
        if sparse:
            rule = SGD()
            return per_example, values, rules.apply(rule, params, {"weight": {}}, blocks, grads[0], 1.0)[0]
        scores, ids = head.apply({"params": params}, features, 7, method="topk")
        again = head.apply({"params": params}, features, jnp.maximum(ids, 0), method="scores")
        statistics = head.updated_statistics(head.statistics(), values, weight)
        return per_example, values, grads, scores, ids, again, statistics, params

    return jax.tree.map(np.asarray, run(features))


@pytest.fixture(scope="module")
def on_one_device():
    return {name: results(fields) for name, fields in VARIANTS.items()}


def same(path, ours, oracle):
    if ours.ndim:  # a table may have other padding rows
        rows = min(ours.shape[0], oracle.shape[0])
        ours, oracle = ours[:rows], oracle[:rows]
    np.testing.assert_allclose(ours, oracle, rtol=1e-5, atol=2e-5, err_msg=str(path))


@pytest.mark.parametrize("mesh", [(4, 2), (1, 8)], indirect=True)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_mesh_gives_one_result(variant, mesh, on_one_device):
    found = results(VARIANTS[variant])
    jax.tree_util.tree_map_with_path(same, found, on_one_device[variant])


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_are_those_of_the_ranking_and_probabilities(variant, on_one_device):
    *_, scores, ids, again, _, _ = on_one_device[variant]
    live = ids >= 0
    np.testing.assert_allclose(again[live], scores[live], rtol=1e-5, atol=1e-5)
    assert (np.diff(scores, axis=1)[live[:, 1:]] <= 1e-6).all()
    head, init = head_and_params(VARIANTS[variant])
    features, _ = batch()
    every = jnp.broadcast_to(jnp.arange(NUM_CLASSES), (BATCH, NUM_CLASSES))
    params = init(features)
    total = jnp.exp(head.apply({"params": params}, features, every, method="scores")).sum(axis=1)
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)


@pytest.mark.parametrize("mesh", [(8, 1), (2, 4)], indirect=True)
@pytest.mark.parametrize("variant", SPARSE)
def test_blocks_of_a_table_give_the_dense_loss_and_update(variant, mesh, on_one_device):
    per_example, values, tables = results(VARIANTS[variant], sparse=True)
    expected, expected_values, (dense, _), *_, params = on_one_device[variant]
    np.testing.assert_allclose(per_example, expected, rtol=1e-5, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), values, expected_values)
    rows = SPACE.head_sizes[0]
    np.testing.assert_allclose(
        tables["weight"][:rows], (params["weight"] - dense["weight"])[:rows], rtol=1e-4, atol=2e-5
    )


@pytest.mark.parametrize("variant", SPARSE)
def test_no_device_holds_the_whole_table(variant):
    """A class-parallel step on gathered blocks neither gathers the table nor the blocks of other devices."""
    space, dim = LabelSpace(1003, (1003, 1)), 16
    mesh = jax.make_mesh((2, 4), ("data", "class"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    fields = {**VARIANTS[variant]}
    fields["sampler"] = {**fields["sampler"], "parts": 4}
    with jax.set_mesh(mesh):
        head = build_head(ConfigDict(fields), space, dim)
        features, labels, key = jnp.ones((BATCH, dim)), jnp.arange(BATCH) * 60, jax.random.key(0)
        boxed = jax.eval_shape(lambda: head.init(key, features, 1, method="topk"))["params"]["weight"]
        sharding = jax.sharding.NamedSharding(mesh, boxed.get_partition_spec())
        table = jax.ShapeDtypeStruct(boxed.value.shape, jnp.float32, sharding=sharding)

        def update(table):
            blocks = head.apply({"params": {"weight": table}}, features, labels, Context(key=key), method="blocks")
            rows = {"weight": rules.gather(table, blocks["weight"])}
            loss = lambda p: head.apply(
                {"params": p}, features, labels, Context(key=key, blocks=blocks), method="loss"
            )[0].sum()
            grads = jax.grad(loss)(rows)
            return rules.apply(SGD(), {"weight": table}, {"weight": {}}, blocks, grads, 1.0)[0]["weight"]

        text = jax.jit(update, out_shardings=sharding).lower(table).compile().as_text()
    used = {"mhs batch_union": 16, "mhs random_groups": 125, "mhs corrected": 175, "mhs sub-centers": 75}[variant]
    width = 16 * fields.get("sub_centers", 1)
    assert f"f32[251,1,{width}]" in text
    assert f"f32[1004,1,{width}]" not in text
    assert f"f32[{used},1,{width}]" in text or f"f32[{used},{width}]" in text
    assert f"f32[{4 * used},1,{width}]" not in text
    assert f"f32[{4 * used},{width}]" not in text


@pytest.mark.parametrize("variant", VARIANTS)
def test_zero_features_give_finite_losses_and_gradients(variant):
    head, init = head_and_params(VARIANTS[variant])
    features, labels = batch()
    features, params = features.at[2].set(0.0), init(features)
    loss = lambda p, x: head.apply({"params": p}, x, labels, Context(key=jax.random.key(0)), method="loss")[0].sum()
    grads = jax.jit(jax.grad(loss, (0, 1)))(params, features)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("name", ["ohe", "mhp"])
def test_features_that_are_no_numbers_have_no_loss(name):
    head = build_head(name, num_classes=8, features_dim=DIM, margin=ARCFACE)
    features, labels = jnp.ones((2, DIM)).at[0, 1].set(jnp.nan), jnp.array([1, 5])
    loss = head.apply(head.init(jax.random.key(0), features, labels), features, labels)
    assert np.isnan(loss).tolist() == [True, False]


def test_a_batch_of_one_identity_without_others_has_no_loss_on_devices_either():
    """No other class anywhere: log-sum-exps of -inf meet on every device."""
    space, labels = LabelSpace(8, (8, 1)), jnp.full(8, 5)
    mesh = jax.make_mesh((2, 4), ("data", "class"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        head = build_head(ConfigDict({"name": "mhs", "margin": ARCFACE}), space, DIM)
        params = meta.unbox(head.init(jax.random.key(0), jnp.ones((1, DIM)), 1, method="topk"))
        loss = lambda p, x: head.apply(p, x, labels, method="loss")[0].sum()
        value, grads = jax.jit(jax.value_and_grad(loss, (0, 1)))(params, jnp.ones((8, DIM)))
    assert value == 0
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(grads))


def test_coverage_is_the_share_of_the_groups_in_a_step():
    labels = jnp.array([0, 5, 6, 52])  # groups 0, 0, 1, 8 of 9
    features = jnp.ones((4, DIM))
    for sampler, expected in (
        ({"name": "batch_union", "parts": 2}, 3),
        ({"name": "positive_only"}, 3),
        # Of three parts of three groups one is drawn from each; the first holds two true ones, the last one.
        ({"name": "random_groups", "parts": 3, "rate": 0.5}, 4),
    ):
        fields = {"name": "mhs", "sampler": sampler, "margin": ARCFACE}
        head, init = head_and_params(fields)
        _, values = head.apply(
            {"params": init(features)}, features, labels, Context(key=jax.random.key(1)), method="loss"
        )
        np.testing.assert_allclose(values["coverage"], expected / 9, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"name": "mhs", "sampler": {"name": "all"}},
            "config.head.sampler.name is 'all'; it must be one of",
        ),
        ({"name": "mhs", "sampler": {"name": "random_groups", "rate": -0.1}}, "config.head.sampler.rate is -0.1"),
        ({"name": "mhs", "sampler": {"name": "per_example", "num_groups": 0}}, "config.head.sampler.num_groups is 0"),
        (
            {"name": "mhs", "sampler": {"name": "batch_union", "rate": 0.1}},
            "config.head.sampler.rate is not a field",
        ),
        ({"name": "mhp", "objective": "bce"}, "config.head.objective is 'bce'; it must be one of ce_per_head"),
        ({"name": "mhp", "objective": "bce_per_head", "margin": CURRICULAR}, "has no softmax in which hard negatives"),
        ({"name": "mhc", "beam_width": 0}, "config.head.beam_width is 0"),
        ({"name": "ohe", "label_smoothing": 0.1}, "config.head.label_smoothing is not a field of 'ohe'"),
        ({"name": "ohe", "margin": {"name": "arc"}}, "config.head.margin.name is 'arc'; it must be one of adaface"),
        ({"name": "ohe", "use_bias": True}, "config.head.use_bias is not a field of 'ohe'"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    section = ConfigDict({"margin": ARCFACE, **fields})
    with pytest.raises(ValueError, match=message):
        build_head(section, SPACE, DIM).init(jax.random.key(0), jnp.ones((1, DIM)), 1, method="topk")


def test_every_head_has_a_form_on_cosines():
    assert set(MARGIN_HEADS) == {"ohe", "mhp", "mhc", "mhs"}


def test_parts_are_whole_on_every_device():
    mesh = jax.make_mesh((4, 2), ("data", "class"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    section = ConfigDict({"name": "mhs", "margin": ARCFACE, "sampler": {"name": "batch_union", "parts": 3}})
    with (
        jax.set_mesh(mesh),
        pytest.raises(ValueError, match="sampler.parts is 3; it must be 0 or a multiple"),
    ):
        build_head(section, SPACE, DIM).init(jax.random.key(0), jnp.ones((1, DIM)), 1, method="topk")
