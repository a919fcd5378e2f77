"""Baselines on texts and features: trained, measured, and kept in a folder that `mhe ensemble` takes beside runs."""

import dataclasses
import functools
import importlib.metadata
import json
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.data.features.dataset import FeatureData
from mhe_jax.data.texts.corpus import Corpus
from mhe_jax.data.texts.documents import CorpusText
from mhe_jax.data.texts.sparse.dataset import SparseData, SparseSplit
from mhe_jax.data.texts.sparse.vectorizer import Vectorizer, Words
from mhe_jax.evaluation.baselines.linear import OneVsRest
from mhe_jax.evaluation.baselines.measure import KS, measure
from mhe_jax.evaluation.baselines.neighbours import NearestRows
from mhe_jax.evaluation.baselines.ranker import Ranker, Rows, widest
from mhe_jax.evaluation.baselines.trees import LabelTrees
from mhe_jax.inference import predictions
from mhe_jax.inference.resources import cpu_seconds, peak_rss_gib
from mhe_jax.inference.truth import Truth, chosen, present, true_splits
from mhe_jax.train import experiment
from mhe_jax.train.checkpoints.published import is_published
from mhe_jax.train.reporting import report, stored
from mhe_jax.train.reporting.writers import finite, write_atomically

METHODS: dict[str, Callable[..., Ranker]] = {"linear": OneVsRest, "neighbours": NearestRows, "omikuji": LabelTrees}
_PACKAGES = {"linear": "scikit-learn", "neighbours": "scikit-learn", "omikuji": "omikuji"}


class Source(NamedTuple):
    """Rows of features, made or read when they are asked for, beside their true labels.

    train: makes the training rows [N, D]; it comes first.
    others: makes the rows [M, D] of each other split.
    truth: of the splits 'train', 'eval' and perhaps 'test'.
    names: of the labels, perhaps none.
    """

    train: Callable[[], Rows]
    others: Mapping[str, Callable[[], Rows]]
    truth: Mapping[str, Truth]
    names: tuple[str, ...]


def read_compared(path: pathlib.Path, measured: str) -> dict[str, Any]:
    """The result.json of a run to compare a baseline with: its `head`, and the figures that it has of 'best', 'last',
    'test'.

    Args:
      path: the file.
      measured: a figure that all of these have.

    Raises:
      OSError: if the file cannot be read.
      ValueError: naming the file, if it is not of a trained run, or of one on data of another kind.
    """
    result = stored.read_object(path)
    if "head" not in result:
        raise ValueError(f"--compare={path} is no result.json of a trained run: it has no head")
    found = {name: result[name] for name in ("best", "last", "test") if result.get(name) is not None}
    for name, values in found.items():
        if not isinstance(values, dict) or not isinstance(values.get(measured), int | float):
            raise ValueError(f"--compare={path} is of a run on data of another kind: its {name!r} has no {measured}")
    return {"head": result["head"], **found}


def source_of(data: Any, words: Words) -> Source:
    """The rows of a data set: TF-IDF of the words of texts, or features as they are.

    Raises:
      DataError: if the data is missing or differs from the config.
      ValueError: for data of another kind.
    """
    if isinstance(data, CorpusText):
        vectorizer = Vectorizer(words)
        truth, names = true_splits(data)
        corpora = data.splits()
        train = corpora.pop("train")
        return Source(
            lambda: vectorizer.fit(train.texts()),
            {name: functools.partial(_transformed, vectorizer, corpus) for name, corpus in corpora.items()},
            truth,
            tuple(names),
        )
    if not isinstance(data, FeatureData | SparseData):
        raise ValueError("this baseline is for texts that are read as such, and for features")
    loaded = data.load()
    truth, names = true_splits(data, loaded)
    rows = {name: functools.partial(_as_rows, split) for name, split in present(loaded).items()}
    return Source(rows.pop("train"), rows, truth, tuple(names))


def _as_rows(split: Any) -> Rows:
    return split.matrix if isinstance(split, SparseSplit) else np.asarray(split.features, np.float32)


def _transformed(vectorizer: Vectorizer, corpus: Corpus) -> Rows:
    return vectorizer.transform(corpus.texts())


