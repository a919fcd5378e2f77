"""How much the examples of each class count in the loss: the section `config.class_weights`.

Of one label an example, its loss is multiplied by the weight of its class, and weights are scaled so that their mean
over the training examples is 1: the learning rate keeps its meaning. Of many labels it is the loss's term of each label
that an example has, its positives; propensities are not scaled.
"""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import read_lines
from mhe_jax.data.names import look_alike
from mhe_jax.data.propensity import inverse_propensity_of
from mhe_jax.settings import option


@dataclasses.dataclass(frozen=True)
class Counted:
    """What weights are made of.

    counts: int64 [C], training examples of each class. num_examples: N. names: of the classes, perhaps fewer, or none.
    propensity: A and B of the propensity model.
    """

    counts: np.ndarray
    num_examples: int
    names: Sequence[str]
    propensity: tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassWeights:
    """Base of the weights. All of them take all fields, for the command line to set with the name; `reads` are theirs.

    Attributes:
      beta: of 'effective_number', in [0, 1): 0 weighs all classes alike, 1 would be 'balanced'.
      path: of 'file', lines `NAME WEIGHT`.
      start_epoch: the epochs before it train without weights (deferred re-weighting, Cao et al. 2019).
    """

    reads: ClassVar[tuple[str, ...]] = ("start_epoch",)
    scaled: ClassVar[bool] = True

    beta: float = 0.999
    path: str = option("", free=True)
    start_epoch: float = 0.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in self.reads and value != field.default:
                name = next(name for name, kind in CLASS_WEIGHTS.items() if kind is type(self))
                raise ValueError(
                    f"config.class_weights.{field.name} is {value!r}, but class_weights.name = {name!r} does not read "
                    f"it: leave it at {field.default!r}"
                )
        if not 0 <= self.beta < 1:
            raise ValueError(f"config.class_weights.beta is {self.beta}; it must be in [0, 1)")
        if not 0 <= self.start_epoch < math.inf:
            raise ValueError(f"config.class_weights.start_epoch is {self.start_epoch}; it must be 0 or more")

    def weights(self, counted: Counted) -> np.ndarray | None:
        """float64 [C], positive, of any scale; None: all classes count alike.

        Raises:
          DataError: if a file is missing or damaged.
        """
        raise NotImplementedError


class NoWeights(ClassWeights):
    """All classes count alike."""

    reads = ()

    def weights(self, counted):
        return None


class Balanced(ClassWeights):
    """N / (C n_c) for n_c examples of a class: all classes together count as much as each other."""

    def weights(self, counted):
        return 1 / np.maximum(counted.counts, 1)


class EffectiveNumber(ClassWeights):
    """(1 - beta) / (1 - beta^n_c), between no weights and 'balanced' (Cui et al., CVPR 2019)."""

    reads = ("beta", "start_epoch")

    def weights(self, counted):
        return (1 - self.beta) / (1 - self.beta ** np.maximum(counted.counts, 1))


class File(ClassWeights):
    """Weights from a file of lines `NAME WEIGHT`; the name may have spaces, or be the number of a class without one."""

    reads = ("path", "start_epoch")

    def weights(self, counted):
        return read_weights(pathlib.Path(self.path).expanduser(), counted.names, len(counted.counts))


class Propensity(ClassWeights):
    """Of many labels, 2 / p_l - 1 for a label that is noticed with propensity p_l (PW-BCE, Qaraei et al., WWW 2021).

    With it the sigmoid cross-entropy bounds, over labels that are missing at random, that of all labels from above. The
    p_l are those of the propensity-scored metrics, by `config.data.propensity`.
    """

    scaled = False

    def weights(self, counted):
        return 2 * inverse_propensity_of(counted.counts, counted.num_examples, *counted.propensity) - 1


CLASS_WEIGHTS: dict[str, type[ClassWeights]] = {
    "none": NoWeights,
    "balanced": Balanced,
    "effective_number": EffectiveNumber,
    "file": File,
    "propensity": Propensity,
}


def build_class_weights(section: ConfigDict) -> ClassWeights:
    """The weights of `config.class_weights`; raises ValueError naming a wrong field."""
    built: ClassWeights = registry.build(CLASS_WEIGHTS, section, "config.class_weights")
    return built


def class_weights(rule: ClassWeights, counted: Counted) -> np.ndarray | None:
    """float32 [C] of a rule, scaled to a mean of 1 over the training examples but for propensities; None: none."""
    weights = rule.weights(counted)
    if weights is not None and rule.scaled:
        weights = weights * (counted.counts.sum() / (weights * counted.counts).sum())
    return None if weights is None else weights.astype(np.float32)


def read_weights(path: pathlib.Path, names: Sequence[str], num_classes: int) -> np.ndarray:
    """The weights of a file, float64 [C]; classes that it does not name have 1.

    Raises:
      DataError: naming the line that is malformed, of an unknown class, of one that has a weight already, or whose
        weight is not positive.
    """
    place = {name: number for number, name in enumerate(names)} or {str(i): i for i in range(num_classes)}
    found: dict[int, float] = {}
    for number, line in enumerate(read_lines(path), 1):
        name, _, value = line.strip().rpartition("\t" if "\t" in line else " ")
        name = name.strip()
        try:
            weight = float(value)
        except ValueError:
            raise DataError(f"{path}:{number}: the line is {line[:80]!r}; it must be NAME WEIGHT") from None
        if name not in place:
            raise DataError(f"{path}:{number}: {name!r} is none of the {num_classes} classes{look_alike(name, names)}")
        if not 0 < weight < math.inf:
            raise DataError(f"{path}:{number}: the weight of {name!r} is {value}; it must be a positive number")
        if place[name] in found:
            raise DataError(f"{path}:{number}: {name!r} has a weight already")
        found[place[name]] = weight
    weights = np.ones(num_classes)
    weights[list(found)] = list(found.values())
    return weights
