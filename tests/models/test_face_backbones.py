"""Sizes, dtypes, initial values and errors of the backbones for faces, and the convolutions that they are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from ml_collections import ConfigDict

from mhe_jax.models import build_backbone
from mhe_jax.models.layers.batch_norm import BatchNorm
from mhe_jax.models.layers.convolution import PointwiseConv, PReLU
from mhe_jax.models.layers.depthwise import GroupedConv, depthwise_conv

SMALL_VIT = {"name": "face_vit", "width": 12, "depth": 2, "num_heads": 3}


def build(dtype=jnp.float32, **fields):
    return build_backbone(ConfigDict(fields), dtype)


def abstract(model, shape):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape), train=False))


# Insightface's counts at 112x112; iresnet's without its 512 frozen scales.
@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"name": "iresnet", "depth": 18}, 24_025_088),
        ({"name": "iresnet", "depth": 34}, 34_138_816),
        ({"name": "iresnet", "depth": 50}, 43_590_336),
        ({"name": "iresnet", "depth": 100}, 65_155_648),
        ({"name": "iresnet", "depth": 200}, 118_833_408),
        ({"name": "mobilefacenet"}, 2_059_520),
        ({"name": "face_vit", "depth": 12}, 76_023_296),
    ],
)
def test_the_published_number_of_parameters(fields, count):
    variables = abstract(build(**fields), (1, 112, 112, 3))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({"name": "iresnet", "depth": 18}, (2, 32, 48, 3)),
        ({"name": "iresnet", "depth": 18, "features_dim": 7, "dropout": 0.4, "remat": True}, (2, 45, 33, 1)),
        ({"name": "mobilefacenet"}, (2, 64, 48, 3)),
        ({"name": "mobilefacenet", "scale": 1, "features_dim": 7, "bn_groups": 2}, (4, 45, 33, 1)),
        (SMALL_VIT, (2, 32, 27, 3)),
        (SMALL_VIT | {"patch_size": 8, "remat": True, "dropout": 0.1, "features_dim": 7}, (2, 16, 16, 1)),
    ],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_any_size_gives_float32_embeddings(fields, shape, dtype):
    model = build(dtype, **fields)
    variables = abstract(model, shape)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert set(variables) == {"params", "batch_stats"}
    for train in (False, True):
        features, _ = jax.eval_shape(
            lambda v, train=train: model.apply(
                v, jnp.zeros(shape), train=train, mutable=["batch_stats"], rngs={"dropout": jax.random.key(1)}
            ),
            variables,
        )
        assert features.shape == (shape[0], fields.get("features_dim", 512))
        assert features.dtype == jnp.float32


def test_computing_blocks_anew_changes_nothing():
    images = np.random.default_rng(0).normal(size=(4, 18, 18, 1)).astype(np.float32)
    results = []
    for remat in (False, True):
        model = build(remat=remat, **SMALL_VIT)
        variables = jax.jit(lambda images, model=model: model.init(jax.random.key(0), images, train=False))(images)

        def loss(params, model=model, stats=variables["batch_stats"]):
            state = {"params": params, "batch_stats": stats}
            rngs = {"dropout": jax.random.key(1)}
            features, updated = model.apply(state, images, train=True, mutable=["batch_stats"], rngs=rngs)
            return features[:, 0] @ jnp.arange(4.0), updated

        results.append((variables, jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])))
    assert jax.tree.structure(results[0]) == jax.tree.structure(results[1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *results)


def test_iresnet_computes_blocks_anew():
    """Its gradient remembers the blocks' inputs only, and repeats their 16 convolutions."""
    images, counts = jnp.zeros((2, 16, 16, 3)), []
    for remat in (False, True):
        model = build(name="iresnet", depth=18, remat=remat)
        variables = abstract(model, images.shape)
        value = lambda v, model=model: model.apply(v, images, train=True, mutable=["batch_stats"])[0].sum()
        counts.append(str(jax.make_jaxpr(jax.grad(value))(variables)).count("conv_general_dilated["))
    assert counts[1] == counts[0] + 16


def test_bfloat16_is_near_float32():
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    for fields in ({"name": "mobilefacenet", "scale": 1}, SMALL_VIT):
        model = build(**fields)
        variables = jax.jit(lambda images, model=model: model.init(jax.random.key(0), images, train=False))(images)
        exact = jax.jit(lambda v, model=model: model.apply(v, images, train=False))(variables)
        model = build(jnp.bfloat16, **fields)
        rough = jax.jit(lambda v, model=model: model.apply(v, images, train=False))(variables)
        error = np.linalg.norm(rough - exact) / np.linalg.norm(exact)
        assert 0 < error < 0.03


