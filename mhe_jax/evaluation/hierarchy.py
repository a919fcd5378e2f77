"""A tree above the classes: how near a wrong answer is, and answers that stop at the group that is sure."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.sparse

from mhe_jax.codes.taxonomy import Node
from mhe_jax.data.dataset import DataError

_ROWS = 256  # of which the sums are made at a time


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """The groups and classes of a tree, numbered; the root is none of them.

    names: of the M nodes, the groups above one before it, `animals/birds`; those of classes as the data has them.
    path: int32 [C, D], from the coarsest group of a class to the class itself, which fills up what is left of a row.
    ancestors: CSR bool [M, M], the nodes above each node, and itself.
    """

    names: tuple[str, ...]
    path: np.ndarray
    ancestors: scipy.sparse.csr_matrix

    @classmethod
    def of(cls, root: Node, class_names: Sequence[str]) -> "Hierarchy":
        """The tree that `mhe_jax.codes.taxonomy.read_taxonomy` gives; class_names: by id, of all C classes.

        Raises:
          DataError: if two classes have one name, by which a tree could not tell them.
        """
        names: list[str] = []
        above: list[list[int]] = []
        paths: dict[int, list[int]] = {}

        def add(name: str, path: list[int]) -> list[int]:
            names.append(name)
            above.append([*path, len(names) - 1])
            return above[-1]

        waiting = [(root, list[int]())]
        while waiting:
            node, path = waiting.pop()
            for index in node.classes:
                paths[index] = add(class_names[index], path)
            for name, group in node.groups.items():
                waiting.append((group, add("/".join([names[path[-1]], name] if path else [name]), path)))
        if missing := [name for index, name in enumerate(class_names) if index not in paths]:
            raise DataError(f"two classes are named {missing[0]!r}: a tree tells classes by their names")
        depth = max(map(len, paths.values()))
        rows = [paths[index] + paths[index][-1:] * (depth - len(paths[index])) for index in range(len(paths))]
        ends = np.cumsum([0, *map(len, above)])
        columns = np.array([one for path in above for one in path])
        ancestors = scipy.sparse.csr_matrix((np.ones(len(columns), bool), columns, ends), (len(names),) * 2)
        return cls(tuple(names), np.array(rows, np.int32), ancestors)

    @property
    def leaf(self) -> np.ndarray:
        """The node of each class, int32 [C]."""
        return self.path[:, -1]

    def level_accuracy(self, predicted: np.ndarray, true: np.ndarray) -> list[float]:
        """The share of examples whose group is right, by level from the coarsest; the last one is that of the class.

        Args:
          predicted: int [N], classes, -1 for none.
          true: int [N].
        """
        right = (self.path[predicted] == self.path[true]) & (predicted >= 0)[:, None]
        return [float(share) for share in right.mean(axis=0)]

    def scores(self, predicted: scipy.sparse.csr_matrix, true: scipy.sparse.csr_matrix) -> dict[str, float]:
        """Hierarchical precision, recall and F1: those of answers with all that is above them.

        Args:
          predicted: CSR [N, M], the nodes answered of each example, of any number.
          true: CSR [N, M].

        Source: Kiritchenko, Matwin, Nock and Famili, Learning and evaluation in the presence of class hierarchies
        (Canadian AI, 2006).
        """
        answered, wanted = ((matrix.astype(bool) @ self.ancestors).astype(bool) for matrix in (predicted, true))
        both, number, there = answered.multiply(wanted).nnz, answered.nnz, wanted.nnz
        return {"hP": both / max(number, 1), "hR": both / max(there, 1), "hF": 2 * both / max(number + there, 1)}

    def nodes(self, row: np.ndarray, node: np.ndarray, examples: int) -> scipy.sparse.csr_matrix:
        """CSR bool [examples, M] of nodes int [P] of examples int [P]; negative ones are left out."""
        row, node = row[node >= 0], node[node >= 0]
        return scipy.sparse.csr_matrix((np.ones(len(row), bool), (row, node)), (examples, len(self.names)))

    def stopped(self, ids: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """The finest node that is sure: from the root down the most probable group, as long as it reaches a threshold.

        A group's probability is the sum of those of the classes in it.

        Args:
          ids: int [N, K], classes that exclude each other, -1 for none.
          scores: float [N, K], their probabilities.
          threshold: the least probability of a node.

        Returns:
          int32 [N], -1 where no group reaches it, and the probabilities float64 [N], 1 of the root.
        """
        node, mass = np.full(len(ids), -1, np.int32), np.ones(len(ids))
        for start in range(0, len(ids), _ROWS):
            rows = slice(start, start + _ROWS)
            node[rows], mass[rows] = self._stopped(ids[rows], np.where(ids[rows] < 0, 0.0, scores[rows]), threshold)
        return node, mass

    def _stopped(self, ids: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        every = np.arange(len(ids))
        node, mass, inside = np.full(len(ids), -1, np.int32), np.ones(len(ids)), ids >= 0
        for level in range(self.path.shape[1]):
            here = self.path[ids, level]
            sums = np.einsum("nkj,nj->nk", here[:, :, None] == here[:, None, :], scores * inside)
            sums = np.where(inside, sums, -1.0)
            best = sums.argmax(axis=1)
            sure = sums[every, best] >= threshold
            node = np.where(sure, here[every, best], node)
            mass = np.where(sure, sums[every, best], mass)
            inside &= sure[:, None] & (here == node[:, None])
        return node, mass
