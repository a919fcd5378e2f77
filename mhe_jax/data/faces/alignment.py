"""Upright faces: a picture is moved, turned and scaled until five landmarks lie where a model wants them."""

import cv2
import numpy as np

# Eyes, tip of the nose, corners of the mouth (x, y) in the aligned face: the places of SphereFace (1704.08063) for 96
# by 112 pixels, and 8 to the right for 112 by 112, as in ArcFace (1801.07698).
SIZE = 112
LANDMARKS = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
# Landmarks within such a part of a pixel, or mapped to one, show no face.
_POINT = 1e-3


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rotation, uniform scale and shift that bring points nearest to others: two of [K, 2] -> float64 [2, 3].

    Least squares over similarities without reflection (Umeyama, 1991); in the plane the singular vectors are not
    needed, since a rotation with a scale is one complex factor.

    Raises:
      ValueError: if a coordinate is not finite, or the points do not determine a rotation.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError("landmarks are not finite")
    center, goal = source.mean(axis=0), target.mean(axis=0)
    a, b = (points @ (1, 1j) for points in (source - center, target - goal))
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.vdot(a, a).real
    if not np.isfinite(spread):
        raise ValueError("landmarks are further apart than numbers reach")
    if spread < _POINT**2 * len(a):
        raise ValueError("landmarks all lie in one place")
    factor = np.vdot(a, b) / spread
    if np.sqrt(abs(factor) ** 2 * spread / len(a)) < _POINT:
        raise ValueError("landmarks do not lie like those of a face: no rotation fits them")
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([linear, goal - linear @ center])


def align(image: np.ndarray, landmarks: np.ndarray, size: int = SIZE) -> np.ndarray:
    """The aligned face, black outside of the picture.

    Args:
      image: uint8 [h, w, C].
      landmarks: [5, 2], the (x, y) in pixels of left eye, right eye, nose, left and right corner of the mouth, as seen.
      size: pixels per side; `LANDMARKS` are scaled to it.

    Returns:
      uint8 [size, size, C].

    Raises:
      ValueError: as `similarity_transform`.
    """
    matrix = similarity_transform(landmarks, LANDMARKS * (size / SIZE))
    return cv2.warpAffine(image, matrix, (size, size)).reshape(size, size, image.shape[2])
