import dataclasses
import io

import numpy as np
import PIL.Image
import pytest

from mhe_jax.data.images import decode, views
from mhe_jax.data.images.examples import LoadExample


@dataclasses.dataclass(frozen=True)
class Pictures:
    encoded: tuple[bytes, ...]

    def __len__(self):
        return len(self.encoded)

    def read(self, index):
        return self.encoded[index], index, f"picture {index}"

    def identity(self):
        return self.encoded


def smooth(height, width):
    small = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return np.asarray(PIL.Image.fromarray(small).resize((width, height), PIL.Image.Resampling.BICUBIC))


def source(height=97, width=131, kind="JPEG", **options):
    buffer = io.BytesIO()
    PIL.Image.fromarray(smooth(height, width)).save(buffer, kind, **options)
    return Pictures((buffer.getvalue(),))


def view(pictures, seed=0, size=24, **fields):
    fields = {"channels": 3, "resize_size": size, "random_crop": True, **fields}
    return LoadExample(pictures, size, **fields)(0, np.random.default_rng(seed))[0]


def expected(pictures, seed, size, channels):
    """A crop of the whole picture, antialiased."""
    rng = np.random.default_rng(seed)
    image = decode.decode(pictures.encoded[0], channels, "x")
    left, top, right, bottom = views.random_resized_crop_box(*image.shape[:2], rng)
    crop = image[top:bottom, left:right]
    picture = PIL.Image.fromarray(crop if channels == 3 else crop[:, :, 0])
    cropped = np.asarray(picture.resize((size, size), PIL.Image.Resampling.BILINEAR)).reshape(size, size, channels)
    return cropped[:, ::-1] if rng.random() < 0.5 else cropped


@pytest.fixture(params=["opencv", "pillow"])
def _decoder(request, monkeypatch):
    if request.param == "pillow":
        monkeypatch.setattr(decode, "cv2", None)


@pytest.mark.usefixtures("_decoder")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_antialiased_views_are_cut_out_of_the_whole_picture(kind, channels):
    pictures = source(kind=kind)
    for seed in range(6):
        np.testing.assert_array_equal(view(pictures, seed, channels=channels), expected(pictures, seed, 24, channels))


@pytest.mark.usefixtures("_decoder")
@pytest.mark.parametrize("antialias", [True, False])
def test_views_depend_on_the_generator_alone(antialias):
    views_of = [view(source(), seed, antialias=antialias) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(views_of[0], views_of[1])
    assert not np.array_equal(views_of[0], views_of[2])
    assert views_of[0].shape == (24, 24, 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(97, 131), (401, 299), (1203, 1001)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_fast_views_show_the_same_part_of_the_picture(kind, height, width, channels):
    """Of a smooth picture, which has nothing that a filter could take away, they are the same up to rounding."""
    pictures = source(height, width, kind, **({"quality": 98} if kind == "JPEG" else {}))
    for seed in range(8):
        fast = view(pictures, seed, channels=channels, antialias=False).astype(int)
        assert np.abs(fast - expected(pictures, seed, 24, channels)).mean() < 3


def test_fast_views_decode_no_more_of_a_jpeg_than_they_need(monkeypatch):
    pytest.importorskip("cv2")
    asked = []
    monkeypatch.setattr(
        decode, "decode", lambda *arguments, real=decode.decode: asked.append(arguments[3:]) or real(*arguments)
    )
    sizes = [view(source(1203, 1001), seed, antialias=False).shape for seed in range(8)]
    assert set(sizes) == {(24, 24, 3)}
    assert set(asked) <= {(4,), (8,)}
    view(source(1203, 1001))
    assert asked[-1] == ()


def test_evaluation_and_training_without_crops_see_the_centre():
    pictures = source()
    image = decode.decode(pictures.encoded[0], 3, "x")
    for fields, rng in (({"random_crop": True}, None), ({}, np.random.default_rng(0))):
        found, label = LoadExample(pictures, 24, 3, 32, **fields)(0, rng)
        np.testing.assert_array_equal(found, views.central(image, 32, (24, 24)))
        assert label == 0
