import math

import numpy as np
import PIL.Image
import pytest

from mhe_jax.data.images import views


def pillow(image, size):
    return np.asarray(PIL.Image.fromarray(image).resize(size[::-1], PIL.Image.Resampling.BILINEAR))


@pytest.fixture(params=["opencv", "pillow"])
def _library(request, monkeypatch):
    if request.param == "pillow":
        monkeypatch.setattr(views.decode, "cv2", None)


@pytest.mark.parametrize(
    ("shape", "expected", "corner"),
    [
        ((375, 500), (256, 341), (16, 58)),  # halves are rounded to even: 58.5 -> 58
        ((500, 375), (341, 256), (58, 16)),
        ((256, 256), (256, 256), (16, 16)),
        ((100, 333), (256, 852), (16, 314)),
    ],
)
def test_the_central_view_has_torchvisions_sizes_and_corner(shape, expected, corner):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    top, left = corner
    cut = pillow(image, expected)[top : top + 224, left : left + 224]
    np.testing.assert_array_equal(views.central(image, 256, (224, 224)), cut)
    np.testing.assert_array_equal(
        views.central(image[:, :, :1], 256, (9, 8))[0, 0],
        pillow(image, expected)[round((expected[0] - 9) / 2), round((expected[1] - 8) / 2), :1],
    )


def test_a_picture_of_the_size_is_left_as_it_is():
    image = np.zeros((112, 112, 3), np.uint8)
    assert views.resize(image, (112, 112)) is image
    assert np.shares_memory(views.central(image, 112, (112, 112)), image)


def test_bilinear_is_torchs_interpolation_without_antialias():
    torch = pytest.importorskip("torch")
    pytest.importorskip("cv2")
    image = np.random.default_rng(0).integers(0, 256, (61, 47, 3), dtype=np.uint8)
    for size in ((32, 32), (70, 90), (31, 40)):
        whole = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        expected = torch.nn.functional.interpolate(whole, size=size, mode="bilinear", align_corners=False)
        found = views.bilinear(image, size)
        assert np.abs(found - expected[0].permute(1, 2, 0).numpy()).max() <= 1.0
        assert views.bilinear(image[:, :, :1], size).shape == (*size, 1)


@pytest.mark.usefixtures("_library")
def test_beyond_twice_the_size_bilinear_leaves_no_pixel_out():
    image = np.random.default_rng(0).integers(0, 256, (65, 70, 3), dtype=np.uint8)
    np.testing.assert_array_equal(views.bilinear(image, (32, 32)), pillow(image, (32, 32)))


@pytest.mark.usefixtures("_library")
@pytest.mark.parametrize("channels", [1, 3])
def test_mirroring_turns_left_to_right(channels):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    mirrored = views.mirror(image)
    np.testing.assert_array_equal(mirrored, image[:, ::-1])
    assert mirrored.flags.c_contiguous


@pytest.mark.parametrize(
    ("width", "height", "times"),
    [(447, 448, 1), (448, 448, 2), (448, 9000, 2), (896, 896, 4), (1791, 1791, 4), (1792, 1792, 8), (9000, 9000, 8)],
)
def test_a_picture_is_reduced_as_far_as_the_box_keeps_the_wanted_size(width, height, times):
    assert views.reduction((3, 5, 3 + width, 5 + height), 224) == times


def test_boxes_of_reduced_pictures_are_rounded_and_never_empty():
    image = np.arange(50 * 40).reshape(50, 40, 1)
    np.testing.assert_array_equal(views.cut(image, (8, 4, 40, 100), 2), image[2:50, 4:20])
    assert views.cut(image, (8, 4, 9, 5), 8).shape == (1, 1, 1)


class Draws:
    """A generator that gives out what a test wrote down, as torchvision's would."""

    def __init__(self, uniforms, integers=()):
        self.uniforms, self.limits = list(uniforms), list(integers)

    def uniform(self, low, high):
        return low + (high - low) * self.uniforms.pop(0)

    def integers(self, low, high):
        assert low == 0
        self.limits.append(high)
        return high - 1


def test_random_resized_crop_follows_torchvisions_arithmetic():
    rng = Draws([0.5, 0.25])
    left, top, right, bottom = views.random_resized_crop_box(300, 400, rng)
    area, ratio = 300 * 400 * 0.54, math.exp(math.log(3 / 4) + 0.25 * (math.log(4 / 3) - math.log(3 / 4)))
    width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    assert (right - left, bottom - top) == (width, height)
    assert rng.limits == [300 - height + 1, 400 - width + 1]
    assert (right, bottom) == (400, 300)  # the last place that was offered still lies inside


@pytest.mark.parametrize(("shape", "box"), [((10, 1000), (493, 0, 506, 10)), ((1000, 10), (0, 493, 10, 506))])
def test_random_resized_crop_of_a_strip_falls_back_to_its_centre(shape, box):
    # Ten draws of the whole area with a ratio near 1 never fit; the centre then has the nearest ratio, 4 / 3.
    assert views.random_resized_crop_box(*shape, Draws([1.0, 0.5] * 10)) == box


def test_random_resized_crops_stay_inside_and_have_the_documented_range():
    rng = np.random.default_rng(0)
    boxes = np.array([views.random_resized_crop_box(97, 131, rng) for _ in range(2000)])
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 131
    assert boxes[:, 3].max() <= 97
    assert 0.07 < (widths * heights / (97 * 131)).min() < 0.1
    assert (widths * heights / (97 * 131)).max() > 0.9
    assert 0.72 < (widths / heights).min() < 0.78
    assert 1.28 < (widths / heights).max() < 1.4
