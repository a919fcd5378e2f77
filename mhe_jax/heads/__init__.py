"""The four classifiers, which share one contract (`heads.base.Head`), and their construction from a config section."""

from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.heads.base import Head
from mhe_jax.heads.margin.base import MarginHead
from mhe_jax.heads.margin.cascade import CascadeMarginHead
from mhe_jax.heads.margin.one_hot import OneHotMarginHead
from mhe_jax.heads.margin.product import ProductMarginHead
from mhe_jax.heads.margin.sampled import SampledMarginHead
from mhe_jax.heads.multilabel.base import MultiLabelHead
from mhe_jax.heads.multilabel.cascade import MultiLabelCascadeHead
from mhe_jax.heads.multilabel.one_hot import MultiLabelOneHotHead
from mhe_jax.heads.multilabel.product import MultiLabelProductHead
from mhe_jax.heads.multilabel.sampled import MultiLabelSampledHead
from mhe_jax.heads.softmax.cascade import CascadeHead
from mhe_jax.heads.softmax.one_hot import OneHotHead
from mhe_jax.heads.softmax.product import ProductHead
from mhe_jax.heads.softmax.sampled import SampledHead
from mhe_jax.labels import LabelSpace
from mhe_jax.ops.margins import MARGINS

HEADS = {"ohe": OneHotHead, "mhp": ProductHead, "mhc": CascadeHead, "mhs": SampledHead}

# For examples with several labels (`heads.multilabel.MultiLabelHead`).
MULTILABEL_HEADS: dict[str, type[MultiLabelHead]] = {
    "ohe": MultiLabelOneHotHead,
    "mhp": MultiLabelProductHead,
    "mhc": MultiLabelCascadeHead,
    "mhs": MultiLabelSampledHead,
}

# On cosines, for sections with a `margin`.
MARGIN_HEADS: dict[str, type[MarginHead]] = {
    "ohe": OneHotMarginHead,
    "mhp": ProductMarginHead,
    "mhc": CascadeMarginHead,
    "mhs": SampledMarginHead,
}

# How many digits a head gets when its config leaves `head_sizes` empty.
DEFAULT_NUM_HEADS = {"ohe": 1, "mhp": 2, "mhc": 2, "mhs": 2}


def build_head(
    section: ConfigDict,
    label_space: LabelSpace,
    features_dim: int,
    class_shards: int = 1,
    dtype: Any = jnp.float32,
    multilabel: bool = False,
) -> Head:
    """The head that `config.head` describes.

    Args:
      section: `name`, one of `HEADS`; `head_sizes`, which `label_space` has already settled; the head's own fields; and
        for a head on cosines `margin`, a section with a `name` of `ops.margins.MARGINS` and its fields.
      label_space: the classes and their digits.
      features_dim: width D of the features.
      class_shards: size of mesh axis 'class'.
      dtype: compute dtype of the products.
      multilabel: whether examples have any number of labels.

    Raises:
      ValueError: for an unknown head, or a field that it does not take.
    """
    own = ConfigDict({key: value for key, value in section.items() if key not in ("head_sizes", "margin")})
    given = {"label_space": label_space, "features_dim": features_dim, "class_shards": class_shards, "dtype": dtype}
    if "margin" in section:
        given["margin"] = registry.build(MARGINS, section.margin, "config.head.margin")
        return registry.build(MARGIN_HEADS, own, "config.head", **given)
    return registry.build(MULTILABEL_HEADS if multilabel else HEADS, own, "config.head", **given)
