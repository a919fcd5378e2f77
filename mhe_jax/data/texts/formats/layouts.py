"""Finds out which of the field's layouts a folder of documents with many labels is in, and reads it.

Any file but a .npz may also be there as `.gz`. In order of preference, if a folder is in more than one layout:

    LightXML / AttentionXML   {train,test}_raw_texts.txt or {train,test}_texts.txt, {train,test}_labels.txt,
                              optional label_names.tsv (label, tab, name)
    XC repository, JSON       trn.json, tst.json, lbl.json (AmazonCat: Yf.txt), filters
    XC repository, sparse     {trn,tst}_X_Y.txt, {trn,tst}_X.txt and optional Y.txt, here or in raw/, filters
    PECOS / X-Transformer     X.{trn,tst}.txt, Y.{trn,tst}.npz, optional output-items.txt, filters
    DEXML                     raw/{trn,tst}_X.txt, Y.{trn,tst}.npz, optional raw/Y.txt, filters
    JSON lines                train.jsonl, test.jsonl

Filters are optional: filter_labels_{train,test}.txt, filter_labels_{trn,tst}.txt or {trn,tst}_filter_labels.txt, pairs
of a document and a label that evaluation leaves out of the ranking, such as the document itself. What else lies in the
folder is told to be not read.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts.corpus import Corpora
from mhe_jax.data.texts.formats import jsonl, lightxml, matrix, repository

Files = Mapping[str, pathlib.Path]


@dataclasses.dataclass(frozen=True)
class Layout:
    """One layout.

    title: what the field calls it.
    needed: role -> file name; the folder is in this layout if all are there.
    optional: role -> file names, of which the first that is there is taken.
    read: turns the files found, by role, into documents.
    """

    title: str
    needed: Mapping[str, str]
    optional: Mapping[str, tuple[str, ...]]
    read: Callable[[Files], Corpora]


_FILTERS = {
    "train filter": ("filter_labels_train.txt", "trn_filter_labels.txt", "filter_labels_trn.txt"),
    "test filter": ("filter_labels_test.txt", "tst_filter_labels.txt", "filter_labels_tst.txt"),
}


def _beside(texts: str, labels: str, train: str, test: str) -> dict[str, str]:
    """Texts beside labels: names of the four files, `*` in a pattern standing for the split."""
    return {
        f"{split} {what}": pattern.replace("*", short)
        for split, short in (("train", train), ("test", test))
        for what, pattern in (("texts", texts), ("labels", labels))
    }


LAYOUTS = (
    Layout(
        "LightXML / AttentionXML",
        _beside("*_raw_texts.txt", "*_labels.txt", "train", "test"),
        {"names": ("label_names.tsv",)},
        lightxml.read,
    ),
    Layout(
        "LightXML / AttentionXML, tokenised texts",
        _beside("*_texts.txt", "*_labels.txt", "train", "test"),
        {"names": ("label_names.tsv",)},
        lightxml.read,
    ),
    Layout(
        "XC repository, JSON",
        {"train": "trn.json", "test": "tst.json", "labels": "lbl.json"},
        _FILTERS,
        repository.read,
    ),
    Layout(
        "XC repository, JSON of AmazonCat",
        {"train": "trn.json", "test": "tst.json", "names": "Yf.txt"},
        _FILTERS,
        repository.read,
    ),
    Layout(
        "XC repository, sparse",
        _beside("*_X.txt", "*_X_Y.txt", "trn", "tst"),
        {"names": ("Y.txt",), **_FILTERS},
        matrix.read,
    ),
    Layout(
        "XC repository, sparse, texts in raw/",
        _beside("raw/*_X.txt", "*_X_Y.txt", "trn", "tst"),
        {"names": ("raw/Y.txt",), **_FILTERS},
        matrix.read,
    ),
    Layout(
        "PECOS / X-Transformer",
        _beside("X.*.txt", "Y.*.npz", "trn", "tst"),
        {"names": ("output-items.txt",), **_FILTERS},
        matrix.read,
    ),
    Layout(
        "DEXML",
        _beside("raw/*_X.txt", "Y.*.npz", "trn", "tst"),
        {"names": ("raw/Y.txt",), **_FILTERS},
        matrix.read,
    ),
    Layout(
        "JSON lines",
        {"train": "train.jsonl", "test": "test.jsonl"},
        {"validation": ("valid.jsonl", "validation.jsonl", "val.jsonl", "dev.jsonl")},
        jsonl.read,
    ),
)


def read_corpora(path: str | pathlib.Path) -> Corpora:
    """The documents of a folder. Labels are read now, and texts checked; they are read again at each pass over them.

    Raises:
      DataError: if there is no such folder, it is in no known layout, or a file is not as it should be.
    """
    folder = pathlib.Path(path).expanduser()
    if not folder.is_dir():
        raise DataError(f"config.data.path is {str(path)!r}, which is not a folder")
    found = [layout for layout in LAYOUTS if all(_find(folder, name) for name in layout.needed.values())]
    if not found:
        raise DataError(f"{folder} is in no known layout: {_what_is_missing(folder)}")
    layout, *others = found
    wanted = {role: (name,) for role, name in layout.needed.items()} | dict(layout.optional)
    files = {}
    for role, names in wanted.items():
        there = [file for name in names if (file := _find(folder, name))]
        if there:
            files[role] = there[0]
    corpora = layout.read(files)
    if not corpora.label_names:
        raise DataError(f"{folder} ({layout.title}): no document has a label")
    parts = [f"{layout.title} ({', '.join(str(file.relative_to(folder)) for file in files.values())})"]
    others_there = sorted(entry.name for entry in folder.iterdir() if entry not in files.values() and _is_data(entry))
    if others_there:
        parts.append(f"not read: {', '.join(others_there[:9])}{', ...' if len(others_there) > 9 else ''}")
    parts += [f"the folder is also in the layout {other.title!r}, which is not read" for other in others]
    return dataclasses.replace(corpora, layout="; ".join([*parts, corpora.layout]))


def _find(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """The file of that name, or its .gz; a .npz is packed already."""
    names = (name,) if name.endswith(".npz") else (name, f"{name}.gz")
    return next((folder / n for n in names if (folder / n).is_file()), None)


def _is_data(path: pathlib.Path) -> bool:
    """Whether a file's name says that it could hold texts or labels."""
    return path.name.removesuffix(".gz").endswith((".txt", ".json", ".jsonl", ".npz", ".npy", ".tsv", ".csv"))


def _what_is_missing(folder: pathlib.Path) -> str:
    """All layouts with their files; of those that are there in part, what is missing."""
    partly, looked_for = [], []
    for layout in LAYOUTS:
        names = list(layout.needed.values())
        missing = [name for name in names if not _find(folder, name)]
        if len(missing) < len(names):
            partly.append(f"for {layout.title!r}, {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
        looked_for.append(f"{', '.join(names)} ({layout.title})")
    prefix = "; ".join(partly) + "; " if partly else ""
    return f"{prefix}looked for, with or without .gz but for .npz: {'; '.join(looked_for)}"
