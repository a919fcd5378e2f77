"""Thresholds and calibration of a run, chosen on examples that neither trained nor test it."""

import contextlib
import dataclasses
import pathlib
import warnings
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mhe_jax.codes.relabel import relabelled
from mhe_jax.data.faces.dataset import FaceData
from mhe_jax.evaluation import calibration
from mhe_jax.evaluation.calibration import Calibration, Reliability, reliability
from mhe_jax.evaluation.pairs_of_labels import LabelPairs, f1_scores
from mhe_jax.evaluation.reliability_plot import plot_reliability
from mhe_jax.evaluation.thresholds import MAXIMIZE, best_thresholds, precision_thresholds
from mhe_jax.inference.decision import PLOT, Decision, model_of
from mhe_jax.inference.held_out import held_out_split
from mhe_jax.inference.opened import Trained, opened
from mhe_jax.inference.scored import Scored, keep_scored, scored
from mhe_jax.train.evaluator import Evaluator
from mhe_jax.train.numbered import require_trained

PER = ("global", "group", "label")


def decide(
    config: ConfigDict, workdir: pathlib.Path, maximize: str, per: str, precision: float | None, calibrate: str
) -> dict[str, Any]:
    """Chooses a run's decision and writes it beside its weights, see `mhe_jax.inference.decision`, with a plot.

    Args:
      config: the run's config.
      workdir: a trained run, whose data is there.
      maximize: of `MAXIMIZE`; not read where a precision is given.
      per: of `PER`: one threshold for all labels, one for those that share their first digit, or one for each.
      precision: where given, the lowest thresholds that reach it.
      calibrate: of `calibration.KINDS`.

    Returns:
      what was chosen and what it reaches on the held-out examples, before calibration and after.

    Raises:
      ValueError: if there are no held-out examples, or some of classes that the run was extended by and has not
        trained on, or a choice is not one for this run.
    """
    _check(maximize, per, precision, calibrate)
    trained = opened(config, workdir)
    if isinstance(trained.data, FaceData):
        raise ValueError(f"{workdir} is a run on faces, whose classes only trained it: there is nothing to decide")
    if not trained.data.multilabel and per != "global":
        raise ValueError(f"--per={per} is for many labels an example; of one class each, --per=global")
    by_id = trained.load_splits()
    require_trained(workdir, trained.classes, trained.codes, by_id)
    splits = relabelled(by_id, trained.codes)
    found = _scored(trained, splits, workdir)
    decision = choose(found, trained, maximize, per, precision, calibrate)
    decision.save(workdir)
    try:
        plot_reliability(_curves(found, decision), workdir / PLOT)
    except OSError as error:
        warnings.warn(f"the plot is not kept: {error}", stacklevel=2)
    return decision.facts


def choose(
    found: Scored, trained: Trained, maximize: str, per: str, precision: float | None, calibrate: str
) -> Decision:
    """The decision of a run by the held-out examples `found`; the other arguments are those of `decide`."""
    one_class = not trained.data.multilabel
    fitted, groups = _fitted(found, calibrate, one_class, trained.num_live), _groups(trained, per)
    model = model_of(trained.workdir, trained.step, trained.classes)
    # Of no threshold yet: it calibrates the pairs by which they are chosen.
    decision = Decision(fitted, np.zeros(1), groups, one_class, trained.num_live, model, {})
    pairs = decided_pairs(found, decision)
    if precision is not None:
        thresholds = precision_thresholds(pairs, groups, precision)
    else:
        thresholds = best_thresholds(pairs, groups, maximize)
    decision = dataclasses.replace(decision, thresholds=thresholds)
    facts = {
        "chosen_for": maximize if precision is None else f"precision={precision}",
        "per": per,
        "calibration": calibrate,
        "examples": len(found.ids),
        **measured(found, decision),
    }
    if per == "global":
        facts["threshold"] = float(thresholds[0]) if np.isfinite(thresholds[0]) else None
    if calibrate == "temperature":
        facts["temperature"] = fitted.temperature
    return dataclasses.replace(decision, facts=facts)


def decided_pairs(found: Scored, decision: Decision) -> LabelPairs:
    """The pairs that a decision is about, with calibrated scores: of one class an example, the best class alone."""
    return found.pairs(decision.calibrated(found.scores), best=1 if decision.one_class else None)


def measured(found: Scored, decision: Decision) -> dict[str, Any]:
    """What a decision reaches on examples: precision, recall and F1, and the calibration error before and after.

    Of one class an example, `coverage` is the share of examples that are answered at all.
    """
    pairs = decided_pairs(found, decision)
    predicted = pairs.score >= decision.thresholds[decision.group_of_label[pairs.label]]
    values = f1_scores(pairs, predicted)
    if decision.one_class:
        names = {"precision": "precision", "recall": "recall", "micro_f1": "f1", "labels_predicted": "coverage"}
        values = {name: values[old] for old, name in names.items()}
    curves = _curves(found, decision)
    return {**values, "ece": curves["as trained"].error, "ece_calibrated": curves["calibrated"].error}


def calibration_error(found: Scored, one_class: bool) -> float:
    """The expected calibration error of probabilities as they are, see `reliability`."""
    pairs = found.pairs(best=1 if one_class else None)
    return reliability(pairs.score, pairs.hit).error


def _curves(found: Scored, decision: Decision) -> dict[str, Reliability]:
    best = 1 if decision.one_class else None
    curves = {}
    for name, scores in (("as trained", found.scores), ("calibrated", decision.calibrated(found.scores))):
        pairs = found.pairs(scores, best)
        curves[name] = reliability(pairs.score, pairs.hit)
    return curves


def _check(maximize: str, per: str, precision: float | None, calibrate: str) -> None:
    for flag, value, choices in (
        ("maximize", maximize, MAXIMIZE),
        ("per", per, PER),
        ("calibrate", calibrate, calibration.KINDS),
    ):
        if value not in choices:
            raise ValueError(f"--{flag} is {value!r}; it must be one of {', '.join(choices)}")
    if precision is not None and not 0 < precision <= 1:
        raise ValueError(f"--precision is {precision}; it must be above 0 and at most 1")


def _scored(trained: Trained, splits: Any, workdir: pathlib.Path) -> Scored:
    split = held_out_split(trained.data, splits, workdir)
    with jax.set_mesh(trained.mesh), jax.default_matmul_precision(trained.settings.matmul_precision):
        size = trained.settings.global_batch_size
        evaluator = Evaluator(trained.task, split, size, trained.mesh, keep_scored(trained.task))
        with contextlib.closing(evaluator):
            evaluator(trained.weights)
    return scored(evaluator, trained.codes, trained.classes.number)


def _fitted(found: Scored, calibrate: str, one_class: bool, num_live: int) -> Calibration:
    if one_class:
        return calibration.fit_classes(calibrate, found.scores, found.correct, num_live)
    pairs = found.pairs()
    return calibration.fit_labels(calibrate, pairs.score, pairs.hit)


def _groups(trained: Trained, per: str) -> np.ndarray:
    """The group of each class by its id, int32 [C]."""
    number = trained.classes.number
    if per == "global":
        return np.zeros(number, np.int32)
    ids = np.arange(number, dtype=np.int32)
    if per == "label":
        return ids
    space = trained.task.head.label_space
    if space.num_heads < 2:
        raise ValueError("--per=group: the classes of this run have one digit, and so no groups: use global or label")
    return (trained.codes.codes(ids) // space.strides[0]).astype(np.int32)
