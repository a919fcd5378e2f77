"""Pictures with many labels, and texts with one class: the backbones of the one below the heads of the other."""

import dataclasses

from mhe_jax.tasks.classification import OneClass, Pictures
from mhe_jax.tasks.multilabel import Documents, Ranking


@dataclasses.dataclass(frozen=True)
class MultiLabelImages(Ranking, Pictures):
    """Pictures with any number of labels each."""


@dataclasses.dataclass(frozen=True)
class TextClassification(OneClass, Documents):
    """Documents with one class each."""
