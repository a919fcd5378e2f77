"""The alignment against Umeyama's solution by singular vectors, and against pixels that were moved before."""

import cv2
import numpy as np
import pytest

from mhe_jax.data.faces.alignment import LANDMARKS, SIZE, align, similarity_transform


def umeyama(source, target):
    """[2, 3], by the singular value decomposition of the covariance, reflections excluded (Umeyama, 1991, eq. 40)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, values, v = np.linalg.svd(b.T @ a / len(a))
    signs = np.array([1, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    rotation = (u * signs) @ v
    scale = (values * signs).sum() / a.var(0).sum()
    return np.column_stack([scale * rotation, target.mean(0) - scale * rotation @ source.mean(0)])


def moved(points, angle, scale, shift):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * points @ turn.T + shift


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_solution_by_singular_vectors(seed):
    rng = np.random.default_rng(seed)
    source, target = rng.uniform(-50, 200, (2, 5, 2))
    np.testing.assert_allclose(similarity_transform(source, target), umeyama(source, target), atol=1e-9)
    # A mirrored face is not mirrored back.
    mirrored = target * (-1, 1)
    found = similarity_transform(mirrored, target)
    np.testing.assert_allclose(found, umeyama(mirrored, target), atol=1e-9)
    assert np.linalg.det(found[:, :2]) > 0


def test_no_similarity_is_nearer():
    rng = np.random.default_rng(0)
    source = LANDMARKS * 2 + rng.normal(0, 5, (5, 2))
    found = similarity_transform(source, LANDMARKS)
    error = lambda m: ((source @ m[:, :2].T + m[:, 2] - LANDMARKS) ** 2).sum()
    (a, _, x), (b, _, y) = found
    for _ in range(200):
        da, db, dx, dy = rng.normal(0, 1, 4) * (1e-3, 1e-3, 0.1, 0.1)
        assert error(np.array([[a + da, -b - db, x + dx], [b + db, a + da, y + dy]])) > error(found)


@pytest.mark.parametrize(("angle", "scale", "shift"), [(0, 1, (0, 0)), (0.4, 1.7, (30, 12)), (-2.5, 0.2, (-5, 80))])
def test_a_similarity_is_undone(angle, scale, shift):
    found = similarity_transform(moved(LANDMARKS, angle, scale, shift), LANDMARKS)
    points = np.array([[0, 0], [111, 5], [40, 90.5]])
    np.testing.assert_allclose(moved(points, angle, scale, shift) @ found[:, :2].T + found[:, 2], points, atol=1e-9)


def test_published_landmarks():
    """ArcFace's: SphereFace's for 96 columns, and 8 more."""
    narrow = [(30.2946, 51.6963), (65.5318, 51.5014), (48.0252, 71.7366), (33.5493, 92.3655), (62.7299, 92.2041)]
    np.testing.assert_allclose(LANDMARKS, np.add(narrow, (8, 0)), atol=1e-6)


def smooth_face(height, width, channels):
    """A picture without edges, so that interpolating twice changes little."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.standard_normal((height, width, channels)), (0, 0), 8).reshape(height, width, channels)
    return np.clip(128 + 700 * noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_face_in_place_stays_as_it_is(channels):
    face = smooth_face(SIZE, SIZE, channels)
    np.testing.assert_array_equal(align(face, LANDMARKS), face)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_face_that_was_moved_comes_back(channels):
    face = smooth_face(SIZE, SIZE, channels)
    angle, scale, shift = 0.3, 1.5, np.array([70, 20])
    columns = moved(np.eye(2), angle, scale, 0).T
    picture = cv2.warpAffine(face, np.column_stack([columns, shift]), (260, 240)).reshape(240, 260, channels)
    found = align(picture, moved(LANDMARKS, angle, scale, shift).astype(np.float32))
    assert found.shape == (SIZE, SIZE, channels)
    assert found.dtype == np.uint8
    inside = np.s_[4:-4, 4:-4]
    assert np.abs(found[inside].astype(int) - face[inside]).mean() < 2
    assert np.abs(picture[:SIZE, :SIZE].astype(int) - face).mean() > 20


def test_another_size_scales_the_landmarks_and_outside_is_black():
    picture = np.full((56, 56, 3), 200, np.uint8)
    assert (align(picture, LANDMARKS / 2, 56) == 200).all()
    half = align(picture, LANDMARKS / 2 + (28, 0), 56)
    assert (half[:, :27] == 200).all()
    assert (half[:, 29:] == 0).all()


def test_landmarks_beyond_all_numbers():
    with pytest.raises(ValueError, match="landmarks are further apart than numbers reach"):
        similarity_transform(np.array([[1e300, 0], [-1e300, 5], [0, 0], [1, 1], [2, 2]]), LANDMARKS)


def test_degenerate_landmarks():
    picture = np.zeros((9, 9, 3), np.uint8)
    with pytest.raises(ValueError, match="landmarks all lie in one place"):
        align(picture, np.full((5, 2), 31.5))
    with pytest.raises(ValueError, match="landmarks are not finite"):
        align(picture, np.where(np.eye(5, 2) > 0, np.nan, LANDMARKS))
    # Mirrored squares: every rotation is as bad as no scale at all.
    square = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], float)
    with pytest.raises(ValueError, match="no rotation fits them"):
        similarity_transform(square * (-1, 1), square)
    # On a line they still determine a rotation.
    line = np.arange(5)[:, None] * (3.0, 4.0)
    np.testing.assert_allclose(similarity_transform(line, line), np.eye(2, 3), atol=1e-12)
