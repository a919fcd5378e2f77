import numpy as np
import pytest

from mhe_jax.data.dataset import ArraySplit, PairedSplit, Pairs, StreamSplit
from mhe_jax.data.faces.glyphs import FaceGlyphs
from mhe_jax.data.faces.synthetic import FaceSynthetic
from mhe_jax.evaluation.baselines.pixels import pictures, pixel_embeddings, pixel_figures
from mhe_jax.evaluation.verification import evaluate_pairs


def test_easy_pairs_are_verified_and_random_ones_are_not():
    data = FaceSynthetic(num_classes=1000, image_shape=(8, 8, 3), num_examples=100, num_pairs=200)
    verification = data.load().eval
    easy = verification.pairs[0]
    rng = np.random.default_rng(0)
    hopeless = Pairs("hopeless", *rng.integers(400, size=(2, 300), dtype=np.int32), rng.random(300) < 0.5)
    figures = pixel_figures(data, PairedSplit(verification.images, (easy, hopeless)))
    assert list(figures) == ["synthetic", "hopeless"]
    assert figures["synthetic"]["accuracy"] > 0.98
    assert figures["synthetic"]["auc"] > 0.99
    assert figures["hopeless"]["accuracy"] < 0.65
    embeddings = pixel_embeddings(data, verification.images.images)
    expected = {pairs.name: evaluate_pairs(embeddings, pairs) for pairs in (easy, hopeless)}
    np.testing.assert_equal(figures, expected)  # some figures are NaN
    streamed = StreamSplit(400, lambda index, rng: (verification.images.images[index], 0))
    np.testing.assert_equal(pixel_figures(data, PairedSplit(streamed, (easy, hopeless))), figures)


@pytest.mark.parametrize("count", [1, 5, 1030])
def test_embeddings_are_normalised_pixels_of_both_mirror_images(count):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 3, 5, 1), dtype=np.uint8)
    pixels = (images / 255.0 - 0.5) / 0.5
    found = pixel_embeddings(FaceSynthetic(num_classes=2, image_shape=(3, 5, 1)), images)
    np.testing.assert_allclose(found, (pixels + pixels[:, :, ::-1]).reshape(count, -1), atol=1e-6)
    assert found.dtype == np.float32
    glyphs = FaceGlyphs()
    expected = (images / 255.0 - glyphs.moments[0][0]) / glyphs.moments[1][0]
    np.testing.assert_allclose(pixel_embeddings(glyphs, images), expected.reshape(count, -1), atol=1e-5)


def test_pictures_of_a_part_of_a_split():
    images = np.arange(12, dtype=np.uint8).reshape(6, 1, 2, 1)
    index = np.array([4, 0, 4])
    stream = StreamSplit(6, lambda place, rng: (images[place], 0))
    for split in (ArraySplit(images, np.zeros(6, np.int32)), stream):
        np.testing.assert_array_equal(pictures(split, index, "part"), images[index])
