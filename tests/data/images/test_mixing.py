"""Mixup, CutMix, erasing and jitter against timm and torchvision: shares, boxes, pixels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch

from mhe_jax.data.images import erasing, jitter, mixing
from tests.torchvision_python import import_reference

KEY = jax.random.key(0)
DRAWS = 4000
SIZE = (48, 64)


@functools.cache
def drawn(mixup, cutmix):
    """share, kept, box of many batches."""
    keys = jax.random.split(KEY, DRAWS)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: mixing.draw(key, SIZE, mixup, cutmix)))(keys))


def areas(boxes):
    return (boxes.bottom - boxes.top) * (boxes.right - boxes.left)


def assert_one_distribution(a, b):
    """Two samples that a Kolmogorov-Smirnov test does not tell apart at one in ten thousand."""
    assert scipy.stats.ks_2samp(a, b).pvalue > 1e-4


def test_neighbours_change_places():
    assert mixing.neighbour(jnp.arange(6)).tolist() == [1, 0, 3, 2, 5, 4]
    assert mixing.neighbour(jnp.arange(5)).tolist() == [1, 0, 3, 2, 4]
    assert mixing.neighbour(jnp.arange(1)).tolist() == [0]
    np.testing.assert_array_equal(mixing.neighbour(jnp.eye(4)), np.eye(4)[[1, 0, 3, 2]])


@pytest.mark.parametrize("alpha", [0.1, 0.8])
def test_shares_of_mixup_are_beta(alpha):
    share, kept, boxes = drawn(alpha, 0.0)
    np.testing.assert_array_equal(share, kept)
    assert not areas(boxes).any()
    # In float32, as many of a small alpha are so near to 1 that they are 1.
    assert_one_distribution(share, np.random.default_rng(0).beta(alpha, alpha, DRAWS).astype(np.float32))


def test_boxes_and_shares_of_cutmix_are_those_of_timm():
    share, kept, boxes = drawn(0.0, 1.0)
    assert (kept == 1).all()
    np.testing.assert_allclose(share, 1 - areas(boxes) / np.prod(SIZE), atol=1e-6)
    timm = import_reference("timm.data.mixup")
    shares = np.random.default_rng(0).uniform(size=DRAWS)  # Beta(1, 1)
    theirs = [timm.cutmix_bbox_and_lam((3, *SIZE), lam) for lam in shares]
    assert_one_distribution(share, [lam for _, lam in theirs])
    for place, edge in zip((0, 1, 2, 3), (boxes.top, boxes.bottom, boxes.left, boxes.right), strict=True):
        assert_one_distribution(edge, [box[place] for box, _ in theirs])


def test_each_of_both_has_half_of_the_batches():
    _, kept, boxes = drawn(0.8, 1.0)
    is_cut = kept == 1
    assert abs(is_cut.mean() - 0.5) < 0.03
    assert not areas(boxes)[~is_cut].any()
    assert (areas(boxes)[is_cut] > 0).mean() > 0.9


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0)])
def test_pixels_are_mixed_as_the_share_says(mixup, cutmix):
    """Of pictures of one value each, the mean is the mean of the two by the share."""
    images = jnp.arange(6.0).reshape(6, 1, 1, 1) * jnp.ones((1, *SIZE, 3))
    mixed, share = jax.jit(lambda key: mixing.mix(images, key, mixup, cutmix))(KEY)
    assert share.shape == (6,)
    assert 0 < share[0] < 1
    wanted = share * jnp.arange(6) + (1 - share) * jnp.array([1, 0, 3, 2, 5, 4])
    np.testing.assert_allclose(mixed.mean(axis=(1, 2, 3)), wanted, rtol=1e-4)
    values = len(np.unique(np.asarray(mixed[0])))
    assert values == (1 if mixup else 2)


def test_mixing_with_timms_numbers_gives_timms_pixels(monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 16, 16, 3)).astype(np.float32)
    timm = import_reference("timm.data.mixup")
    theirs = timm.Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, num_classes=4)
    (top, bottom, left, right), lam = timm.cutmix_bbox_and_lam((3, 16, 16), 0.6)
    monkeypatch.setattr(timm, "cutmix_bbox_and_lam", lambda *args, **kwargs: ((top, bottom, left, right), lam))
    # timm mixes the first with the last, and so on: in that order they are our neighbours.
    pixels, _ = theirs(torch.from_numpy(images[[0, 2, 3, 1]].transpose(0, 3, 1, 2).copy()), torch.arange(4))
    box = erasing.Boxes(*map(jnp.int32, (top, bottom, left, right)))
    monkeypatch.setattr(mixing, "draw", lambda *args: (jnp.float32(lam), jnp.float32(1), box))
    ours, share = mixing.mix(jnp.asarray(images), KEY, 0.0, 1.0)
    np.testing.assert_allclose(ours[jnp.array([0, 2, 3, 1])], pixels.numpy().transpose(0, 2, 3, 1))
    assert float(share[0]) == pytest.approx(float(lam))


def test_boxes_that_are_erased_are_those_of_torchvision():
    boxes = jax.tree.map(np.asarray, jax.jit(lambda key: erasing.draw(key, DRAWS, SIZE))(KEY))
    theirs = import_reference("torchvision.transforms").RandomErasing
    torch.manual_seed(0)
    empty = torch.zeros(3, *SIZE)
    found = np.array([theirs.get_params(empty, scale=(0.02, 0.33), ratio=(0.3, 3.3))[:4] for _ in range(DRAWS)])
    top, left, height, width = found.T
    for ours, reference in (
        (areas(boxes), height * width),
        (boxes.bottom - boxes.top, height),
        (boxes.top, top),
        (boxes.left, left),
        ((boxes.bottom - boxes.top) / (boxes.right - boxes.left), height / width),
    ):
        assert_one_distribution(ours, reference)
    assert boxes.bottom.max() <= SIZE[0]
    assert boxes.right.max() <= SIZE[1]


@pytest.mark.parametrize("noise", [False, True])
def test_some_pictures_lose_a_box(noise):
    images = jnp.full((2000, 12, 12, 1), 7.0)
    found = np.asarray(jax.jit(lambda key: erasing.erase(images, key, 0.25, noise))(KEY))
    changed = (found != 7).any(axis=(1, 2, 3))
    assert abs(changed.mean() - 0.25) < 0.04
    inside = found[found != 7]
    assert (abs(inside.mean()) < 0.02 and abs(inside.std() - 1) < 0.02) if noise else not inside.any()
    np.testing.assert_array_equal(erasing.erase(images[:9], KEY, 0.0, noise), images[:9])


def test_no_box_fits_a_picture_of_one_pixel():
    boxes = erasing.draw(KEY, 5, (1, 1))
    assert not areas(boxes).any()


def colours(count=4):
    return np.random.default_rng(0).integers(0, 256, (count, 9, 11, 3), dtype=np.uint8)


@pytest.mark.parametrize("turn", [-0.5, -0.1, 0.0, 0.05, 0.3, 0.5])
def test_hue_is_that_of_torchvision(turn):
    """Within one of 255."""
    functional = import_reference("torchvision.transforms.v2.functional")
    images = colours()
    images[0, 0, :4] = [[0, 0, 0], [255, 255, 255], [9, 9, 9], [255, 0, 0]]
    theirs = functional.adjust_hue(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), turn).numpy()
    ours = np.asarray(jitter.hue(jnp.asarray(images), jnp.full((4, 1, 1, 1), turn)))
    assert np.abs(ours.astype(int) - theirs.transpose(0, 2, 3, 1).astype(int)).max() <= 1
    grey = jnp.asarray(images[..., :1])
    np.testing.assert_array_equal(jitter.hue(grey, jnp.full((4, 1, 1, 1), turn)), grey)


@pytest.mark.parametrize(("place", "name"), list(enumerate(["brightness", "contrast", "saturation"])))
def test_factors_of_jitter_are_uniform_and_its_changes_torchvisions(place, name):
    """With one change on, each picture is torchvision's at some factor in range; the factors fill the range."""
    functional = import_reference("torchvision.transforms.v2.functional")
    images = np.broadcast_to(colours(1) // 2, (400, 9, 11, 3))
    ranges = tuple(0.4 if i == place else 0.0 for i in range(4))
    found = np.asarray(jax.jit(lambda key: jitter.jitter(jnp.asarray(images), key, ranges))(KEY)).astype(int)
    one = torch.from_numpy(images[0].transpose(2, 0, 1).copy())
    grid = np.linspace(0.6, 1.4, 161)
    adjust = getattr(functional, f"adjust_{name}")
    theirs = np.stack([adjust(one, float(f)).numpy().transpose(1, 2, 0) for f in grid]).astype(int)
    apart = np.abs(found[:, None] - theirs[None]).mean(axis=(2, 3, 4))
    assert apart.min(axis=1).max() < 1.0
    factors = grid[apart.argmin(axis=1)]
    assert scipy.stats.kstest(factors, scipy.stats.uniform(0.595, 0.81).cdf).pvalue > 1e-4


def test_a_range_above_one_draws_no_heap_of_factors_at_zero():
    """Brightness is then uniform in 0 .. 3: few pictures of grey 100 are black, and a third is darker than before."""
    images = jnp.full((400, 2, 2, 3), 100, jnp.uint8)
    found = np.asarray(jitter.jitter(images, KEY, (2.0, 0.0, 0.0, 0.0)))[:, 0, 0, 0]
    assert (found < 10).mean() < 0.1
    assert abs((found < 100).mean() - 1 / 3) < 0.1


def test_the_order_of_jitter_is_any():
    images = jnp.asarray(colours(1))
    ranges = (0.9, 0.9, 0.9, 0.4)
    found = jax.jit(jax.vmap(lambda key: jitter.jitter(images, key, ranges)))(jax.random.split(KEY, 8))
    assert len({np.asarray(image).tobytes() for image in found}) == 8
