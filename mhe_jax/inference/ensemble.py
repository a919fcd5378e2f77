"""Averages the ranked labels of several runs on the same documents, and evaluates each, their mean, and the average."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.sparse
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.data.features.dataset import FeatureSplit
from mhe_jax.data.ragged import pad_rows, top_of
from mhe_jax.data.texts.dataset import TextData, TextSplit
from mhe_jax.inference import predictions
from mhe_jax.ops.ranking import drop_filtered, drop_labels, ranking_metrics
from mhe_jax.tasks.multilabel import KS
from mhe_jax.train import experiment
from mhe_jax.train.reporting import metrics

TOP_K = 100  # labels kept of the ensemble
_BLOCK = 4096  # documents at a time
# Log-odds are finite between the smallest float32 and the largest below 1.
_LOWEST, _HIGHEST = float(np.finfo(np.float32).tiny), 1 - float(np.finfo(np.float32).epsneg)


def by_score(matrices: Sequence[scipy.sparse.csr_matrix], longest: int) -> scipy.sparse.csr_matrix:
    """The mean of the probabilities: CSR matrices [N, L] -> CSR [N, L]."""
    return _sum(matrices) / len(matrices)


def by_sigmoid(matrices: Sequence[scipy.sparse.csr_matrix], longest: int) -> scipy.sparse.csr_matrix:
    """The sigmoid of the mean log-odds."""
    above, floors = [], np.zeros(matrices[0].shape[0])
    for matrix in matrices:
        p = np.clip(matrix.data.astype(np.float64), _LOWEST, _HIGHEST)
        odds, counts = np.log(p) - np.log1p(-p), np.diff(matrix.indptr)
        # Relative to the row's lowest, what is missing is 0, which a sparse sum leaves out.
        lowest, some = np.zeros(len(counts)), counts > 0
        if some.any():
            lowest[some] = np.minimum.reduceat(odds, matrix.indptr[:-1][some])
        above.append(_with_data(matrix, odds - np.repeat(lowest, counts)))
        floors += lowest
    total = _sum(above)
    mean = (total.data + np.repeat(floors, np.diff(total.indptr))) / len(matrices)
    return _with_data(total, 1 / (1 + np.exp(-mean)))


def by_rank(matrices: Sequence[scipy.sparse.csr_matrix], longest: int) -> scipy.sparse.csr_matrix:
    """The mean of 1 - place / longest, with places from 0."""
    worth = 1 - np.arange(longest) / longest

    def ranked(matrix: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
        ids, _ = top_of(matrix, longest)
        return predictions.csr_of(ids, np.broadcast_to(worth, ids.shape), matrix.shape[1])

    return _sum([ranked(matrix) for matrix in matrices]) / len(matrices)


METHODS: dict[str, Callable] = {"score": by_score, "sigmoid": by_sigmoid, "rank": by_rank}


def combine(matrices: Sequence[scipy.sparse.csr_matrix], method: str, top_k: int = TOP_K) -> scipy.sparse.csr_matrix:
    """The ensemble's `top_k` labels: CSR matrices [N, L] of positive scores -> CSR float32 [N, L]."""
    longest = max(_widest(matrix) for matrix in matrices)
    documents, num_labels = matrices[0].shape
    blocks = []
    for start in range(0, documents, _BLOCK):
        average = METHODS[method]([matrix[start : start + _BLOCK] for matrix in matrices], longest)
        blocks.append(predictions.csr_of(*top_of(average, top_k), num_labels))
    return scipy.sparse.vstack(blocks, format="csr")


class Ranked(NamedTuple):
    """A workdir, its config and label names, and what it predicted."""

    workdir: pathlib.Path
    config: ConfigDict
    names: tuple[str, ...]
    predictions: predictions.Predictions


def read_runs(workdirs: Sequence[pathlib.Path]) -> list[Ranked]:
    """The runs.

    Raises:
      ValueError: naming the run, if one has no predictions, or others' documents or labels, or is given twice.
    """
    runs: list[Ranked] = []
    for workdir in workdirs:
        config, classes = experiment.read_workdir(workdir)
        runs.append(Ranked(workdir, config, tuple(classes.names), predictions.read_predictions(workdir)))
    if len({workdir.resolve() for workdir in workdirs}) < len(workdirs):
        raise ValueError(f"a run is given twice: {', '.join(map(str, workdirs))}")
    first = runs[0]
    for run in runs[1:]:
        here, there = (f"{r.predictions.scores.shape} scores of split {r.predictions.split!r}" for r in (run, first))
        if here != there:
            raise ValueError(f"{run.workdir} holds {here}, but {first.workdir} {there}")
        if run.names != first.names:
            raise ValueError(f"{run.workdir} and {first.workdir} do not have the same labels")
    return runs


