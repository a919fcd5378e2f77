"""A run as a folder that is passed on: its weights as safetensors, its config inside one of Hugging Face's form.

Reading one runs no code of it and takes no path from it: a field that names a file means the folder's own, or nothing.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import safetensors

from mhe_jax.data.texts.sparse.word_fields import FOLDER as VECTORIZER
from mhe_jax.interop.state_files import read_checkpoint
from mhe_jax.settings import defaults
from mhe_jax.train.checkpoints import same_model
from mhe_jax.train.parallel.mesh import put

WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer"
# Of config.json: whose it is, and where the run's own config stands in it.
MODEL_TYPE, RUN = "mhe_jax", "run"
# In the metadata of the weights.
CODES = "codes"

# Fields with paths, by section; '' is the top level.
_PATHS = {
    "": ("init_from",),
    "data": ("path", "eval_root", "cache_dir", "data_dir", "tokenizer", "vectorizer", "features"),
    "codes": ("path",),
    "backbone": ("checkpoint",),
}


def is_published(folder: pathlib.Path) -> bool:
    """Whether a folder's weights are those of a published run."""
    return (folder / WEIGHTS).is_file() and not (folder / "checkpoints").is_dir()


def without_paths(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run without what it names on the machine where it was trained."""
    fields = {name: dict(value) if isinstance(value, dict) else value for name, value in fields.items()}
    for section, names in _PATHS.items():
        found = fields.get(section) if section else fields
        for name in names:
            if isinstance(found, dict) and name in found:
                found[name] = ""
    # Files that only training reads.
    for section, name in (("distillation", "file"), ("class_weights", "path")):
        if (fields.get(section) or {}).get(name):
            fields[section] = defaults()[section].to_dict()
    # The encoder beside a bag of words.
    network = (fields.get("backbone") or {}).get("network")
    if isinstance(network, Mapping) and "checkpoint" in network:
        fields["backbone"]["network"] = {**network, "checkpoint": ""}
    return fields


def run_fields(folder: pathlib.Path, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a run's config by a folder's config.json: as they are, or those inside that of a published run.

    Raises:
      ValueError: if the config of a published run is damaged.
    """
    if fields.get("model_type") != MODEL_TYPE:
        if is_published(folder):
            raise ValueError(f"{folder / 'config.json'}: model_type must be {MODEL_TYPE!r}, as `mhe push` writes it")
        return dict(fields)
    if not isinstance(fields.get(RUN), dict):
        raise ValueError(f"{folder / 'config.json'}: {RUN} must be an object, the config of the run")
    found = without_paths(fields[RUN])
    data = found.get("data")
    for name, kept in (("tokenizer", TOKENIZER), ("vectorizer", VECTORIZER)):
        if isinstance(data, dict) and (folder / kept).is_dir():
            data[name] = str(folder / kept)
        elif isinstance(data, dict) and name in data:
            raise ValueError(f"{folder} lacks the folder {kept}, with which its texts are read")
    return found


def codes_digest(folder: pathlib.Path) -> str | None:
    """The digest of the codes by which a published run's weights speak of classes, see `LabelCodes.digest`.

    None for other folders, and for weights that do not say it. That a file is damaged is for `read_weights` to say.
    """
    if not is_published(folder):
        return None
    try:
        with safetensors.safe_open(folder / WEIGHTS, "numpy") as file:
            return (file.metadata() or {}).get(CODES)
    except (OSError, safetensors.SafetensorError):
        return None


def named(weights: Any) -> dict[str, np.ndarray]:
    """The arrays of {'params', 'batch_stats'} by their paths, as the file has them."""
    leaves = jax.tree_util.tree_leaves_with_path(weights)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.ascontiguousarray(jax.device_get(leaf))
        for path, leaf in leaves
    }


def read_weights(folder: pathlib.Path, abstract: dict, whole: bool = True) -> dict:
    """The weights of a published run, on the shapes and shardings of `abstract`, whose tables may have more rows.

    Without `whole`, `abstract` may be a part of them.

    Raises:
      ValueError: if the file is damaged, or of another model.
    """
    path = folder / WEIGHTS
    arrays = read_checkpoint(path)
    shapes = same_model.shapes(abstract)
    missing, unexpected = sorted(shapes.keys() - arrays.keys()), sorted(arrays.keys() - shapes.keys()) if whole else []
    if missing or unexpected:
        raise ValueError(f"{path} is of another model: it lacks {missing[:3]}, and has {unexpected[:3]} beside")

    def filled(key: Any, leaf: Any) -> jax.Array:
        name = jax.tree_util.keystr(key, simple=True, separator="/")
        array = arrays[name]
        rows = leaf.shape[0] - array.shape[0] if array.ndim and array.ndim == len(leaf.shape) else 0
        if rows > 0:  # zeros that make the table a multiple of the devices here
            array = np.pad(array, [(0, rows), *[(0, 0)] * (array.ndim - 1)])
        if array.shape != leaf.shape:
            raise ValueError(f"{path} is of another model: {name} is {list(array.shape)}, not {list(leaf.shape)}")
        return put(array.astype(leaf.dtype), leaf)

    return jax.tree_util.tree_map_with_path(filled, abstract)
