"""Measures a trained face model on IJB-B or IJB-C: 1:1 verification and 1:N identification of templates.

By default an embedding is the sum of a picture's and its mirror image's, is not normalised, and counts as much as the
face detector was sure of it, as in the published system. That system's figures are `tar_nearest@1e-4` and the like:
TAR at the point of the ROC nearest to the FAR asked for. `tar@1e-4` is TAR at a FAR that is not larger. null stands for
what the pairs cannot measure.
"""

import json
import math
import pathlib
import sys
from typing import Any, Protocol

import numpy as np
import tqdm

from mhe_jax.data.dataset import DataError
from mhe_jax.data.faces.alignment import align
from mhe_jax.data.images import decode
from mhe_jax.evaluation.identification import identify_templates
from mhe_jax.evaluation.ijb_meta import Faces, read_faces, read_searches, read_template_pairs
from mhe_jax.evaluation.roc_plot import plot_roc
from mhe_jax.evaluation.templates import pool, verify_templates
from mhe_jax.inference.inputs import read_ahead
from mhe_jax.train.reporting.writers import write_atomically

_BATCH = 256


class Embed(Protocol):
    """A trained model: uint8 [B, H, W, C] -> float32 [B, D]; `image_shape` is (H, W, C)."""

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    def __call__(self, images: np.ndarray) -> np.ndarray: ...


def embed_faces(embed: Embed, folder: pathlib.Path, faces: Faces, flip: bool) -> np.ndarray:
    """The embeddings of aligned pictures, with `flip` plus those of their mirror images: float32 [N, D].

    Raises:
      ValueError: naming the picture, if it is missing, cannot be decoded, or has landmarks of no face.
    """
    height, width, channels = embed.image_shape
    if height != width:
        raise ValueError(f"the model takes pictures of {height} by {width} pixels, but faces are aligned to a square")
    paths = [folder / name for name in faces.names]
    # Better now than after hours.
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"{len(missing)} of {len(paths)} pictures do not exist, the first is {missing[0]}")

    def load(index: int) -> np.ndarray:
        path = paths[index]
        image = decode.decode(decode.read_bytes(path), channels, str(path))
        try:
            return align(image, faces.landmarks[index], height)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None

    parts = []
    with tqdm.tqdm(total=len(paths), unit="picture", disable=not sys.stderr.isatty()) as bar:
        for _, images in read_ahead(load, range(len(paths)), _BATCH):
            embeddings = embed(images)
            parts.append(embeddings + embed(images[:, :, ::-1]) if flip else embeddings)
            bar.update(len(images))
    return np.concatenate(parts)


def evaluate(
    embed: Embed,
    folder: pathlib.Path,
    target: str,
    workdir: pathlib.Path,
    *,
    flip: bool = True,
    detector_score: bool = True,
    norm_score: bool = True,
) -> dict[str, Any]:
    """Measures, writes `<target>.json` and `<target>_roc.png` in `workdir`, and returns the figures.

    Raises:
      ValueError: if the benchmark is incomplete or malformed, naming the file and line, or embeddings are not finite.
    """
    meta = folder / "meta"
    faces = read_faces(meta, target)
    numbers = np.unique(faces.templates)
    pairs = read_template_pairs(meta, target, numbers)
    searches = read_searches(meta, target, numbers)
    embeddings = embed_faces(embed, folder / "loose_crop", faces, flip)
    templates = pool(embeddings, faces, detector_score=detector_score, norm_score=norm_score)
    verification, curve = verify_templates(templates, pairs)
    figures: dict[str, Any] = {
        "target": target,
        "flip": flip,
        "detector_score": detector_score,
        "norm_score": norm_score,
        "pictures": len(faces.names),
        "templates": len(numbers),
        "pairs": len(pairs.same),
        "verification": verification,
        "identification": identify_templates(templates.embeddings, *searches) if searches else None,
        "unmeasured": curve.unmeasured or None,
    }
    figures = _without_nan(figures)
    write_atomically(workdir / f"{target.lower()}.json", json.dumps(figures, indent=2) + "\n")
    plot_roc({target: curve}, workdir / f"{target.lower()}_roc.png")
    return figures


def _without_nan(tree: Any) -> Any:
    """JSON has no NaN: what was not measured is null."""
    if isinstance(tree, dict):
        return {name: _without_nan(value) for name, value in tree.items()}
    return None if isinstance(tree, float) and math.isnan(tree) else tree
