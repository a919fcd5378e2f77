"""Pictures of known people, searched by the embeddings of others: exact, block by block."""

import os
import pathlib

import numpy as np

from mhe_jax.data.images.listing import list_pictures
from mhe_jax.evaluation.similarity import blocks
from mhe_jax.inference.run import Run

_ENROLLED = 256  # pictures that are decoded before they are embedded


class Gallery:
    """Embeddings of pictures, and whose they are.

    Args:
      people: names, each once.
      person: int [N], whose each picture is, ascending; everyone has one.
      embeddings: float32 [N, D] of length 1.
    """

    def __init__(self, people: list[str], person: np.ndarray, embeddings: np.ndarray):
        self._people, self._embeddings = people, embeddings
        self._first = np.searchsorted(person, np.arange(len(people)))

    @classmethod
    def of(cls, run: Run, folder: pathlib.Path) -> "Gallery":
        """The gallery of DIR/<person>/<picture>; pictures directly in DIR are each a person of the file's name.

        Raises:
          ValueError: if there is no picture, or one cannot be read, naming it.
        """
        if not folder.is_dir():
            raise ValueError(f"the gallery {folder} is no folder")
        found, _ = list_pictures(folder)
        paths = sorted((_person(path), path) for path in map(pathlib.PurePath, map(os.fsdecode, found)))
        if not paths:
            raise ValueError(f"the gallery {folder} holds no picture")
        people = sorted({name for name, _ in paths})
        number = {name: place for place, name in enumerate(people)}
        person = np.array([number[name] for name, _ in paths])
        rows = [
            run.embed([folder / path for _, path in paths[start : start + _ENROLLED]])
            for start in range(0, len(paths), _ENROLLED)
        ]
        return cls(people, person, np.concatenate(rows))

    def __len__(self) -> int:
        return len(self._people)

    def search(self, queries: np.ndarray, top_k: int, threshold: float) -> list[list[tuple[str, float]]]:
        """The people most similar to each query by their most similar picture, best first.

        Args:
          queries: float32 [Q, D] of length 1.
          top_k: people of each query at most.
          threshold: cosine below which a person is left out.

        Returns:
          Q lists of (name, cosine).
        """
        found: list[list[tuple[str, float]]] = []
        for rows in blocks(len(queries), 4 * len(self._embeddings)):
            cosines = queries[rows] @ self._embeddings.T
            best = np.maximum.reduceat(np.clip(cosines, -1, 1), self._first, axis=1)
            order = np.argsort(-best, axis=1, kind="stable")[:, :top_k]
            for row, ranked in zip(best, order, strict=True):
                found.append([(self._people[i], float(row[i])) for i in ranked if row[i] >= threshold])
        return found


def _person(path: pathlib.PurePath) -> str:
    return path.parent.as_posix() if len(path.parts) > 1 else path.stem
