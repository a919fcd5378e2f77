"""Finds out which of the field's layouts a folder of documents with many labels is in, and reads it.

Any file but a .npz or .parquet may also be there as `.gz`. In order of preference, if a folder is in more than one
layout:

    LightXML / AttentionXML   {train,test,valid}_raw_texts.txt or {train,test,valid}_texts.txt,
                              {train,test,valid}_labels.txt, optional label_names.tsv (label, tab, name)
    XC repository, JSON       trn.json, tst.json, lbl.json (AmazonCat: Yf.txt), filters
    XC repository, sparse     {trn,tst}_X_Y.txt, {trn,tst}_X.txt and optional Y.txt, here or in raw/, filters
    PECOS / X-Transformer     X.{trn,tst}.txt, Y.{trn,tst}.npz, optional output-items.txt, filters
    DEXML                     raw/{trn,tst}_X.txt, Y.{trn,tst}.npz, optional raw/Y.txt, filters
    JSON lines                {train,test,valid}.jsonl
    fastText                  {train,test,valid}.txt or *.{train,test,valid}, where lines have labels of fastText
    CSV, TSV                  {train,test,valid}.csv or .tsv
    Parquet                   {train,test,valid}.parquet, or shards train-00000-of-00004.parquet ..., here or in data/

Test and validation files are optional; instead of `valid` validation files may be named `validation`, `val` or `dev`.
Filters are optional: filter_labels_{train,test}.txt, filter_labels_{trn,tst}.txt or {trn,tst}_filter_labels.txt, pairs
of a document and a label that evaluation leaves out of the ranking, such as the document itself. What else lies in the
folder is told to be not read.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping

from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import read_lines
from mhe_jax.data.tables.columns import USUAL, Columns
from mhe_jax.data.tables.table_files import shards
from mhe_jax.data.texts.corpus import Corpora
from mhe_jax.data.texts.formats import fasttext, jsonl, lightxml, matrix, repository, tables

Files = Mapping[str, pathlib.Path]
# Role -> name of a file, or a pattern of names.
Names = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Layout:
    """One layout.

    title: what the field calls it.
    splits: 'train', 'test' and 'validation' -> the files that the split may lie in, of which the first that are there
      are taken; all files of one choice are needed. The folder is in this layout if it has training files, and those of
      the other splits are there as a whole or not at all.
    optional: role -> file names, of which the first that is there is taken.
    read: turns the files found, by role, into documents.
    is_one: tells a training file of this layout from others of its name, by its content.
    columns: whether files have columns, of which a config may say what is what; then `read` takes that too.
    """

    title: str
    splits: Mapping[str, tuple[Names, ...]]
    read: Callable[..., Corpora]
    optional: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    is_one: Callable[[pathlib.Path], bool] = lambda path: True
    columns: bool = False

    def looked_for(self) -> list[str]:
        """The files of a folder in this layout, each by its first name; but for validation, which few have."""
        return list(dict.fromkeys(name for split in ("train", "test") for name in self.splits[split][0].values()))


VALIDATION = ("valid", "validation", "val", "dev")
_FILTERS = {
    "train filter": ("filter_labels_train.txt", "trn_filter_labels.txt", "filter_labels_trn.txt"),
    "test filter": ("filter_labels_test.txt", "tst_filter_labels.txt", "filter_labels_tst.txt"),
}


def _beside(texts: str, labels: str, train: str, test: str, validation: tuple[str, ...] = ()) -> dict:
    """Texts beside labels: patterns of the names of two files, `*` standing for what the split is called."""
    words = {"train": (train,), "test": (test,), "validation": validation}
    return {
        split: tuple({f"{split} texts": texts.replace("*", w), f"{split} labels": labels.replace("*", w)} for w in of)
        for split, of in words.items()
        if of
    }


def _one_each(*patterns: str) -> dict:
    """A file for each split: patterns of its name, `SPLIT` standing for what the split is called."""
    words = {"train": ("train",), "test": ("test",), "validation": VALIDATION}
    return {
        split: tuple({split: pattern.replace("SPLIT", word)} for word in of for pattern in patterns)
        for split, of in words.items()
    }


LAYOUTS = (
    Layout(
        "LightXML / AttentionXML",
        _beside("*_raw_texts.txt", "*_labels.txt", "train", "test", VALIDATION),
        lightxml.read,
        {"names": ("label_names.tsv",)},
    ),
    Layout(
        "LightXML / AttentionXML, tokenised texts",
        _beside("*_texts.txt", "*_labels.txt", "train", "test", VALIDATION),
        lightxml.read,
        {"names": ("label_names.tsv",)},
    ),
    Layout(
        "XC repository, JSON",
        {"train": ({"train": "trn.json", "labels": "lbl.json"},), "test": ({"test": "tst.json"},)},
        repository.read,
        _FILTERS,
    ),
    Layout(
        "XC repository, JSON of AmazonCat",
        {"train": ({"train": "trn.json", "names": "Yf.txt"},), "test": ({"test": "tst.json"},)},
        repository.read,
        _FILTERS,
    ),
    Layout(
        "XC repository, sparse",
        _beside("*_X.txt", "*_X_Y.txt", "trn", "tst"),
        matrix.read,
        {"names": ("Y.txt",), **_FILTERS},
    ),
    Layout(
        "XC repository, sparse, texts in raw/",
        _beside("raw/*_X.txt", "*_X_Y.txt", "trn", "tst"),
        matrix.read,
        {"names": ("raw/Y.txt",), **_FILTERS},
    ),
    Layout(
        "PECOS / X-Transformer",
        _beside("X.*.txt", "Y.*.npz", "trn", "tst"),
        matrix.read,
        {"names": ("output-items.txt",), **_FILTERS},
    ),
    Layout(
        "DEXML",
        _beside("raw/*_X.txt", "Y.*.npz", "trn", "tst"),
        matrix.read,
        {"names": ("raw/Y.txt",), **_FILTERS},
    ),
    Layout("JSON lines", _one_each("SPLIT.jsonl"), jsonl.read),
    Layout("fastText", _one_each("SPLIT.txt", "*.SPLIT"), fasttext.read, is_one=fasttext.is_fasttext),
    Layout("CSV or TSV", _one_each("SPLIT.csv", "SPLIT.tsv"), tables.read, columns=True),
    Layout(
        "Parquet",
        _one_each("SPLIT.parquet", "SPLIT-00000-of-*.parquet", "data/SPLIT-00000-of-*.parquet"),
        tables.read,
        columns=True,
    ),
)


def read_corpora(path: str | pathlib.Path, columns: Columns = USUAL) -> Corpora:
    """The documents of a folder. Labels are read now, and texts checked; they are read again at each pass over them.

    Args:
      path: the folder.
      columns: what is said of the columns of tables, which other layouts do not have.

    Raises:
      DataError: if there is no such folder, it is in no known layout, or a file is not as it should be.
    """
    folder = pathlib.Path(path).expanduser()
    if not folder.is_dir():
        raise DataError(f"config.data.path is {str(path)!r}, which is not a folder")
    found = [(layout, files) for layout in LAYOUTS if (files := _files(folder, layout))]
    if not found:
        raise DataError(f"{folder} is in no known layout: {_without_texts(folder)}{_what_is_missing(folder)}")
    (layout, files), *others = found
    _check(folder, layout, files, columns)
    corpora = layout.read(files, columns) if layout.columns else layout.read(files)
    if not corpora.label_names:
        raise DataError(f"{folder} ({layout.title}): no document has a label")
    parts = [f"{layout.title} ({', '.join(str(file.relative_to(folder)) for file in files.values())})"]
    read = {part for file in files.values() for part in shards(file)}
    others_there = sorted(entry.name for entry in folder.iterdir() if entry not in read and _is_data(entry))
    if others_there:
        parts.append(f"not read: {', '.join(others_there[:9])}{', ...' if len(others_there) > 9 else ''}")
    parts += [f"the folder is also in the layout {other.title!r}, which is not read" for other, _ in others]
    return dataclasses.replace(corpora, layout="; ".join([*parts, corpora.layout]))


def _files(folder: pathlib.Path, layout: Layout) -> dict[str, pathlib.Path]:
    """The files of a folder by their roles; none if it is not in this layout."""
    files: dict[str, pathlib.Path] = {}
    for split, choices in layout.splits.items():
        there = [{role: _find(folder, name) for role, name in names.items()} for names in choices]
        whole = next((roles for roles in there if all(roles.values())), None)
        if whole is None and (split == "train" or any(any(roles.values()) for roles in there)):
            return {}
        files |= {role: file for role, file in (whole or {}).items() if file}
    for role, names in layout.optional.items():
        if file := next((file for name in names if (file := _find(folder, name))), None):
            files[role] = file
    return files if layout.is_one(next(iter(files.values()))) else {}


def _check(folder: pathlib.Path, layout: Layout, files: Files, columns: Columns) -> None:
    """Raises DataError where it is not clear which file is meant, or a config asks for columns where there are none."""
    for split, choices in layout.splits.items():
        for names in choices:
            several = [file for name in names.values() for file in _all(folder, name)]
            if len(several) > len(names):
                raise DataError(
                    f"{folder} ({layout.title}): {' and '.join(file.name for file in several)} may each be the {split} "
                    "file: leave one of them there"
                )
    for field, value in columns.fields().items() if not layout.columns else ():
        raise DataError(f"config.data.{field} is {value!r}, but {folder} ({layout.title}) has no columns with names")


def _find(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    """The file of that name, or the first that a pattern fits, or its .gz."""
    return next(iter(_all(folder, name)), None)


def _all(folder: pathlib.Path, name: str) -> list[pathlib.Path]:
    """The files that a name or pattern fits, or else the .gz that do; some formats are packed already."""
    for ending in ("",) if name.endswith((".npz", ".parquet")) else ("", ".gz"):
        fit = sorted(folder.glob(f"{name}{ending}")) if "*" in name else [folder / f"{name}{ending}"]
        if files := [file for file in fit if file.is_file()]:
            return files
    return []


def _is_data(path: pathlib.Path) -> bool:
    """Whether a file's name says that it could hold texts or labels."""
    endings = (".txt", ".json", ".jsonl", ".npz", ".npy", ".tsv", ".csv", ".parquet", ".train", ".valid", ".test")
    return path.name.removesuffix(".gz").endswith(endings)


