"""Verification sets in files, `.bin` or lists of pairs, joined so that one pass over pictures evaluates all."""

import bisect
import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mhe_jax.data.dataset import DataError, Pairs
from mhe_jax.data.faces.formats.bins import read_bin
from mhe_jax.data.faces.formats.pairs_file import read_pairs
from mhe_jax.data.faces.pairing import require_folds
from mhe_jax.data.images.decode import read_bytes
from mhe_jax.data.images.examples import Source


@dataclasses.dataclass(frozen=True)
class BinSource:
    """The encoded pictures of a `.bin` file, whose labels mean nothing."""

    path: str
    pictures: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, index: int) -> tuple[bytes, int, str]:
        return self.pictures[index], 0, f"{self.path}: picture {index}"

    def identity(self) -> tuple[Sequence[bytes]]:
        return (self.pictures,)


@dataclasses.dataclass(frozen=True)
class FileSource:
    """Picture files, whose labels mean nothing."""

    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> tuple[bytes, int, str]:
        return read_bytes(self.paths[index]), 0, self.paths[index]

    def identity(self) -> tuple[list[str]]:
        """The names from the folder on that all have in common."""
        root = os.path.commonpath([os.path.dirname(path) for path in self.paths])
        return ([os.path.relpath(path, root) for path in self.paths],)


@dataclasses.dataclass(frozen=True)
class JoinedSource:
    """Sources one after the other; the parts begin at `starts`."""

    parts: Sequence[Source]
    starts: Sequence[int]
    total: int

    def __len__(self) -> int:
        return self.total

    def read(self, index: int) -> tuple[bytes, int, str]:
        part = bisect.bisect_right(self.starts, index) - 1
        return self.parts[part].read(index - self.starts[part])

    def identity(self) -> tuple[Any, ...]:
        return tuple(part.identity() for part in self.parts)


def require_eval_sets(names: tuple[str, ...]) -> None:
    """Raises ValueError unless config.data.eval_sets names files of pairs with distinct stems, at least one."""
    if not names:
        raise DataError(
            "config.data.eval_sets is empty: name the verification sets in config.data.path, "
            "for example ('lfw.bin',) or ('pairs.txt',)"
        )
    for name in names:
        if pathlib.Path(name).suffix not in (".bin", ".txt"):
            raise ValueError(f"config.data.eval_sets names {name!r}; a verification set is a .bin or a .txt file")
    stems = [pathlib.Path(name).stem for name in names]
    repeated = sorted({stem for stem in stems if stems.count(stem) > 1})
    if repeated:
        raise ValueError(f"config.data.eval_sets has more than one set named {repeated[0]!r}: metrics need one each")


def read_eval_sets(path: str, names: tuple[str, ...], eval_root: str) -> tuple[JoinedSource, tuple[Pairs, ...]]:
    """Reads the verification sets.

    Args:
      path: the folder of the files `names`.
      names: `.bin` files, which hold their pictures, and `.txt` files of pairs of picture files.
      eval_root: folder in `path` from which the `.txt` files name pictures.

    Returns:
      The pictures of all sets, and each set as pairs of them, named by the file's stem.

    Raises:
      DataError: if a file is missing or damaged, or has less than ten pairs.
    """
    folder = pathlib.Path(path).expanduser()
    parts: list[Source] = []
    starts, pairs, total = [], [], 0
    for name in names:
        file = folder / name
        if not file.is_file():
            there = sorted(entry.name for entry in folder.glob("*") if entry.suffix in (".bin", ".txt"))
            raise DataError(
                f"config.data.eval_sets names {name!r}, but {file} is no file; there are: {', '.join(there) or 'none'}"
            )
        if file.suffix == ".bin":
            pictures, same = read_bin(file)
            source: Source = BinSource(str(file), pictures)
            first, second = np.arange(len(pictures), dtype=np.int32).reshape(-1, 2).T
        else:
            listed = read_pairs(file, folder / eval_root)
            source, first, second, same = FileSource(listed.paths), listed.first, listed.second, listed.same
        require_folds(file, len(same))
        parts.append(source)
        starts.append(total)
        pairs.append(Pairs(file.stem, first + total, second + total, same))
        total += len(source)
    return JoinedSource(tuple(parts), tuple(starts), total), tuple(pairs)
