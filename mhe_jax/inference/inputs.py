"""What people ask a trained model about: pictures in files and folders, features, texts in files or on the spot.

One input that cannot be read is no reason to leave the others without an answer: it is told to `Unreadable`, and left
out.
"""

import gzip
import itertools
import os
import pathlib
import select
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from mhe_jax.data.dataset import BadExample, DataError
from mhe_jax.data.features.arrays import not_finite, open_features
from mhe_jax.data.files import mapped_array, require_file
from mhe_jax.data.images.dataset import ImageData
from mhe_jax.data.images.listing import list_pictures, tell_left_out
from mhe_jax.data.lines import decoded_line, json_field, json_record
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.sparse.dataset import SparseData
from mhe_jax.data.texts.sparse.formats import load_matrix
from mhe_jax.data.texts.sparse.words import WordData
from mhe_jax.train.parallel import distributed

# Names of some examples, and the arrays that the task takes for them.
Batches = Iterator[tuple[list[str], Any]]

Item = TypeVar("Item")

_TYPED = "standard input"
_PIECE = 1 << 16  # bytes, all that a pipe holds

# Of files of texts.
_SUFFIXES = (".txt", ".jsonl", ".json", ".csv", ".tsv", ".gz")


class Unreadable:
    """Says at once which inputs cannot be read, on standard error, and in the end that there were any."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, error: Exception) -> None:
        """Takes the error of one input; of several processes, which all read all inputs, one speaks."""
        self.count += 1
        if distributed.is_main():
            print(f"left out: {error}", file=sys.stderr, flush=True)

    def check(self, answered: int) -> None:
        """Raises ValueError if an input was left out, when the `answered` others have their answers."""
        if self.count:
            raise ValueError(f"{self.count} of {self.count + answered} inputs cannot be read; each is named above")


def pictures(source: str, data: ImageData, batch_size: int, on_bad: Callable[[Exception], None]) -> Batches:
    """Pictures as uint8 [N, H, W, C], at most `batch_size` at a time.

    Args:
      source: a picture, a folder of pictures (searched recursively), or a .npy of uint8 images [N, H, W, C].
      data: how a picture is cut to size.
      batch_size: the most at a time.
      on_bad: takes the error of a picture that cannot be read, and is left out.

    Raises:
      ValueError: if there is no picture, or the array is of another shape.
    """
    path = pathlib.Path(source)
    if path.suffix == ".npy":
        images = _array(path, data.image_shape)
        for start in range(0, len(images), batch_size):
            rows = images[start : start + batch_size]
            yield [f"{path}[{start + i}]" for i in range(len(rows))], np.asarray(rows)
        return
    paths = [path] if path.is_file() else _picture_files(path) if path.is_dir() else []
    if not paths:
        what = "it is a pipe or a device, not a file" if path.exists() and not path.is_dir() else ""
        raise ValueError(f"--input: there is no picture at {path}{what and ': ' + what}")
    for some, images in read_ahead(data.read_image, paths, batch_size, on_bad):
        yield [str(path) for path in some], images


def features(source: str, width: int, batch_size: int, on_bad: Callable[[Exception], None]) -> Batches:
    """Rows of a .npy or .safetensors as {'features': [N, D]}, at most `batch_size` at a time; their names are numbered.

    Args:
      source: the file, [M, D], see `mhe_jax.data.features.arrays.open_features`.
      width: D.
      batch_size: the most at a time.
      on_bad: takes the error of a row with a NaN or an infinity, which is left out.

    Raises:
      ValueError: if there is no such file, or it holds anything else.
    """
    path = pathlib.Path(source)
    rows = open_features(path, width)
    for start in range(0, len(rows), batch_size):
        block = rows[start : start + batch_size]
        bad = not_finite(block)
        for place in np.flatnonzero(bad):
            on_bad(BadExample(f"{path}[{start + place}] holds a NaN or an infinity"))
        if not bad.all():
            yield [f"{path}[{start + place}]" for place in np.flatnonzero(~bad)], {"features": block[~bad]}


def sparse_rows(source: str, data: SparseData, batch_size: int) -> Batches:
    """Rows of a .npz of sparse features, see `SparseData.padded`, at most `batch_size` at a time.

    Args:
      source: the file, a matrix [M, V] of scipy.sparse.save_npz.
      data: what cuts a row.
      batch_size: the most at a time.

    Raises:
      ValueError: if there is no such file, or it holds anything else.
    """
    path = pathlib.Path(source)
    require_file(path)
    matrix = load_matrix(path)
    if matrix.shape[1] != data.features_dim:
        raise ValueError(f"{path} has {matrix.shape[1]} features, but {data.features_dim} are expected")
    for start in range(0, matrix.shape[0], batch_size):
        block = matrix[start : start + batch_size]
        yield [f"{path}[{start + place}]" for place in range(block.shape[0])], data.padded(block)


def _array(path: pathlib.Path, image_shape: tuple[int, int, int]) -> np.ndarray:
    """The images of a .npy file, uint8 [N, H, W, C] and mapped into memory; raises ValueError for anything else."""
    images = mapped_array(path)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != image_shape or not len(images):
        expected = ", ".join(map(str, image_shape))
        raise ValueError(f"{path} holds {images.dtype} {list(images.shape)}; uint8 [N, {expected}] is needed")
    return images


def _picture_files(folder: pathlib.Path) -> list[pathlib.Path]:
    found, left_out = list_pictures(folder)
    tell_left_out(folder, left_out)
    return sorted(folder / os.fsdecode(name) for name in found)


def read_ahead(
    read: Callable[[Item], np.ndarray],
    items: Iterable[Item],
    batch_size: int,
    on_bad: Callable[[Exception], None] | None = None,
) -> Iterator[tuple[list[Item], np.ndarray]]:
    """Batches of items and what was read of them, stacked; threads read the next batch while one is used.

    Args:
      read: array of one item, all of one shape.
      items: what to read, in order.
      batch_size: the most at a time.
      on_bad: takes the BadExample of an item, which is left out; without it, that is raised.
    """
    with ThreadPoolExecutor() as pool:
        ahead: tuple[tuple[Item, ...], list[Future]] = (), []
        for some in itertools.chain(_batched(items, batch_size), [()]):
            ready, ahead = ahead, (some, [pool.submit(read, item) for item in some])
            good, arrays = [], []
            for item, future in zip(*ready, strict=True):
                try:
                    arrays.append(future.result())
                    good.append(item)
                except BadExample as error:
                    if on_bad is None:
                        raise
                    on_bad(error)
            if good:
                yield good, np.stack(arrays)


def texts(source: str, data: TextData | WordData, batch_size: int, on_bad: Callable[[Exception], None]) -> Batches:
    """Tokens of texts as {'input_ids', 'length'}, or words, at most `batch_size` at a time; a text is its own name.

    Args:
      source: `-` for standard input, whose lines are taken as they come, or the path of a file, also of a .gz, one text
        a line (in a .jsonl or .json file, one object a line with a field `text`); or, if there is no such file, the
        text itself. A single word that ends in one of these, .txt, .csv or .tsv, or begins with a slash or a dot, is
        meant as a file.
      data: what reads texts.
      batch_size: the most at a time.
      on_bad: takes the error of a line that is not UTF-8, or of a .jsonl file holds no text, and is left out.

    Raises:
      ValueError: if there is no such file or no text, it is a folder, a pipe or a device, or the text itself is not
        UTF-8.
    """
    batches = _typed(batch_size, on_bad) if source == "-" else _batched(_texts(source, on_bad), batch_size)
    for some in batches:
        yield list(some), data.inputs_of(some)


def _typed(batch_size: int, on_bad: Callable[[Exception], None]) -> Iterator[list[str]]:
    """The lines of standard input, each time those that are there."""
    number = 0
    for lines in _arriving(sys.stdin.fileno(), batch_size):
        some = []
        for line in lines:
            number += 1
            try:
                some.append(decoded_line(line, _TYPED, number))
            except DataError as error:
                on_bad(error)
        if some:
            yield some
    if not number:
        raise ValueError("--input: - holds no text")


def _arriving(file: int, most: int) -> Iterator[list[bytes]]:
    """Lines of an open file, at most `most` together: what is there is taken, and nothing more is waited for."""
    lines: list[bytes] = []
    begun: list[bytes] = []  # of a line whose end is yet to come
    ended = False
    while lines or not ended:
        while not ended and len(lines) < most and (not lines or select.select([file], [], [], 0)[0]):
            read = os.read(file, _PIECE)
            ended = not read
            *whole, rest = read.split(b"\n")
            if whole:
                lines += [b"".join([*begun, whole[0]]), *whole[1:]]
                begun = []
            begun.append(rest)
            if ended and any(begun):
                lines.append(b"".join(begun))
        yield lines[:most]
        lines = lines[most:]


def _texts(source: str, on_bad: Callable[[Exception], None]) -> Iterator[str]:
    path, name = pathlib.Path(source), source
    parse: Callable[[str, str, int], str | None] = _plain
    if _is(path.is_file):
        lines = _numbered(_opened(path), name, on_bad)
        parse = _json_text if path.name.removesuffix(".gz").endswith((".jsonl", ".json")) else _plain
    elif source and _is(path.is_dir):
        raise ValueError(f"--input: {source} is a folder; name a file of texts")
    elif source and _is(path.exists):
        raise ValueError(f"--input: {source} is a pipe or a device; name a file of texts, or - for standard input")
    elif len(source.split()) == 1 and (path.suffix in _SUFFIXES or source.startswith(("/", "."))):
        raise ValueError(f"--input: there is no file {source}")
    else:
        # A command line's bytes that are not UTF-8 are surrogates in Python's strings, which no tokenizer takes.
        decoded_line(source.encode(errors="surrogateescape"), "--input", 1)
        yield source
        return
    first = next(lines, None)
    if first is None:
        raise ValueError(f"--input: {source} holds no text")
    for number, line in itertools.chain([first], lines):
        try:
            text = parse(decoded_line(line, name, number), name, number)
        except DataError as error:
            on_bad(error)
            continue
        if text is not None:
            yield text


def _opened(path: pathlib.Path) -> Iterator[bytes]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        yield from file


def _numbered(lines: Iterable[bytes], name: str, on_bad: Callable[[Exception], None]) -> Iterator[tuple[int, bytes]]:
    """Lines and their numbers, up to where the source is damaged: what was read before has its answers."""
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            yield number, line
    except (OSError, EOFError, zlib.error) as error:
        if not number:
            raise DataError(f"{name} cannot be read: {error}") from error
        on_bad(DataError(f"{name} cannot be read after line {number}: {error}"))


def _plain(line: str, name: str, number: int) -> str:
    return line


def _json_text(line: str, name: str, number: int) -> str | None:
    """The text of a line's object; None for a blank line."""
    return json_field(json_record(line, name, number), "text", str, name, number) if line.strip() else None


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except (OSError, ValueError):  # too long for a name, or with a zero byte: a text
        return False


def _batched(items, size: int) -> Iterator[tuple]:
    iterator = iter(items)
    while some := tuple(itertools.islice(iterator, size)):
        yield some
