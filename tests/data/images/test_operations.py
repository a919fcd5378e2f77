"""Each operation against torchvision's and timm's on the same pictures, and what the policies draw."""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from mhe_jax.data.images import policies
from mhe_jax.data.images.operations import OPERATIONS, Drawn, apply
from tests.torchvision_python import import_reference


def photographs(count=6, size=(40, 33), channels=3):
    """Smooth pictures with edges, over most of the range of values."""
    rng = np.random.default_rng(0)
    small = rng.uniform(-60, 320, (count, 6, 5, channels)).clip(20, 220).astype(np.uint8)
    resize = lambda image: PIL.Image.fromarray(image.squeeze()).resize(size[::-1], PIL.Image.Resampling.BICUBIC)
    return np.stack([np.asarray(resize(image)).reshape(*size, channels) for image in small])


def ours(images, name, arguments, fill=0.0):
    drawn = Drawn(jnp.full(len(images), OPERATIONS.index(name)), jnp.asarray(arguments, jnp.float32))
    return np.asarray(jax.jit(apply, static_argnums=2)(images, drawn, (fill,) * images.shape[-1]))


def of_pillow(function, images, arguments):
    made = [function(PIL.Image.fromarray(x.squeeze()), a) for x, a in zip(images, arguments, strict=True)]
    return np.stack([np.asarray(image).reshape(images.shape[1:]) for image in made])


def assert_alike(found, wanted, tolerance, share=0.0):
    """Pixels within `tolerance` of 255, but for a share of them."""
    different = np.abs(found.astype(int) - wanted.astype(int)) > tolerance
    assert different.mean() <= share, (different.mean(), np.abs(found.astype(int) - wanted.astype(int)).max())


TORCHVISION = {
    "shear_x": ("ShearX", [-0.99, -0.3, -0.05, 0.0, 0.2, 0.99]),
    "shear_y": ("ShearY", [-0.99, -0.3, -0.05, 0.0, 0.2, 0.99]),
    "translate_x": ("TranslateX", [-32, -7, -1, 0, 3, 32]),
    "translate_y": ("TranslateY", [-32, -7, -1, 0, 3, 32]),
    "rotate": ("Rotate", [-135, -30, -1, 0, 17, 89.0]),
    "brightness": ("Brightness", [-0.99, -0.5, -0.1, 0.0, 0.3, 0.99]),
    "color": ("Color", [-0.99, -0.5, -0.1, 0.0, 0.3, 0.99]),
    "contrast": ("Contrast", [-0.99, -0.5, -0.1, 0.0, 0.3, 0.99]),
    "sharpness": ("Sharpness", [-0.99, -0.5, -0.1, 0.0, 0.3, 0.99]),
    "posterize": ("Posterize", [1, 2, 4, 6, 7, 8]),
    "solarize": ("Solarize", [0.0, 0.1, 0.5, 0.6, 0.9, 1.0]),
    "invert": ("Invert", [0] * 6),
    "autocontrast": ("AutoContrast", [0] * 6),
    "equalize": ("Equalize", [0] * 6),
}


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("name", TORCHVISION)
def test_operations_are_those_of_torchvision(name, channels):
    """Warps within a level of 255 for all but one in a thousand pixels, where a centre lies on an edge; others within
    one."""
    transforms = import_reference("torchvision.transforms.v2")
    theirs, magnitudes = TORCHVISION[name]
    policy, images = transforms.RandAugment(), photographs(channels=channels)
    bilinear = import_reference("torchvision.transforms").InterpolationMode.BILINEAR
    one = lambda image, m: policy._apply_image_or_video_transform(image, theirs, m, bilinear, {PIL.Image.Image: None})
    wanted = of_pillow(one, images, magnitudes)
    arguments = {"solarize": 255 * np.array(magnitudes)}.get(name, magnitudes)
    enhanced = name in ("brightness", "color", "contrast", "sharpness")
    found = ours(images, name, 1 + np.array(magnitudes) if enhanced else arguments)
    warps = name in ("shear_x", "shear_y", "rotate")
    assert_alike(found, wanted, 1, 0.001 if warps else 0.0)
    assert (found != images).any() or (name, channels) == ("color", 1)


