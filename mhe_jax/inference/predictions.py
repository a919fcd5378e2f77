"""The ranked labels of a run's evaluation documents, as a sparse matrix of scores on disk.

`predictions.npz` has those of the test documents, or of the evaluation documents where there are no others;
`predictions_val.npz` has those of the documents that chose the best checkpoint, where they are not the test documents.
"""

import contextlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from mhe_jax.train.reporting import stored
from mhe_jax.train.reporting.writers import write_atomically

FILE, FACTS = "predictions.npz", "predictions.json"
HELD_OUT_FILE, HELD_OUT_FACTS = "predictions_val.npz", "predictions_val.json"
# Labels kept per document, as the published system and most later ones do.
TOP_K = 100
# A score of exactly 0 is a prediction too, but arithmetic on sparse matrices would lose it.
_SMALLEST = np.finfo(np.float32).tiny


class Predictions(NamedTuple):
    """scores: CSR float32 [N, L], probabilities of the labels kept; split: 'eval' or 'test'; top_k: labels kept.

    model: of which weights they are, see `mhe_jax.inference.decision.model_of`; None for those of a baseline, and where
      it is not known.
    """

    scores: scipy.sparse.csr_matrix
    split: str
    top_k: int
    model: dict[str, Any] | None = None


class PredictionsWriter:
    """Collects the top labels of documents in any order, and writes them in document order.

    Files: `<workdir>/predictions.npz` (scipy.sparse.save_npz of `csr_of`) and `predictions.json` with its split, its
    sizes and its `model`; `predictions_val` for `predictions` where the documents are `held_out` beside the test
    documents. Of the labels that are added the first `top_k` are written; there may be up to `ranked` of a document.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        split: str,
        num_documents: int,
        num_labels: int,
        top_k: int,
        held_out: bool = False,
        model: Mapping[str, Any] | None = None,
        ranked: int = 0,
    ):
        self._workdir, self._split = pathlib.Path(workdir), split
        self._file, self._facts = files(held_out)
        self._num_labels, self._top_k, self._model = num_labels, top_k, model
        width = max(top_k, ranked)
        self._ids = np.full((num_documents, width), -1, np.int32)
        self._scores = np.zeros((num_documents, width), np.float32)
        self._added = np.zeros(num_documents, bool)

    def add(self, documents: np.ndarray, ids: np.ndarray, scores: np.ndarray) -> None:
        """Labels int [B, K] of documents int [B], best first, and their probabilities; a label of -1 is none."""
        self._ids[documents, : ids.shape[1]] = ids
        self._scores[documents, : ids.shape[1]] = scores
        self._added[documents] = True

    def all_scores(self) -> scipy.sparse.csr_matrix:
        """All that was added, as `csr_of`."""
        return csr_of(self._ids, self._scores, self._num_labels)

    def close(self) -> pathlib.Path:
        """Writes both files and returns the matrix's path.

        Raises:
          ValueError: if a document was never added.
        """
        if not self._added.all():
            raise ValueError(
                f"{self._workdir / self._file} is not written: {np.count_nonzero(~self._added)} of {len(self._added)} "
                f"documents of the split {self._split!r} have no predictions"
            )
        kept = csr_of(self._ids[:, : self._top_k], self._scores[:, : self._top_k], self._num_labels)
        save(self._workdir / self._file, kept)
        facts: dict[str, Any] = {
            "split": self._split,
            "documents": len(self._ids),
            "labels": self._num_labels,
            "top_k": self._top_k,
        }
        if self._model is not None:
            facts["model"] = dict(self._model)
        write_atomically(self._workdir / self._facts, json.dumps(facts) + "\n")
        return self._workdir / self._file


def files(held_out: bool) -> tuple[str, str]:
    """The names of the matrix and of what is said of it."""
    return (HELD_OUT_FILE, HELD_OUT_FACTS) if held_out else (FILE, FACTS)


def read_predictions(workdir: pathlib.Path, held_out: bool = False) -> Predictions:
    """The predictions of a run, or those of its `held_out` documents.

    Raises:
      ValueError: if there are none, or they are damaged; naming the file, and the command that makes them.
    """
    workdir = pathlib.Path(workdir)
    path, facts_path = (workdir / name for name in files(held_out))
    command = command_of(workdir, held_out)
    try:
        facts = json.loads(facts_path.read_text())
        with path.open("rb") as file:
            scores = scipy.sparse.load_npz(file).tocsr()
        scores.check_format(full_check=True)
        predictions = Predictions(scores, facts["split"], facts["top_k"], facts.get("model"))
        if not isinstance(predictions.model, dict | None):
            raise TypeError(f"model is {stored.kind(predictions.model)}")
        shape = facts["documents"], facts["labels"]
    except FileNotFoundError:
        raise ValueError(f"{workdir} has no {path.name}; make it with: {command}") from None
    except Exception as error:  # a damaged archive fails in any way
        raise ValueError(f"{path} or {facts_path.name} is damaged ({error}); make both with: {command}") from error
    if scores.shape != shape:
        raise ValueError(
            f"{path} holds {scores.shape} scores but {facts_path.name} says {shape}; make both with: {command}"
        )
    if not (scores.data > 0).all():
        raise ValueError(f"{path} holds scores that are no positive numbers; make it with: {command}")
    return predictions


def command_of(workdir: pathlib.Path, held_out: bool) -> str:
    """What writes the predictions of a run, or of a baseline."""
    with contextlib.suppress(OSError, ValueError):
        found = stored.read_object(workdir / "result.json")
        if "baseline" in found:
            return f"mhe baseline {found['baseline']} --config=CONFIG --workdir={workdir}"
    return f"mhe predict --workdir={workdir}" + (" --split=val" if held_out else "")


def save(path: pathlib.Path, matrix: scipy.sparse.csr_matrix) -> None:
    """Replaces a .npz file at once."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        scipy.sparse.save_npz(file, matrix)
    temporary.replace(path)


def csr_of(ids: np.ndarray, scores: np.ndarray, num_labels: int) -> scipy.sparse.csr_matrix:
    """CSR float32 [N, num_labels] of labels int [N, K], -1 for none, and their scores; the columns come out sorted.

    A score of 0 becomes the smallest one above it.
    """
    there = ids >= 0
    ends = np.concatenate([[0], there.sum(axis=1).cumsum()])
    data = np.maximum(scores[there], _SMALLEST).astype(np.float32)
    matrix = scipy.sparse.csr_matrix((data, ids[there], ends), shape=(len(ids), num_labels))
    matrix.sort_indices()
    return matrix
