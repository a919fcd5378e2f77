"""Files that are known to be whole: hashed when they are written, and again when they may have changed."""

import contextlib
import hashlib
import json
import pathlib
import time
from collections.abc import Iterable, Sequence
from typing import Any

_CHECKED = "checked.json"
# Of nanoseconds: some disks' clocks tick so slowly that a file may change again without another time of change.
_TICK = 2 * 10**9


def seal(folder: pathlib.Path, names: Sequence[str], facts: dict[str, Any]) -> str:
    """A hash of files, every byte of them, and of the facts."""
    return _combined([_digest(folder / name) for name in names], facts)


def is_sealed(folder: pathlib.Path, names: Sequence[str], facts: dict[str, Any], expected: str) -> bool:
    """Whether files and facts have a seal.

    The hashes of files that are found right are kept in the folder, with their sizes and times of change, and files of
    the same size and time are not read again. What is kept there may be anything: of wrong hashes there is no right
    seal, and then the files are read. So processes may write it at once, and where it cannot be written every start
    reads the files.

    Raises:
      OSError: if a file cannot be read.
    """
    now = time.time_ns()
    states = {name: _state(folder / name) for name in names}
    kept = _kept(folder, states)
    if len(kept) == len(names) and _combined([kept[name] for name in names], facts) == expected:
        return True
    digests = {name: _digest(folder / name) for name in names}
    if _combined(digests.values(), facts) != expected:
        return False
    if all(changed < now - _TICK for _, changed in states.values()):
        checked = {name: [*states[name], digests[name].hex()] for name in names}
        with contextlib.suppress(OSError):
            (folder / _CHECKED).write_text(json.dumps(checked) + "\n", encoding="utf-8")
    return True


def _kept(folder: pathlib.Path, states: dict[str, tuple[int, int]]) -> dict[str, bytes]:
    """The hashes that were kept of the files as they are; those of other states, and what is damaged, are left out."""
    try:
        checked = json.loads((folder / _CHECKED).read_text(encoding="utf-8"))
        kept = {name: checked[name][2] for name, state in states.items() if checked[name][:2] == list(state)}
        return {name: bytes.fromhex(digest) for name, digest in kept.items()}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}


def _state(path: pathlib.Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _combined(digests: Iterable[bytes], facts: dict[str, Any]) -> str:
    sealed = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    sealed.update(b"".join(digests))
    return sealed.hexdigest()


def _digest(path: pathlib.Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
