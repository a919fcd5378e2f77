"""How often each training example is drawn: the section `config.sampling`.

An epoch stays as long as it is, and which examples it has is a matter of (seed, epoch) alone, see
`mhe_jax.data.order.SampledOrder`.
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax import registry


class Drawn(NamedTuple):
    """How often examples are drawn: float [N], of any scale, from `first_epoch` on; None: each once an epoch."""

    rates: np.ndarray | None = None
    first_epoch: int = 0


ALL = Drawn()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """Base of the samplings. All take all fields, for the command line to set with the name; `reads` are theirs.

    Attributes:
      power: of 'class_balanced', in [0, 1]: a class of n examples is drawn in proportion to n^power. 0 draws all
        classes equally often, 0.5 is square-root sampling, 1 would draw examples equally often.
      threshold: of 'repeat_factor', the share of the examples below which a class is repeated.
      start_epoch: the epochs that begin before it have each example once.
    """

    reads: ClassVar[tuple[str, ...]] = ("start_epoch",)

    power: float = 0.0
    threshold: float = 0.001
    start_epoch: float = 0.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in self.reads and value != field.default:
                name = next(name for name, kind in SAMPLINGS.items() if kind is type(self))
                raise ValueError(
                    f"config.sampling.{field.name} is {value!r}, but sampling.name = {name!r} does not read it: leave "
                    f"it at {field.default!r}"
                )
        if not 0 <= self.power <= 1:
            raise ValueError(f"config.sampling.power is {self.power}; it must be in 0 .. 1")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"config.sampling.threshold is {self.threshold}; it must be above 0 and at most 1")
        if not 0 <= self.start_epoch < math.inf:
            raise ValueError(f"config.sampling.start_epoch is {self.start_epoch}; it must be 0 or more")

    def drawn(self, labels: Any, counts: np.ndarray) -> Drawn:
        """How often the examples are drawn.

        Args:
          labels: int [N], or CSR [N, L].
          counts: int [C], examples of each class.
        """
        return Drawn(self.rates(labels, counts), math.ceil(self.start_epoch))

    def rates(self, labels: Any, counts: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class All(Sampling):
    """Each example once an epoch."""

    reads = ()

    def drawn(self, labels, counts):
        return ALL


class ClassBalanced(Sampling):
    """A class is drawn in proportion to n^power, and then one of its n examples.

    An example of several labels is drawn for each of them, one without labels never.
    """

    reads = ("power", "start_epoch")

    def rates(self, labels, counts):
        of_class = np.maximum(counts, 1).astype(np.float64) ** (self.power - 1)
        if not scipy.sparse.issparse(labels):
            return of_class[labels]
        return np.asarray(_binary(labels) @ of_class)


class RepeatFactor(Sampling):
    """max(1, sqrt(threshold / f)) times as often as else, f being the share of the examples that have the class.

    Of an example with several labels it is the largest of these (Gupta et al., LVIS, CVPR 2019).
    """

    reads = ("threshold", "start_epoch")

    def rates(self, labels, counts):
        num_examples = labels.shape[0]
        of_class = np.maximum(1.0, np.sqrt(self.threshold * num_examples / np.maximum(counts, 1)))
        if not scipy.sparse.issparse(labels):
            return of_class[labels]
        matrix = _binary(labels)
        matrix.data = of_class[matrix.indices]
        return np.maximum(1.0, matrix.max(axis=1).toarray()[:, 0])


SAMPLINGS: dict[str, type[Sampling]] = {"none": All, "class_balanced": ClassBalanced, "repeat_factor": RepeatFactor}


def build_sampling(section: ConfigDict) -> Sampling:
    """The sampling of `config.sampling`; raises ValueError naming a wrong field."""
    built: Sampling = registry.build(SAMPLINGS, section, "config.sampling")
    return built


def _binary(labels: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    return scipy.sparse.csr_matrix((np.ones(labels.nnz), labels.indices, labels.indptr), labels.shape)
