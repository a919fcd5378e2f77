"""Which of the layouts of pictures a path holds, and which of its files belong to which split: by their names alone.

Tar shards and tables are told by their endings, in the folder itself, in data/ below it, or in a folder for each split.
The split is a word of the file's name, `imagenet-train-000.tar`, or the name of its folder below the one that is given.
"""

import json
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from mhe_jax.data import stores
from mhe_jax.data.dataset import DataError
from mhe_jax.data.images.listing import EXTENSIONS, is_stray

LAYOUTS = ("auto", "folders", "tar", "parquet", "arrow")
TRAIN_NAMES = ("train",)
EVAL_NAMES = ("val", "valid", "validation", "test")
_ENDINGS = {".tar": "tar", ".parquet": "parquet", ".arrow": "arrow"}
_WORD = re.compile(r"[a-z]+")


class Files(NamedTuple):
    """The files of a layout other than class folders. root: their folder, without a `/` at its end.

    evaluate: perhaps none.
    """

    layout: str
    root: str
    train: tuple[str, ...]
    evaluate: tuple[str, ...]


def find_files(path: str, layout: str) -> Files | None:
    """The tar shards, Parquet or Arrow files of a path; None for class folders.

    Args:
      path: a folder, a file, or a pattern of files as `stores.matching` has it, on a disk or in a store.
      layout: one of `LAYOUTS`; 'auto' takes what is there, and class folders where there are some.

    Raises:
      DataError: if nothing of the layout is there, several layouts are, or files of no split beside files of one.
    """
    if layout == "folders":
        return None
    path = path if stores.is_remote(path) else os.path.expanduser(path)
    if stores.is_pattern(path):
        found, root = stores.matching(path), re.split(r"[*?\[{]", path)[0].rpartition("/")[0] or "."
    elif layout_of(path) and not stores.entries(path):
        found, root = [path], path.rpartition("/")[0] or "."
    else:
        root = snapshot(path)
        if layout == "auto" and _has_class_folders(root):
            return None
        found = _in_folder(root)
        classes = _folders_of_pictures(root) if layout == "auto" and found else []
        if len(classes) > 1:
            raise DataError(
                f"{path} holds {found[0].rpartition('/')[2]}, and pictures in {' and '.join(classes)}: "
                f"set config.data.layout to {layout_of(found[0])!r} or to 'folders'"
            )
    kinds = {layout_of(file) for file in found} - {""} if layout == "auto" else {layout}
    if len(kinds) > 1:
        raise DataError(f"{path} holds files of several layouts, {', '.join(sorted(kinds))}: set config.data.layout")
    files = [file for file in found if layout_of(file) in kinds]
    if not files:
        if layout == "auto" and not stores.is_pattern(path):
            return None
        if layout == "auto":
            raise DataError(f"config.data.path is {path!r}, of which no file ends in {', '.join(_ENDINGS)}")
        raise DataError(f"config.data.layout is {layout!r}, but {path} holds no file that ends in .{layout}")
    return Files(kinds.pop(), root, *_by_split(path, root, files))


def layout_of(file: str) -> str:
    """The layout of a file by its ending, or ''."""
    return next((layout for ending, layout in _ENDINGS.items() if file.endswith(ending)), "")


def _in_folder(root: str) -> list[str]:
    """All files that may belong to a split."""
    names = stores.entries(root)
    if "dataset_dict.json" in names:
        splits = _parsed(stores.joined(root, "dataset_dict.json")).get("splits", [])
        return [file for split in splits for file in _saved(stores.joined(root, str(split)))]
    if "state.json" in names:
        return _saved(root)
    found = []
    for folder in (
        root,
        *(stores.joined(root, name) for name in ("data", *TRAIN_NAMES, *EVAL_NAMES) if names.get(name)),
    ):
        below = names if folder == root else stores.entries(folder)
        # `cache-*.arrow` is what `datasets` has computed of the others.
        kept = [name for name, is_folder in below.items() if not (is_folder or is_stray(name) or _is_computed(name))]
        found += [stores.joined(folder, name) for name in kept if layout_of(name)]
    return found


