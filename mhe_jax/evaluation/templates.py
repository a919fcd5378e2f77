"""The 1:1 protocol of IJB-B and IJB-C: templates, sets of pictures and video frames of one person, are compared.

The pooling is that of the published systems (insightface, after VGGFace2, 1710.08092): the embeddings of the frames
of one video are averaged, those of all media of a template added up, and the sum is normalised. It is linear, so that
every option is a weight of the pictures.
"""

import dataclasses

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import Pairs
from mhe_jax.evaluation.ijb_meta import Faces
from mhe_jax.evaluation.similarity import blocks, lengths, normalized, pair_similarities
from mhe_jax.evaluation.verification import FARS, Roc, roc


@dataclasses.dataclass(frozen=True)
class Templates:
    """Template numbers, sorted, int64 [T], and their embeddings of length 1 (or 0), float32 [T, D]."""

    numbers: np.ndarray
    embeddings: np.ndarray


def pool(embeddings: np.ndarray, faces: Faces, *, detector_score: bool = True, norm_score: bool = True) -> Templates:
    """The templates of all pictures.

    Args:
      embeddings: float32 [N, D], one per picture, usually the sum of its own and its mirror image's.
      faces: the N pictures.
      detector_score: weighs each picture with the score of its detection.
      norm_score: keeps the lengths of the embeddings, which are small for pictures that show little; otherwise each is
        normalised first.

    Raises:
      ValueError: if an embedding is not finite.
    """
    found = lengths(embeddings)
    numbers, template = np.unique(faces.templates, return_inverse=True)
    _, media, frames = np.unique(
        np.stack([faces.templates, faces.medias], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    weight = 1 / frames[media.reshape(-1)]
    if detector_score:
        weight = weight * faces.scores
    if not norm_score:
        weight = weight / np.where(found > 0, found, 1)
    shape = (len(numbers), len(embeddings))
    pooling = scipy.sparse.csc_matrix((weight, (template, np.arange(len(embeddings)))), shape)
    total = np.zeros((len(numbers), embeddings.shape[1]))
    for rows in blocks(len(embeddings), 8 * embeddings.shape[1]):
        total += pooling[:, rows] @ embeddings[rows].astype(np.float64)
    return Templates(numbers, normalized(total))


def nearest_tars(similarities: np.ndarray, same: np.ndarray) -> dict[str, float]:
    """`tar_nearest@1e-1` .. `tar_nearest@1e-6`: TAR at the point of the ROC whose FAR is nearest to the one asked for.

    That FAR may be larger, or 0. Published figures for IJB are read off so; of points as near the one of larger FAR
    and TAR is taken, and points on a straight line between others are no points (scikit-learn's roc_curve).
    """
    import sklearn.metrics  # slow to import

    far, tar, _ = sklearn.metrics.roc_curve(same, similarities)
    far, tar = far[::-1], tar[::-1]
    return {f"tar_nearest@{asked}": float(tar[np.argmin(np.abs(far - float(asked)))]) for asked in FARS}


def verify_templates(templates: Templates, pairs: Pairs) -> tuple[dict[str, float], Roc]:
    """The figures of `Roc.figures` and `nearest_tars`, and the ROC, of pairs of rows of `templates`.

    `zero_templates` counts the templates of length 0.

    Raises:
      ValueError: unless there are pairs of both kinds.
    """
    similarities = pair_similarities(templates.embeddings, pairs.first, pairs.second)
    curve = roc(similarities, pairs.same)
    zero = float(np.count_nonzero(~templates.embeddings.any(axis=1)))
    return {**curve.figures, **nearest_tars(similarities, pairs.same), "zero_templates": zero}, curve
