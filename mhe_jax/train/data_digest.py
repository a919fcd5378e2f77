"""What data a run reads, in a few figures: its processes must read the same, and go on with it when started again."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from mhe_jax.data.dataset import DataError, PairedSplit
from mhe_jax.data.images.dataset import Images
from mhe_jax.data.texts.dataset import Texts, TextSplit
from mhe_jax.train.parallel import distributed
from mhe_jax.train.reporting import stored

# The figures of one data set by name; sizes as numbers, all else as digests.
Figures = dict[str, int | str]

# Fields that say where a source lies, which may differ from host to host and from start to start.
_PLACES = ("folder", "path")


def figures(data: Images | Texts) -> Figures:
    """Sizes, and digests of labels, names and sources: of everything that decides which example is which.

    Pixels are not looked at: the same files may be decoded by another library. Of texts it is the lengths in tokens.
    """
    found: Figures = {"classes": len(data.class_names), "names of classes": _digest(tuple(data.class_names))}
    for name, split in (("train", data.train), ("eval", data.eval), ("test", data.test)):
        if isinstance(split, PairedSplit):
            found[f"pairs of {name}"] = _digest(split.pairs)
            split = split.images
        if split is None:
            continue
        found[f"examples of {name}"] = split.num_examples
        if isinstance(split, TextSplit):
            found[f"lengths of {name}"] = _digest(split.lengths)
            if split.listed is not None:
                found[f"order of labels of {name}"] = _digest(split.listed)
        load = getattr(split, "load_example", None)
        source = getattr(load, "source", load)
        labels = getattr(split, "labels", getattr(source, "labels", None))
        if labels is not None:
            found[f"labels of {name}"] = _digest(labels)
        if source is not None:
            found[f"sources of {name}"] = _digest(source)
    return found


def same_everywhere(data: Images | Texts, seconds: float) -> Figures:
    """`figures` of the data, which all processes of the run have to read; returns when every one is here.

    Raises:
      DataError: in every process, naming one that reads something else, and what.
      MissingProcessError: after `seconds`, naming the processes that did not come.
    """
    mine = figures(data)
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
    path = workdir / "data.json"
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
    if isinstance(value, np.ndarray):
        # Of any width: 0 is 0 in int32 and int64.
        whole = value.astype("<i8") if value.dtype.kind in "biu" else value
        state.update(f"array {whole.shape}".encode())
        state.update(np.ascontiguousarray(whole).tobytes())
    elif scipy.sparse.issparse(value):
        _update(state, (value.indptr, value.indices))
    elif dataclasses.is_dataclass(value):
        kept = [field.name for field in dataclasses.fields(value) if field.name not in _PLACES]
        _update(state, tuple((name, getattr(value, name)) for name in kept))
    elif isinstance(value, (str, bytes)):
        content = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
        state.update(f"text {len(content)} ".encode())
        state.update(content)
    elif isinstance(value, Sequence):
        if value and all(isinstance(part, str) and os.path.isabs(part) for part in value):
            root = os.path.commonpath(value)
            value = [part[len(root) :] for part in value]
        state.update(f"list {len(value)} ".encode())
        for part in value:
            _update(state, part)
    elif value is None or isinstance(value, (bool, int, float)):
        state.update(f"value {value!r} ".encode())
    else:
        state.update(f"{type(value).__name__} ".encode())
