"""An encoder of texts in a folder of its own: what made some features, kept so that new texts can get theirs."""

import json
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax import traverse_util
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mhe_jax.data.texts.dataset import TextData
from mhe_jax.heads import build_head
from mhe_jax.models import build_backbone
from mhe_jax.settings import Settings
from mhe_jax.tasks.multilabel import MultiLabel
from mhe_jax.train.backbone import backbone_section
from mhe_jax.train.parallel.mesh import put
from mhe_jax.train.reporting import stored
from mhe_jax.train.weights import abstract_weights

FOLDER, TOKENIZER = "encoder", "tokenizer"
_FILE, _WEIGHTS = "encoder.json", "weights.safetensors"
_FIELDS = ("max_length", "text_rule", "prefix", "bucket_lengths")  # of the data, that say how a text becomes tokens


def save(folder: pathlib.Path, settings: Settings, data: TextData, params: Any) -> None:
    """Writes encoder.json, weights.safetensors and tokenizer/; `params` are the backbone's, on the host."""
    folder.mkdir(parents=True, exist_ok=True)
    data.save_tokenizer(folder / TOKENIZER)
    flat = traverse_util.flatten_dict(dict(params), sep="/")
    safetensors.numpy.save_file({path: np.asarray(leaf) for path, leaf in flat.items()}, folder / _WEIGHTS)
    content = {
        "backbone": backbone_section(settings, data).to_dict(),
        "data": {name: getattr(data, name) for name in _FIELDS},
        "dtype": settings.dtype,
    }
    (folder / _FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def copy(source: pathlib.Path, folder: pathlib.Path) -> None:
    """Makes `folder` a copy of an encoder's, whole or not at all; there is none where `source` is none."""
    shutil.rmtree(folder, ignore_errors=True)
    if source.is_dir():
        made = folder.with_name(f".{folder.name}")
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(source, made)
        made.rename(folder)


def load(folder: pathlib.Path, mesh: Mesh) -> tuple[TextData, MultiLabel, dict]:
    """What `save` wrote: what reads texts, a task that embeds them, and its weights on the mesh, which is ambient.

    Raises:
      ValueError: naming the folder, if it holds anything else.
    """
    try:
        content = stored.read_object(folder / _FILE)
        fields = {name: content["data"][name] for name in _FIELDS}
        fields["bucket_lengths"] = tuple(fields["bucket_lengths"])
        data = TextData(tokenizer=str(folder / TOKENIZER), **fields)
        dtype = jax.numpy.dtype(content["dtype"])
        backbone = build_backbone(ConfigDict(content["backbone"]), dtype)
        flat = safetensors.numpy.load_file(folder / _WEIGHTS)
    except (OSError, KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise ValueError(f"{folder} holds no encoder that `mhe embed` kept: {error}") from error
    head = build_head("ohe", num_classes=1, features_dim=backbone.features_dim, kind="multilabel")
    task = MultiLabel(backbone, head, data.example)
    abstract = abstract_weights(task, mesh)["params"]["backbone"]
    params = traverse_util.unflatten_dict(flat, sep="/")
    shapes = lambda tree: jax.tree.map(lambda leaf: tuple(leaf.shape), tree)
    if shapes(params) != shapes(abstract):
        raise ValueError(f"{folder / _WEIGHTS} does not hold the parameters that {_FILE} beside it describes")
    return data, task, {"params": {"backbone": jax.tree.map(put, params, abstract)}, "batch_stats": {}}
