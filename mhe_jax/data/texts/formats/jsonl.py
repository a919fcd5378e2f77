"""One's own documents: a line `{"text": "...", "labels": [...]}` each, the labels all strings or all integers.

A label's id is its rank among those of all splits: strings in lexicographic order, integers in numeric order. So
integers 0 .. L-1 that all occur are their own ids, and gaps, or product numbers, cost no unused labels. Rows of noughts
and ones are read as such: see `multi_hot`.
"""

import functools
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import TextScan, json_field, json_type, read_json_lines
from mhe_jax.data.texts.corpus import Corpora
from mhe_jax.data.texts.formats.labels import LabelNumbers, LabelRows, make_corpus
from mhe_jax.data.texts.formats.multi_hot import read_multi_hot


def read(files: Mapping[str, pathlib.Path]) -> Corpora:
    """Reads {'train', 'test'} and, if it is there, 'validation'."""
    numbers = LabelNumbers()
    scans, rows = {}, {}
    splits = [name for name in ("train", "test", "validation") if name in files]
    for split in splits:
        scans[split], rows[split] = _read_split(files[split], numbers)
    labels, rank = numbers.ranked()
    names, notes = tuple(map(str, labels)), ""
    if multi_hot := read_multi_hot(labels, rank, list(rows.values())):
        names, ones = multi_hot
        rows, rank = dict(zip(rows, ones, strict=True)), np.arange(len(names), dtype=np.int32)
        notes = f"; 'labels' are noughts and ones, for {len(names)} labels"
    elif labels and isinstance(labels[0], (bool, float)):
        raise DataError(
            f"{files['train']} and {files['test']}: 'labels' are {labels[0]!r}, {json_type(labels[0])}, and the like: "
            "they must be strings or integers, or as many noughts and ones in every line"
        )

    def split_of(name: str):
        path = files[name]
        return make_corpus(
            functools.partial(_texts, path), scans[name], rows[name].matrix(len(names), rank), (path, path)
        )

    found = {name: split_of(name) for name in splits}
    told = "; ".join(f"{'training' if name == 'train' else name}: {words}" for name, (_, words) in found.items())
    valid = found["validation"][0] if "validation" in found else None
    return Corpora(found["train"][0], found["test"][0], names, told + notes, valid)


def _read_split(path: pathlib.Path, numbers: LabelNumbers) -> tuple[TextScan, LabelRows]:
    scan, rows = TextScan(), LabelRows()
    for number, record in read_json_lines(path):
        scan.add(json_field(record, "text", str, path, number))
        labels = json_field(record, "labels", list, path, number)
        kind = type(next(iter(numbers or labels), ""))
        for label in labels:
            if type(label) is not kind or not (kind in (str, int) or (kind in (bool, float) and label in (0, 1))):
                raise DataError(
                    f"{path}:{number}: 'labels' holds {label!r}, {json_type(label)}; "
                    "all labels must be strings, or all must be integers"
                )
        rows.add(map(numbers.__getitem__, labels))
    return scan, rows


def _texts(path: pathlib.Path) -> Iterator[str]:
    return (json_field(record, "text", str, path, number) for number, record in read_json_lines(path))
