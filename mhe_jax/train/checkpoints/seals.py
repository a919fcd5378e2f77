"""Digests of a checkpoint's files: Orbax reads a flipped bit of an array back as if it were a weight."""

import concurrent.futures
import hashlib
import json
import pathlib
import time

from mhe_jax.train.reporting import stored
from mhe_jax.train.reporting.writers import write_atomically

FILE = "digests.json"
# Orbax writes these two after everything else, with the time and the final name.
METADATA, _MARKER = "_CHECKPOINT_METADATA", "commit_success.txt"
_THREADS = 8  # hashing lets go of the interpreter
# One file of each item that Orbax always writes.
META = "meta/metadata"
_OF_ITEMS = ("state/_METADATA", META)
# How long Orbax's own thread may take to write the metadata, on a disk behind a slow network.
_METADATA_SECONDS = 600.0


def seal(folder: pathlib.Path, final: pathlib.Path) -> int:
    """Writes the digests of all files of a complete checkpoint that still has its temporary name.

    Args:
      folder: of one step; saved with the custom metadata {'sealed': True}.
      final: the name that it is about to get.

    Returns:
      bytes of the checkpoint.

    Raises:
      OSError: if Orbax does not come to write its metadata.
    """
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    names = [name for name in names if name != METADATA]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        digests = dict(zip(names, pool.map(lambda name: _digest(folder / name), names), strict=True))
    # The marker of the whole says of the final name what those of the items say of theirs.
    for item in folder.glob(f"*/{_MARKER}"):
        text = item.read_text().replace(str(item.parent), str(final))
        digests[_MARKER] = hashlib.sha256(text.encode()).hexdigest()
    write = lambda: (folder / FILE).write_text(json.dumps(digests, indent=1) + "\n")
    # Once before the waiting: a full disk, on which the metadata never come, is told here.
    write()
    digests[METADATA] = _digest_of_fields(_settled_metadata(folder))
    write()
    return sum((folder / name).stat().st_size for name in names)


def replace(folder: pathlib.Path, name: str, text: str) -> None:
    """Writes one file of a complete checkpoint anew, and its digest. In between, the seal admits both contents.

    Raises:
      OSError: naming the file.
    """
    if not (folder / FILE).exists():
        write_atomically(folder / name, text)
        return
    digests, new = stored.read_object(folder / FILE), hashlib.sha256(text.encode()).hexdigest()
    write = lambda digest: write_atomically(folder / FILE, json.dumps({**digests, name: digest}, indent=1) + "\n")
    write([digests[name], new])
    write_atomically(folder / name, text)
    write(new)


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
            sealed = _metadata(folder)["custom_metadata"].get("sealed")
            return f"{FILE} is missing" if sealed else None
        digests = stored.read_object(folder / FILE)
        # Not every version of Orbax that is admitted writes the marker.
        saved_as = (folder / _MARKER).read_text().rpartition("/")[2] if _MARKER in digests else folder.name
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{FILE}, {_MARKER} or {METADATA} cannot be read: {type(error).__name__}: {error}"
    lacking = [name for name in (METADATA, *_OF_ITEMS) if name not in digests]
    if lacking:
        return f"{FILE} has no digest of {lacking[0]}"
    names = sorted(name for name in digests if name.startswith(item))

    def problem(name: str) -> str | None:
        try:
            found = _metadata_digests(folder) if name == METADATA else {_digest(folder / name)}
        except (OSError, ValueError) as error:
            return f"{name} cannot be read: {type(error).__name__}: {error}"
        admitted = digests[name] if isinstance(digests[name], list) else [digests[name]]
        return None if any(str(one) in found for one in admitted) else f"{name} is not what was written"

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        found = next(filter(None, pool.map(problem, names[part[0] :: part[1]])), None)
    renamed = f"it was saved as {saved_as}: give the folder that name again"
    return found or (renamed if saved_as != folder.name else None)


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _settled_metadata(folder: pathlib.Path) -> dict:
    """The metadata as they will stay, but for the time stamp.

    Orbax writes them in a thread of its own, in place, and does not wait for it before it calls the sealing: until the
    last write is there, the file is absent, cut short, or still says what it said before the save.
    """
    deadline = time.monotonic() + _METADATA_SECONDS
    while True:
        try:
            fields = _metadata(folder)
            if fields["custom_metadata"]["sealed"]:
                return fields
        except (OSError, ValueError, KeyError, TypeError):
            pass
        if time.monotonic() > deadline:
            raise OSError(f"{folder / METADATA} was not written in {_METADATA_SECONDS:.0f} s")
        time.sleep(0.01)


def _metadata(folder: pathlib.Path) -> dict:
    return stored.read_object(folder / METADATA)


def _digest_of_fields(fields: dict) -> str:
    """Of all but the time stamp, which is set when the checkpoint gets its name."""
    kept = {name: value for name, value in fields.items() if name != "commit_timestamp_nsecs"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _metadata_digests(folder: pathlib.Path) -> set[str]:
    """The digest of the metadata, and the one that a seal has which was made before Orbax's last write to them."""
    fields = _metadata(folder)
    before = {**fields, "item_handlers": None, "custom_metadata": {}}
    return {_digest_of_fields(fields), _digest_of_fields(before)}
