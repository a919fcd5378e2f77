"""The folder that an export is written to: new, empty, or one that an earlier export wrote."""

import contextlib
import json
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.sparse.word_fields import FOLDER as VECTORIZER
from mhe_jax.data.texts.sparse.word_fields import WordFields
from mhe_jax.inference.opened import Trained
from mhe_jax.train import kept_encoder
from mhe_jax.train.checkpoints.published import TOKENIZER
from mhe_jax.train.reporting import report, stored
from mhe_jax.train.reporting.writers import write_atomically
from mhe_jax.version import __version__

MANIFEST = "manifest.json"
CLASSES = "classes.txt"
_MADE_BY = "made_by"
_TEMPORARY = ".export-"


@contextlib.contextmanager
def claimed(folder: pathlib.Path, workdir: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty folder for an export's files, which move to `folder` at the end, in the place of an earlier export's.

    Where anything is raised before, the earlier export stays as it is.

    Raises:
      ValueError: if the folder is the run's own, or holds what no export wrote; at the end, if a file of the export
        would replace one of those.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder")
    if folder.resolve() == workdir.resolve():
        raise ValueError(f"{folder} is the run itself: choose another folder")
    # An export that was killed leaves its temporary folder behind.
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    is_used = any(name != ".git" and not name.startswith(_TEMPORARY) for name in names)
    earlier = _exported(folder) if is_used else []
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=folder) as made:
            yield pathlib.Path(made)
            _replace(folder, earlier, pathlib.Path(made))
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):  # some files have moved
                folder.rmdir()
        raise


def _replace(folder: pathlib.Path, earlier: list[pathlib.Path], made: pathlib.Path) -> None:
    """Moves the files of `made` to `folder`, in the place of the `earlier` ones."""
    moves = {path: folder / path.relative_to(made) for path in made.rglob("*") if path.is_file()}
    for path in moves.values():
        if path.exists() and path not in earlier:
            raise ValueError(f"{path} is of no export, and stays as it is: choose another folder")
    for path in earlier:
        path.unlink(missing_ok=True)
    above = {parent for path in earlier for parent in path.parents if folder in parent.parents}
    for path in sorted(above, reverse=True):
        with contextlib.suppress(OSError):  # there are other files
            path.rmdir()
    for path, place in moves.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)


def _exported(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of the export in a folder; raises ValueError if there is none."""
    try:
        manifest = stored.read_object(folder / MANIFEST)
        if not manifest[_MADE_BY].startswith("mhe_jax "):
            raise ValueError(manifest[_MADE_BY])
        paths = [folder / name for name in (*manifest["bytes"], MANIFEST)]
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        raise ValueError(
            f"{folder} holds files that no export wrote, and stays as it is: choose another folder"
        ) from None
    return [path for path in paths if folder.resolve() in path.resolve().parents]


def write_manifest(folder: pathlib.Path, kind: str, trained: Trained, facts: dict[str, Any]) -> None:
    """Writes manifest.json: the format, the versions, what was exported, and the folder's files with their sizes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    content = {
        _MADE_BY: f"mhe_jax {__version__}",
        "format": kind,
        **report.versions(),
        "data": trained.settings.data.name,
        "backbone": trained.settings.backbone.name,
        "head": trained.settings.head.name,
        "num_classes": trained.classes.number,
        **facts,
        "bytes": {str(path.relative_to(folder)): path.stat().st_size for path in files},
    }
    write_atomically(folder / MANIFEST, json.dumps(content, indent=2) + "\n")


def write_beside(folder: pathlib.Path, trained: Trained) -> None:
    """Writes what is needed beside a program: classes.txt, and for texts tokenizer/, of the run or of the encoder that
    is inside the program, and vectorizer/."""
    write_classes(folder, trained)
    write_reader(folder, trained)
    tokenizer = trained.workdir / kept_encoder.FOLDER / kept_encoder.TOKENIZER
    if tokenizer.is_dir():
        shutil.copytree(tokenizer, folder / TOKENIZER)


def write_reader(folder: pathlib.Path, trained: Trained) -> None:
    """Writes what the run reads texts by: tokenizer/, vectorizer/."""
    readers = ((TOKENIZER, TextData, "save_tokenizer"), (VECTORIZER, WordFields, "save_vectorizer"))
    for name, kind, save in readers:
        if isinstance(trained.data, kind):
            getattr(trained.data, save)(folder / name)


def write_classes(folder: pathlib.Path, trained: Trained) -> None:
    """Writes classes.txt: line i is the name of class i, with spaces in the place of line breaks."""
    names = (" ".join(trained.classes.name(number).splitlines()) for number in range(trained.classes.number))
    text = "".join(f"{name}\n" for name in names)
    (folder / CLASSES).write_text(text, encoding="utf-8", errors="backslashreplace")
