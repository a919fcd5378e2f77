"""Digests of a checkpoint's files: Orbax reads a flipped bit of an array back as if it were a weight."""

import concurrent.futures
import hashlib
import json
import pathlib

FILE = "digests.json"
# Orbax writes these two after everything else, with the time and the final name.
_METADATA, _MARKER = "_CHECKPOINT_METADATA", "commit_success.txt"
_THREADS = 8  # hashing lets go of the interpreter


def seal(folder: pathlib.Path, final: pathlib.Path) -> int:
    """Writes the digests of all files of a complete checkpoint that still has its temporary name.

    Args:
      folder: of one step.
      final: the name that it is about to get.

    Returns:
      bytes of the checkpoint.
    """
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    names = [name for name in names if name != _METADATA]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        digests = dict(zip(names, pool.map(lambda name: _digest(folder / name), names), strict=True))
    digests[_METADATA] = _metadata_digest(folder)
    # The marker of the whole says of the final name what those of the items say of theirs.
    for item in folder.glob(f"*/{_MARKER}"):
        text = item.read_text().replace(str(item.parent), str(final))
        digests[_MARKER] = hashlib.sha256(text.encode()).hexdigest()
    (folder / FILE).write_text(json.dumps(digests, indent=1) + "\n")
    return sum((folder / name).stat().st_size for name in names)


def damage(folder: pathlib.Path, part: tuple[int, int] = (0, 1), item: str = "") -> str | None:
    """What is wrong with the files of a sealed checkpoint; None if they are as they were written.

    A checkpoint from before there were seals passes; one that says it is sealed and lacks the seal does not.

    Args:
      folder: of one step.
      part: (index, count): one of the parts that the files are shared out in, for several processes to read.
      item: the sub-folder to look at; empty: everything.
    """
    try:
        if not (folder / FILE).exists():
            sealed = json.loads((folder / _METADATA).read_text())["custom_metadata"].get("sealed")
            return f"{FILE} is missing" if sealed else None
        digests = json.loads((folder / FILE).read_text())
        names = sorted(name for name in digests if name.startswith(item))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{FILE} or {_METADATA} cannot be read: {type(error).__name__}: {error}"

    def problem(name: str) -> str | None:
        path = folder / name
        try:
            found = _metadata_digest(folder) if name == _METADATA else _digest(path)
        except (OSError, ValueError, AttributeError) as error:
            return f"{name} cannot be read: {type(error).__name__}: {error}"
        return None if found == digests[name] else f"{name} is not what was written"

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        return next(filter(None, pool.map(problem, names[part[0] :: part[1]])), None)


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _metadata_digest(folder: pathlib.Path) -> str:
    """Of all but the time stamp, which is set when the checkpoint gets its name."""
    fields = json.loads((folder / _METADATA).read_text())
    kept = {name: value for name, value in fields.items() if name != "commit_timestamp_nsecs"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