def _saved(folder: str) -> list[str]:
    """The files of a split that `datasets` has saved, in its order."""
    listed = _parsed(stores.joined(folder, "state.json")).get("_data_files", [])
    try:
        return [stores.joined(folder, entry["filename"]) for entry in listed]
    except (TypeError, KeyError):
        raise DataError(f"{folder}/state.json is damaged: _data_files names no files") from None


def _parsed(path: str) -> dict[str, Any]:
    file = stores.RangedFile(path)
    try:
        found = json.loads(file.read(0, file.size))
    except (ValueError, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is damaged: {stores.one_reason(error)}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} is damaged: it holds no object")
    return found


def _is_computed(name: str) -> bool:
    return name.startswith("cache-") and name.endswith(".arrow")


def _has_class_folders(root: str) -> bool:
    folders = [name for name, is_folder in stores.entries(root).items() if is_folder]
    below = stores.entries(stores.joined(root, TRAIN_NAMES[0])) if TRAIN_NAMES[0] in folders else {}
    return any(is_folder and not is_stray(name) for name, is_folder in below.items())


def _folders_of_pictures(root: str) -> list[str]:
    """Two folders that may be those of classes, or fewer; a folder of examples beside shards is one."""
    found: list[str] = []
    if stores.is_remote(root):
        return found
    others = {"data", *TRAIN_NAMES, *EVAL_NAMES}
    for name, is_folder in stores.entries(root).items():
        if is_folder and name not in others and not is_stray(name) and len(found) < 2:
            below = stores.entries(stores.joined(root, name))
            if any(file.lower().endswith(EXTENSIONS) and not is_stray(file) for file in below):
                found.append(name)
    return found


def snapshot(path: str) -> str:
    """Of a repository in the Hugging Face hub's cache the version that was fetched last, else the folder itself.

    Raises:
      DataError: if there are several and none is the last, or none at all.
    """
    root = path.rstrip("/") or "/"
    names = stores.entries(root)
    if not (names.get("snapshots") and names.get("refs")):
        return root
    main = stores.joined(root, "refs/main")
    versions = stores.entries(stores.joined(root, "snapshots"))
    if not versions:
        raise DataError(f"{root} is a repository of the Hugging Face hub of which nothing was fetched")
    named = stores.RangedFile(main).read(0, 100).decode(errors="replace").strip() if os.path.exists(main) else ""
    if named not in versions and len(versions) > 1:
        raise DataError(f"{root} holds several snapshots, {', '.join(versions)}: name one with config.data.path")
    return stores.joined(root, f"snapshots/{named if named in versions else next(iter(versions))}")


def _by_split(path: str, root: str, files: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files to train on, and those of the first of `EVAL_NAMES` that has some."""
    splits: dict[str, list[str]] = {}
    for file in files:
        splits.setdefault(split_of(file, root), []).append(file)
    unnamed = splits.pop("", [])
    if not splits:
        return tuple(unnamed), ()
    if unnamed:
        raise DataError(f"{path}: {unnamed[0]} is of no split by its name, but {next(iter(splits.values()))[0]} is")
    train = splits.get(TRAIN_NAMES[0], [])
    if not train:
        raise DataError(f"{path} holds files of {', '.join(splits)}, but none to train on, which `train` would name")
    return tuple(train), tuple(next((splits[name] for name in EVAL_NAMES if name in splits), ()))


def split_of(file: str, root: str) -> str:
    """The split that a file's name has as a word, or else its folder's below the root; '' for none."""
    folder, _, name = _without_protocol(file).rpartition("/")
    names = TRAIN_NAMES + EVAL_NAMES
    words = (*_WORD.findall(name.lower()), folder.removeprefix(_without_protocol(root)).rpartition("/")[2])
    return next((word for word in words if word in names), "")


def _without_protocol(path: str) -> str:
    """A path of a store as it may be compared: memory://a and memory:///a are one."""
    return path.partition("://")[2].lstrip("/") if stores.is_remote(path) else path
