"""The training feed with all that guides a step besides labels: weights and priors of classes, grades, a teacher."""

import dataclasses
import functools
import math
import pathlib
from typing import Any

import jax
import numpy as np
import scipy.sparse

from mhe_jax.codes.frequencies import class_counts
from mhe_jax.codes.relabel import columns
from mhe_jax.data import teacher
from mhe_jax.data.class_weights import Counted, build_class_weights, class_weights
from mhe_jax.data.feed import Feed, local_slice
from mhe_jax.data.feeds import train_feed
from mhe_jax.data.images.dataset import ImageData
from mhe_jax.data.known_labels import known_labels
from mhe_jax.data.ragged import top_of
from mhe_jax.data.sampling import ALL, build_sampling
from mhe_jax.data.teacher import build_distillation
from mhe_jax.data.texts.dataset import TextSplit
from mhe_jax.heads.margin.base import MarginHead
from mhe_jax.labels import LabelCodes, LabelSpace
from mhe_jax.recipes.propensity import DEFAULT
from mhe_jax.settings import DO_WITHOUT, Settings
from mhe_jax.tasks.verification import Verification


def guided_feed(
    settings: Settings,
    data: Any,
    by_id: Any,
    splits: Any,
    codes: LabelCodes,
    task: Any,
    numbering: LabelCodes | None = None,
    **parts: int,
) -> Feed:
    """The feed of a config's training split.

    Args:
      settings: of the run.
      data: the data set.
      by_id: its splits, with ids as labels.
      splits: the same with codes as labels.
      codes: which class has which code.
      task: that is trained.
      numbering: which class of the data has which id, of a run that keeps a list of its classes; None: their order.
      **parts: of `train_feed`: processes and devices.

    Raises:
      ValueError: naming a field that does not go with the data or the head, or the file of weights or scores that does
        not fit.
    """
    rule, taught = build_class_weights(settings.class_weights), build_distillation(settings.distillation)
    sampling = build_sampling(settings.sampling)
    _check(settings, data, task, taught)
    counts = functools.cache(lambda: class_counts(by_id.train, codes.num_classes, _asked(settings)))
    train, graded, scores = splits.train, settings.soft_labels, None
    if graded:
        teacher.require_scores(by_id.train.labels, "config.soft_labels is set, but in the labels", 1.0)
    if taught.teaches:
        by_data = numbering or LabelCodes.identity(codes.num_classes)
        scores = teacher.read_scores(taught.path, train.num_examples, by_data.num_classes)
        scores = _by_code(scores, by_data, codes, task.head.label_space)
        if data.multilabel:
            train, graded, scores = _mixed(train, scores, taught, graded), True, None
    drawn = ALL if settings.sampling.name == "none" else sampling.drawn(known_labels(by_id.train), counts())
    of_order: dict[str, Any] = {
        "seed": settings.seed,
        "last_batch": data.last_batch,
        "drawn": drawn,
        "graded": graded,
        "repeats": task.repeats,
    }
    feed = train_feed(train, settings.global_batch_size, **{**of_order, **parts})
    _check_starts(settings, feed.steps_per_epoch)

    classes: dict[str, Any] = {}
    if settings.class_weights.name != "none":
        propensity = getattr(data, "propensity", DEFAULT)
        weights = class_weights(rule, Counted(counts(), train.num_examples, splits.class_names, propensity))
        start = round(rule.start_epoch * feed.steps_per_epoch)
        assert weights is not None
        classes = {"weight": codes.in_code_order(weights), "weight_from": np.int32(start)}
    adjust = None
    if settings.logit_adjustment:
        prior = settings.logit_adjustment * log_prior(counts(), train.num_examples, codes)
        adjust = functools.partial(task.head.adjustment, prior.astype(np.float32))
    if not classes and adjust is None and scores is None:
        return feed
    soft = None
    if scores is not None:
        scores = teacher.tempered(scores, taught.temperature)
        soft = top_of(scores, max(int(np.diff(scores.indptr).max(initial=0)), 1))
    return GuidedFeed(feed, classes, adjust, soft)