def run(
    config: ConfigDict,
    method: str,
    settings: Mapping[str, Any],
    words: Words,
    workdir: pathlib.Path | None = None,
) -> dict[str, Any]:
    """Trains a baseline on the training rows, and ranks the labels of all others.

    With `workdir` that folder gets config.json, classes.json, result.json, and the rankings as `mhe predict` writes
    them: predictions.npz, and predictions_val.npz where there are two splits to evaluate.

    Args:
      config: whose `data` is used.
      method: one of `METHODS`.
      settings: arguments of what the method names.
      words: of texts, what becomes a feature.
      workdir: the folder.

    Returns:
      the content of result.json: the metrics of 'eval' and 'test' by name, with their `documents` and the CPU seconds
      of ranking them, `predict_cpu_seconds`; `train_cpu_seconds`; `peak_rss_gib` of the process; versions. Seconds
      count all threads; those of making rows are in both.

    Raises:
      DataError: if the data is missing or differs from the config, or an extra is not installed.
      ValueError: for data of another kind, or if the folder holds a trained run.
    """
    started = time.monotonic()
    if workdir is not None and (experiment.is_begun(workdir) or is_published(workdir)):
        raise ValueError(f"--workdir={workdir} holds a trained run, whose files would be lost: choose another folder")
    ranker = METHODS[method](**settings)
    data = build_data(config.data)
    source = source_of(data, words)
    if workdir is not None:
        _claim(workdir, config, experiment.Classes(data.num_classes, source.names))
    train = source.truth["train"].labels
    before = cpu_seconds()
    rows = source.train()
    ranker.fit(rows, train)
    result = {
        "baseline": method,
        "settings": {**settings, **(dataclasses.asdict(words) if isinstance(data, CorpusText) else {})},
        "data": config.data.name,
        "num_classes": data.num_classes,
        "train": {"documents": rows.shape[0], "features": rows.shape[1]},
        "train_cpu_seconds": round(cpu_seconds() - before, 1),
    }
    del rows
    for name, make in source.others.items():
        result[name] = _ranked(ranker, make, source.truth, name, data.num_classes, workdir)
    result |= {
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_gib": round(peak_rss_gib(), 2),
        **_versions(method),
    }
    if workdir is not None:
        write_atomically(workdir / "result.json", json.dumps(finite(result), indent=2) + "\n")
    return result


def _ranked(
    ranker: Ranker,
    make: Callable[[], Rows],
    truth: Mapping[str, Truth],
    name: str,
    num_classes: int,
    workdir: pathlib.Path | None,
) -> dict[str, Any]:
    """The metrics of a split, whose rankings are written to `workdir`."""
    labels, filtered, inverse = truth[name]
    kept = min(predictions.TOP_K, num_classes)
    spare = 0 if filtered is None else widest(filtered)
    before = cpu_seconds()
    ids, scores = ranker.rank(make(), max(kept, *KS) + spare)
    seconds = cpu_seconds() - before
    if workdir is not None:
        _, held_out = chosen(truth, "val" if name == "eval" else name)
        writer = predictions.PredictionsWriter(workdir, name, len(ids), num_classes, kept, held_out)
        writer.add(np.arange(len(ids)), ids[:, :kept], scores[:, :kept])
        writer.close()
    return {
        "documents": len(ids),
        "predict_cpu_seconds": round(seconds, 1),
        **measure(ids, labels, filtered, inverse),
    }


def _claim(workdir: pathlib.Path, config: ConfigDict, classes: experiment.Classes) -> None:
    """Makes the folder, with what says whose predictions these are."""
    workdir.mkdir(parents=True, exist_ok=True)
    for name in (predictions.FILE, predictions.HELD_OUT_FILE):
        (workdir / name).unlink(missing_ok=True)  # of another baseline, which this one replaces
    write_atomically(workdir / "config.json", json.dumps(json.loads(config.to_json()), indent=2) + "\n")
    names = {"number": classes.number, "names": list(classes.names)}
    write_atomically(workdir / "classes.json", stored.as_text(names) + "\n")


def _versions(method: str) -> dict[str, Any]:
    found = report.versions()
    package = _PACKAGES[method]
    return {**found, "versions": {**found["versions"], package: importlib.metadata.version(package)}}
