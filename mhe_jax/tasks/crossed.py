"""Pictures with many labels, and texts with one class: the same backbones, below the other kind of head."""

import dataclasses

from mhe_jax.tasks.classification import Classification, OneClass
from mhe_jax.tasks.multilabel import MultiLabel, Ranking


@dataclasses.dataclass(frozen=True)
class MultiLabelImages(Ranking, Classification):
    """`Classification` of batches {'image' [B, ...], 'label' int32 [B, W], 'weight' [B]}, measured as a `Ranking`."""


@dataclasses.dataclass(frozen=True)
class TextClassification(OneClass, MultiLabel):
    """`MultiLabel` of batches {'input_ids', 'length', 'label' int32 [B], 'weight' [B]}, measured by top-1 and top-5."""
