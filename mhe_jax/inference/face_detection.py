"""The landmarks of the faces in a picture, by MTCNN (Zhang et al., 1604.02878), whose weights come with its package."""

import os
from typing import Any

import numpy as np

_LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")  # as seen


class FaceDetector:
    """Finds the largest face of a picture.

    Args:
      min_confidence: faces below it are none.

    Raises:
      ValueError: if the package mtcnn, or TensorFlow, which runs it, is not installed.
    """

    def __init__(self, min_confidence: float = 0.9):
        if not 0 <= min_confidence <= 1:
            raise ValueError(f"--min_confidence is {min_confidence}; it must be in [0, 1]")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            from mtcnn import MTCNN
        except ImportError as error:
            raise ValueError(
                f"faces are found by mtcnn, which cannot be imported ({error}): `pip install 'mhe-jax[align]'` "
                "installs it, or give --landmarks=FILE"
            ) from None
        self._detector: Any = MTCNN()
        self._least = min_confidence

    def __call__(self, name: str, image: np.ndarray) -> np.ndarray | None:
        """float64 [5, 2], the (x, y) of eyes, nose and corners of the mouth in pixels; None where there is no face.

        Args:
          name: of the picture, not looked at.
          image: uint8 [h, w, 3].
        """
        found = [face for face in self._detector.detect_faces(image) or () if face["confidence"] >= self._least]
        if not found:
            return None
        largest = max(found, key=lambda face: face["box"][2] * face["box"][3])
        return np.array([largest["keypoints"][landmark] for landmark in _LANDMARKS], np.float64)
