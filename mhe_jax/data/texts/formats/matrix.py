"""Texts, a line per document, beside a matrix of their labels: PECOS, X-Transformer, DEXML, and the sparse text files.

The labels are the columns of the matrix; a file with a line per label names them.
"""

import functools
import pathlib
from collections.abc import Mapping

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import TextScan, read_lines
from mhe_jax.data.texts.corpus import Corpora
from mhe_jax.data.texts.formats.labels import as_corpora, make_corpus
from mhe_jax.data.texts.formats.sparse import read_label_matrix


def read(files: Mapping[str, pathlib.Path]) -> Corpora:
    """Reads {'train texts', 'train labels'} and, if there, 'test texts', 'test labels', 'names' and '... filter'."""
    splits = [name for name in ("train", "test") if f"{name} labels" in files]
    texts = {split: functools.partial(read_lines, files[f"{split} texts"]) for split in splits}
    scans = {split: TextScan(texts[split]()) for split in texts}
    labels = {split: read_label_matrix(files[f"{split} labels"], scans[split].documents) for split in texts}
    num_labels = labels["train"].shape[1]
    if (others := labels[splits[-1]].shape[1]) != num_labels:
        raise DataError(f"{files['train labels']} has {num_labels} labels but {files['test labels']} has {others}")
    names = tuple(read_lines(files["names"])) if "names" in files else tuple(map(str, range(num_labels)))
    if len(names) != num_labels:
        raise DataError(f"{files['names']} names {len(names)} labels but {files['train labels']} has {num_labels}")

    def split_of(name: str):
        sources = files[f"{name} texts"], files[f"{name} labels"]
        return make_corpus(texts[name], scans[name], labels[name], sources, files.get(f"{name} filter"))

    return as_corpora({name: split_of(name) for name in splits}, names)
