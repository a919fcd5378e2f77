"""Top-k classes of one's own pictures, texts or features, as JSON lines; and the ranked labels of a whole split."""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any, TextIO

import jax
import numpy as np
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.data.faces.dataset import FaceData
from mhe_jax.data.features.dataset import FeatureData
from mhe_jax.data.feeds import eval_feed
from mhe_jax.data.ragged import top_of
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.sparse.dataset import SparseData
from mhe_jax.data.texts.sparse.words import WordData
from mhe_jax.evaluation.hierarchy import Hierarchy
from mhe_jax.inference import predictions
from mhe_jax.inference.class_names import with_names
from mhe_jax.inference.deciding import Deciding
from mhe_jax.inference.decision import model_of
from mhe_jax.inference.embeddings import write_embeddings
from mhe_jax.inference.inputs import Batches, Unreadable, features, pictures, sparse_rows, texts
from mhe_jax.inference.opened import BATCH_SIZE, Trained, opened
from mhe_jax.inference.taxonomies import find_hierarchy
from mhe_jax.inference.truth import chosen, present
from mhe_jax.train import class_files
from mhe_jax.train.parallel import distributed
from mhe_jax.train.parallel.mesh import BATCH, place, replicate, shares
from mhe_jax.train.reporting import stored


def predict(
    config: ConfigDict,
    workdir: pathlib.Path,
    source: str,
    k: int,
    output: pathlib.Path | None = None,
    class_names: pathlib.Path | None = None,
    threshold: float | str | None = None,
    taxonomy: pathlib.Path | None = None,
) -> int:
    """Writes one line `{"input", "ids", "names", "scores"}` per picture, text or row; scores are probabilities.

    The lines of a batch are written as soon as it is through; of standard input a batch is what is there. An input that
    cannot be read has none: it is named on standard error, and an error at the end, after all lines, counts them. A run
    on faces writes embeddings instead, see `mhe_jax.inference.embeddings.write_embeddings`.

    Args:
      config: the run's config; its data set need not be present.
      workdir: a trained run.
      source: see `pictures`, `texts`, `features` and `sparse_rows` of `mhe_jax.inference.inputs`.
      k: classes per example.
      output: file to write; standard output without one.
      class_names: readable names, see `mhe_jax.inference.class_names.with_names`.
      threshold: what is answered, see `mhe_jax.inference.deciding.Deciding`.
      taxonomy: a tree above the classes, see `mhe_jax.inference.taxonomies`; lines then have `node`, the group or class
        at which the answer stops to reach the threshold, '' for none, and `node_score`, its probability.

    Returns:
      the number of examples.

    Raises:
      ValueError: if the source is missing, empty, of another shape, or the output too, or k exceeds the number of
        classes; at the end, if inputs could not be read; of several processes, if the source is standard input, which
        one of them alone could read.
    """
    if source == "-" and jax.process_count() > 1:
        raise ValueError("--input=- : several processes cannot share standard input; name a file, or start one process")
    if output and os.path.exists(source) and output.exists() and os.path.samefile(source, output):
        raise ValueError(f"--output={output} is the input, which would be lost: name another file")
    if isinstance(build_data(config.data), FaceData):
        return write_embeddings(config, workdir, source, output)
    _check_top_k(k, workdir)
    trained = opened(config, workdir)
    data, deciding = trained.data, Deciding(trained, threshold, _hierarchy(trained, taxonomy, config, threshold))
    # Decisions and taxonomies know classes by the names that the run has.
    trained = _named(trained, class_names)
    unreadable, count = Unreadable(), 0
    if isinstance(data, TextData | WordData):
        batches = texts(source, data, BATCH_SIZE, unreadable)
    elif isinstance(data, SparseData):
        batches = sparse_rows(source, data, BATCH_SIZE)
    elif isinstance(data, FeatureData):
        rows = features(source, data.features_dim, BATCH_SIZE, unreadable)
        batches = ((names, trained.task.asked(batch)) for names, batch in rows)
    else:
        batches = pictures(source, data, BATCH_SIZE, unreadable)
    answers = _lines(trained, batches, k, deciding, ahead=0 if source == "-" else 1)
    # Before the output is emptied: inputs that cannot be read leave it as it is.
    first = next(answers, [])
    if not first:
        unreadable.check(0)
    with _opened(output) as stream:
        for lines in itertools.chain([first], answers):
            stream.writelines(lines)
            stream.flush()
            count += len(lines)
    unreadable.check(count)
    return count


def _named(trained: Trained, class_names: pathlib.Path | None) -> Trained:
    return dataclasses.replace(trained, classes=with_names(trained.classes, class_names))


def _check_top_k(k: int, workdir: pathlib.Path) -> None:
    """Before the model is opened, which takes seconds."""
    classes = class_files.num_live(workdir)
    if not 1 <= k <= classes:
        raise ValueError(f"--top_k is {k}; it must be between 1 and the {classes} classes")


