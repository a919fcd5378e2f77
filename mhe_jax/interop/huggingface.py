"""Text encoders of Hugging Face folders and hub ids: their sizes and weights, read and written back."""

import itertools
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from absl import logging
from flax import traverse_util
from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.interop.tables import encoders, patterns
from mhe_jax.interop.tables.encoder_fields import ARCHITECTURES, encoder_fields, huggingface_fields
from mhe_jax.interop.tables.published_encoders import PUBLISHED
from mhe_jax.interop.torch import import_state_dict, read_checkpoint
from mhe_jax.models import build_backbone

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_PATIENCE = 10  # seconds for the hub's first answer
# Vocabularies are rounded up to these for the hardware's sake.
_VOCABULARY_MULTIPLES = (64, 128)


def encoder_section(section: ConfigDict, where: str = "config.backbone") -> ConfigDict:
    """The explicit section of an encoder, one of `ENCODERS` with all sizes, for one that names a checkpoint.

    Args:
      section: {'name': 'pretrained', 'checkpoint': a folder or a hub id, and of the encoder's own fields pooling,
        feature_layers, l2_normalize, feature_dropout, remat, hidden_dropout, attention_dropout; these two the
        checkpoint's where negative}.
      where: its path, for messages.

    Raises:
      ValueError: for a wrong field, a checkpoint that is not there, or of an architecture that is not supported.
    """
    return registry.build(PRETRAINED, section, where)


def _pretrained(
    checkpoint: str,
    pooling: str = "first",
    feature_layers: int = 1,
    l2_normalize: bool = False,
    feature_dropout: float = 0.0,
    hidden_dropout: float = -1.0,
    attention_dropout: float = -1.0,
    remat: bool = False,
) -> ConfigDict:
    """An encoder of Hugging Face's with its weights: a BERT, RoBERTa, DistilBERT, MPNet, ModernBERT or XLNet.

    Args:
      checkpoint: a folder, or the hub's id of one.
      pooling: 'first', 'last' or 'mean' real token's state.
      feature_layers: how many layers' pooled states make the features, the last layer first.
      l2_normalize: whether the features are scaled to length 1, as encoders are trained that compare by cosines.
      feature_dropout: dropout rate of the features.
      hidden_dropout: of embeddings and of what a layer adds to the states; negative: the checkpoint's.
      attention_dropout: of attention weights; negative: the checkpoint's.
      remat: compute the inside of layers again for the gradient instead of keeping it: less memory, a third more time.
    """
    fields = _read_config(checkpoint)
    rates = {"hidden_dropout": hidden_dropout, "attention_dropout": attention_dropout}
    fields |= {name: rate for name, rate in rates.items() if rate >= 0}
    own = {"pooling": pooling, "feature_layers": feature_layers, "l2_normalize": l2_normalize}
    return ConfigDict({**fields, **own, "feature_dropout": feature_dropout, "remat": remat})


PRETRAINED = {"pretrained": _pretrained}


def check_folder(folder: pathlib.Path, where: str) -> None:
    """Raises ValueError unless a folder has the config and the weights of a checkpoint; `where` is the field of it."""
    if not folder.is_dir():
        raise ValueError(f"{where}: there is no folder {folder}")
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not any((folder / name).is_file() for name in _WEIGHTS):
        missing.append("model.safetensors (or pytorch_model.bin)")
    if missing:
        raise ValueError(
            f"{where}: {folder} is no checkpoint of a text encoder: {' and '.join(missing)} missing; a folder of "
            "Hugging Face's has config.json, the tokenizer's files and the weights"
        )


