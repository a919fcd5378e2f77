import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.data.images import augment

KEY = jax.random.key(0)
warp = jax.jit(augment._warp)
random_affine = jax.jit(augment.random_affine, static_argnames=("ranges", "strength"))


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (9, 11, 7, 3), dtype=np.uint8)


def test_normalize_is_per_channel(images):
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    normal = augment.normalize(augment.to_float(jnp.asarray(images)), mean, std)
    np.testing.assert_allclose(normal, (images / 255 - mean) / std, atol=1e-6)


def test_flip_mirrors_some_images_and_leaves_the_others(images):
    flipped = np.asarray(augment.flip(jnp.asarray(images), KEY))
    kinds = [
        "mirror" if np.array_equal(new, old[:, ::-1]) else "same" if np.array_equal(new, old) else "other"
        for new, old in zip(flipped, images, strict=True)
    ]
    assert set(kinds) == {"mirror", "same"}


def test_crop_pad_cuts_a_window_of_the_padded_image(images):
    cropped = np.asarray(augment.crop_pad(jnp.asarray(images), KEY, padding=2))
    places = set()
    for new, old in zip(cropped, images, strict=True):
        padded = np.pad(old, ((2, 2), (2, 2), (0, 0)))
        windows = {(r, c): padded[r : r + 11, c : c + 7] for r in range(5) for c in range(5)}
        places.add(next(place for place, window in windows.items() if np.array_equal(window, new)))
    assert len(places) > 3


def test_crop_reaches_every_place():
    images = jnp.zeros((2000, 2, 2, 1)).at[:, 0, 0].set(1.0)
    cropped = np.asarray(augment.crop_pad(images, KEY, padding=1))
    # The lit corner lands on each of the four pixels, or outside.
    assert {tuple(image.ravel()) for image in cropped} == {(0, 0, 0, 0), *map(tuple, np.eye(4))}


def test_affine_of_strength_zero_is_the_identity(images):
    pixels = augment.to_float(jnp.asarray(images))
    same = random_affine(pixels, KEY, augment.AffineRanges(), strength=0.0)
    np.testing.assert_allclose(same, pixels, atol=1e-5)


def test_affine_shift_moves_whole_pixels():
    image = jnp.asarray(np.random.default_rng(0).random((8, 8, 2)), jnp.float32)
    moved = warp(image, jnp.eye(2), jnp.array([2.0, -1.0]))
    np.testing.assert_allclose(moved[2:, :-1], image[:-2, 1:], atol=1e-6)
    assert not np.asarray(moved[:2]).any()
    assert not np.asarray(moved[:, -1]).any()


def test_affine_quarter_turn_is_exact():
    image = jnp.asarray(np.random.default_rng(0).random((6, 6, 1)), jnp.float32)
    turned = warp(image, jnp.array([[0.0, -1.0], [1.0, 0.0]]), jnp.zeros(2))
    np.testing.assert_allclose(turned, np.rot90(np.asarray(image), -1), atol=1e-6)


@pytest.mark.parametrize("kind", ["rotation", "shear", "scale", "translation"])
def test_each_affine_range_alone_changes_the_image_and_keeps_its_size(images, kind):
    none = {"rotation": 0.0, "shear": 0.0, "scale": 1.0, "translation": 0.0}
    value = {"rotation": 20.0, "shear": 20.0, "scale": 1.3, "translation": 0.2}[kind]
    pixels = augment.to_float(jnp.asarray(images))
    warped = random_affine(pixels, KEY, augment.AffineRanges(**{**none, kind: value}))
    assert warped.shape == pixels.shape
    change = np.abs(np.asarray(warped - pixels)).max(axis=(1, 2, 3))
    assert change.min() > 1e-3
    assert len(np.unique(change)) == len(change)  # every image draws its own
    assert np.asarray(warped).min() >= -1e-6
    assert np.asarray(warped).max() <= 1 + 1e-6


def test_noise_has_the_asked_spread_and_stays_in_range():
    noisy = np.asarray(jax.jit(augment.noise)(jnp.full((4, 32, 32, 3), 0.5), KEY, 0.05))
    assert abs(noisy.std() - 0.05) < 0.002
    assert np.asarray(jax.jit(augment.noise)(jnp.zeros((1, 8, 8, 1)), KEY, 0.5)).min() == 0


@pytest.mark.parametrize("function", [augment.flip, augment.crop_pad])
def test_the_key_decides(images, function):
    images = jnp.asarray(images)
    once, again, other = (np.asarray(function(images, jax.random.key(seed))) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)
