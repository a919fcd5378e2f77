"""The JSON files of the Extreme Classification Repository: a document per line, with the numbers of its labels.

`{"uid": ..., "title": ..., "content": ..., "target_ind": [3, 17], "target_rel": [1.0, 0.5]}`; a document's text is its
title and content. The labels are the lines of the label file, in order, and their names its titles; in the repository's
raw AmazonCat they are lines of Yf.txt, some of its lines are Latin-1, and a content or title may be null.
"""

import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import TextScan, json_field, names_of_lines, read_json_lines, read_lines
from mhe_jax.data.texts.corpus import Corpora
from mhe_jax.data.texts.formats.labels import LabelRows, as_corpora, make_corpus

_FALLBACK = "latin-1"
_LARGEST = float(np.finfo(np.float32).max)


def read(files: Mapping[str, pathlib.Path]) -> Corpora:
    """Reads {'train', 'labels' or 'names'} and, if they are there, 'test', 'train filter' and 'test filter'."""
    if "names" in files:
        names = names_of_lines(read_lines(files["names"], _FALLBACK), files["names"])
    else:
        path = files["labels"]
        records = read_json_lines(path, _FALLBACK)
        names = tuple(json_field(record, "title", str, path, number) for number, record in records)

    def split_of(name: str):
        path = files[name]
        scan, rows = TextScan(), LabelRows()
        for number, record in read_json_lines(path, _FALLBACK):
            scan.add(_text(record, path, number))
            rows.add(*_labels(record, len(names), path, number))
        texts = functools.partial(_texts, path)
        return make_corpus(texts, scan, rows.matrix(len(names)), (path, path), files.get(f"{name} filter"))

    return as_corpora({name: split_of(name) for name in ("train", "test") if name in files}, names)


def _texts(path: pathlib.Path) -> Iterator[str]:
    return (_text(record, path, number) for number, record in read_json_lines(path, _FALLBACK))


def _text(record: dict[str, Any], path: pathlib.Path, number: int) -> str:
    title = _words(record, "title", path, number)
    # Data sets of titles may leave the content out.
    content = _words(record, "content", path, number) if "content" in record else ""
    return f"{title} {content}".strip()


def _words(record: dict[str, Any], name: str, path: pathlib.Path, number: int) -> str:
    return "" if record.get(name, "") is None else json_field(record, name, str, path, number)


def _labels(record: dict[str, Any], num_labels: int, path: pathlib.Path, number: int) -> tuple[list[int], list[float]]:
    labels = json_field(record, "target_ind", list, path, number)
    for label in labels:
        if type(label) is not int or not 0 <= label < num_labels:
            raise DataError(
                f"{path}:{number}: 'target_ind' holds {label!r}, "
                f"but there are {num_labels} labels, numbered from 0 to {num_labels - 1}"
            )
    if "target_rel" not in record:
        return labels, [1.0] * len(labels)
    values = json_field(record, "target_rel", list, path, number)
    if len(values) != len(labels):
        raise DataError(f"{path}:{number}: {len(labels)} labels in 'target_ind' but {len(values)} in 'target_rel'")
    for value in values:
        if type(value) not in (int, float) or not 0 <= value <= _LARGEST:
            raise DataError(
                f"{path}:{number}: 'target_rel' holds {repr(value)[:80]}, which is not a relevance of 0 or more"
            )
    return labels, values
