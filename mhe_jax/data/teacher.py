"""What a teacher says of the training examples: a sparse file of scores, and the section `config.distillation`.

The file is a matrix [N, C] of `scipy.sparse.save_npz`, a row for each training example and a column for each class,
both in the order of the data, with scores of the classes that the teacher likes best: probabilities, or anything in
proportion to them. `mhe teach` writes one, and the labels of people who do not agree may be one too.
"""

import dataclasses
import math
import pathlib
import zipfile
from typing import ClassVar

import numpy as np
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.data.dataset import DataError
from mhe_jax.settings import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distillation:
    """Base of those that teach, and of none. All take all fields, for the command line to set with the name.

    Attributes:
      file: the .npz of the teacher's scores, see `mhe_jax.data.teacher`.
      weight: the share of the loss that is the teacher's; the labels have the others. 1: the file's alone.
      temperature: that the logits of teacher and student are divided by; the teacher's part of the loss is multiplied
        by its square. Of many labels it is 1.
    """

    teaches: ClassVar[bool] = False

    file: str = option("", free=True)
    weight: float = 0.5
    temperature: float = 1.0

    def __post_init__(self):
        if not self.teaches:
            for field in dataclasses.fields(self):
                if getattr(self, field.name) != field.default:
                    raise ValueError(
                        f"config.distillation.{field.name} is {getattr(self, field.name)!r}, but distillation.name = "
                        f"'none' does not read it: set the name to 'scores', or leave it at {field.default!r}"
                    )
            return
        if not self.file:
            raise ValueError("config.distillation.file is empty; it must be the .npz of a teacher's scores")
        if not 0 < self.weight <= 1:
            raise ValueError(f"config.distillation.weight is {self.weight}; it must be above 0 and at most 1")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"config.distillation.temperature is {self.temperature}; it must be positive")

    @property
    def path(self) -> pathlib.Path:
        return pathlib.Path(self.file).expanduser()


class NoTeacher(Distillation):
    """The labels alone."""


class Scores(Distillation):
    """Cross-entropy against the teacher's distribution over the classes of its file, mixed with that of the labels.

    What the teacher leaves out has no probability: its best classes have all of it, in their proportion.
    """

    teaches = True


DISTILLATIONS: dict[str, type[Distillation]] = {"none": NoTeacher, "scores": Scores}


def build_distillation(section: ConfigDict) -> Distillation:
    """The teacher of `config.distillation`; raises ValueError naming a wrong field."""
    built: Distillation = registry.build(DISTILLATIONS, section, "config.distillation")
    return built


def read_scores(path: pathlib.Path, num_examples: int, num_classes: int) -> scipy.sparse.csr_matrix:
    """A teacher's scores, CSR float32 [N, C], positive; columns sorted. A row may be empty.

    Raises:
      DataError: if the file is missing or no such matrix, of another number of rows or classes, or has a score that is
        negative or not finite, naming the row.
    """
    try:
        with path.open("rb") as file:
            found = scipy.sparse.load_npz(file).tocsr()
        found.check_format(full_check=True)
    except OSError as error:
        raise DataError(f"config.distillation.file: {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise DataError(
            f"{path} is no sparse matrix that scipy.sparse.save_npz wrote: {' '.join(str(error).split())}"
        ) from error
    if found.shape[0] != num_examples:
        raise DataError(f"{path} has {found.shape[0]} rows, but there are {num_examples} training examples")
    if found.shape[1] != num_classes:
        raise DataError(f"{path} has {found.shape[1]} columns, but there are {num_classes} classes")
    if found.dtype.kind not in "iuf":
        raise DataError(f"{path} holds {found.dtype} values; scores are numbers")
    require_scores(found, path)
    matrix = scipy.sparse.csr_matrix(found, dtype=np.float32)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def require_scores(matrix: scipy.sparse.csr_matrix, where: object, most: float = math.inf) -> None:
    """Raises DataError naming the first row with a value that is negative, not finite, or above `most`."""
    wrong = np.flatnonzero(~(np.isfinite(matrix.data) & (matrix.data >= 0) & (matrix.data <= most)))
    if len(wrong):
        row = int(np.searchsorted(matrix.indptr, wrong[0], side="right")) - 1
        wanted = "0 or more" if most == math.inf else f"in 0 .. {most:g}"
        raise DataError(
            f"{where}: row {row} has {matrix.data[wrong[0]]:g} for class {matrix.indices[wrong[0]]}; it must be finite "
            f"and {wanted}"
        )


def tempered(scores: scipy.sparse.csr_matrix, temperature: float) -> scipy.sparse.csr_matrix:
    """Softmax of log(scores) / temperature in each row, over the classes that are stored; empty rows stay empty."""
    rows = np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))
    highest = np.zeros(scores.shape[0], np.float32)
    np.maximum.at(highest, rows, scores.data)
    values = (scores.data / highest[rows]).astype(np.float64) ** (1 / temperature)
    sums = np.bincount(rows, values, scores.shape[0])
    return scipy.sparse.csr_matrix(
        ((values / sums[rows]).astype(np.float32), scores.indices, scores.indptr), scores.shape
    )


def mixed(labels: scipy.sparse.csr_matrix, scores: scipy.sparse.csr_matrix, weight: float) -> scipy.sparse.csr_matrix:
    """(1 - weight) labels + weight scores, of rows that the teacher says something of: CSR float32, columns sorted."""
    told = (np.diff(scores.indptr) > 0).astype(np.float32)
    of_labels = scipy.sparse.diags_array(1 - weight * told) @ labels
    found = scipy.sparse.csr_matrix(of_labels + weight * scores, dtype=np.float32)
    found.eliminate_zeros()
    found.sort_indices()
    return found
