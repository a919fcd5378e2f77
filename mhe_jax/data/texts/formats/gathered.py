"""Splits that name their labels themselves, a file each: read one after the other, and numbered together.

A label's id is its rank among those of all splits: strings in lexicographic order, integers in numeric order. So
integers 0 .. L-1 that all occur are their own ids, and gaps, or product numbers, cost no unused labels. Rows of noughts
and ones are read as such: see `multi_hot`.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import TextScan, json_type
from mhe_jax.data.texts.corpus import Corpora
from mhe_jax.data.texts.formats.labels import LabelNumbers, LabelRows, as_corpora, make_corpus, multi_hot_rows

ReadSplit = Callable[[pathlib.Path, LabelNumbers], tuple[TextScan, LabelRows]]


def gather(
    files: Mapping[str, pathlib.Path], read_split: ReadSplit, texts: Callable[[pathlib.Path], Iterator[str]]
) -> Corpora:
    """The documents of {'train'} and, where they are there, 'test' and 'validation'.

    Args:
      files: the file of each split.
      read_split: one pass over a file; it numbers the labels that it finds.
      texts: a pass over the texts of a file.

    Raises:
      DataError: for labels that are neither strings nor integers, nor noughts and ones, or for rows of these in some
        splits only.
    """
    numbers = LabelNumbers()
    scans, rows = {}, {}
    splits = [name for name in ("train", "test", "validation") if name in files]
    for split in splits:
        scans[split], rows[split] = read_split(files[split], numbers)
    labels, rank = numbers.ranked()
    names, notes = tuple(map(str, labels)), ""
    if multi_hot := multi_hot_rows(labels, rank, list(rows.values()), [files[name] for name in splits]):
        names, ones = multi_hot
        rows, rank = dict(zip(rows, ones, strict=True)), np.arange(len(names), dtype=np.int32)
        notes = f"; 'labels' are noughts and ones, for {len(names)} labels"
    elif labels and isinstance(labels[0], (bool, float)):
        raise DataError(
            f"{' and '.join(str(files[name]) for name in splits)}: 'labels' are {labels[0]!r}, {json_type(labels[0])}, "
            "and the like: they must be strings or integers, or as many noughts and ones in every line"
        )

    def split_of(name: str):
        path = files[name]
        return make_corpus(
            functools.partial(texts, path), scans[name], rows[name].matrix(len(names), rank), (path, path)
        )

    return as_corpora({name: split_of(name) for name in splits}, names, notes)