def test_only_training_masks_patches_and_drops_branches():
    images = np.random.default_rng(0).normal(size=(3, 27, 27, 1)).astype(np.float32)
    model = build(**SMALL_VIT, mask_ratio=0.5, drop_path=0.5)
    variables = model.init(jax.random.key(0), images, train=False)
    apply = jax.jit(
        lambda key, train: model.apply(variables, images, train, mutable=["batch_stats"], rngs={"dropout": key})[0],
        static_argnums=1,
    )
    first, second = jax.random.key(1), jax.random.key(2)
    np.testing.assert_array_equal(apply(first, False), apply(second, False))
    np.testing.assert_array_equal(apply(first, True), apply(first, True))
    assert np.abs(apply(first, True) - apply(second, True)).max() > 1e-3


def test_the_mask_token_stands_where_patches_are_masked():
    images = np.random.default_rng(0).normal(size=(3, 27, 36, 1)).astype(np.float32)
    model = build(**SMALL_VIT | {"depth": 0}, mask_ratio=0.3)
    variables = model.init(jax.random.key(0), images, train=False)

    def outputs(train):
        _, seen = model.apply(
            variables,
            images,
            train,
            mutable=["batch_stats", "intermediates"],
            rngs={"dropout": jax.random.key(1)},
            capture_intermediates=lambda module, _: module.name in ("norm", "features_1"),
        )
        return [seen["intermediates"][name]["__call__"][0] for name in ("norm", "features_1")]

    (tokens, _), (visible, features) = outputs(train=False), outputs(train=True)
    assert (tokens.shape, visible.shape) == ((3, 12, 12), (3, 8, 12))  # of 12 patches int(12 * 0.7) stay
    differs = np.abs(tokens[:, :, None, :] - visible[:, None, :, :]).max(axis=-1) > 1e-6
    hidden = differs.all(axis=2)
    assert hidden.sum(axis=1).tolist() == [4, 4, 4]
    assert not (hidden == hidden[:1]).all()  # other patches of each picture
    filled = np.where(hidden[:, :, None], variables["params"]["mask_token"], tokens)
    expected = filled.reshape(3, -1) @ variables["params"]["features_1"]["kernel"]
    np.testing.assert_allclose(features, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "groups", "size", "stride", "shape"),
    [(5, 5, 3, 1, (6, 7)), (5, 5, 3, 2, (6, 7)), (6, 3, 3, 1, (4, 5)), (6, 2, 3, 2, (5, 4)), (4, 4, 5, 3, (9, 11))],
)
def test_grouped_convolution_is_xlas(channels, groups, size, stride, shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, *shape, channels)).astype(np.float32)
    model = GroupedConv(groups, size, stride)
    params = model.init(jax.random.key(0), x)

    def expected(params, x):
        padding = ((size // 2, size // 2),) * 2
        kernel, numbers = params["params"]["kernel"], ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), padding, dimension_numbers=numbers, feature_group_count=groups
        )

    value, vjp = jax.vjp(model.apply, params, x)
    wanted, wanted_vjp = jax.vjp(expected, params, x)
    np.testing.assert_allclose(value, wanted, atol=1e-5)
    cotangent = rng.normal(size=value.shape).astype(np.float32)
    compare = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4)
    jax.tree.map(compare, vjp(cotangent), wanted_vjp(cotangent))


def test_gradients_of_a_sharded_batch_are_those_of_one_device(mesh):
    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=shape).astype(np.float32) for shape in ((16, 5, 4, 3), (3, 3, 3)))
    gradient = jax.jit(jax.grad(lambda kernel, x: jnp.square(depthwise_conv(x, kernel, 1)).sum()))
    with jax.set_mesh(jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))):
        expected = gradient(kernel, x)
    sharding = jax.NamedSharding(mesh, jax.P("data"))
    np.testing.assert_allclose(gradient(kernel, jax.device_put(x, sharding)), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_pointwise_convolution_is_xlas(stride):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 4, 3)).astype(np.float32)
    model = PointwiseConv(6, stride)
    params = model.init(jax.random.key(0), x)
    numbers = ("NHWC", "HWIO", "NHWC")
    expected = lambda params, x: jax.lax.conv_general_dilated(
        x, params["params"]["kernel"], (stride, stride), "VALID", dimension_numbers=numbers
    )
    value, vjp = jax.vjp(model.apply, params, x)
    wanted, wanted_vjp = jax.vjp(expected, params, x)
    np.testing.assert_allclose(value, wanted, atol=1e-5)
    compare = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4)
    jax.tree.map(compare, vjp(np.asarray(value)), wanted_vjp(np.asarray(value)))


