"""The folder that an export is written to: new, empty, or one that an earlier export wrote."""

import json
import pathlib
import shutil
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


def claim(folder: pathlib.Path, workdir: pathlib.Path) -> None:
    """Makes the folder, without the files of an export that was there.

    Raises:
      ValueError: if it is the run's own, or holds what no export wrote.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder")
    if folder.resolve() == workdir.resolve():
        raise ValueError(f"{folder} is the run itself: choose another folder")
    if folder.is_dir() and any(path.name != ".git" for path in folder.iterdir()):
        for path in _exported(folder):
            path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)


def _exported(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of the export in a folder; raises ValueError if there is none."""
    try:
        manifest = stored.read_object(folder / MANIFEST)
        if not manifest[_MADE_BY].startswith("mhe_jax "):
            raise ValueError(manifest[_MADE_BY])
        paths = [folder / name for name in manifest["bytes"]]
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        raise ValueError(
            f"{folder} holds files that no export wrote, and stays as it is: choose another folder"
        ) from None
    return [path for path in paths if folder.resolve() in path.resolve().parents]


def write_manifest(folder: pathlib.Path, kind: str, trained: Trained, facts: dict[str, Any]) -> None:
    """Writes manifest.json: the format, the versions, what was exported, and the files with their sizes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    content = {
        _MADE_BY: f"mhe_jax {__version__}",
        "format": kind,
        **report.versions(),
        "data": trained.settings.data.name,
        "backbone": trained.settings.backbone.name,
        "head": trained.settings.head.name,
        "num_classes": trained.classes.number,
        **facts,
        "bytes": {str(path.relative_to(folder)): path.stat().st_size for path in files if path.name != MANIFEST},
    }
    write_atomically(folder / MANIFEST, json.dumps(content, indent=2) + "\n")


def write_reader(folder: pathlib.Path, trained: Trained) -> None:
    """Writes what turns texts into inputs: tokenizer/, vectorizer/, and encoder/ where features are made of texts."""
    readers = ((TOKENIZER, TextData, "save_tokenizer"), (VECTORIZER, WordFields, "save_vectorizer"))
    for name, kind, save in readers:
        shutil.rmtree(folder / name, ignore_errors=True)  # of an earlier export
        if isinstance(trained.data, kind):
            getattr(trained.data, save)(folder / name)
    kept_encoder.copy(trained.workdir / kept_encoder.FOLDER, folder / kept_encoder.FOLDER)


def write_classes(folder: pathlib.Path, trained: Trained) -> None:
    """Writes classes.txt: line i is the name of class i, with spaces in the place of line breaks."""
    names = (" ".join(trained.classes.name(number).splitlines()) for number in range(trained.classes.number))
    text = "".join(f"{name}\n" for name in names)
    (folder / CLASSES).write_text(text, encoding="utf-8", errors="backslashreplace")
