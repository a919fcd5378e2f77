"""What data a run reads, in a few figures: its processes must read the same, and go on with it when started again."""

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError, PairedSplit
from mhe_jax.data.features.dataset import Features
from mhe_jax.data.images.dataset import Images
from mhe_jax.data.texts.dataset import Texts, TextSplit
from mhe_jax.train.parallel import distributed
from mhe_jax.train.reporting import stored

FILE = "data.json"

# The figures of one data set by name; sizes as numbers, all else as digests.
Figures = dict[str, int | str]


def figures(data: Images | Texts | Features, num_classes: int) -> Figures:
    """Sizes, and digests of labels, names and sources: of what decides which example is which.

    Contents are not looked at: reading all pictures takes hours, and another library may decode them otherwise. Of
    texts it is the lengths in tokens, of files their names, of tensorflow-datasets the version. Where the data lies,
    and how it is read, may differ from host to host and from start to start.
    """
    found: Figures = {"number of classes": num_classes, "class names": _digest(data.class_names)}
    for name, split in (("train", data.train), ("eval", data.eval), ("test", data.test)):
        if isinstance(split, PairedSplit):
            found[f"{name} pairs"] = _digest([(of.name, of.first, of.second, of.same) for of in split.pairs])
            split = split.images
        if split is None:
            continue
        found[f"{name} examples"] = split.num_examples
        if isinstance(split, TextSplit):
            found[f"{name} lengths"] = _digest(split.lengths)
            if split.listed is not None:
                found[f"{name} order of labels"] = _digest(split.listed)
        source = getattr(getattr(split, "load_example", None), "source", None)
        labels = getattr(split, "labels", getattr(source, "labels", None))
        again = getattr(split, "code_of_label", None)
        if labels is not None:
            found[f"{name} labels"] = _digest(labels if again is None else again[labels])
        if (many := getattr(split, "many", None)) is not None:
            found[f"{name} label rows"] = _digest((many.labels, many.ignored))
        if source is not None:
            found[f"{name} sources"] = _digest(source.identity())
    return found


def of_files(files: Mapping[str, pathlib.Path]) -> Figures:
    """Digests of what files hold, by what they are called here; of one that cannot be read nothing is known."""
    found: Figures = {}
    for name, path in files.items():
        try:
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        except OSError:
            found[name] = "none"
    return found


def same_everywhere(
    data: Images | Texts | Features, num_classes: int, seconds: float, files: Mapping[str, pathlib.Path] | None = None
) -> Figures:
    """`figures` of the data, which all processes of the run have to read; returns when every one is here.

    Args:
      data: that is loaded.
      num_classes: of it.
      seconds: to wait.
      files: others that must be the same, of any content.

    Raises:
      DataError: in every process, naming one that reads something else, and what.
      MissingProcessError: after `seconds`, naming the processes that did not come.
    """
    mine = figures(data, num_classes) | of_files(files or {})
    first, *others = [json.loads(text) for text in distributed.gather_texts("the data", json.dumps(mine), seconds)]
    for number, other in enumerate(others, 1):
        if different := differences(other, first):
            raise DataError(
                f"process {number} of {len(others) + 1} reads other data than process 0: {'; '.join(different)}: "
                "give all hosts the same files"
            )
    return mine


def check_unchanged(workdir: pathlib.Path, here: Figures) -> None:
    """Raises DataError unless the data is what the run in `workdir` has trained on so far.

    A run from before this was kept passes.
    """
    path = workdir / FILE
    if not path.exists():
        return
    different = differences(here, stored.read_object(path))
    if different:
        raise DataError(
            f"the data is not what {workdir} was trained on: {'; '.join(different)}: restore it, or begin a run with "
            "another --workdir, from these weights with --config.init_from"
        )


def differences(here: Figures, there: Figures) -> list[str]:
    """What differs of the figures that both have, a text each."""
    found = []
    for name in here.keys() & there.keys():
        if here[name] != there[name]:
            sizes = isinstance(here[name], int)
            found.append(f"{name}: {here[name]}, {there[name]} there" if sizes else f"{name} differ")
    # Sizes first: they say most.
    return sorted(found, key=lambda text: (text.endswith("differ"), text))


def _digest(value: Any) -> str:
    state = hashlib.sha256()
    _update(state, value)
    return state.hexdigest()[:16]


def _update(state: Any, value: Any) -> None:
    """Feeds a value to a hash, after what kind it is and how long: ('ab', 'c') is not ('a', 'bc')."""
    if scipy.sparse.issparse(value):
        _update(state, (value.shape, value.indptr, value.indices, value.data.astype(np.float64)))
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        # Of any width: 0 is 0 in int32 and int64.
        whole = value.astype("<i8") if value.dtype.kind in "biu" else value
        state.update(f"array {whole.shape} ".encode())
        state.update(np.ascontiguousarray(whole).tobytes())
    elif isinstance(value, str):
        _update(state, value.encode("utf-8", "surrogateescape"))
    elif isinstance(value, bytes):
        state.update(f"text {len(value)} ".encode())
        state.update(value)
    elif value is None or isinstance(value, int):
        state.update(f"value {value!r} ".encode())
    elif isinstance(value, Sequence) and value and all(isinstance(part, str) for part in value):
        # Millions of names, in two pieces.
        encoded = [part.encode("utf-8", "surrogateescape") for part in value]
        _update(state, np.array([len(part) for part in encoded]))
        _update(state, b"".join(encoded))
    elif isinstance(value, Sequence):
        state.update(f"list {len(value)} ".encode())
        for part in value:
            _update(state, part)
    else:
        raise TypeError(f"{type(value).__name__} has no digest")