def true_split(runs: Sequence[Ranked]) -> TextSplit | FeatureSplit:
    """The documents that all the runs ranked labels for, with their true labels.

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


def evaluate(scores: scipy.sparse.csr_matrix, split: TextSplit | FeatureSplit) -> dict[str, float]:
    """Ranking metrics of CSR scores [N, L] against the labels of a split, see `mhe_jax.ops.ranking`.

    Documents without labels are not counted.
    """
    documents, num_labels = scores.shape
    ks = tuple(k for k in KS if k <= num_labels)
    labels: Any = split.labels
    width, spare = _widest(labels), 0 if split.filtered is None else _widest(split.filtered)

    @jax.jit
    def measure(weight, scores, ids, labels, filtered, inverse_propensity):
        if spare:
            _, ids = drop_filtered(scores, ids, filtered, max(ks))
            labels = drop_labels(labels, filtered)
        return metrics.weighted(ranking_metrics(ids, labels, inverse_propensity, ks), weight)

    sums: metrics.Sums = {}
    for start in range(0, documents, _BLOCK):
        # One shape for all blocks: the last one is filled up with a document of weight 0.
        rows = np.arange(start, start + _BLOCK)
        real, rows = rows < documents, np.minimum(rows, documents - 1)
        weight = (real & (np.diff(labels.indptr)[rows] > 0)).astype(np.float32)
        ids, best = top_of(scores[rows], max(ks) + spare)
        true = _padded(labels[rows], width)
        filtered = _padded(split.filtered[rows], spare) if split.filtered is not None else None
        part = measure(weight, best, ids, true, filtered, split.inverse_propensity)
        sums = metrics.merge(sums, jax.tree.map(np.float64, jax.device_get(part)))
    return metrics.means(sums)


def run(workdirs: Sequence[pathlib.Path], method: str, output: pathlib.Path | None = None) -> dict[str, Any]:
    """The figures of all runs, their mean and their ensemble, whose top labels are written to `output`.

    Raises:
      ValueError: if there are less than two runs, they do not belong together, or `output` cannot be written.
    """
    if len(workdirs) < 2:
        raise ValueError("an ensemble needs the workdirs of two runs or more: mhe ensemble RUN RUN ...")
    if output is not None and not (output.suffix == ".npz" and output.parent.is_dir()):
        raise ValueError(f"--output is {output}; it must be a file of an existing folder and end in .npz")
    runs = read_runs(workdirs)
    split = true_split(runs)
    single = {str(run.workdir): evaluate(run.predictions.scores, split) for run in runs}
    combined = combine([run.predictions.scores for run in runs], method)
    if output is not None:
        predictions.save(output, combined)
    values = list(single.values())
    return {
        "method": method,
        "split": runs[0].predictions.split,
        "documents": combined.shape[0],
        "labels": combined.shape[1],
        "runs": single,
        "mean": {name: float(np.mean([value[name] for value in values])) for name in values[0]},
        "ensemble": evaluate(combined, split),
    }


def table(figures: dict[str, Any]) -> str:
    """The figures of `run` for people, one line per run."""
    rows = {**figures["runs"], "mean": figures["mean"], f"ensemble ({figures['method']})": figures["ensemble"]}
    names, width = list(figures["mean"]), max(map(len, rows))
    lines = [" ".join([" " * width, *(f"{name:>8}" for name in names)])]
    lines += [" ".join([f"{row:{width}}", *(f"{values[name]:8.4f}" for name in names)]) for row, values in rows.items()]
    return "\n".join(lines)


def _load_split(run: Ranked) -> Any:
    data = build_data(experiment.portable(run.config, run.workdir).data)
    if not data.multilabel:
        raise ValueError(f"{run.workdir} is not a run with many labels an example")
    splits = data.load()
    experiment.check_classes(run.workdir, experiment.Classes(data.num_classes, splits.class_names))
    split: Any = {"eval": splits.eval, "test": splits.test}.get(run.predictions.split)
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


def _widest(matrix: scipy.sparse.csr_matrix) -> int:
    return int(np.diff(matrix.indptr).max(initial=0))


def _padded(matrix: scipy.sparse.csr_matrix, width: int) -> np.ndarray:
    """The columns of each row, padded with -1: int32 [N, width]."""
    return pad_rows(matrix.indices, matrix.indptr[:-1], np.diff(matrix.indptr), width, -1)


def _sum(matrices: Sequence[scipy.sparse.csr_matrix]) -> scipy.sparse.csr_matrix:
    """Their sum, entries that are 0 in it included: adding matrices would drop them."""
    parts = [matrix.tocoo() for matrix in matrices]
    data, row, col = (np.concatenate([getattr(part, name) for part in parts]) for name in ("data", "row", "col"))
    return scipy.sparse.coo_matrix((data, (row, col)), matrices[0].shape).tocsr()


def _with_data(matrix: scipy.sparse.csr_matrix, data: np.ndarray) -> scipy.sparse.csr_matrix:
    return scipy.sparse.csr_matrix((data, matrix.indices, matrix.indptr), matrix.shape)
