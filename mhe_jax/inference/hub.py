"""Runs on the Hugging Face hub: `hub:OWNER/NAME` in the place of a folder."""

import os
import pathlib

from mhe_jax.data.texts.sparse.word_fields import FOLDER as VECTORIZER
from mhe_jax.inference import decision
from mhe_jax.train.checkpoints.published import TOKENIZER, WEIGHTS, is_published
from mhe_jax.train.kept_encoder import FOLDER as ENCODER

PREFIX = "hub:"
# What is downloaded: what a run is read from, and nothing that could run.
FILES = [
    *("config.json", "classes.json", "codes.npy", "result.json", WEIGHTS, decision.FILE),
    *(f"{TOKENIZER}/*.{ending}" for ending in ("json", "txt", "model")),
    *(f"{VECTORIZER}/*.{ending}" for ending in ("json", "npy")),
    *(f"{ENCODER}/*.{ending}" for ending in ("json", "txt", "model", "safetensors")),
]
_PATIENCE = 10  # seconds for the hub's first answer


def repository(name: str) -> str:
    """The hub's id in `hub:OWNER/NAME`; raises ValueError if it is none."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    found = name.removeprefix(PREFIX)
    try:
        validate_repo_id(found)
    except HFValidationError as error:
        raise ValueError(f"{name} names no repository: it must be {PREFIX}OWNER/NAME ({error})") from None
    return found


def located(name: str | os.PathLike) -> pathlib.Path:
    """The folder of a run: itself, or for `hub:OWNER/NAME` the newest revision, in the hub's cache.

    Without network, what the cache has is taken.

    Raises:
      ValueError: if there is no such repository, or neither network nor a copy.
    """
    if not isinstance(name, str) or not name.startswith(PREFIX):
        return pathlib.Path(name)
    folder = _downloaded(name, repository(name))
    if not is_published(folder):
        raise ValueError(f"{name} holds no run: {WEIGHTS} is missing")
    return folder


def _downloaded(name: str, found: str) -> pathlib.Path:
    import huggingface_hub

    try:
        # Asked once: a download asks again and again where there is no network.
        huggingface_hub.HfApi().model_info(found, timeout=_PATIENCE)
        return pathlib.Path(huggingface_hub.snapshot_download(found, allow_patterns=FILES))
    except Exception as error:  # no network, in the words of whichever library found out; no such id, or no right to it
        try:
            return pathlib.Path(huggingface_hub.snapshot_download(found, allow_patterns=FILES, local_files_only=True))
        except Exception:
            raise ValueError(f"{name} cannot be had from the hub, nor is it in the cache: {said(error)}") from error


def said(error: Exception) -> str:
    """The first line of what a library says of a failure."""
    return (str(error).strip() or repr(error)).splitlines()[0]