TIMM = {
    "rotate": ("rotate", [-30.0, -10.0, -0.5, 0.0, 20.0, 30.0]),
    "shear_x": ("shear_x", [-0.3, -0.1, -0.05, 0.0, 0.2, 0.3]),
    "shear_y": ("shear_y", [-0.3, -0.1, -0.05, 0.0, 0.2, 0.3]),
    "posterize": ("posterize", [1, 2, 3, 4, 4, 3]),
    "solarize": ("solarize", [0, 60, 128, 200, 250, 256]),
    "solarize_add": ("solarize_add", [0, 1, 30, 77, 110, 110]),
    "brightness": ("brightness", [0.1, 0.5, 0.9, 1.0, 1.5, 1.9]),
    "color": ("color", [0.1, 0.5, 0.9, 1.0, 1.5, 1.9]),
    "contrast": ("contrast", [0.1, 0.5, 0.9, 1.0, 1.5, 1.9]),
    "sharpness": ("sharpness", [0.1, 0.5, 0.9, 1.0, 1.5, 1.9]),
}


@pytest.mark.parametrize("name", TIMM)
def test_operations_are_those_of_timm(name):
    theirs, arguments = TIMM[name]
    function, images = getattr(import_reference("timm.data.auto_augment"), theirs), photographs()
    warps = name in ("rotate", "shear_x", "shear_y")
    kwargs = {"resample": PIL.Image.Resampling.BILINEAR, "fillcolor": (90, 90, 90)} if warps else {}
    wanted = of_pillow(lambda image, v: function(image, v, **kwargs), images, arguments)
    assert_alike(ours(images, name, arguments, 90.0), wanted, 1, 0.001 if warps else 0.0)


@pytest.mark.parametrize("value", [0, 77, 255])
def test_pictures_of_one_colour_stay_whole(value):
    images = np.full((2, 5, 4, 3), value, np.uint8)
    for name in ("autocontrast", "equalize", "contrast", "sharpness"):
        np.testing.assert_array_equal(ours(images, name, [1.0, 1.0]), images)
    tiny = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    np.testing.assert_array_equal(ours(tiny, "sharpness", [0.3]), tiny)


def test_each_picture_has_its_own_operation():
    images = photographs(4)
    names, arguments = ("invert", "identity", "translate_x", "brightness"), [0, 0, 3, 0.5]
    drawn = Drawn(jnp.array([OPERATIONS.index(name) for name in names]), jnp.asarray(arguments, jnp.float32))
    found = np.asarray(apply(jnp.asarray(images), drawn, (0.0,) * 3))
    for row, (name, argument) in enumerate(zip(names, arguments, strict=True)):
        np.testing.assert_array_equal(found[row], ours(images[row : row + 1], name, [argument])[0])


def frequencies(drawn):
    counts = collections.Counter(np.asarray(drawn.operation).tolist())
    return {OPERATIONS[place]: count / len(drawn.operation) for place, count in counts.items()}


def reference_space(policy, height, width):
    """{operation: all its arguments} of a policy of torchvision."""
    named = {theirs: name for name, (theirs, _) in TORCHVISION.items()}
    space = {}
    for theirs, (magnitudes, signed) in policy._AUGMENTATION_SPACE.items():
        values = magnitudes(31, height, width)
        values = [0.0] if values is None else [float(v) for v in values]
        name = named.get(theirs, "identity")
        if name.startswith("translate"):
            values = [float(int(v + 1e-4)) for v in values]  # 15.99999 is what torch makes of 16
        values = values + [-v for v in values] if signed else values
        if name in ("brightness", "color", "contrast", "sharpness"):
            values = [1 + v for v in values]
        space[name] = [255 * v for v in values] if name == "solarize" else values
    return space


