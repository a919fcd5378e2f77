"""One's own documents: a line `{"text": "...", "labels": [...]}` each, the labels all strings or all integers.

A document with one label may have it without a list.
"""

import functools
import pathlib
from collections.abc import Iterator, Mapping

from mhe_jax.data.lines import TextScan, json_field, read_json_lines
from mhe_jax.data.tables.one_kind import json_labels, require_one_kind
from mhe_jax.data.texts.corpus import Corpora
from mhe_jax.data.texts.formats.gathered import gather
from mhe_jax.data.texts.formats.labels import LabelNumbers, LabelRows


def read(files: Mapping[str, pathlib.Path]) -> Corpora:
    """Reads {'train'} and, if they are there, 'test' and 'validation'; ids as `gathered` gives them."""
    return gather(files, _read_split, _texts)


def _read_split(path: pathlib.Path, numbers: LabelNumbers) -> tuple[TextScan, LabelRows]:
    scan, rows = TextScan(), LabelRows()
    for number, record in read_json_lines(path):
        scan.add(json_field(record, "text", str, path, number))
        labels = json_labels(record, "labels", path, number)
        require_one_kind(labels, numbers, functools.partial("{}:{}".format, path, number))
        rows.add(map(numbers.__getitem__, labels))
    return scan, rows


def _texts(path: pathlib.Path) -> Iterator[str]:
    return (json_field(record, "text", str, path, number) for number, record in read_json_lines(path))
