"""Whom do pictures show? Asks a run on faces about the people of a folder."""

import pathlib
from collections.abc import Iterator

from mhe_jax.inference.gallery import Gallery
from mhe_jax.inference.inputs import Unreadable, pictures
from mhe_jax.inference.opened import BATCH_SIZE
from mhe_jax.inference.run import load
from mhe_jax.inference.verify import best_threshold


def search(
    workdir: pathlib.Path, people: pathlib.Path, source: str, top_k: int, threshold: float | None = None
) -> Iterator[dict]:
    """The people of a gallery that are most similar to each picture: {'input': ..., 'people': [...]}, best first.

    Each is {'name': ..., 'similarity': the cosine with the most similar of their pictures}.

    Args:
      workdir: a run on faces.
      people: folder of the gallery, see `Gallery.of`.
      source: a picture or a folder of pictures, see `mhe_jax.inference.inputs.pictures`.
      top_k: people of each picture at most.
      threshold: cosine below which nobody is named; None takes that of the run's best evaluation.

    Raises:
      ValueError: if the folder is not a run on faces, or has no threshold and none is given; for a gallery with an
        unreadable picture or none; at the end, if pictures could not be read, which are named on standard error.
    """
    if top_k < 1:
        raise ValueError(f"--top_k is {top_k}; it must be at least 1")
    run = load(workdir)
    if not run.verifies:
        raise ValueError(f"{workdir} is a run on {run.config.data.name!r}, whose features are no embeddings")
    threshold = best_threshold(workdir) if threshold is None else threshold
    gallery, unreadable, answered = Gallery.of(run, people), Unreadable(), 0
    for names, images in pictures(source, run.data, BATCH_SIZE, unreadable):
        for name, found in zip(names, gallery.search(run.embed(images), top_k, threshold), strict=True):
            answered += 1
            similar = [{"name": person, "similarity": round(cosine, 6)} for person, cosine in found]
            yield {"input": name, "people": similar}
    unreadable.check(answered)
