"""Multi-Head Encoding in JAX: classifiers with thousands to hundreds of millions of classes.

The public names, by family; each is imported from its own module when it is first used, so that `import mhe_jax` is
quick, touches no device, and leaves processes that only read data without JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mhe_jax.version import __version__ as __version__

if TYPE_CHECKING:
    from mhe_jax.heads import CascadeHead as CascadeHead
    from mhe_jax.heads import CascadeMarginHead as CascadeMarginHead
    from mhe_jax.heads import Head as Head
    from mhe_jax.heads import MultiLabelCascadeHead as MultiLabelCascadeHead
    from mhe_jax.heads import MultiLabelOneHotHead as MultiLabelOneHotHead
    from mhe_jax.heads import MultiLabelProductHead as MultiLabelProductHead
    from mhe_jax.heads import MultiLabelSampledHead as MultiLabelSampledHead
    from mhe_jax.heads import OneHotHead as OneHotHead
    from mhe_jax.heads import OneHotMarginHead as OneHotMarginHead
    from mhe_jax.heads import ProductHead as ProductHead
    from mhe_jax.heads import ProductMarginHead as ProductMarginHead
    from mhe_jax.heads import SampledHead as SampledHead
    from mhe_jax.heads import SampledMarginHead as SampledMarginHead
    from mhe_jax.heads import build_head as build_head
    from mhe_jax.heads.base import Context as Context
    from mhe_jax.inference.run import Prediction as Prediction
    from mhe_jax.inference.run import Run as Run
    from mhe_jax.inference.run import load as load
    from mhe_jax.labels import LabelCodes as LabelCodes
    from mhe_jax.labels import LabelSpace as LabelSpace
    from mhe_jax.ops.blocked_bce import blocked_bce as blocked_bce
    from mhe_jax.ops.candidate_logits import block_logits as block_logits
    from mhe_jax.ops.candidate_logits import candidate_logits as candidate_logits
    from mhe_jax.ops.candidates import beam_step as beam_step
    from mhe_jax.ops.candidates import child_mask as child_mask
    from mhe_jax.ops.chunked import blocked_lse as blocked_lse
    from mhe_jax.ops.chunked import blocked_topk as blocked_topk
    from mhe_jax.ops.kronecker import code_scores as code_scores
    from mhe_jax.ops.kronecker import log_partition as log_partition
    from mhe_jax.ops.kronecker import mean_score as mean_score
    from mhe_jax.ops.kronecker import mixture_code_scores as mixture_code_scores
    from mhe_jax.ops.kronecker import mixture_top_codes as mixture_top_codes
    from mhe_jax.ops.kronecker import split_heads as split_heads
    from mhe_jax.ops.kronecker import top_codes as top_codes
    from mhe_jax.ops.lengths import safe_normalize as safe_normalize
    from mhe_jax.ops.losses import smoothed_cross_entropy as smoothed_cross_entropy
    from mhe_jax.ops.margins import AdaFace as AdaFace
    from mhe_jax.ops.margins import ArcFace as ArcFace
    from mhe_jax.ops.margins import CombinedMargin as CombinedMargin
    from mhe_jax.ops.margins import CosFace as CosFace
    from mhe_jax.ops.margins import CurricularFace as CurricularFace
    from mhe_jax.ops.margins import MagFace as MagFace
    from mhe_jax.ops.margins import Margin as Margin
    from mhe_jax.ops.margins import hard_negatives as hard_negatives
    from mhe_jax.ops.multilabel import pick_all_labels as pick_all_labels
    from mhe_jax.ops.ranking import drop_filtered as drop_filtered
    from mhe_jax.ops.ranking import drop_labels as drop_labels
    from mhe_jax.ops.ranking import ranking_metrics as ranking_metrics
    from mhe_jax.ops.sampling import BatchUnion as BatchUnion
    from mhe_jax.ops.sampling import PerExample as PerExample
    from mhe_jax.ops.sampling import PositiveOnly as PositiveOnly
    from mhe_jax.ops.sampling import RandomGroups as RandomGroups

# Of each module, what of it is public. The imports above say the same to type checkers and editors.
_PUBLIC = {
    # Classes as digits.
    "labels": ("LabelSpace", "LabelCodes"),
    # Classifiers: Flax modules, by name and by class.
    "heads": (
        "build_head",
        "Head",
        "OneHotHead",
        "ProductHead",
        "CascadeHead",
        "SampledHead",
        "MultiLabelOneHotHead",
        "MultiLabelProductHead",
        "MultiLabelCascadeHead",
        "MultiLabelSampledHead",
        "OneHotMarginHead",
        "ProductMarginHead",
        "CascadeMarginHead",
        "SampledMarginHead",
    ),
    "heads.base": ("Context",),
    # Which groups of classes a step trains.
    "ops.sampling": ("PerExample", "PositiveOnly", "BatchUnion", "RandomGroups"),
    # A trained run.
    "inference.run": ("load", "Run", "Prediction"),
    # Kronecker sums of logits, never formed.
    "ops.kronecker": (
        "split_heads",
        "code_scores",
        "log_partition",
        "mean_score",
        "top_codes",
        "mixture_code_scores",
        "mixture_top_codes",
    ),
    # Long tables of classes, a block at a time.
    "ops.chunked": ("blocked_lse", "blocked_topk"),
    "ops.blocked_bce": ("blocked_bce",),
    # Losses from a softmax's statistics.
    "ops.losses": ("smoothed_cross_entropy",),
    "ops.multilabel": ("pick_all_labels",),
    # Candidates: blocks of classes, and a beam over a tree of them.
    "ops.candidates": ("child_mask", "beam_step"),
    "ops.candidate_logits": ("block_logits", "candidate_logits"),
    # Margins on cosines.
    "ops.margins": (
        "Margin",
        "ArcFace",
        "CosFace",
        "CombinedMargin",
        "CurricularFace",
        "MagFace",
        "AdaFace",
        "hard_negatives",
    ),
    "ops.lengths": ("safe_normalize",),
    # How good a ranking is.
    "ops.ranking": ("ranking_metrics", "drop_filtered", "drop_labels"),
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mhe_jax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mhe_jax.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
