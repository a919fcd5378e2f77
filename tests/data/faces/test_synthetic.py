import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.data.faces.synthetic import FaceSynthetic
from mhe_jax.data.feeds import eval_feed
from mhe_jax.data.images.synthetic import class_patterns


def load(num_classes=7, **fields):
    fields = {"image_shape": (9, 13, 2), "num_examples": 30, "num_pairs": 40, **fields}
    return FaceSynthetic(num_classes=num_classes, **fields).load()


def test_the_seed_decides_and_shapes_are_as_asked():
    images, again, other = load(seed=1), load(seed=1), load(seed=2)
    jax.tree.map(np.testing.assert_array_equal, images.train.images, again.train.images)
    jax.tree.map(np.testing.assert_array_equal, images.eval.images.images, again.eval.images.images)
    assert not np.array_equal(images.train.images, other.train.images)
    assert not np.array_equal(images.eval.images.images, other.eval.images.images)
    assert images.train.images.shape == (30, 9, 13, 2)
    assert images.eval.images.images.shape == (80, 9, 13, 2)
    assert images.facts["images"] == 30


@pytest.mark.parametrize("num_classes", [2, 2_000_000])
def test_pairs_can_be_told_apart_however_many_identities_there_are(num_classes):
    images = load(num_classes, image_shape=(8, 8, 1))
    (pairs,) = images.eval.pairs
    assert pairs.name == "synthetic"
    assert pairs.same.tolist() == [True, False] * 20
    pictures = images.eval.images.images.astype(float).reshape(80, -1)
    distance = np.abs(pictures[pairs.first] - pictures[pairs.second]).mean(axis=1)
    assert distance[pairs.same].min() > 0
    assert distance[pairs.same].max() < distance[~pairs.same].min()
    assert images.facts["identities"] == num_classes
    assert images.train.labels.max() > num_classes * 0.4


def test_the_first_identities_of_training_are_verified_in_new_pictures():
    images = load(100_000, image_shape=(4, 4, 1), num_examples=10)
    patterns = class_patterns(images.train.labels, 1).astype(int)
    (pairs,) = images.eval.pairs
    for place in (0, 1, 38, 39):
        shown = images.eval.images.images[pairs.first[place]].astype(int)
        assert np.abs(shown - patterns[place % 10]).max() <= 48
        assert not np.array_equal(shown, images.train.images[place % 10])


def test_training_mirrors_half_of_the_pictures():
    data = FaceSynthetic(num_classes=9, image_shape=(4, 6, 3), num_examples=64)
    batch = data.load().train.images
    plain = np.asarray(data.normalize(jnp.asarray(batch)))
    np.testing.assert_allclose(plain, (batch / 255.0 - 0.5) / 0.5, atol=1e-6)
    augmented = np.asarray(data.augment(batch, jax.random.key(0)))
    mirrored = [np.array_equal(a, p[:, ::-1]) for a, p in zip(augmented, plain, strict=True)]
    kept = [np.array_equal(a, p) for a, p in zip(augmented, plain, strict=True)]
    assert np.logical_xor(mirrored, kept).all()
    assert 16 < sum(mirrored) < 48
    assert data.flip_embeddings


def test_the_feed_of_pairs_is_the_feed_of_their_pictures():
    split = load().eval
    assert split.num_examples == 80
    feed = eval_feed(split, 16)
    assert feed.steps_per_epoch == 5
    assert feed.resident["image"] is split.images.images


def test_shapes_of_a_batch():
    shapes = FaceSynthetic(num_classes=3).abstract_batch(5)
    assert {name: value.shape for name, value in shapes.items()} == {
        "image": (5, 112, 112, 3),
        "label": (5,),
        "weight": (5,),
    }


def test_bad_fields_are_errors():
    with pytest.raises(ValueError, match=r"config\.data\.num_classes is 1; 'face_synthetic' needs at least 2"):
        FaceSynthetic(num_classes=1)
    with pytest.raises(ValueError, match=r"config\.data\.num_examples is 0"):
        FaceSynthetic(num_classes=2, num_examples=0)
    with pytest.raises(ValueError, match=r"config\.data\.num_pairs is 7"):
        FaceSynthetic(num_classes=2, num_pairs=7)
