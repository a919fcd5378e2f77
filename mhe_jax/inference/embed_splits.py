"""The features of all splits of a config's data by a trained backbone, as a folder that heads are trained on."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import jax
import scipy.sparse
import tqdm
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.data.dataset import PairedSplit, StreamSplit
from mhe_jax.data.features import labels as files
from mhe_jax.data.features.folder import TEST, TRAIN, VALID
from mhe_jax.data.features.writer import FolderWriter, save_matrix
from mhe_jax.data.known_labels import ignored_labels, known_labels
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.sparse.word_fields import WordFields
from mhe_jax.settings import Settings
from mhe_jax.train import backbone, data_digest, experiment, feature_codes, kept_encoder, left_to_data
from mhe_jax.train.checkpoints.published import named
from mhe_jax.train.classes import Classes
from mhe_jax.train.features import embedded
from mhe_jax.train.numbered import numbered
from mhe_jax.train.parallel import distributed
from mhe_jax.train.parallel.mesh import make_mesh, shares

DTYPES = ("float16", "float32")
_EVERY = 64  # batches between two states on the disk


def embed_splits(
    config: ConfigDict, workdir: pathlib.Path | None, output: pathlib.Path, dtype: str = "float16", pooling: str = ""
) -> dict[str, tuple[int, int]]:
    """Writes the features of each split, as evaluation has them and the head sees them, with labels and class names.

    The folder is that of `mhe_jax.data.features.folder`; of texts the encoder is kept in it too, see
    `mhe_jax.train.kept_encoder`. A call that is interrupted goes on when it is made again.

    Args:
      config: of the run, or one whose backbone has weights: a pretrained one, or that of `config.init_from`.
      workdir: the run, if it is one.
      output: the folder.
      dtype: one of `DTYPES`.
      pooling: of encoders of texts: that of the config, or another one.

    Returns:
      (rows, width) of each split by the name of its folder.

    Raises:
      ValueError: if the backbone has no weights, the data is missing or has no labels for each example, `output` holds
        something else, such as a part that other weights made, or a feature is not finite in `dtype`.
    """
    config = _with_backbone_of(config, workdir, pooling)
    settings = Settings.from_config(config)
    mesh = make_mesh(settings.mesh)
    data = build_data(settings.data)
    splits = data.load()
    config = left_to_data.by_data(config, data, splits.train.num_examples, shares(mesh)["num_devices"])
    settings = Settings.from_config(config)
    figures = data_digest.same_everywhere(splits, data.num_classes, settings.peer_seconds)
    if workdir is not None and (classes := experiment.read_workdir(workdir)[1]).is_kept:
        splits = numbered(workdir, classes, data, splits)
    if isinstance(splits.eval, PairedSplit):
        raise ValueError(f"config.data.name is {config.data.name!r}: pairs of faces have no labels; see `mhe predict`")
    # A head is not needed: one that takes no room stands in its place.
    task = experiment.build_task(settings, ConfigDict({"name": "ohe"}), data, 1)
    batch_size = -(-settings.global_batch_size // mesh.size) * mesh.size
    source = {"model": _digest(config), "data": figures, "dtype": dtype, "batch_size": batch_size}
    written = {}
    with jax.set_mesh(mesh), jax.default_matmul_precision(settings.matmul_precision):
        weights = feature_codes.first_weights(settings, task, mesh)
        writer = FolderWriter(output, {**source, "weights": _digest_of(weights)}) if distributed.is_main() else None
        for name, split in ((TRAIN, splits.train), (VALID, splits.eval), (TEST, splits.test)):
            if split is not None:
                _write(writer, name, _strict(split), task, weights, batch_size, mesh, dtype)
                written[name] = split.num_examples, task.head.features_dim
                of_pictures = getattr(split, "many", None) is not None
                filtered = ignored_labels(split) if of_pictures else getattr(split, "filtered", None)
                if writer is not None and filtered is not None:
                    save_matrix(output / name / files.FILTERED, scipy.sparse.csr_matrix(filtered, dtype="float32"))
    if writer is not None:
        if isinstance(data, TextData) and not isinstance(data, WordFields):
            kept_encoder.save(
                output / kept_encoder.FOLDER, settings, data, jax.device_get(weights)["params"]["backbone"]
            )
        writer.close(list(Classes(data.num_classes, splits.class_names).all_names))
    return written


def _with_backbone_of(config: ConfigDict, workdir: pathlib.Path | None, pooling: str) -> ConfigDict:
    """A config that starts from the weights of the backbone of a run, or from those that it names itself."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        if workdir is not None:
            config.init_from = str(workdir)
        if config.init_from:
            config.init_parts = ("backbone",)
        if pooling:
            if "pooling" not in config.backbone:
                raise ValueError(
                    f"--pooling is of encoders of texts, but config.backbone.name is {config.backbone.name!r}"
                )
            config.backbone.pooling = pooling
    if not backbone.has_weights(config):
        raise ValueError(
            f"the backbone {config.backbone.name!r} has no weights: name a run by --workdir, or weights by "
            "--config.init_from, or a config with a pretrained backbone"
        )
    return config


def _strict(split: Any) -> Any:
    """A split of which an example that cannot be read ends the pass: a row for it would hold nothing."""
    return dataclasses.replace(split, on_bad_example="raise") if isinstance(split, StreamSplit) else split


def _write(
    writer: FolderWriter | None,
    name: str,
    split: Any,
    task: Any,
    weights: dict,
    batch_size: int,
    mesh: Mesh,
    dtype: str,
) -> None:
    """Features and labels of a split, from the first batch that is not yet on the disk."""
    (done,) = distributed.of_main([writer.done(name) if writer else 0])
    steps = -(-split.num_examples // batch_size)
    labels = getattr(split, "labels", None) if getattr(split, "many", None) is None else known_labels(split)
    many = labels if scipy.sparse.issparse(labels) else None
    rows = writer.split(name, (split.num_examples, task.head.features_dim), dtype, many) if writer else None
    with tqdm.tqdm(
        total=split.num_examples,
        initial=min(done * batch_size, split.num_examples),
        desc=f"embedding {name}",
        unit=" examples",
        disable=None if rows else True,  # None shows the bar on a terminal only
    ) as bar:
        for step, batch in enumerate(embedded(task, weights, split, batch_size, mesh, done), done + 1):
            if rows is not None:
                rows.add(*batch)
                if step % _EVERY == 0 or step == steps:
                    rows.save(step)
            bar.update(len(batch.rows))


def _digest(config: ConfigDict) -> str:
    """Of a config, but for the devices that it is run on, and where its weights lie, which have a digest themselves."""
    fields = {name: value for name, value in config.to_dict().items() if name not in ("mesh", "init_from")}
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _digest_of(weights: dict) -> str:
    """Of the weights that make the features."""
    state = hashlib.sha256()
    for name, array in sorted(named(weights).items()):
        state.update(f"{name} {array.dtype} {array.shape}".encode())
        state.update(array.tobytes())
    return state.hexdigest()[:16]
