"""What people ask a trained model about: pictures in files and folders, texts in files, on a pipe, or on the spot."""

import itertools
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from mhe_jax.data.images.dataset import ImageData
from mhe_jax.data.images.listing import list_pictures, tell_left_out
from mhe_jax.data.lines import decoded_lines, json_field, read_json_lines, read_lines
from mhe_jax.data.texts.dataset import TextData

# Names of some examples, and the arrays that the task takes for them.
Batches = Iterator[tuple[list[str], Any]]

Item = TypeVar("Item")

# Of files of texts.
_SUFFIXES = (".txt", ".jsonl", ".json", ".csv", ".tsv", ".gz")


def pictures(source: str, data: ImageData, batch_size: int) -> Batches:
    """Pictures as uint8 [N, H, W, C], at most `batch_size` at a time.

    Args:
      source: a picture, a folder of pictures (searched recursively), or a .npy of uint8 images [N, H, W, C].
      data: how a picture is cut to size.
      batch_size: the most at a time.

    Raises:
      ValueError: if there is no picture, or the array is of another shape.
    """
    path = pathlib.Path(source)
    if path.suffix == ".npy":
        try:
            images = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is not a readable .npy file: {error}") from None
        if not len(images) or images.dtype != np.uint8 or images.shape[1:] != data.image_shape:
            expected = ", ".join(map(str, data.image_shape))
            raise ValueError(f"{path} holds {images.dtype} {images.shape}; uint8 [N, {expected}] is needed")
        for start in range(0, len(images), batch_size):
            rows = images[start : start + batch_size]
            yield [f"{path}[{start + i}]" for i in range(len(rows))], np.asarray(rows)
        return
    paths = [path] if path.is_file() else _picture_files(path) if path.is_dir() else []
    if not paths:
        raise ValueError(f"--input: there is no picture at {path}")
    for some, images in read_ahead(data.read_image, paths, batch_size):
        yield [str(path) for path in some], images


def _picture_files(folder: pathlib.Path) -> list[pathlib.Path]:
    found, left_out = list_pictures(folder)
    tell_left_out(folder, left_out)
    return sorted(folder / os.fsdecode(name) for name in found)


def read_ahead(
    read: Callable[[Item], np.ndarray], items: Iterable[Item], batch_size: int
) -> Iterator[tuple[tuple[Item, ...], np.ndarray]]:
    """Batches of items and what was read of them, stacked; threads read the next batch while one is used.

    Args:
      read: array of one item, all of one shape.
      items: what to read, in order.
      batch_size: the most at a time.
    """
    with ThreadPoolExecutor() as pool:
        ahead: tuple[tuple[Item, ...], list[Future]] = (), []
        for some in itertools.chain(_batched(items, batch_size), [()]):
            ready, ahead = ahead, (some, [pool.submit(read, item) for item in some])
            if ready[0]:
                yield ready[0], np.stack([future.result() for future in ready[1]])


def texts(source: str, data: TextData, batch_size: int) -> Batches:
    """Tokens of texts as {'input_ids', 'length'}, at most `batch_size` at a time; a text is its own name.

    Args:
      source: `-` for standard input or the path of a file, also of a .gz, one text a line (in a .jsonl or .json file,
        one object a line with a field `text`); or, if there is no such file, the text itself. A single word that ends
        in one of these, .txt, .csv or .tsv, or begins with a slash or a dot, is meant as a file.
      data: the tokenizer.
      batch_size: the most at a time.

    Raises:
      ValueError: if there is no such file or no text, or it is a folder; naming file and line, if a line is not UTF-8,
        or of a .jsonl file has no text.
    """
    for some in _batched(_text_lines(source), batch_size):
        input_ids, length = data.encode(some)
        yield list(some), {"input_ids": input_ids, "length": length}


def _text_lines(source: str) -> Iterator[str]:
    path = pathlib.Path(source)
    lines: Iterator[str]
    if source == "-":
        lines = decoded_lines(sys.stdin.buffer, "standard input")
    elif _is(path.is_file):
        lines = _json_texts(path) if path.name.removesuffix(".gz").endswith((".jsonl", ".json")) else read_lines(path)
    elif source and _is(path.is_dir):
        raise ValueError(f"--input: {source} is a folder; name a file of texts")
    elif len(source.split()) == 1 and (path.suffix in _SUFFIXES or source.startswith(("/", "."))):
        raise ValueError(f"--input: there is no file {source}")
    else:
        lines = iter([source])
    first = next(lines, None)
    if first is None:
        raise ValueError(f"--input: {source} holds no text")
    yield from itertools.chain([first], lines)


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except (OSError, ValueError):  # too long for a name, or with a zero byte: a text
        return False


def _json_texts(path: pathlib.Path) -> Iterator[str]:
    for number, record in read_json_lines(path):
        yield json_field(record, "text", str, path, number)


def _batched(items, size: int) -> Iterator[tuple]:
    iterator = iter(items)
    while some := tuple(itertools.islice(iterator, size)):
        yield some