def guides(settings: Settings) -> dict[str, pathlib.Path]:
    """The files that guide a run beside its data, by the field that names them."""
    taught, rule = build_distillation(settings.distillation), build_class_weights(settings.class_weights)
    found = {"config.distillation.file": taught.file, "config.class_weights.path": rule.path}
    return {field: pathlib.Path(path).expanduser() for field, path in found.items() if path}


def log_prior(counts: np.ndarray, num_examples: int, codes: LabelCodes) -> np.ndarray:
    """The logarithm of each code's share of the examples: int [C], by id -> float64 [codes].

    A class without examples counts as if it had one, and so does a code without a class.
    """
    of_code = np.where(codes.classes_by_code < 0, 0, codes.in_code_order(counts))
    return np.log(np.maximum(of_code, 1) / num_examples)


class GuidedFeed(Feed):
    """A feed whose batches have more.

    'classes': {'weight', 'weight_from'} of `long_tail.emphasis`, and 'adjustment', see `heads.base.Head.adjustment`;
    'taught' int32 and 'taught_target' float32 [B, K], see `tasks.base.Task.head_loss`.
    """

    def __init__(self, feed: Feed, classes: dict, adjustment: Any = None, soft: Any = None):
        super().__init__(feed.order, feed.process_index, feed.process_count)
        self._feed, self._classes, self._adjustment, self._soft = feed, classes, adjustment, soft
        self.streamed, self.left_out = feed.streamed, feed.left_out
        self.bad = feed.bad

    @property
    def resident(self) -> dict[str, Any]:
        """Beside the feed's arrays, 'classes'; made where the mesh is ambient, which decides how tables are padded."""
        more = {} if self._adjustment is None else {"adjustment": self._adjustment()}
        return {**self._feed.resident, "classes": {**self._classes, **more}}

    def rows(self, step: int):
        return self._feed.rows(step)

    def equal_steps(self, step: int) -> int:
        return self._feed.equal_steps(step)

    def chunk(self, step: int, count: int) -> dict[str, np.ndarray]:
        chunk = self._feed.chunk(step, count)
        if self._soft is None:
            return chunk
        rows = [self.rows(s).index for s in range(step, step + count)]
        index = np.stack([row[local_slice(len(row), self.process_index, self.process_count)] for row in rows])
        ids, targets = self._soft
        return {**chunk, "taught": ids[index], "taught_target": targets[index]}

    def batch(self, resident: dict[str, Any], piece: dict[str, jax.Array]) -> dict[str, Any]:  # type: ignore[override]
        mine = {name: part for name, part in piece.items() if name in ("taught", "taught_target")}
        others = lambda tree, left: {name: part for name, part in tree.items() if name not in left}
        batch = self._feed.batch(others(resident, ("classes",)), others(piece, mine))
        return {**batch, **mine, "classes": resident["classes"]}

    def close(self) -> None:
        self._feed.close()