@contextlib.contextmanager
def _opened(output: pathlib.Path | None) -> Iterator[TextIO]:
    """The stream for the lines; all but the main process's leads nowhere."""
    if not distributed.is_main():
        output = pathlib.Path(os.devnull)
    if output is None:
        yield sys.stdout
    else:
        with output.open("w", encoding="utf-8") as stream:
            yield stream


def _lines(trained: Trained, batches: Batches, k: int, deciding: Deciding, ahead: int) -> Iterator[list[str]]:
    """The lines of each batch."""
    top = trained.compiled(lambda weights, inputs: trained.task.predict(weights, inputs, deciding.asked(k)))
    for names, (scores, ids) in trained.results(top, batches, ahead):
        own_ids, probabilities = trained.codes.ids(ids), np.exp(scores)
        rows = zip(names, *deciding(own_ids, probabilities, k), deciding.nodes(own_ids, probabilities), strict=True)
        yield [_line(trained, name, row_ids, row_scores, node) for name, row_ids, row_scores, node in rows]


def _hierarchy(
    trained: Trained, taxonomy: pathlib.Path | None, config: ConfigDict, threshold: float | str | None
) -> Hierarchy | None:
    if taxonomy is None:
        return None
    if trained.data.multilabel:
        raise ValueError("--taxonomy: answers stop at groups where an example has one class, and this run has many")
    if threshold is None:
        raise ValueError("--taxonomy: --threshold is missing, the probability at which an answer goes further down")
    return find_hierarchy(taxonomy, config, trained.classes)


def _line(
    trained: Trained, name: str | int, ids: np.ndarray, scores: np.ndarray, node: tuple[str, float] | None = None
) -> str:
    """A JSON line of one example's ranking; scores have six significant digits."""
    found = ids >= 0
    names = [trained.classes.name(i) for i in ids[found]]
    rounded = [float(f"{score:.6g}") for score in scores[found].tolist()]
    line = {"input": name, "ids": ids[found].tolist(), "names": names, "scores": rounded}
    if node is not None:
        line |= {"node": node[0], "node_score": float(f"{node[1]:.6g}")}
    return stored.as_text(line) + "\n"


def predict_split(
    config: ConfigDict,
    workdir: pathlib.Path,
    k: int = 5,
    output: pathlib.Path | None = None,
    class_names: pathlib.Path | None = None,
    which: str | None = None,
) -> pathlib.Path:
    """Ranks the labels of every document or row of the test split, or of the evaluation split where there is no other.

    With `output`, the first `k` labels of each are also written there, as `predict` does with `class_names`, `input`
    being its number.

    Args:
      config: the run's config.
      workdir: a trained run.
      k: labels of each in `output`.
      output: file to write.
      class_names: readable names, for `output`.
      which: 'test', or 'val' for the examples that chose the best checkpoint, see `chosen`; None takes the default.

    Returns:
      the file written, `<workdir>/predictions.npz` or `predictions_val.npz`, see `mhe_jax.inference.predictions`.

    Raises:
      ValueError: if the run has one label an example, its data is another one now, it has no test split and `which` is
        'test', or k exceeds the number of classes.
    """
    if not build_data(config.data).multilabel:
        raise ValueError("--input is missing: only runs with many labels an example rank a whole split by default")
    if output:
        _check_top_k(k, workdir)
    trained = opened(config, workdir)
    # Before classes get readable names.
    model = model_of(workdir, trained.step, trained.classes)
    trained = _named(trained, class_names)
    splits = present(trained.load_splits())
    name, held_out = chosen(splits, which)
    split = splits[name]
    kept = min(predictions.TOP_K, trained.num_live)
    ranks = min(max(kept, k if output else 0), trained.num_live)
    # With the numbers of the documents, which come from every process.
    feed = eval_feed(split, trained.settings.global_batch_size, **shares(trained.mesh))
    resident = replicate(trained.mesh, feed.resident)
    task: Any = trained.task

    def ranked(weights: dict, inputs: tuple) -> tuple:
        batch = feed.batch(*inputs)
        found = task.predict(weights, task.asked(batch), ranks)
        return (*found, batch["index"], batch["weight"] > 0)

    top = trained.compiled(ranked)
    sizes = split.num_examples, trained.classes.number, kept
    writer = predictions.PredictionsWriter(workdir, name, *sizes, held_out, model, ranks)
    with contextlib.closing(feed):
        for step in range(feed.steps_per_epoch):
            rows = {name: part[0] for name, part in feed.chunk(step, 1).items()}
            scores, ids, documents, real = jax.device_get(top((resident, place(trained.mesh, rows, BATCH))))
            writer.add(documents[real], trained.codes.ids(ids[real]), np.exp(scores[real]))
    if not distributed.is_main():
        return workdir / predictions.files(held_out)[0]
    path = writer.close()
    if output:
        best_ids, best = top_of(writer.all_scores(), k)
        with output.open("w", encoding="utf-8") as stream:
            for number, (row_ids, row_scores) in enumerate(zip(best_ids, best, strict=True)):
                stream.write(_line(trained, number, row_ids, row_scores))
    return path
