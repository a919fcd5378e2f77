"""The classifiers: four kinds of head for three kinds of loss, all of one contract (`heads.base.Head`)."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.heads.base import Head
from mhe_jax.heads.margin.cascade import CascadeMarginHead
from mhe_jax.heads.margin.one_hot import OneHotMarginHead
from mhe_jax.heads.margin.product import ProductMarginHead
from mhe_jax.heads.margin.sampled import SampledMarginHead
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
from mhe_jax.ops.sampling import SAMPLERS

# For examples with one label.
HEADS: dict[str, type[Head]] = {"ohe": OneHotHead, "mhp": ProductHead, "mhc": CascadeHead, "mhs": SampledHead}

# For examples with any number of labels.
MULTILABEL_HEADS: dict[str, type[Head]] = {
    "ohe": MultiLabelOneHotHead,
    "mhp": MultiLabelProductHead,
    "mhc": MultiLabelCascadeHead,
    "mhs": MultiLabelSampledHead,
}

# On cosines, for sections with a `margin`.
MARGIN_HEADS: dict[str, type[Head]] = {
    "ohe": OneHotMarginHead,
    "mhp": ProductMarginHead,
    "mhc": CascadeMarginHead,
    "mhs": SampledMarginHead,
}

KINDS = {"softmax": HEADS, "multilabel": MULTILABEL_HEADS, "margin": MARGIN_HEADS}

# How many digits a head gets when nobody says.
DEFAULT_NUM_HEADS = {"ohe": 1, "mhp": 2, "mhc": 2, "mhs": 2}

# Fields that are sections of their own.
_SECTIONS: dict[str, Mapping[str, Callable]] = {"margin": MARGINS, "sampler": SAMPLERS}


def build_head(
    section: ConfigDict | str,
    label_space: LabelSpace | None = None,
    features_dim: int = 0,
    *,
    kind: str = "softmax",
    dtype: Any = jnp.float32,
    num_classes: int = 0,
    storage: str = "float32",
    **fields: Any,
) -> Head:
    """The head of a config section, or of a name and fields: `build_head("mhp", num_classes=1000, features_dim=64)`.

    Args:
      section: `config.head`, or its `name` alone: `ohe`, `mhp`, `mhc` or `mhs`.
      label_space: the classes and their digits; None settles them by `head_sizes` and `num_classes`, see `digits_of`.
      features_dim: width D of the features.
      kind: one of `KINDS`; with a `margin` it is 'margin'.
      dtype: compute dtype of the products.
      num_classes: where there is no `label_space`.
      storage: dtype of the tables that the head may own, see `Head`.
      **fields: further fields of the section. `margin` and `sampler` are sections, {"name": ...} with their own fields,
        or objects of `ops.margins` and `ops.sampling`.

    Raises:
      ValueError: for an unknown head, or a field that it does not take.
    """
    own: dict[str, Any] = {"name": section} if isinstance(section, str) else dict(section.copy_and_resolve_references())
    own.update(fields)
    sizes = own.pop("head_sizes", ())
    if label_space is None:
        label_space = digits_of(own["name"], sizes, num_classes)
    kind = "margin" if "margin" in own else kind
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
    given: dict[str, Any] = {"label_space": label_space, "features_dim": features_dim}
    given |= {"dtype": dtype, "storage": storage}
    for name, registered in _SECTIONS.items():
        if name in own:
            value, path = own.pop(name), f"config.head.{name}"
            given[name] = value if dataclasses.is_dataclass(value) else registry.build(registered, value, path)
    return registry.build(KINDS[kind], ConfigDict(own), "config.head", **given)


def digits_of(name: str, head_sizes: Sequence[int], num_classes: int) -> LabelSpace:
    """The label space of a head.

    No `head_sizes` mean balanced digits, as many as the head needs. (8400, 0) asks for 8,400 groups of labels, and
    leaves their size, and a few groups less, to the block rule of the published text pipeline. (0, 12) asks for groups
    of 12 classes, as many as it takes.

    Raises:
      ValueError: if the sizes do not fit the classes, or there is no such head.
    """
    if name not in DEFAULT_NUM_HEADS:
        raise ValueError(f"config.head.name is {name!r}; it must be one of {', '.join(DEFAULT_NUM_HEADS)}")
    sizes = tuple(head_sizes)
    if not sizes:
        return LabelSpace.balanced(num_classes, DEFAULT_NUM_HEADS[name])
    try:
        if len(sizes) == 2 and sizes[1] == 0:
            return LabelSpace.grouped(num_classes, sizes[0])
        if len(sizes) == 2 and sizes[0] == 0 and sizes[1] > 0:
            return LabelSpace(num_classes, (-(-num_classes // sizes[1]), sizes[1]))
        return LabelSpace(num_classes, sizes)
    except ValueError as error:
        raise ValueError(f"config.head.head_sizes: {error}") from None
