"""Texts, a line per document, beside a matrix of their labels: PECOS, X-Transformer, DEXML, and the sparse text files.

The labels are the columns of the matrix; a file with a line per label names them.
"""

import functools
import pathlib
from collections.abc import Mapping

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import TextScan, read_lines
from mhe_jax.data.texts.corpus import Corpora
from mhe_jax.data.texts.formats.labels import make_corpus
from mhe_jax.data.texts.formats.sparse import read_label_matrix


def read(files: Mapping[str, pathlib.Path]) -> Corpora:
    """Reads {'train texts', 'train labels', 'test texts', 'test labels'} and, if there, 'names' and '... filter'."""
    texts = {split: functools.partial(read_lines, files[f"{split} texts"]) for split in ("train", "test")}
    scans = {split: TextScan(texts[split]()) for split in texts}
    labels = {split: read_label_matrix(files[f"{split} labels"], scans[split].documents) for split in texts}
    num_labels, others = (matrix.shape[1] for matrix in labels.values())
    if num_labels != others:
        raise DataError(f"{files['train labels']} has {num_labels} labels but {files['test labels']} has {others}")
    names = tuple(read_lines(files["names"])) if "names" in files else tuple(map(str, range(num_labels)))
    if len(names) != num_labels:
        raise DataError(f"{files['names']} names {len(names)} labels but {files['train labels']} has {num_labels}")

    def split(name: str):
        sources = files[f"{name} texts"], files[f"{name} labels"]
        return make_corpus(texts[name], scans[name], labels[name], sources, files.get(f"{name} filter"))

    (train, train_notes), (test, test_notes) = split("train"), split("test")
    return Corpora(train, test, names, f"training: {train_notes}; test: {test_notes}")