def load_encoder(checkpoint: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """An encoder's parameters from `model.safetensors` or `pytorch_model.bin`, in one file or in parts.

    Args:
      checkpoint: a folder or a hub id.
      params: what the result looks like, arrays or ShapeDtypeStructs.

    Returns:
      NumPy arrays.

    Raises:
      ValueError: if files are missing or damaged; for parameters missing, unexpected, or of another shape.
      ImportError: if torch is needed and absent.
    """
    state = _read_weights(checkpoint)
    if encoders.detect_encoder(state) is None:
        raise ValueError(
            f"the weights of {checkpoint} are of no encoder of {', '.join(encoders.ENCODERS)}: their names are "
            f"{', '.join(sorted(state)[:4])}, ..."
        )
    try:
        return import_state_dict(state, {"params": {"backbone": params}}, parts=("backbone",))["params"]["backbone"]
    except ValueError as error:
        raise ValueError(f"{checkpoint}: {error}") from error


def save_encoder(params: Mapping[str, Any], section: ConfigDict, folder: str | os.PathLike) -> None:
    """Writes config.json and model.safetensors, which transformers' AutoModel loads; its pooler, if any, is new then.

    Args:
      params: of the encoder.
      section: its explicit section, as `encoder_section` returns it.
      folder: made if it does not exist; the tokenizer is not written.

    Raises:
      ValueError: if transformers has no such encoder.
    """
    from transformers import AutoConfig

    encoder = build_backbone(section, jnp.float32)
    model_type, fields = huggingface_fields({**vars(encoder), "name": section.name})
    flat = traverse_util.flatten_dict(dict(params), sep="/")
    rules = encoders.ENCODERS[encoders.architecture_of(flat)]
    state = {}
    for path, array in flat.items():
        found = patterns.translate(path, rules, to="torch")
        if found is None:
            raise ValueError(f"transformers' {model_type} has no parameter for {path}")
        state[found[0]] = np.ascontiguousarray(patterns.TRANSFORMS[found[1]].to_torch(np.asarray(array)))
    AutoConfig.for_model(model_type, **fields).save_pretrained(str(folder))
    safetensors.numpy.save_file(state, pathlib.Path(folder) / "model.safetensors", metadata={"format": "pt"})


def check_vocabulary(tokenizer_size: int, vocab_size: int, where: str) -> None:
    """Raises ValueError unless an encoder has as many word embeddings as its tokenizer has tokens, or a few more.

    Up to the next multiple of 64 or 128, or a hundredth more, they are padding or not in use, and logged.

    Args:
      tokenizer_size: token ids are below it.
      vocab_size: word embeddings.
      where: the field that says so, for the message.
    """
    if vocab_size == tokenizer_size:
        return
    rounded_up = vocab_size in (-(-tokenizer_size // multiple) * multiple for multiple in _VOCABULARY_MULTIPLES)
    if rounded_up or 0 < vocab_size - tokenizer_size <= tokenizer_size // 100:
        logging.info(
            "%s: %d word embeddings for %d tokens; the last %d are not used",
            where,
            vocab_size,
            tokenizer_size,
            vocab_size - tokenizer_size,
        )
        return
    raise ValueError(
        f"{where} is {vocab_size}, but the tokenizer has {tokenizer_size} tokens: "
        "they must come from the same checkpoint"
    )


def _read_config(checkpoint: str) -> dict[str, Any]:
    if checkpoint in PUBLISHED and not pathlib.Path(checkpoint).expanduser().is_dir():
        return dict(PUBLISHED[checkpoint])
    from transformers import AutoConfig  # slow to import

    path = _find(checkpoint, "config.json")
    if path is None:
        raise ValueError(f"{checkpoint} has no config.json; {_wanted()}")
    try:
        model_type = json.loads(path.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is not a readable config: {error}") from error
    if model_type not in ARCHITECTURES:
        raise ValueError(
            f"{checkpoint} is a checkpoint of model_type {model_type!r} (config.json); supported are "
            f"{', '.join(ARCHITECTURES)}"
        )
    try:
        found = AutoConfig.from_pretrained(str(path.parent), trust_remote_code=False, local_files_only=True)
        return encoder_fields(found)
    except Exception as error:  # transformers checks values with exceptions of its own
        raise ValueError(f"{checkpoint}: {error}") from error


def _read_weights(checkpoint: str) -> dict[str, np.ndarray]:
    # What is in the cache in any form, before anything is asked for.
    for cached, name in itertools.product((True, False), _WEIGHTS):
        path = _find(checkpoint, name, cached)
        if path is None:
            continue
        if not name.endswith(".index.json"):
            return read_checkpoint(path)
        try:
            parts = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"{path} is not a readable index of weights: {error!r}") from error
        found = {part: _find(checkpoint, part) for part in parts}
        if missing := [part for part, file in found.items() if file is None]:
            raise ValueError(f"{checkpoint} lacks {', '.join(missing)}, which {name} lists")
        return {key: array for file in found.values() if file for key, array in read_checkpoint(file).items()}
    raise ValueError(f"{checkpoint} has none of {', '.join(_WEIGHTS)}; {_wanted()}")


def _find(checkpoint: str, name: str, cached: bool = False) -> pathlib.Path | None:
    """A file of a folder or hub id; None if that lacks it. What is in the hub's cache is used without network.

    With `cached` nothing else is.
    """
    folder = pathlib.Path(checkpoint).expanduser()
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    from huggingface_hub import HfApi, errors, hf_hub_download

    try:
        return pathlib.Path(hf_hub_download(checkpoint, name, local_files_only=True))
    except errors.LocalEntryNotFoundError:
        if cached:
            return None
    except errors.HFValidationError as error:
        raise ValueError(f"there is no folder {checkpoint}, and it is no Hugging Face id either: {error}") from error
    try:
        # Asked once: a download asks again and again where there is no network.
        HfApi().model_info(checkpoint, timeout=_PATIENCE)
        return pathlib.Path(hf_hub_download(checkpoint, name))
    except errors.RemoteEntryNotFoundError:
        return None
    except Exception as error:  # no network, in the words of whichever library found out; no such id, or no right to it
        raise ValueError(
            f"{checkpoint!r} is no folder, and as a Hugging Face id its {name} is neither in the local cache nor to be "
            f"had from the hub: {(str(error).strip() or repr(error)).splitlines()[0]} Without network, {_wanted()}"
        ) from error


def _wanted() -> str:
    return (
        "give a folder with config.json, the tokenizer's files, and model.safetensors or pytorch_model.bin: "
        "--config.backbone.checkpoint=FOLDER"
    )