def _without_texts(folder: pathlib.Path) -> str:
    """What is to be said of features in the place of texts: these have the name of fastText's files."""
    path = _find(folder, "train.txt")
    if path is None or not re.fullmatch(r"\s*\d+\s+\d+\s+\d+\s*", next(read_lines(path, "latin-1"), "")):
        return ""
    return (
        f"{path.name} begins with three numbers, documents, features and labels: it holds features without their "
        "texts, which config.data.name = 'sparse' reads; "
    )


def _what_is_missing(folder: pathlib.Path) -> str:
    """All layouts with their files; of those that are there in part, what is missing."""
    partly, looked_for = [], []
    for layout in LAYOUTS:
        there: list[str] = []
        missing: list[str] = []
        for split, choices in layout.splits.items():
            # What nothing is there of is only missed of what trains.
            begun = [names for names in choices if any(_find(folder, name) for name in names.values())]
            for name in (begun[0] if begun else choices[0] if split == "train" else {}).values():
                (there if _find(folder, name) else missing).append(name)
        if there and missing:
            partly.append(f"for {layout.title!r}, {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
        elif there:
            partly.append(f"for {layout.title!r}, {there[0]} has no lines such as it has")
        looked_for.append(f"{', '.join(layout.looked_for())} ({layout.title})")
    prefix = "; ".join(partly) + "; " if partly else ""
    return f"{prefix}looked for, with or without .gz but for .npz and .parquet: {'; '.join(looked_for)}"
