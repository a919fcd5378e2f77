"""Finds out which of the field's layouts a folder of sparse features is in, and reads it.

Any file but a .npz may also be there as `.gz`. In order of preference, if a folder is in more than one layout:

    XC repository, one file    train.txt, test.txt: `rows features labels`, then `label,label feature:value ...`
    XC repository, two files   {trn,tst}_X_Xf.txt, {trn,tst}_X_Y.txt, optional Y.txt or Yf.txt, filters
    PECOS                      X.{trn,tst}.npz, Y.{trn,tst}.npz, optional output-items.txt, filters
    this package               {train,test}/features.npz, {train,test}/labels.npz, val/, filtered.npz, classes.txt
    svmlight, libsvm           {train,test}.svm, .svmlight or .libsvm: `label,label feature:value ...`

The rows to test may be missing. Validation rows are val.txt, valid.txt or dev.txt, and so on, in the layout's own form.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import read_lines
from mhe_jax.data.texts.formats.labels import canonical, read_pairs
from mhe_jax.data.texts.formats.sparse import load_npz, read_label_matrix
from mhe_jax.data.texts.sparse.pairs import Parsed, read_repository, read_svmlight
from mhe_jax.data.texts.sparse.rows import Rows, RowSets, canonical_features

# A role, such as 'train', and the files of it that were found, by what they hold.
Found = dict[str, dict[str, pathlib.Path]]

SPLITS = {
    "train": ("train", "trn"),
    "test": ("test", "tst"),
    "valid": ("val", "valid", "validation", "dev"),
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """One layout.

    title: what the field calls it.
    files: what it holds -> names, `*` standing for the split; of several names the first that is there is taken.
    optional: those of `files` that a split may lack.
    names: of the file with a label's name in each line.
    read: rows of the files of each split, as they are numbered there.
    """

    title: str
    files: Mapping[str, tuple[str, ...]]
    read: Callable[[Found], dict[str, Rows]]
    optional: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def read_rows(path: str | pathlib.Path) -> RowSets:
    """The rows of a folder.

    Raises:
      DataError: if there is no such folder, it is in no known layout, or a file is not as it should be.
    """
    folder = pathlib.Path(path).expanduser()
    if not path or not folder.is_dir():
        raise DataError(f"config.data.path is {str(path)!r}, which is not a folder")
    for layout in LAYOUTS:
        found = {split: files for split in SPLITS if (files := _files(folder, layout, split))}
        if "train" in found:
            return _sets(folder, layout, found)
    shown = "; ".join(f"{', '.join(_named(layout))} ({layout.title})" for layout in LAYOUTS)
    raise DataError(f"{folder} is in no known layout of sparse features; looked for: {shown}")


def _sets(folder: pathlib.Path, layout: Layout, found: Found) -> RowSets:
    rows = layout.read(found)
    widths = {split: (part.features.shape[1], part.labels.shape[1]) for split, part in rows.items()}
    for split, width in widths.items():
        if width != widths["train"]:
            raise DataError(
                f"{rows[split].source} has {width[0]} features and {width[1]} labels, but {rows['train'].source} "
                f"{widths['train'][0]} and {widths['train'][1]}"
            )
    number = widths["train"][1]
    file = next((path for name in layout.names if (path := _find(folder, name))), None)
    names = tuple(read_lines(file)) if file else tuple(map(str, range(number)))
    if len(names) != number:
        raise DataError(f"{file} names {len(names)} labels, but {rows['train'].source} has {number}")
    used = ", ".join(str(path.relative_to(folder)) for files in found.values() for path in files.values())
    layout_line = f"{layout.title} ({used})"
    return RowSets(rows["train"], names, layout_line, rows["train"].labels, rows.get("test"), rows.get("valid"))


def _of_repository(found: Found) -> dict[str, Rows]:
    return {
        split: _rows(read_repository(files["rows"], with_labels=True), files["rows"]) for split, files in found.items()
    }


def _of_two_files(found: Found) -> dict[str, Rows]:
    rows = {}
    for split, files in found.items():
        features = read_repository(files["features"], with_labels=False).features
        rows[split] = _labelled(features, files)
    return rows


def _of_matrices(found: Found) -> dict[str, Rows]:
    return {split: _labelled(load_matrix(files["features"]), files) for split, files in found.items()}


def _of_svmlight(found: Found) -> dict[str, Rows]:
    # A file that calls no feature 0 counts from 1, if no other file of the folder does.
    parsed = {split: read_svmlight(files["rows"]) for split, files in found.items()}
    used = [np.unique(part.features.indices) for part in parsed.values()]
    first = int(all(len(ids) and ids[0] >= 1 for ids in used))
    sizes = [part.features.shape[1] for part in parsed.values()], [_labels(part).shape[1] for part in parsed.values()]
    width, number = max(sizes[0]) - first, max(sizes[1])
    rows = {}
    for split, part in parsed.items():
        csr, has = part.features, _labels(part)
        features = scipy.sparse.csr_matrix((csr.data, csr.indices - first, csr.indptr), (csr.shape[0], width))
        labels = scipy.sparse.csr_matrix((has.data, has.indices, has.indptr), (csr.shape[0], number))
        rows[split] = Rows(features, labels, str(found[split]["rows"]), listed=part.listed)
    return rows


def _labels(parsed: Parsed) -> scipy.sparse.csr_matrix:
    assert parsed.labels is not None
    return parsed.labels


def _rows(parsed: Parsed, path: pathlib.Path) -> Rows:
    return Rows(parsed.features, _labels(parsed), str(path), listed=parsed.listed)


def _labelled(features: scipy.sparse.csr_matrix, files: Mapping[str, pathlib.Path]) -> Rows:
    """Features beside the matrix of their labels, and the pairs or the matrix of those that evaluation drops."""
    given = read_label_matrix(files["labels"])
    if given.shape[0] != features.shape[0]:
        raise DataError(
            f"{files['features']} has {features.shape[0]} rows, but {files['labels']} has labels for {given.shape[0]}"
        )
    try:
        labels, _, listed = canonical(given)
    except ValueError as error:
        raise DataError(f"{files['labels']}: {error}") from error
    dropped: Any = None
    if path := files.get("filter"):
        dropped = read_label_matrix(path) if path.suffix == ".npz" else read_pairs(path, labels.shape)
        if dropped.shape != labels.shape:
            raise DataError(f"{path} is of shape {dropped.shape}, but the labels beside it {labels.shape}")
    return Rows(features, labels, str(files["features"]), dropped, listed)


def load_matrix(path: pathlib.Path) -> scipy.sparse.csr_matrix:
    """The features of a .npz, see `canonical_features`; raises DataError, naming the file, if it holds others."""
    matrix = load_npz(path)
    if matrix.dtype.kind not in "biuf" or len(matrix.shape) != 2:
        raise DataError(
            f"{path} holds {matrix.dtype} of shape {matrix.shape}; real numbers [rows, features] are needed"
        )
    return canonical_features(matrix, str(path))


LAYOUTS = (
    Layout("XC repository, one file", {"rows": ("*.txt",)}, _of_repository, names=("Yf.txt", "Y.txt")),
    Layout(
        "XC repository, two files",
        {
            "features": ("*_X_Xf.txt",),
            "labels": ("*_X_Y.txt",),
            "filter": ("filter_labels_*.txt", "*_filter_labels.txt"),
        },
        _of_two_files,
        optional=("filter",),
        names=("Y.txt", "Yf.txt"),
    ),
    Layout(
        "PECOS",
        {"features": ("X.*.npz",), "labels": ("Y.*.npz",), "filter": ("filter_labels_*.txt", "*_filter_labels.txt")},
        _of_matrices,
        optional=("filter",),
        names=("output-items.txt",),
    ),
    Layout(
        "folders of matrices",
        {"features": ("*/features.npz",), "labels": ("*/labels.npz",), "filter": ("*/filtered.npz",)},
        _of_matrices,
        optional=("filter",),
        names=("classes.txt",),
    ),
    Layout("svmlight", {"rows": ("*.svm", "*.svmlight", "*.libsvm")}, _of_svmlight, names=("classes.txt",)),
)


def _files(folder: pathlib.Path, layout: Layout, split: str) -> dict[str, pathlib.Path]:
    """The files of a split; none if one that it needs is missing."""
    found = {}
    for what, patterns in layout.files.items():
        names = (pattern.replace("*", short) for short in SPLITS[split] for pattern in patterns)
        path = next((path for name in names if (path := _find(folder, name))), None)
        if path is not None:
            found[what] = path
        elif what not in layout.optional:
            return {}
    return found


def _find(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """The file of that name, or its .gz; a .npz is packed already."""
    names = (name,) if name.endswith(".npz") else (name, f"{name}.gz")
    return next((folder / n for n in names if (folder / n).is_file()), None)


def _named(layout: Layout) -> list[str]:
    """The files of the training split that a layout needs."""
    return [
        patterns[0].replace("*", SPLITS["train"][layout.title in _SHORT])
        for what, patterns in layout.files.items()
        if what not in layout.optional
    ]


_SHORT = ("XC repository, two files", "PECOS")