def test_prelu_has_a_slope_per_channel():
    model, x = PReLU(), np.array([[[1.0, -1.0], [-2.0, 3.0]]], np.float32)
    assert model.init(jax.random.key(0), x)["params"]["slope"].tolist() == [0.25, 0.25]
    slopes = {"params": {"slope": jnp.array([0.5, 0.125])}}
    np.testing.assert_array_equal(model.apply(slopes, x), [[[1.0, -0.125], [-1.0, 3.0]]])
    gradient = jax.grad(lambda params: model.apply(params, x).sum())(slopes)
    np.testing.assert_array_equal(gradient["params"]["slope"], [-2.0, -1.0])


@pytest.mark.parametrize("groups", [1, 2])
def test_batch_norm_without_scale_and_its_gradient(groups):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3)).astype(np.float32)
    model = BatchNorm(groups, use_scale=False)
    variables = model.init(jax.random.key(0), x, train=False)
    assert set(variables["params"]) == {"bias"}
    full = {**variables, "params": {**variables["params"], "scale": jnp.ones(3)}}
    both = ((model, variables), (BatchNorm(groups), full))
    ours, theirs = (m.apply(v, x, True, mutable=["batch_stats"]) for m, v in both)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    # The statistics are differentiable too.
    plain = BatchNorm(groups, dtype="float64")
    weights = rng.normal(size=x.shape).astype(np.float32)

    def value(x, scale, bias):
        state = {"params": {"scale": scale, "bias": bias}, "batch_stats": variables["batch_stats"]}
        y, updated = plain.apply(state, x, True, mutable=["batch_stats"])
        return jnp.sin(y * weights).sum() + sum(jnp.cos(leaf).sum() for leaf in jax.tree.leaves(updated))

    with jax.enable_x64(True):
        wide = [jnp.asarray(array, jnp.float64) for array in (x, rng.normal(size=3), rng.normal(size=3))]
        check_grads(value, wide, order=1, modes=("rev",), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "path", "std"),
    [
        ({"name": "iresnet", "depth": 18}, ("layer2_0", "conv1", "kernel"), 0.1),
        ({"name": "mobilefacenet"}, ("stage2_0", "expand", "conv", "kernel"), (2 / 256) ** 0.5),
        ({"name": "mobilefacenet"}, ("stage2_0", "depthwise", "conv", "kernel"), (2 / (9 * 256)) ** 0.5),
        (SMALL_VIT | {"width": 96}, ("block_0", "up", "kernel"), 0.02),
    ],
)
def test_initial_values_are_the_published_ones(fields, path, std):
    model, images = build(**fields), jnp.zeros((1, 32, 32, 3))
    leaf = jax.jit(lambda: model.init(jax.random.key(0), images, train=False)["params"][path[0]])()
    for name in path[1:]:
        leaf = leaf[name]
    np.testing.assert_allclose(np.std(leaf), std, rtol=0.05)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "iresnet", "depth": 101}, "config.backbone.depth is 101; it must be one of 18, 34, 50, 100, 200"),
        ({"name": "iresnet", "depth": 18, "dropout": 1.0}, r"config.backbone.dropout is 1.0; it must be in \[0, 1\)"),
        ({"name": "mobilefacenet", "depth": 18}, "config.backbone.depth is not a field of 'mobilefacenet'"),
        ({"name": "face_vit", "num_heads": 5}, "num_heads is 5; it must divide config.backbone.width=512"),
        ({"name": "face_vit", "mask_ratio": -0.1}, r"config.backbone.mask_ratio is -0.1; it must be in \[0, 1\)"),
    ],
)
def test_mistakes_in_the_config_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        build(**fields)


def test_a_picture_smaller_than_a_patch_is_named():
    with pytest.raises(ValueError, match="a picture of 8x20 has no patch of config.backbone.patch_size=9"):
        abstract(build(**SMALL_VIT), (1, 8, 20, 3))
