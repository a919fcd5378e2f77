"""The layout of AttentionXML, LightXML and the published system: texts and label strings, a line per document.

A label's id is the lexicographic rank of its string among those of both splits ('10' < '100' < '2'). A label that only
the test documents have is a label too. Rows of noughts and ones are read as such: see `multi_hot`.
"""

import functools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import TextScan, read_lines
from mhe_jax.data.texts.corpus import Corpora
from mhe_jax.data.texts.formats.label_strings import read_label_strings
from mhe_jax.data.texts.formats.labels import LabelRows, as_corpora, make_corpus, multi_hot_rows


def read(files: Mapping[str, pathlib.Path]) -> Corpora:
    """Reads {'train texts', 'train labels'} and, if they are there, those of 'test' and 'validation', and 'names'."""
    splits = [name for name in ("train", "test", "validation") if f"{name} labels" in files]
    sources = [files[f"{split} labels"] for split in splits]
    labels, rank, rows = read_label_strings(sources)
    notes = ""
    if multi_hot := multi_hot_rows(labels, rank, rows, sources):
        labels, rows = multi_hot
        rank, notes = np.arange(len(labels)), f"; labels are noughts and ones, for {len(labels)} labels"

    def split_of(name: str, rows: LabelRows):
        texts = functools.partial(read_lines, files[f"{name} texts"])
        paths = files[f"{name} texts"], files[f"{name} labels"]
        return make_corpus(texts, TextScan(texts()), rows.matrix(len(labels), rank), paths)

    found = {name: split_of(name, of) for name, of in zip(splits, rows, strict=True)}
    names = _names(files["names"], labels) if "names" in files else labels
    return as_corpora(found, names, notes)


def _names(path: pathlib.Path, labels: Sequence[str]) -> tuple[str, ...]:
    """Names from lines `label<TAB>name`; a label without one is its own name, and other lines are passed over."""
    names: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        label, tab, name = line.partition("\t")
        if not tab:
            raise DataError(f"{path}:{number}: a line must be a label, a tab and its name, but is {line[:80]!r}")
        if names.setdefault(label, name) != name:
            raise DataError(f"{path}:{number}: label {label!r} is {name[:80]!r} here, but {names[label][:80]!r} above")
    return tuple(names.get(label, label) for label in labels)
