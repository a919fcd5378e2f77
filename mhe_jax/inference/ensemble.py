"""Fuses the ranked labels of several runs on the same documents, and evaluates each, their mean, and the fusion."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.data.ragged import pad_rows, top_of
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.inference import predictions
from mhe_jax.inference.decision import other_than_now
from mhe_jax.inference.fusion import METHODS, check_weights, combine, widest
from mhe_jax.inference.fusion_weights import search
from mhe_jax.inference.truth import Truth, of_classes, true_splits
from mhe_jax.ops.ranking import drop_filtered, drop_labels, ranking_metrics
from mhe_jax.tasks.multilabel import KS
from mhe_jax.train import experiment
from mhe_jax.train.classes import Classes, check_same
from mhe_jax.train.numbered import numbering_of, without_retired
from mhe_jax.train.reporting import metrics

AUTO = "auto"
_BLOCK = 4096  # documents at a time


class Ranked(NamedTuple):
    """A workdir, its config and classes, and what it predicted."""

    workdir: pathlib.Path
    config: ConfigDict
    classes: Classes
    predictions: predictions.Predictions


def read_runs(workdirs: Sequence[pathlib.Path], held_out: bool = False) -> list[Ranked]:
    """The runs, or baselines; with what they predicted, or what of the documents `held_out` beside those.

    Raises:
      ValueError: naming the run, if one has no predictions, or those of other weights than it has now, or others'
        documents or labels, or other retired classes, or is given twice.
    """
    runs: list[Ranked] = []
    for workdir in workdirs:
        config, classes = experiment.read_workdir(workdir)
        runs.append(Ranked(workdir, config, classes, predictions.read_predictions(workdir, held_out)))
    if len({workdir.resolve() for workdir in workdirs}) < len(workdirs):
        raise ValueError(f"a run is given twice: {', '.join(map(str, workdirs))}")
    for run in runs:
        _require_current(run, held_out)
    first = runs[0]
    for run in runs[1:]:
        here, there = (f"{r.predictions.scores.shape} scores of split {r.predictions.split!r}" for r in (run, first))
        if here != there:
            raise ValueError(f"{run.workdir} holds {here}, but {first.workdir} {there}")
        if run.classes.all_names != first.classes.all_names:
            raise ValueError(f"{run.workdir} and {first.workdir} do not have the same labels")
        for one, other in ((run, first), (first, run)):
            if only := sorted({*one.classes.retired} - {*other.classes.retired}):
                raise ValueError(
                    f"the class {one.classes.name(only[0])!r} is retired in {one.workdir}, but not in {other.workdir}: "
                    "the runs of an ensemble need the same classes"
                )
    return runs


def _require_current(run: Ranked, held_out: bool) -> None:
    """Raises ValueError if predictions say that they are of other weights than the run has now."""
    if run.predictions.model is None:
        return
    if what := other_than_now(run.workdir, run.predictions.model, run.classes):
        name, command = predictions.files(held_out)[0], predictions.command_of(run.workdir, held_out)
        raise ValueError(f"{run.workdir / name} is of {what} than the run has now; make it again with: {command}")


def true_split(runs: Sequence[Ranked]) -> Truth:
    """The true labels of the documents that all the runs ranked labels for.

    Raises:
      ValueError: naming the run, if its data is not what it predicted, or not the first run's.
    """
    first, *others = runs
    split = _load_split(first)
    for run in others:
        # Tokens may differ from run to run; where nothing else does, the documents are the same.
        if _documents_section(run) != _documents_section(first):
            labels = _load_split(run).labels
            same = (getattr(labels, part) for part in ("indptr", "indices"))
            if not all(map(np.array_equal, same, (split.labels.indptr, split.labels.indices))):
                raise ValueError(f"{run.workdir} and {first.workdir} do not have the same documents")
    return split


def evaluate(scores: scipy.sparse.csr_matrix, split: Truth) -> dict[str, float]:
    """Ranking metrics of CSR scores [N, L] against the labels of a split, see `mhe_jax.ops.ranking`.

    Documents without labels are not counted.
    """
    documents, num_labels = scores.shape
    ks = tuple(k for k in KS if k <= num_labels)
    width, spare = widest(split.labels), 0 if split.filtered is None else widest(split.filtered)

    sums: metrics.Sums = {}
    for start in range(0, documents, _BLOCK):
        # One shape for all blocks: the last one is filled up with a document of weight 0.
        rows = np.arange(start, start + _BLOCK)
        real, rows = rows < documents, np.minimum(rows, documents - 1)
        weight = (real & (np.diff(split.labels.indptr)[rows] > 0)).astype(np.float32)
        ids, best = top_of(scores[rows], max(ks) + spare)
        labels = _padded(split.labels[rows], width)
        filtered = _padded(split.filtered[rows], spare) if split.filtered is not None else None
        part = _measure(weight, best, ids, labels, filtered, split.inverse_propensity, ks=ks)
        sums = metrics.merge(sums, jax.tree.map(np.float64, jax.device_get(part)))
    return metrics.means(sums)


@functools.partial(jax.jit, static_argnames="ks")
def _measure(weight, scores, ids, labels, filtered, inverse_propensity, ks: tuple[int, ...]) -> metrics.Sums:
    """The sums over a block of documents; compiled once for all rankings of a split."""
    if filtered is not None:
        _, ids = drop_filtered(scores, ids, filtered, max(ks))
        labels = drop_labels(labels, filtered)
    return metrics.weighted(ranking_metrics(ids, labels, inverse_propensity, ks), weight)


class Fusion(NamedTuple):
    """How runs are fused: a method, the weight of each run, and what they were chosen on, if they were."""

    method: str
    weights: tuple[float, ...]
    chosen_on: dict[str, Any] | None = None


def choose(workdirs: Sequence[pathlib.Path], method: str | None = None, tested: Sequence[Ranked] = ()) -> Fusion:
    """The fusion that is best on the runs' held-out documents, by nDCG of the longest ranking measured.

    Args:
      workdirs: of the runs.
      method: the one to find weights for; None chooses among all.
      tested: the runs with their predictions of other documents, which must be of the same weights.

    Raises:
      ValueError: naming the run, if one has no predictions of these documents, or others', or those of other weights.
    """
    held_out = read_runs(workdirs, held_out=True)
    for run, other in zip(held_out, tested, strict=False):
        models = run.predictions.model, other.predictions.model
        if None not in models and models[0] != models[1]:
            raise ValueError(
                f"{run.workdir / predictions.HELD_OUT_FILE} is of other weights than {predictions.FILE}; make both "
                f"again with: {predictions.command_of(run.workdir, False)}, and --split=val"
            )
    truth, matrices = true_split(held_out), [run.predictions.scores for run in held_out]
    measured = f"nDCG@{max(k for k in KS if k <= truth.labels.shape[1])}"
    needed = max(KS) + (0 if truth.filtered is None else widest(truth.filtered))

    def weighted(name: str, weights: tuple[float, ...]) -> float:
        return evaluate(combine(matrices, name, needed, weights), truth)[measured]

    found: list[tuple[float, Fusion]] = []
    for name in METHODS if method is None else (method,):
        weights, value = search(functools.partial(weighted, name), len(matrices))
        found.append((value, Fusion(name, weights)))
    value, best = max(found, key=lambda pair: pair[0])
    facts = {"split": held_out[0].predictions.split, "documents": matrices[0].shape[0], measured: value}
    tried = {fusion.method: value for value, fusion in found}
    return best._replace(chosen_on={**facts, "tried": tried})


def run(
    workdirs: Sequence[pathlib.Path],
    method: str | None = None,
    output: pathlib.Path | None = None,
    weights: str | Sequence[float] | None = None,
) -> dict[str, Any]:
    """The figures of all runs, their mean and their fusion, whose top labels are written to `output`.

    Args:
      workdirs: of two runs or more, or of baselines.
      method: one of `METHODS`; None is 'score', and with weights 'auto' the best of all.
      output: file for the top labels.
      weights: of each run, as in `combine`; 'auto' chooses them on the held-out documents, see `choose`.

    Raises:
      ValueError: if there are less than two runs, they do not belong together, weights are wrong, there are no
        held-out documents to choose them on, or `output` cannot be written.
    """
    if len(workdirs) < 2:
        raise ValueError("an ensemble needs the workdirs of two runs or more: mhe ensemble RUN RUN ...")
    if output is not None and not (output.suffix == ".npz" and output.parent.is_dir()):
        raise ValueError(f"--output is {output}; it must be a file of an existing folder and end in .npz")
    if isinstance(weights, str) and weights != AUTO:
        raise ValueError(f"weights is {weights!r}; it must be 'auto', or a number for each run")
    if not isinstance(weights, str | None):
        check_weights(weights, len(workdirs))
    runs = read_runs(workdirs)
    first = runs[0]
    if weights == AUTO and first.predictions.split == "eval":
        raise ValueError(
            f"{first.workdir} predicted the documents that choose the best checkpoint, since its data has no others "
            "to test on, and none are left to choose weights on: give --weights=W,W,..., or train and predict with "
            "documents held out (config.data.valid_examples)"
        )
    split = true_split(runs)
    if isinstance(weights, str):  # auto
        fusion = choose(workdirs, method, runs)
    else:
        fusion = Fusion(method or "score", tuple(weights or (1.0,) * len(runs)))
    single = {str(run.workdir): evaluate(run.predictions.scores, split) for run in runs}
    combined = combine([run.predictions.scores for run in runs], fusion.method, weights=fusion.weights)
    if output is not None:
        predictions.save(output, combined)
    values = list(single.values())
    return {
        "method": fusion.method,
        "weights": list(fusion.weights),
        "chosen_on": fusion.chosen_on,
        "split": first.predictions.split,
        "documents": combined.shape[0],
        "labels": combined.shape[1],
        "runs": single,
        "mean": {name: float(np.mean([value[name] for value in values])) for name in values[0]},
        "ensemble": evaluate(combined, split),
    }


def told(figures: dict[str, Any]) -> str:
    """What the fusion of `run` is and what it was chosen on, in a line or two for people."""
    chosen, weights = figures["chosen_on"], figures["weights"]
    parts = [f"{weight / sum(weights):.3g} {run}" for weight, run in zip(weights, figures["runs"], strict=True)]
    line = f"{figures['method']}: {', '.join(parts)}"
    if chosen is None:
        return line
    (measured,) = (name for name in chosen if "@" in name)
    tried = ", ".join(f"{name} {value:.4f}" for name, value in chosen["tried"].items())
    documents = f"{chosen['documents']:,} held-out documents of the split {chosen['split']!r}"
    return f"{line}\nchosen on {documents}, by {measured}: {tried}"


def table(figures: dict[str, Any]) -> str:
    """The figures of `run` for people, one line per run."""
    rows = {**figures["runs"], "mean": figures["mean"], f"ensemble ({figures['method']})": figures["ensemble"]}
    names, width = list(figures["mean"]), max(map(len, rows))
    lines = [" ".join([" " * width, *(f"{name:>8}" for name in names)])]
    lines += [" ".join([f"{row:{width}}", *(f"{values[name]:8.4f}" for name in names)]) for row, values in rows.items()]
    return "\n".join(lines)


def _load_split(run: Ranked) -> Truth:
    data = build_data(experiment.portable(run.config, run.workdir).data)
    if not data.multilabel:
        raise ValueError(f"{run.workdir} is not a run with many labels an example")
    splits, names = true_splits(data)
    split = splits.get(run.predictions.split)
    if not run.classes.is_kept:
        check_same(run.workdir, run.classes, names)
    elif split is not None:
        numbering = numbering_of(run.workdir, run.classes, names, data.num_classes)
        split = of_classes(split, without_retired(numbering, run.classes))
    if split is None or split.labels.shape != run.predictions.scores.shape:
        found = "no such split" if split is None else f"labels {split.labels.shape}"
        raise ValueError(
            f"{run.workdir} predicted {run.predictions.scores.shape} scores of split {run.predictions.split!r}, "
            f"but its data has {found}"
        )
    return split


def _documents_section(run: Ranked) -> dict[str, Any]:
    """The fields of `config.data` that say which documents there are."""
    about_tokens = {field.name for field in dataclasses.fields(TextData)}
    return {name: value for name, value in run.config.data.to_dict().items() if name not in about_tokens}


def _padded(matrix: scipy.sparse.csr_matrix, width: int) -> np.ndarray:
    """The columns of each row, padded with -1: int32 [N, width]."""
    return pad_rows(matrix.indices, matrix.indptr[:-1], np.diff(matrix.indptr), width, -1)