@pytest.mark.parametrize("name", ["randaugment", "trivial"])
def test_choices_and_magnitudes_are_those_of_torchvision(name):
    """Every operation equally often, and of TrivialAugment every magnitude: five standard errors of 60,000 draws."""
    transforms, count, size = import_reference("torchvision.transforms.v2"), 60_000, (240, 300)
    key = jax.random.key(3)
    if name == "trivial":
        policy, choices, levels = transforms.TrivialAugmentWide(), policies.TRIVIAL, policies.trivial_levels(key, count)
        chosen = range(31)
    else:
        policy, choices = transforms.RandAugment(magnitude=9), policies.RANDAUGMENT
        levels, chosen = policies.randaugment_levels(count, 9), [9]
    drawn = policies.draw(jax.random.key(4), choices, levels, size)
    space = reference_space(policy, *size)
    found = frequencies(drawn)
    assert set(found) == set(space)
    error = 5 * (1 / 14 * 13 / 14 / count) ** 0.5
    assert all(abs(share - 1 / 14) < error for share in found.values())
    for operation, values in space.items():
        got = np.asarray(drawn.argument)[np.asarray(drawn.operation) == OPERATIONS.index(operation)]
        wanted = values if len(values) == 1 else [v for i, v in enumerate(values) if i % 31 in chosen]
        np.testing.assert_allclose(got.mean(), np.mean(wanted), atol=6 * np.std(wanted) / len(got) ** 0.5 + 1e-4)
        apart = np.abs(got[:, None] - np.float32(wanted)[None, :])
        assert max(apart.min(axis=1).max(), apart.min(axis=0).max()) < 1e-3, operation


def test_the_draws_of_timm():
    """Half of the pictures stay; of the others every operation is equally frequent, and levels are normal."""
    timm, count, size = import_reference("timm.data.auto_augment"), 60_000, (200, 100)
    levels = np.asarray(policies.timm_levels(jax.random.key(0), count, 7.0, 0.5))
    assert abs(levels.mean() - 0.7) < 0.001
    assert abs(levels.std() - 0.05) < 0.001
    assert levels.max() <= 1
    drawn = policies.draw(jax.random.key(1), policies.TIMM, jnp.full(count, 0.7), size, share=0.5)
    found = frequencies(drawn)
    assert abs(found.pop("identity") - 0.5) < 0.011
    assert len(found) == len(timm._RAND_INCREASING_TRANSFORMS) == 15
    assert all(abs(share - 1 / 30) < 0.005 for share in found.values())
    for theirs in timm._RAND_INCREASING_TRANSFORMS:
        level_fn = timm.LEVEL_TO_ARG[theirs]
        wanted = {round(level_fn(7.0, {})[0], 4) for _ in range(50)} if level_fn else {0.0}
        name = re.sub("(?<=[a-z])(?=[AXY])", "_", re.sub("Increasing|Rel", "", theirs)).lower()
        side = {"translate_x": size[1], "translate_y": size[0]}.get(name, 1)
        got = np.asarray(drawn.argument)[np.asarray(drawn.operation) == OPERATIONS.index(name)]
        assert {round(float(v) / side, 4) for v in got} == wanted, theirs


def test_policies_leave_sizes_and_depend_on_their_key():
    images = jnp.asarray(photographs())
    for policy in (
        lambda key: policies.randaugment(images, key, 2, 9.0),
        lambda key: policies.timm_randaugment(images, key, 2, 9.0, 0.5, (124.0, 116.0, 104.0)),
        lambda key: policies.trivial(images, key),
    ):
        one, again, other = (np.asarray(jax.jit(policy)(jax.random.key(seed))) for seed in (0, 0, 1))
        assert one.dtype == np.uint8
        assert one.shape == images.shape
        np.testing.assert_array_equal(one, again)
        assert (one != other).any()
