"""Runs on the Hugging Face hub: `hub:OWNER/NAME` in the place of a folder."""

import logging
import os
import pathlib

from mhe_jax.data.texts.sparse.word_fields import FOLDER as VECTORIZER
from mhe_jax.inference import decision
from mhe_jax.train.checkpoints.published import TOKENIZER, WEIGHTS, is_published
from mhe_jax.train.kept_encoder import FOLDER as ENCODER

_LOG = logging.getLogger(__name__)
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

    Without network, what the cache has is taken, and a line of the log says so.

    Raises:
      ValueError: if there is no such repository, no right to it, or neither network nor a copy.
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
    except Exception as error:  # in the words of whichever library found out
        if not _is_unreachable(error):
            raise ValueError(f"{name} cannot be had from the hub: {said(error)}") from error
        try:
            copy = huggingface_hub.snapshot_download(found, allow_patterns=FILES, local_files_only=True)
        except Exception:
            raise ValueError(f"{name} cannot be had from the hub, nor is it in the cache: {said(error)}") from error
        _LOG.warning("%s is taken from the cache, as the hub cannot be reached: %s", name, said(error))
        return pathlib.Path(copy)


def _is_unreachable(error: Exception) -> bool:
    """Whether the hub did not answer, or not now; what it has answered, such as that there is no such id, stands."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        return error.response is None or error.response.status_code >= 500
    # Of a download that fails the library says that there is no copy, and why beneath.
    if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled | ConnectionError | TimeoutError):
        return True
    # Of httpx or httpx2, by the version of the hub's library.
    return any(kind.__name__ == "TransportError" for kind in type(error).__mro__)


def said(error: Exception) -> str:
    """The first line of what a library says of a failure."""
    return (str(error).strip() or repr(error)).splitlines()[0]
