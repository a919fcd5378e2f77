"""The folder that an export is written to: new, empty, or one that an earlier export wrote."""

import json
import pathlib
import shutil
from typing import Any

from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.sparse.word_fields import FOLDER as VECTORIZER
from mhe_jax.data.texts.sparse.words import WordData
from mhe_jax.inference.opened import Trained
from mhe_jax.train.checkpoints.published import TOKENIZER
from mhe_jax.train.reporting import report, stored
from mhe_jax.train.reporting.writers import write_atomically
from mhe_jax.version import __version__

MANIFEST = "manifest.json"
CLASSES = "classes.txt"
_MADE_BY = "made_by"


def claim(folder: pathlib.Path) -> None:
    """Makes the folder; raises ValueError if it holds what no export wrote."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder")
    if folder.is_dir() and any(path.name != ".git" for path in folder.iterdir()):
        try:
            ours = stored.read_object(folder / MANIFEST).get(_MADE_BY, "").startswith("mhe_jax ")
        except (OSError, ValueError, AttributeError):
            ours = False
        if not ours:
            raise ValueError(f"{folder} holds files that no export wrote, and stays as it is: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)


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


def write_reader(folder: pathlib.Path, data: Any) -> None:
    """Writes what turns texts into inputs, tokenizer/ or vectorizer/; other inputs need none."""
    readers = ((TOKENIZER, TextData, "save_tokenizer"), (VECTORIZER, WordData, "save_vectorizer"))
    for name, kind, save in readers:
        shutil.rmtree(folder / name, ignore_errors=True)  # of an earlier export
        if isinstance(data, kind):
            getattr(data, save)(folder / name)


def write_classes(folder: pathlib.Path, trained: Trained) -> None:
    """Writes classes.txt: line i is the name of class i, with spaces in the place of line breaks."""
    names = (" ".join(trained.classes.name(number).splitlines()) for number in range(trained.classes.number))
    text = "".join(f"{name}\n" for name in names)
    (folder / CLASSES).write_text(text, encoding="utf-8", errors="backslashreplace")
