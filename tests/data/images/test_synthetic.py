import jax
import numpy as np
import pytest

from mhe_jax.data.images.synthetic import Synthetic, class_patterns
from mhe_jax.evaluation.baselines.nearest_neighbor import nearest_neighbor_top1


def test_the_seed_decides_and_shapes_are_as_asked():
    def load(seed):
        return Synthetic(
            num_classes=7, image_shape=(9, 13, 2), num_examples=300, num_eval_examples=50, seed=seed
        ).load()

    images, again, other = load(1), load(1), load(2)
    jax.tree.map(np.testing.assert_array_equal, images.train.images, again.train.images)
    assert not np.array_equal(images.train.images, other.train.images)
    assert images.train.images.shape == (300, 9, 13, 2)
    assert images.train.images.dtype == np.uint8
    assert images.eval.images.shape == (50, 9, 13, 2)
    assert images.train.labels.dtype == np.int32
    assert set(images.train.labels.tolist()) == set(range(7))


@pytest.mark.parametrize("num_classes", [50, 10**8])
def test_labels_can_be_learnt_however_many_classes_there_are(num_classes):
    images = Synthetic(num_classes=num_classes, image_shape=(8, 8, 1), num_examples=500, num_eval_examples=100).load()
    assert nearest_neighbor_top1(images.train, images.eval) == 1.0
    assert not np.array_equal(images.train.images[:100], images.eval.images)
    assert images.train.labels.max() > num_classes * 0.9


def test_patterns_of_neighbouring_classes_are_unrelated():
    patterns = class_patterns(np.arange(2000), 1).reshape(2000, -1).astype(float)
    assert abs(patterns.mean() - 127.5) < 2
    assert abs(np.corrcoef(patterns[:-1].ravel(), patterns[1:].ravel())[0, 1]) < 0.02
    assert len(np.unique(patterns, axis=0)) == 2000


def test_pixels_are_about_normal():
    data = Synthetic(num_classes=100)
    normal = np.asarray(data.normalize(data.load().eval.images))
    assert abs(normal.mean()) < 0.1
    assert abs(normal.std() - 1) < 0.3


def test_bad_fields_are_errors():
    with pytest.raises(ValueError, match=r"config\.data\.num_classes is 0"):
        Synthetic(num_classes=0)
    with pytest.raises(ValueError, match=r"num_eval_examples is 9; it must be from 1 to num_examples = 5"):
        Synthetic(num_classes=2, num_examples=5, num_eval_examples=9)
