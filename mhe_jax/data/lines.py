"""Lines of text files and of JSON files, plain or gzip; whatever is wrong with one is told with its file and line."""

import codecs
import gzip
import hashlib
import json
import pathlib
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from mhe_jax.data.dataset import DataError


def read_lines(path: pathlib.Path, fallback: str = "", *, ends: bool = False) -> Iterator[str]:
    """The lines of a UTF-8 file without their ends, as they are read; unpacked if the name ends in .gz.

    A line that is not UTF-8 is of the encoding `fallback`, where a format has files of two encodings. With `ends` lines
    keep their ends, for formats whose texts go over several lines.

    Only a line feed ends a line, with or without a carriage return before it: texts hold other separators of Unicode.

    Raises:
      DataError: if the file cannot be read, or a line is not UTF-8 or longer than 64 MiB.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from decoded_lines(file, str(path), fallback, ends=ends)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def decoded_lines(
    file: BinaryIO | gzip.GzipFile, source: str, fallback: str = "", *, ends: bool = False
) -> Iterator[str]:
    """The lines of an open file as `read_lines` gives them; `source` is its name in messages."""
    number = 0
    try:
        # Each takes memory as a whole, and a packed file of a megabyte can hold one of a gigabyte.
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST + 1), b""), 1):
            if len(line) > _LONGEST:
                raise DataError(f"{source}:{number}: the line is longer than {_LONGEST >> 20} MiB")
            decoded = decoded_line(line, source, number, fallback)
            yield decoded + _ending(line) if ends else decoded
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{source} cannot be read after line {number}: {error}") from error


def decoded_line(line: bytes, source: str, number: int, fallback: str = "") -> str:
    """One line without its end; line 1 also without a byte order mark. Raises DataError if it is not UTF-8."""
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        if fallback:
            return line.decode(fallback).rstrip("\r\n")
        raise DataError(
            f"{source}:{number}: byte {error.start + 1} of the line is not UTF-8 ({error.reason})"
        ) from error


def _ending(line: bytes) -> str:
    """What `decoded_line` takes off."""
    return line[len(line.rstrip(b"\r\n")) :].decode()


def names_of_lines(lines: Iterable[str], source: object) -> tuple[str, ...]:
    """A name of each line, but for blank ones at the end; raises DataError for a blank one before those."""
    names = list(lines)
    while names and not names[-1].strip():
        names.pop()
    for number, name in enumerate(names, 1):
        if not name.strip():
            raise DataError(f"{source}:{number}: the line is blank, but each names a class")
    return tuple(names)


_LONGEST = 64 << 20  # bytes of a line
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json_lines(path: pathlib.Path, fallback: str = "") -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a file with one JSON object per line; blank lines are passed over.

    `fallback` is that of `read_lines`.

    Raises:
      DataError: as `read_lines`, and for a line that holds anything else.
    """
    for number, line in enumerate(read_lines(path, fallback), 1):
        if not line.strip():
            continue
        yield number, json_record(line, path, number)


def json_record(line: str, path: pathlib.Path | str, number: int) -> dict[str, Any]:
    """The object of one line; raises DataError if the line holds anything else."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        place = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise DataError(
            f"{path}:{number}: malformed JSON ({getattr(error, 'msg', error)}{place}); each line must be one object"
        ) from error
    if not isinstance(record, dict):
        raise DataError(f"{path}:{number}: each line must be a JSON object, but this is {json_type(record)}")
    if _SURROGATE.search(line):
        try:
            json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{path}:{number}: an escape \\ud... is half a surrogate pair, not a character") from error
    return record


def json_field(record: dict[str, Any], name: str, kind: type, path: pathlib.Path | str, number: int) -> Any:
    """A field of a line's object; raises DataError if it is missing or not a `kind` (str or list)."""
    try:
        value = record[name]
    except KeyError:
        fields = ", ".join(map(repr, record)) or "none"
        raise DataError(f"{path}:{number}: the field {name!r} is missing (there are: {fields})") from None
    if not isinstance(value, kind):
        raise DataError(f"{path}:{number}: the field {name!r} must be {_NAMES[kind]} but is {json_type(value)}")
    return value


_NAMES = {str: "a string", list: "a list", int: "a number", float: "a number", dict: "an object", bool: "a truth value"}


def json_type(value: Any) -> str:
    """What JSON calls a value, for messages."""
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)


class TextScan:
    """What one pass over the texts of a split tells: how many there are, how many are empty, and their hash."""

    def __init__(self, texts: Iterable[str] = ()):
        self.documents = self.empty = 0
        self._hash = hashlib.blake2b(digest_size=16)
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Takes the next text."""
        self.documents += 1
        self.empty += not text or text.isspace()
        self._hash.update(text.encode())
        # No byte of UTF-8 has this value, so that texts cannot run into each other.
        self._hash.update(b"\xff")

    @property
    def fingerprint(self) -> str:
        return self._hash.hexdigest()