def _check(settings: Settings, data: Any, task: Any, taught: teacher.Distillation) -> None:
    """Raises ValueError for what does not go together."""
    one, many = task.one_class and not isinstance(task, Verification), not task.one_class
    if settings.soft_labels and not many:
        raise ValueError(
            "config.soft_labels is of many labels an example; of one, config.distillation with weight = 1 learns from "
            "a file of distributions"
        )
    if settings.logit_adjustment and not one:
        raise ValueError(
            f"config.logit_adjustment is {settings.logit_adjustment}, but it is of a softmax over one label an example"
            + ("; of many, see config.class_weights.name = 'propensity'" if many else "")
        )
    if settings.class_weights.name == "propensity" and not many:
        raise ValueError("config.class_weights.name is 'propensity', of many labels an example: use 'balanced'")
    if many and isinstance(data, ImageData) and (settings.soft_labels or taught.teaches):
        raise ValueError(
            "config.soft_labels and config.distillation are of texts and features where examples have many labels, not "
            "of pictures"
        )
    if settings.sampling.name == "class_balanced":
        _check_balance(settings)
    if not taught.teaches:
        return
    if (not one and not many) or isinstance(task.head, MarginHead):
        raise ValueError("config.distillation.name is 'scores', but margins on angles learn from labels alone")
    augmentation = getattr(task, "augmentation", None)
    if one and augmentation is not None and augmentation.mixes:
        raise ValueError(
            "config.distillation is of single pictures, which config.augment.mixup and config.augment.cutmix mix: set "
            "both to 0"
        )
    if taught.temperature == 1:
        return
    said = f"config.distillation.temperature is {taught.temperature}"
    if many:
        raise ValueError(f"{said}, but it is of a softmax; of many labels it must be 1")
    if settings.table_optimizer.name != "none" and settings.table_optimizer.get("updates") != "dense":
        raise ValueError(
            f"{said}, with which a step goes twice through the table, but one that is owned or of which a step uses a "
            f"part (config.table_optimizer) cannot: use 1, or {DO_WITHOUT}"
        )


def _check_balance(settings: Settings) -> None:
    """Raises ValueError for what corrects for the frequency of classes beside a sampling that does so already."""
    instead = ""
    if settings.logit_adjustment:
        instead = f"config.logit_adjustment is {settings.logit_adjustment}"
    elif settings.class_weights.name == "balanced":
        instead = "config.class_weights.name is 'balanced'"
    if instead:
        raise ValueError(
            f"config.sampling.name is 'class_balanced' and {instead}: both make up for how frequent classes are, which "
            "would count twice; use one of them"
        )


def _check_starts(settings: Settings, steps_per_epoch: int) -> None:
    total = settings.duration("total", steps_per_epoch)
    for name in ("class_weights", "sampling"):
        start = getattr(settings, name).get("start_epoch", 0.0)
        by_epoch = name == "sampling"
        step = math.ceil(start) * steps_per_epoch if by_epoch else round(start * steps_per_epoch)
        if start and step >= total:
            raise ValueError(
                f"config.{name}.start_epoch is {start}, but the run ends after {total / steps_per_epoch:g} epochs"
                + (", and samples are drawn from the next whole one on" if by_epoch else "")
            )


def _asked(settings: Settings) -> str:
    """What needs the number of examples of each class, for messages."""
    for name in ("class_weights", "sampling"):
        if getattr(settings, name).name != "none":
            return f"config.{name}.name is {getattr(settings, name).name!r}"
    return f"config.logit_adjustment is {settings.logit_adjustment}"


def _by_code(
    scores: scipy.sparse.csr_matrix, numbering: LabelCodes, codes: LabelCodes, space: LabelSpace
) -> scipy.sparse.csr_matrix:
    """A teacher's scores of the data's classes, by code, CSR [N, codes]; without those of classes that are retired."""
    live = np.where(space.is_valid(np.arange(codes.num_codes)), codes.classes_by_code, -1)
    found = columns(columns(scores, numbering), LabelCodes.placed(live, codes.num_classes))
    found.sort_indices()
    return found


def _mixed(train: Any, scores: scipy.sparse.csr_matrix, taught: teacher.Distillation, graded: bool) -> Any:
    """A training split whose labels are the mixture of its own, 1 each if not `graded`, and the teacher's."""
    teacher.require_scores(scores, taught.path, 1.0)
    labels = scipy.sparse.csr_matrix(train.labels, dtype=np.float32, copy=True)
    if not graded:
        labels.data[:] = 1
    found = teacher.mixed(labels, scores, taught.weight)
    more: dict[str, Any] = {"labels": found}
    if isinstance(train, TextSplit):
        more |= {"listed": None, "label_width": max(int(np.diff(found.indptr).max(initial=0)), 1)}
    return dataclasses.replace(train, **more)
