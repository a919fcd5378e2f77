"""One's own documents: a line `{"text": "...", "labels": [...]}` each, the labels all strings or all integers.

A label's id is its rank among those of both splits: strings in lexicographic order, integers in numeric order. So
integers 0 .. L-1 that all occur are their own ids, and gaps, or product numbers, cost no unused labels.
"""

import functools
import pathlib
from collections.abc import Iterator, Mapping

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import TextScan, json_field, json_type, read_json_lines
from mhe_jax.data.texts.corpus import Corpora
from mhe_jax.data.texts.formats.labels import LabelNumbers, LabelRows, make_corpus


def read(files: Mapping[str, pathlib.Path]) -> Corpora:
    """Reads {'train', 'test'}; another file, for validation, is told to be left out."""
    numbers = LabelNumbers()
    scans, rows = {}, {}
    for split in ("train", "test"):
        scans[split], rows[split] = _read_split(files[split], numbers)
    labels, rank = numbers.ranked()

    def split_of(name: str):
        path = files[name]
        return make_corpus(
            functools.partial(_texts, path), scans[name], rows[name].matrix(len(labels), rank), (path, path)
        )

    (train, train_notes), (test, test_notes) = split_of("train"), split_of("test")
    unused = f"; {files['validation'].name} is not used" if "validation" in files else ""
    return Corpora(train, test, tuple(map(str, labels)), f"training: {train_notes}; test: {test_notes}{unused}")


def _read_split(path: pathlib.Path, numbers: LabelNumbers) -> tuple[TextScan, LabelRows]:
    scan, rows = TextScan(), LabelRows()
    for number, record in read_json_lines(path):
        scan.add(json_field(record, "text", str, path, number))
        labels = json_field(record, "labels", list, path, number)
        kind = type(next(iter(numbers or labels), ""))
        for label in labels:
            if type(label) is not kind or kind not in (str, int):
                raise DataError(
                    f"{path}:{number}: 'labels' holds {label!r}, {json_type(label)}; "
                    "all labels must be strings, or all must be integers"
                )
        rows.add(map(numbers.__getitem__, labels))
    return scan, rows


def _texts(path: pathlib.Path) -> Iterator[str]:
    return (json_field(record, "text", str, path, number) for number, record in read_json_lines(path))
