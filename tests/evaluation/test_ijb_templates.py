"""Template pooling and its figures against loops over templates, media and pictures."""

import numpy as np
import pytest
import sklearn.metrics

from mhe_jax.data.dataset import Pairs
from mhe_jax.evaluation import similarity
from mhe_jax.evaluation.ijb_meta import Faces
from mhe_jax.evaluation.templates import Templates, nearest_tars, pool, verify_templates
from mhe_jax.evaluation.verification import roc


@pytest.fixture
def faces():
    """67 pictures of 9 templates in no order; a media number may occur in several templates."""
    rng = np.random.default_rng(0)
    templates = rng.permutation(np.concatenate([np.repeat([3, 40, 41, 7, 900, 12, 5], 9), [2, 2, 8, 60]]))
    return Faces(
        tuple(f"{i}.jpg" for i in range(67)),
        templates,
        rng.integers(0, 4, 67) * 1000,
        np.zeros((67, 5, 2), np.float32),
        rng.uniform(0.1, 1, 67).astype(np.float32),
    )


@pytest.fixture
def embeddings():
    return np.random.default_rng(1).standard_normal((67, 5)).astype(np.float32) * 20


def by_loops(embeddings, faces, detector_score, norm_score):
    """The published pooling, spelled out."""
    features = []
    for vector, score in zip(embeddings.astype(np.float64), faces.scores, strict=True):
        vector = vector if norm_score else vector / np.sqrt((vector * vector).sum())
        features.append(vector * score if detector_score else vector)
    pooled = []
    for template in sorted(set(faces.templates.tolist())):
        media_means = []
        for media in sorted(set(faces.medias[faces.templates == template].tolist())):
            frames = [features[i] for i in range(67) if (faces.templates[i], faces.medias[i]) == (template, media)]
            media_means.append(sum(frames) / len(frames))
        total = sum(media_means)
        pooled.append(total / np.sqrt((total * total).sum()))
    return np.array(pooled)


@pytest.mark.parametrize("block", [1, 200, 2**24])
@pytest.mark.parametrize("norm_score", [True, False])
@pytest.mark.parametrize("detector_score", [True, False])
def test_pooling_equals_loops(embeddings, faces, detector_score, norm_score, block, monkeypatch):
    monkeypatch.setattr(similarity, "_BLOCK_BYTES", block)
    found = pool(embeddings, faces, detector_score=detector_score, norm_score=norm_score)
    assert found.numbers.tolist() == [2, 3, 5, 7, 8, 12, 40, 41, 60, 900]
    assert found.embeddings.dtype == np.float32
    expected = by_loops(embeddings, faces, detector_score, norm_score)
    np.testing.assert_allclose(found.embeddings, expected, atol=1e-6)


def test_every_option_changes_the_templates(embeddings, faces):
    options = [(True, True), (True, False), (False, True), (False, False)]
    found = [pool(embeddings, faces, detector_score=d, norm_score=n).embeddings for d, n in options]
    for one in range(4):
        for other in range(one):
            assert np.abs(found[one] - found[other]).max() > 1e-2


def test_frames_of_one_video_count_as_one_medium():
    """Two media: a picture to the right, and a video of three frames upwards."""
    faces = Faces(("a", "b", "c", "d"), np.ones(4, int), np.array([1, 2, 2, 2]), np.zeros((4, 5, 2)), np.ones(4))
    vectors = np.array([[1, 0], [0, 1], [0, 1], [0, 1]], np.float32)
    np.testing.assert_allclose(pool(vectors, faces).embeddings, [[np.sqrt(0.5)] * 2], rtol=1e-6)


def test_templates_of_length_zero_are_counted():
    faces = Faces(("a", "b", "c"), np.array([1, 1, 2]), np.array([1, 2, 3]), np.zeros((3, 5, 2)), np.ones(3))
    templates = pool(np.array([[1, 0], [-1, 0], [0, 1]], np.float32), faces)
    np.testing.assert_array_equal(templates.embeddings, [[0, 0], [0, 1]])
    figures, _ = verify_templates(templates, Pairs("ijbc", np.array([0, 1]), np.array([1, 1]), np.array([False, True])))
    assert figures["zero_templates"] == 1
    assert figures["auc"] == 1


def published_tars(similarities, same):
    """As read off in eval_ijbc.py: the smallest (distance to the FAR, position from the end) of all points."""
    far, tar, _ = sklearn.metrics.roc_curve(same.astype(int), similarities)
    far, tar = np.flipud(far), np.flipud(tar)
    result = []
    for exponent in range(1, 7):
        _, index = min(zip(abs(far - 10**-exponent), range(len(far)), strict=True))
        result.append(tar[index])
    return result


@pytest.mark.parametrize(("seed", "count", "levels"), [(0, 200, 50), (1, 5000, 1000), (2, 40000, 10**6)])
def test_nearest_point_is_the_published_one(seed, count, levels):
    rng = np.random.default_rng(seed)
    same = rng.random(count) < 0.1
    similarities = (np.round((rng.standard_normal(count) + 2 * same) * levels) / levels).astype(np.float32)
    found = nearest_tars(similarities, same)
    assert list(found) == [f"tar_nearest@1e-{n}" for n in range(1, 7)]
    assert list(found.values()) == published_tars(similarities, same)


def test_points_between_two_others_are_not_read_off():
    """Half of the positives, three of twenty negatives, the other half: no corner at a FAR of 0.1, the next at 0.15."""
    same = np.array([True] * 5 + [False] * 3 + [True] * 5 + [False] * 17)
    similarities = np.linspace(1, 0, 30)
    assert nearest_tars(similarities, same)["tar_nearest@1e-1"] == 1
    assert published_tars(similarities, same)[0] == 1
    assert roc(similarities, same).tar_at(0.1) == 0.5


def test_the_nearest_point_may_lie_above_the_far_that_was_asked_for():
    """Nine negatives, and one of them above most positives: 1/9 is nearer to 0.1 than 0."""
    templates = Templates(np.arange(12), np.array([[1, 0]] + [[np.cos(a), np.sin(a)] for a in np.linspace(0, 3, 11)]))
    same = np.array([True, False, True] + [False] * 8)
    pairs = Pairs("ijbb", np.zeros(11, int), np.arange(1, 12), same)
    figures, curve = verify_templates(templates, pairs)
    assert (figures["tar_nearest@1e-1"], figures["tar_nearest@1e-2"]) == (1, 0.5)
    assert np.isnan(figures["tar@1e-1"])
    assert (curve.positives, curve.negatives) == (2, 9)
