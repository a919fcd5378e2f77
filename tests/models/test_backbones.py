"""Shapes, sizes, initial values and errors of the backbones. Their arithmetic is compared in tests/parity."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mhe_jax.models import BACKBONES, build_backbone
from mhe_jax.models.images.residual import ResidualBlock
from mhe_jax.models.layers.convolution import kaiming_normal_fan_out, torch_default, unfold

# Backbones without running statistics.
LAYER_NORM = ("vit", "convnext")


def build(dtype=jnp.float32, **fields):
    return build_backbone(ConfigDict(fields), dtype)


def abstract(model, shape):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(shape), train=False))


# Counts of the published PyTorch models: the reference's CIFAR ResNet-18 and torchvision's ResNets without `fc`.
@pytest.mark.parametrize(
    ("name", "depth", "count"),
    [
        ("resnet_cifar", 18, 11_168_832),
        ("resnet", 18, 11_176_512),
        ("resnet", 34, 21_284_672),
        ("resnet", 50, 23_508_032),
        ("resnet", 101, 42_500_160),
        ("resnet", 152, 58_143_808),
    ],
)
def test_resnets_have_the_published_number_of_parameters(name, depth, count):
    variables = abstract(build(name=name, depth=depth), (1, 64, 64, 3))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count


# Counts of timm's models at 224x224 without their classifiers of 1,000 classes.
@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"name": "vit"}, 21_665_664),
        ({"name": "vit", "width": 768, "num_heads": 12}, 85_798_656),
        ({"name": "convnext"}, 27_820_128),
    ],
)
def test_vits_and_convnext_have_the_published_number_of_parameters(fields, count):
    variables = abstract(build(**fields), (1, 224, 224, 3))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count


def test_a_resnet_leaves_out_branches_of_some_examples_and_only_in_training():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(64, 32, 32, 3)), jnp.float32)
    whole, dropping = (build(name="resnet_cifar", depth=18, drop_path=share) for share in (0.0, 0.5))
    variables = whole.init(jax.random.key(0), images[:1], train=False)
    apply = lambda model, **how: model.apply(variables, images, **how)
    np.testing.assert_array_equal(apply(dropping, train=False), apply(whole, train=False))
    # The first block has none to leave out, the last one the share that is asked for.
    shares = []

    def noted(call, args, kwargs, context):
        if isinstance(context.module, ResidualBlock):
            shares.append(context.module.drop_path)
        return call(*args, **kwargs)

    with nn.intercept_methods(noted):
        apply(dropping, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})
    np.testing.assert_allclose(shares, np.linspace(0, 0.5, 8))
    # Of one block: its branch is whole, twice what it was, or not there.
    block = ResidualBlock(8, 1, False, 1, nn.initializers.lecun_normal(), 0.5, jnp.float32)
    x = jax.random.uniform(jax.random.key(1), (64, 4, 4, 8))
    weights = block.init(jax.random.key(2), x, train=False)
    run = lambda model, **rngs: model.apply(weights, x, train=True, mutable=["batch_stats"], **rngs)[0]
    branch = run(block.clone(drop_path=0.0))
    found = run(block, rngs={"dropout": jax.random.key(3)})
    left_out = (found == nn.relu(x)).all(axis=(1, 2, 3))
    assert 16 < left_out.sum() < 48
    positive = (branch > 0) & (found > 0) & ~left_out[:, None, None, None]
    np.testing.assert_allclose((found - x)[positive], 2 * (branch - x)[positive], atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "vit", "patch_size": 5}, "pictures are 32x32, but 'vit' takes square ones of whole patches: .*=5"),
        ({"name": "vit", "num_heads": 5}, "config.backbone.num_heads is 5; it must divide config.backbone.width=384"),
        ({"name": "vit", "drop_path": 1.0}, r"config.backbone.drop_path is 1.0; it must be in \[0, 1\)"),
        ({"name": "resnet", "depth": 18, "drop_path": 1.0}, "config.backbone.drop_path is 1.0"),
        ({"name": "convnext", "depths": (1, 1)}, "config.backbone.depths is .* each stage has one of both"),
        ({"name": "convnext", "widths": (2,) * 5, "depths": (1,) * 5}, "pictures are 32x32, .* needs 64x64"),
    ],
)
def test_impossible_sizes_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        abstract(build(**fields), (1, 32, 32, 3))


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "vit", "patch_size": 8, "width": 8, "depth": 3, "num_heads": 2},
        {"name": "convnext", "depths": (1, 1), "widths": (4, 6), "layer_scale": 1.0},
    ],
)
def test_branches_are_dropped_in_training_alone_and_remat_changes_nothing(fields):
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    model = build(**fields, drop_path=0.5)
    variables = jax.jit(lambda: model.init(jax.random.key(0), images, train=False))()
    run = lambda model, train, seed: jax.jit(
        lambda v: model.apply(v, images, train=train, rngs={"dropout": jax.random.key(seed)})
    )(variables)
    np.testing.assert_array_equal(run(model, False, 0), run(build(**fields, drop_path=0.0), True, 0))
    assert not np.allclose(run(model, True, 0), run(model, True, 1))
    np.testing.assert_allclose(run(build(**fields, drop_path=0.5, remat=True), True, 0), run(model, True, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({"name": "vit", "patch_size": 4, "width": 6, "depth": 2, "num_heads": 3}, (2, 16, 16, 1)),
        ({"name": "convnext", "depths": (1, 1, 1), "widths": (3, 4, 5)}, (2, 17, 35, 3)),
        ({"name": "resnet_cifar", "depth": 18}, (2, 32, 32, 3)),
        ({"name": "resnet_cifar", "depth": 50}, (2, 32, 32, 3)),
        ({"name": "resnet", "depth": 34}, (2, 50, 65, 3)),
        ({"name": "convnet"}, (2, 32, 32, 1)),
        ({"name": "convnet", "features_dim": 10, "widths": [3, 5]}, (2, 9, 15, 3)),
    ],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_features_have_the_promised_width_and_dtype(fields, shape, dtype):
    model = build(dtype, **fields)
    variables = abstract(model, shape)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert set(variables) == {"params"} if fields["name"] in LAYER_NORM else {"params", "batch_stats"}
    rngs = {"dropout": jax.random.key(0)}
    for train in (False, True):
        features, _ = jax.eval_shape(
            lambda v, train=train: model.apply(v, jnp.zeros(shape), train=train, mutable=["batch_stats"], rngs=rngs),
            variables,
        )
        assert features.shape == (shape[0], model.features_dim)
        assert features.dtype == dtype


def test_convnet_learns_and_tracks_statistics():
    model = build(name="convnet", features_dim=6, widths=[4])
    images = np.random.default_rng(0).normal(size=(8, 12, 12, 1)).astype(np.float32)
    variables = model.init(jax.random.key(0), images, train=False)

    def loss(params):
        state = {"params": params, "batch_stats": variables["batch_stats"]}
        features, updated = model.apply(state, images, train=True, mutable=["batch_stats"])
        return jnp.square(features[:, 0] - jnp.arange(8.0)).mean(), updated["batch_stats"]

    gradients, updated = jax.grad(loss, has_aux=True)(variables["params"])
    assert all(np.abs(gradient).max() > 0 for gradient in jax.tree.leaves(gradients))
    moved = jax.tree.map(lambda old, new: np.abs(old - new).max(), variables["batch_stats"], updated)
    assert min(jax.tree.leaves(moved)) > 0


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 2, (7, 8)), (3, 1, (5, 4)), (5, 3, (11, 9))])
def test_unfold_and_a_product_make_a_convolution(kernel, stride, size):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, 3)).astype(np.float32)
    weight = rng.normal(size=(kernel, kernel, 3, 4)).astype(np.float32)
    padding = ((kernel // 2, kernel // 2),) * 2
    expected = jax.lax.conv_general_dilated(
        x, weight, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(unfold(x, kernel, stride) @ weight.reshape(-1, 4), expected, atol=1e-4)


def test_initial_values_have_torchs_distributions():
    shape = (3, 3, 32, 64)
    uniform = np.asarray(torch_default(jax.random.key(0), shape))
    bound = 1 / np.sqrt(9 * 32)
    assert 0.99 * bound < np.abs(uniform).max() <= bound
    np.testing.assert_allclose(uniform.std(), bound / np.sqrt(3), rtol=0.02)
    normal = np.asarray(kaiming_normal_fan_out(jax.random.key(0), shape))
    np.testing.assert_allclose(normal.std(), np.sqrt(2 / (9 * 64)), rtol=0.02)
    assert np.abs(normal).max() > 3 * normal.std()  # not truncated


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "resnet50"}, "config.backbone.name is 'resnet50'"),
        ({"name": "resnet", "depth": 20}, "config.backbone.depth is 20; it must be one of 18, 34, 50"),
        ({"name": "resnet"}, "config.backbone.depth is missing"),
        ({"name": "convnet", "depth": 18}, "config.backbone.depth is not a field of 'convnet'"),
    ],
)
def test_mistakes_in_the_config_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        build(**fields)


def test_every_backbone_with_batch_norm_takes_groups():
    for name in set(BACKBONES) - set(LAYER_NORM):
        depth = {"depth": 18} if "resnet" in name else {}
        assert build(name=name, bn_groups=2, **depth).bn_groups == 2
