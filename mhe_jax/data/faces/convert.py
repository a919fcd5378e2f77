"""Conversions of face data: identity folders and RecordIO, lists of pairs and `.bin` verification sets.

Everything is written under a temporary name beside its destination and renamed when it is complete.
"""

import contextlib
import dataclasses
import os
import pathlib

import numpy as np

from mhe_jax.data.dataset import DataError, require_one_of
from mhe_jax.data.faces.eval_sets import BinSource, FileSource
from mhe_jax.data.faces.formats.bins import read_bin, write_bin
from mhe_jax.data.faces.formats.names import read_names
from mhe_jax.data.faces.formats.pairs_file import read_pairs, write_pairs
from mhe_jax.data.faces.formats.records import open_records
from mhe_jax.data.faces.picture_writers import FolderWriter, RecordWriter, file_name
from mhe_jax.data.faces.resumable import fingerprint_of, partial_folder, read_pictures, write_pictures
from mhe_jax.data.files import require_file
from mhe_jax.data.images import decode
from mhe_jax.data.images.examples import Source
from mhe_jax.data.images.folder import scan

KINDS = {"folder": ("rec",), "rec": ("folder", "rec"), "pairs": ("bin",), "bin": ("pairs",)}  # what becomes what
PAIRS_NAME = "pairs.txt"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a conversion wrote: examples are pictures or pairs; bad: a message for each picture that was left out."""

    examples: int
    what: str
    bad: tuple[str, ...]


def find_kind(source: pathlib.Path) -> str:
    """Which of KINDS lies at `source`; DataError if it is none."""
    if source.is_dir():
        if (source / "train.rec").is_file():
            return "rec"
        return "pairs" if (source / PAIRS_NAME).is_file() else "folder"
    kinds = {".rec": "rec", ".bin": "bin", ".txt": "pairs"}
    if not source.exists():
        raise DataError(f"{source} does not exist")
    if source.suffix not in kinds:
        raise DataError(f"{source}: a file to convert is named {', '.join(kinds)}, or its kind is given by --from")
    return kinds[source.suffix]


def convert(
    source: str | pathlib.Path,
    dest: str | pathlib.Path,
    source_kind: str | None = None,
    dest_kind: str | None = None,
    root: str | pathlib.Path | None = None,
    on_bad_example: str = "raise",
) -> Outcome:
    """Converts `source` into `dest`, which must not exist; an interrupted conversion continues.

    Args:
      source_kind, dest_kind: of KINDS; None for what lies at `source`, and for the first that becomes of it.
      root: the folder that a list of pairs names pictures in; None for the list's own.
      on_bad_example: 'raise' for an unreadable picture, or 'skip' it, and the pairs it is in.

    Raises:
      DataError: if the source is missing or damaged, or the destination exists.
      decode.BadExample: with 'raise', for the first unreadable picture.
    """
    require_one_of("on_bad_example", on_bad_example, ("raise", "skip"))
    source, dest = pathlib.Path(source).expanduser(), pathlib.Path(dest).expanduser()
    if source.exists() and not (source.is_dir() or source.is_file()):
        raise DataError(f"{source}: cannot be read: it is a pipe or a device, neither file nor folder")
    source_kind = source_kind or find_kind(source)
    dest_kind = dest_kind or KINDS[source_kind][0]
    if dest_kind not in KINDS[source_kind]:
        raise DataError(f"{source}: {source_kind} becomes {' or '.join(KINDS[source_kind])}, not {dest_kind}")
    if root is not None and source_kind != "pairs":
        raise DataError(f"root is {str(root)!r}, but {source} is no list of pairs")
    if dest.exists() and not (dest.is_dir() and not any(dest.iterdir())):
        raise DataError(f"{dest} exists: remove it, or name another destination")
    dest.parent.mkdir(parents=True, exist_ok=True)
    if source_kind == "pairs":
        listed = source / PAIRS_NAME if source.is_dir() else source
        require_file(listed)
        return _pairs_to_bin(listed, listed.parent if root is None else pathlib.Path(root), dest, on_bad_example)
    if source_kind == "bin":
        return _bin_to_pairs(source, dest, on_bad_example)
    return _convert_identities(source, dest, source_kind, dest_kind, on_bad_example)


def _convert_identities(
    source: pathlib.Path, dest: pathlib.Path, source_kind: str, dest_kind: str, on_bad_example: str
) -> Outcome:
    if source_kind == "folder":
        folder = scan(source)
        pictures: Source = folder
        labels, names, num_classes, places = folder.labels, folder.class_names, len(folder.class_names), folder.files
    else:
        pictures = records = open_records(str(source), on_bad_example)
        labels, num_classes, places = records.read_labels(), records.num_classes, records.offsets
        names = read_names(pathlib.Path(records.path).parent, num_classes)
    fingerprint = fingerprint_of(source_kind, dest_kind, num_classes, "\n".join(names), labels, places)
    # The pictures of one identity lie together, whatever order the source has.
    order = np.argsort(labels, kind="stable")
    with partial_folder(dest) as partial:
        if dest_kind == "folder":
            width = len(str(num_classes - 1))
            names = names or tuple(f"{label:0{width}d}" for label in range(num_classes))
            bad, _ = write_pictures(pictures, order, FolderWriter(partial, names), partial, fingerprint, on_bad_example)
        else:
            with contextlib.closing(RecordWriter(partial, names, len(labels), num_classes)) as writer:
                bad, size = write_pictures(pictures, order, writer, partial, fingerprint, on_bad_example)
                writer.finish(np.bincount(np.delete(labels, list(bad)), minlength=num_classes), size)
    return Outcome(len(labels) - len(bad), f"pictures of {num_classes:,} identities", tuple(bad.values()))


def _bin_to_pairs(source: pathlib.Path, dest: pathlib.Path, on_bad_example: str) -> Outcome:
    encoded, same = read_bin(source)
    firsts: dict[bytes, int] = {}
    sides = np.array([firsts.setdefault(picture, place) for place, picture in enumerate(encoded)]).reshape(-1, 2)
    order = np.array(list(firsts.values()))
    fingerprint = fingerprint_of("bin", "pairs", sides, same, *firsts)
    with partial_folder(dest) as partial:
        writer = FolderWriter(partial, ("images",))
        bad, _ = write_pictures(BinSource(str(source), encoded), order, writer, partial, fingerprint, on_bad_example)
        kept = ~np.any(np.isin(sides, list(bad)), axis=1)
        _require_pairs(source, kept, bad)
        rows = zip(sides[kept].tolist(), same[kept].tolist(), strict=True)
        name = lambda place: f"images/{file_name(place, encoded[place])}"
        write_pairs(partial / PAIRS_NAME, ((name(first), name(second), truth) for (first, second), truth in rows))
    return Outcome(int(kept.sum()), "pairs", tuple(bad.values()))


def _pairs_to_bin(source: pathlib.Path, root: pathlib.Path, dest: pathlib.Path, on_bad_example: str) -> Outcome:
    listed = read_pairs(source, root)
    pictures: dict[int, bytes] = {}
    bad: dict[int, str] = {}
    for index, result in read_pictures(FileSource(listed.paths), np.arange(len(listed.paths)), str(dest)):
        if not isinstance(result, decode.BadExample):
            pictures[index] = result[0]
        elif on_bad_example == "raise":
            raise result
        else:
            bad[index] = str(result)
    sides = np.stack([listed.first, listed.second], axis=1)
    kept = ~np.any(np.isin(sides, list(bad)), axis=1)
    _require_pairs(source, kept, bad)
    # A process's own name: the last of two that write the same file is as good as the first.
    partial = dest.with_name(f"{dest.name}.{os.getpid()}.partial")
    try:
        write_bin(partial, [pictures[index] for index in sides[kept].ravel().tolist()], listed.same[kept])
        partial.rename(dest)
    finally:
        partial.unlink(missing_ok=True)
    return Outcome(int(kept.sum()), "pairs", tuple(bad.values()))


def _require_pairs(source: pathlib.Path, kept: np.ndarray, bad: dict[int, str]) -> None:
    if not kept.any():
        raise decode.BadExample(f"{source}: no pair can be read; the last picture: {list(bad.values())[-1]}")
