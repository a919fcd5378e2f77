"""Trees of labels: Parabel (Prabhu et al., WWW 2018) and Bonsai (Khandagale et al., 2019), by the library omikuji."""

import contextlib
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import scipy.sparse
import tqdm

from mhe_jax.data.dataset import DataError
from mhe_jax.evaluation.baselines.ranker import Rows

# What differs from omikuji's own settings, which are Parabel's: three trees of balanced halves. Bonsai's are the ones
# of omikuji's README: wide and shallow trees of unbalanced k-means.
PRESETS: dict[str, dict[str, Any]] = {
    "parabel": {},
    "bonsai": {"cluster_balanced": False, "cluster_k": 100, "max_depth": 3},
}


class LabelTrees:
    """An omikuji model, which draws its clusters at random: two trainings differ a little.

    A `mhe_jax.evaluation.baselines.ranker.Ranker`; its score is omikuji's, the mean over the trees of the probability
    of the path to a label.
    """

    def __init__(self, *, preset: str = "parabel", trees: int = 3, beam_size: int = 10, threads: int = 0):
        """Says which trees.

        Args:
          preset: one of `PRESETS`.
          trees: their number.
          beam_size: nodes of each layer that ranking follows.
          threads: that train; 0 is one for each core.

        Raises:
          DataError: if omikuji is not installed; naming the extra.
        """
        self._omikuji = _imported()
        self._settings = {"n_trees": trees, **PRESETS[preset]}
        self._beam_size, self._threads = beam_size, threads

    def fit(self, rows: Rows, labels: scipy.sparse.csr_matrix) -> None:
        """Trains the trees from a temporary file, of about 20 bytes a value, see `Ranker.fit`."""
        settings = self._omikuji.Model.default_hyper_param()
        for name, value in self._settings.items():
            setattr(settings, name, value)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "train.txt"
            write_repository_file(path, rows, labels)
            with _quiet():
                self._model = self._omikuji.Model.train_on_data(str(path), settings, self._threads or None)

    def rank(self, rows: Rows, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The best labels of each row, the lower number first of equals, see `Ranker.rank`."""
        rows = scipy.sparse.csr_matrix(rows)
        ids, scores = np.full((rows.shape[0], k), -1, np.int32), np.zeros((rows.shape[0], k), np.float32)
        for row in tqdm.trange(rows.shape[0], desc="omikuji", unit=" rows", disable=None):
            part = slice(rows.indptr[row], rows.indptr[row + 1])
            pairs = list(zip(rows.indices[part].tolist(), rows.data[part].tolist(), strict=True))
            found = self._model.predict(pairs, beam_size=self._beam_size, top_k=k)
            found.sort(key=lambda pair: (-pair[1], pair[0]))
            ids[row, : len(found)] = [label for label, _ in found]
            scores[row, : len(found)] = [score for _, score in found]
        return ids, scores


def write_repository_file(path: pathlib.Path, rows: Rows, labels: scipy.sparse.csr_matrix) -> None:
    """Writes train.txt of the Extreme Classification Repository: `N D L`, then lines `label,label column:value ...`."""
    from sklearn.datasets import dump_svmlight_file  # slow to import

    has_label = labels.astype(bool).astype(np.int8)
    has_label.eliminate_zeros()
    with path.open("wb") as file:
        file.write(f"{rows.shape[0]} {rows.shape[1]} {labels.shape[1]}\n".encode())
        dump_svmlight_file(rows, has_label, _WithoutEndBlanks(file), multilabel=True)


class _WithoutEndBlanks:
    """A file whose lines do not end in a blank, as scikit-learn ends that of an empty row: omikuji refuses it."""

    def __init__(self, file: IO[bytes]):
        self._file = file

    def write(self, line: bytes) -> int:
        """Writes a whole line."""
        return self._file.write(line.replace(b" \n", b"\n"))


def _imported() -> Any:
    try:
        with _quiet():
            import omikuji
    except ImportError as error:
        raise DataError(f"omikuji is not installed ({error}): pip install 'mhe-jax[omikuji]'") from None
    return omikuji


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what a library prints off standard output, and its bars off a standard error that is no terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(stream) for stream in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    seen = os.isatty(2)
    os.dup2(2 if seen else nowhere, 1)
    if not seen:
        os.dup2(nowhere, 2)
    try:
        yield
    finally:
        for stream, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
        os.close(nowhere)
