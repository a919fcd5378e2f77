"""From a config to the objects that every mode needs: label space, backbone, head, task, and weights to start from."""

import contextlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mhe_jax.data.build import Data
from mhe_jax.data.faces.dataset import FaceData
from mhe_jax.data.features.dataset import MultiLabelData
from mhe_jax.data.images.dataset import ImageData
from mhe_jax.data.images.recipes import Augmentation, build_augmentation
from mhe_jax.data.teacher import build_distillation
from mhe_jax.data.texts.dataset import TextData
from mhe_jax.data.texts.sparse.dataset import SparseData
from mhe_jax.data.texts.sparse.embedded import EmbeddedWords
from mhe_jax.data.texts.sparse.word_fields import FOLDER, WordFields
from mhe_jax.heads import build_head, digits_of
from mhe_jax.interop import class_rows
from mhe_jax.interop.face_heads import is_face_folder, read_face_folder
from mhe_jax.interop.torch import import_state_dict, read_checkpoint
from mhe_jax.labels import LabelCodes, LabelSpace
from mhe_jax.models import build_backbone
from mhe_jax.settings import Settings, defaults
from mhe_jax.tasks.classification import Classification
from mhe_jax.tasks.crossed import MultiLabelImages, TextClassification
from mhe_jax.tasks.multilabel import MultiLabel
from mhe_jax.tasks.verification import Verification
from mhe_jax.train import data_digest, kept_encoder, label_codes, old_configs
from mhe_jax.train.backbone import backbone_section, pretrained
from mhe_jax.train.checkpoints import complete, published
from mhe_jax.train.checkpoints.checkpoint import Checkpoints
from mhe_jax.train.classes import FILE, Classes, check_same, of_fields
from mhe_jax.train.parallel import distributed
from mhe_jax.train.parallel.mesh import put
from mhe_jax.train.reporting import stored
from mhe_jax.train.reporting.writers import write_atomically
from mhe_jax.train.weights import abstract_weights

Task = Classification | TextClassification | MultiLabel | MultiLabelImages | Verification


def build_task(
    settings: Settings,
    head_section: ConfigDict,
    data: Data,
    num_classes: int,
    check_tokenizer: bool = True,
    space: LabelSpace | None = None,
) -> Task:
    """The backbone of a config, as in `backbone_section`, and a head; nothing is computed yet.

    Without a `space` the classes are those of the head's section, `num_classes`.
    """
    dtype = jnp.dtype(settings.dtype)
    backbone = build_backbone(backbone_section(settings, data, check_tokenizer), dtype)
    space = space or digits_of(head_section.name, head_section.get("head_sizes", ()), num_classes)
    if isinstance(data, FaceData) and "margin" not in head_section:
        raise ValueError("config.head.margin is missing: faces are verified by angles, and trained by heads on cosines")
    kind = "multilabel" if data.multilabel else "softmax"
    precision = settings.head_matmul_precision or None
    storage = settings.table_optimizer.get("storage", "float32")
    head = build_head(head_section, space, backbone.features_dim, kind=kind, dtype=dtype, storage=storage)
    augmentation = augmentation_for(settings, data)
    teacher = build_distillation(settings.distillation)
    taught = {"teacher_weight": teacher.weight, "temperature": teacher.temperature} if teacher.teaches else {}
    if isinstance(data, TextData | MultiLabelData | SparseData):
        of_documents = MultiLabel if data.multilabel else TextClassification
        return of_documents(backbone, head, data.example, head_precision=precision, **taught)
    if settings.dropout_off_after_step:
        raise ValueError(
            f"config.dropout_off_after_step is {settings.dropout_off_after_step}, but only encoders of texts switch "
            "their dropout: set it to 0"
        )
    if isinstance(data, FaceData):
        return Verification(backbone, head, data, head_precision=precision, augmentation=augmentation)
    of_pictures = MultiLabelImages if data.multilabel else Classification
    return of_pictures(backbone, head, data, head_precision=precision, augmentation=augmentation, **taught)


def augmentation_for(settings: Settings, data: Data) -> Augmentation | None:
    """The augmentation of a config for its data; raises ValueError where that has no pictures, or none to be mixed."""
    augmentation, name = build_augmentation(settings.augment), settings.data.name
    if augmentation is None:
        return None
    if not isinstance(data, ImageData):
        raise ValueError(
            f"config.augment is {settings.augment.name!r}, but config.data {name!r} has no pictures: set augment.name "
            "= 'none'"
        )
    if augmentation.mixes and (data.multilabel or isinstance(data, FaceData)):
        why = "a picture has many labels" if data.multilabel else "faces are trained by margins on one identity"
        raise ValueError(
            f"config.augment.mixup is {augmentation.mixup} and config.augment.cutmix is {augmentation.cutmix}, but of "
            f"config.data {name!r} {why}: set both to 0"
        )
    return augmentation


def claim_workdir(
    workdir: pathlib.Path,
    config: ConfigDict,
    classes: Classes,
    data: Data | None = None,
    figures: data_digest.Figures | None = None,
    codes: LabelCodes | None = None,
) -> None:
    """Creates a run's folder with config.json, classes.json, data.json, and codes.npy where codes are not ids.

    One with checkpoints must have the same config, and its run the same data, `figures` of `data_digest`; its
    `total_epochs` or `total_steps` may be larger than they were: the run then goes on for longer, with the learning
    rate that the longer run has from there on. For texts the tokenizer and the encoder's sizes are kept too, so that
    the folder alone is enough to predict.

    Raises:
      ValueError: listing the fields, or what of the data differs; for words that `config.init_from` numbers otherwise;
        if the list of classes there has changed since it was read.
    """
    if isinstance(data, WordFields) and config.get("init_from") and "backbone" in config.init_parts:
        data.require_words(pathlib.Path(config.init_from).expanduser() / FOLDER)
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "config.json"
    if begun := is_begun(workdir):
        from mhe_jax.train import sections  # all that a config can name: slow to import

        before, there = read_workdir(workdir)
        now = json.loads(config.to_json())
        different = sections.differences(_lengthened(before.to_dict(), now), now)
        if different:
            raise ValueError(
                f"workdir {workdir} was made with another config: {'; '.join(different)}; choose another --workdir, "
                f"where --config.init_from={workdir} starts from the weights of this one"
            )
        check_classes(workdir, classes)
        data_digest.check_unchanged(workdir, figures or {})
        if (there.is_kept or classes.is_kept) and _as_stored(there) != _as_stored(classes):
            raise ValueError(f"{workdir}: its classes were changed meanwhile: start again")
    if distributed.is_main():
        write_atomically(path, json.dumps(json.loads(config.to_json()), indent=2) + "\n")
        write_atomically(workdir / FILE, stored.as_text(classes.as_fields()) + "\n")
        label_codes.keep(workdir, codes or LabelCodes.identity(classes.number))
        if figures is not None:
            write_atomically(workdir / data_digest.FILE, json.dumps(figures, indent=2) + "\n")
        if isinstance(data, EmbeddedWords) and not begun:
            kept_encoder.copy(pathlib.Path(data.features, kept_encoder.FOLDER), workdir / kept_encoder.FOLDER)
        if isinstance(data, WordFields):
            data.save_vectorizer(workdir / FOLDER)
        if isinstance(data, TextData):
            data.save_tokenizer(workdir / "tokenizer")
            section = backbone_section(Settings.from_config(config), data)
            write_atomically(workdir / "backbone.json", json.dumps(section.to_dict(), indent=2) + "\n")


def _as_stored(classes: Classes) -> str:
    return stored.as_text(classes.as_fields())


def is_begun(workdir: pathlib.Path) -> bool:
    """Whether a run in `workdir` has trained: a start there goes on with it."""
    return (workdir / "config.json").exists() and bool(complete.steps(workdir))


def _lengthened(before: dict, config: Mapping[str, Any]) -> dict:
    """The config of a run with the duration of another one where that is longer, in the same unit."""
    longer = {
        name: config[name] for name in ("total_epochs", "total_steps") if 0 < before.get(name, 0) < config.get(name, 0)
    }
    return {**before, **longer}


def check_classes(workdir: pathlib.Path, classes: Classes) -> None:
    """Raises ValueError unless these are the classes that the run in `workdir` was trained on, in their order."""
    _, trained = read_workdir(workdir)
    check_same(workdir, trained, classes.names)


def read_workdir(workdir: pathlib.Path) -> tuple[ConfigDict, Classes]:
    """The config and the classes of a run.

    The config is one of today's, whatever version wrote it, with the defaults of top-level fields that it lacks.

    Raises:
      ValueError: if the folder is not a run's.
    """
    try:
        fields = stored.read_object(workdir / "config.json")
        classes = stored.read_object(workdir / FILE)
    except OSError as error:
        raise ValueError(f"workdir {workdir} holds no run of this program: {error}") from None
    fields = published.run_fields(workdir, fields)
    return _stored_config(workdir / "config.json", fields), of_fields(workdir / FILE, classes)


def _stored_config(path: pathlib.Path, fields: dict[str, Any]) -> ConfigDict:
    usual = defaults()
    for name, value in fields.items():
        if isinstance(usual.get(name), (dict, ConfigDict)):
            if not isinstance(value, dict):
                raise ValueError(f"{path}: the section {name} is {value!r}; it must be an object, {{...}}")
        elif name in usual and not _is_like(value, usual[name]):
            raise ValueError(f"{path}: {name} is {value!r}; it must be like {usual[name]!r}")
    try:
        return ConfigDict({**usual, **old_configs.upgraded(fields)})
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no config of this program: {type(error).__name__}: {error}") from None


def _is_like(value: Any, usual: Any) -> bool:
    """Whether a value of a JSON file has the type of a field's default."""
    if type(usual) in (int, float):
        return type(value) is int or type(value) is type(usual)
    return isinstance(value, (list, tuple) if isinstance(usual, tuple) else type(usual))


def portable(config: ConfigDict, workdir: pathlib.Path) -> ConfigDict:
    """The config of a run for use with its folder alone, with what reads texts and the encoder's sizes kept there."""
    config = config.copy_and_resolve_references()
    if (workdir / "backbone.json").exists():
        with config.unlocked():
            config.data.tokenizer = str(workdir / "tokenizer")
            config.backbone = ConfigDict(stored.read_object(workdir / "backbone.json"))
    if (workdir / FOLDER).is_dir():
        with config.unlocked():
            config.data.vectorizer = str(workdir / FOLDER)
    return config


def usable_config(workdir: pathlib.Path, finished: bool = True) -> ConfigDict:
    """The config of a run, on the devices that are here, which may be others than it was trained on.

    Along 'class' there are as many of them as the run had, or the largest smaller number that divides those here.
    With `finished` it is for use with the folder alone, else for training on.

    Raises:
      ValueError: if the folder is not a run's.
    """
    config, _ = read_workdir(workdir)
    devices, mesh = jax.device_count(), config.mesh
    wanted = mesh.classes if mesh.classes > 0 else devices // max(mesh.data, 1)
    mesh.update(data=-1, classes=max(n for n in range(1, max(wanted, 1) + 1) if devices % n == 0))
    return portable(config, workdir) if finished else config


def initial_weights(settings: Settings, weights: dict, space: LabelSpace, codes: LabelCodes | None = None) -> dict:
    """`weights` = {'params', 'batch_stats'} as training shall start from them.

    A pretrained backbone has its checkpoint's; then the parts `config.init_parts` come from `config.init_from`. Rows of
    classes come to lie where `codes` has their classes; without them codes are ids.

    Raises:
      ValueError: if a source is missing, damaged, or of another model.
    """
    backbone = pretrained(settings.backbone, weights["params"]["backbone"])
    weights = {**weights, "params": {**weights["params"], "backbone": backbone}}
    return _from_source(settings, weights, space, codes) if settings.init_from else weights


def _from_source(settings: Settings, weights: dict, space: LabelSpace, codes: LabelCodes | None) -> dict:
    source, parts = pathlib.Path(settings.init_from).expanduser(), settings.init_parts
    if not set(parts) <= {"backbone", "head"}:
        raise ValueError(f"config.init_parts is {parts}; it may name backbone and head")
    if source.is_file():
        return import_state_dict(read_checkpoint(source), weights, parts, space, codes)
    if not source.is_dir():
        raise ValueError(f"config.init_from: there is no file or folder {source}")
    # A run of this program may have been exported into its own folder.
    if not (source / "checkpoints").is_dir() and is_face_folder(source):
        return import_state_dict(read_face_folder(source), weights, parts, space, codes)
    if "head" in parts and (source / "classes.json").is_file():
        _, there = read_workdir(source)
        if there.is_kept:
            raise ValueError(
                f"config.init_from: {source} keeps a list of its own classes: new_classes = 'extend' adds those of the "
                "data to it, and init_parts = ('backbone',) takes its backbone alone"
            )
        if there.number != space.num_classes:
            raise ValueError(
                f"config.init_from: {source} was trained on {there.number} classes, but here are {space.num_classes}: "
                "init_parts = ('backbone',) takes its backbone alone"
            )
    wanted: dict = {"params": {part: weights["params"][part] for part in parts}}
    if "backbone" in parts:
        wanted["batch_stats"] = weights["batch_stats"]
    theirs = label_codes.stored(source, space.num_classes) if "head" in parts else None
    if published.is_published(source):
        loaded = published.read_weights(source, wanted, whole=False)
    else:
        with contextlib.closing(Checkpoints(source, read_only=True)) as checkpoints:
            loaded, _ = checkpoints.restore_weights(wanted, space, theirs)
    if theirs is not None:
        where = f"config.init_from: {source}"
        loaded["params"]["head"] = class_rows.moved(loaded["params"]["head"], settings.head.name, theirs, codes, where)
    return {**weights, **loaded, "params": {**weights["params"], **loaded["params"]}}


def trained_weights(
    settings: Settings, task: Task, mesh: Mesh, workdir: pathlib.Path | None, codes: LabelCodes | None = None
) -> tuple:
    """The weights to evaluate or predict with: of `workdir`, its best checkpoint, else of `config.init_from`.

    `codes` are those of the run, or those that imported classes shall have; without them codes are ids.

    Returns:
      {'params', 'batch_stats'} on the mesh, and the step they are from (None for a file).

    Raises:
      ValueError: if neither holds any.
    """
    abstract, space = abstract_weights(task, mesh), task.head.label_space
    if workdir is not None and published.is_published(workdir):
        return published.read_weights(workdir, abstract), None
    if workdir is not None and (workdir / "checkpoints").is_dir():
        with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
            return checkpoints.restore_weights(abstract, space, codes)
    if not settings.init_from:
        raise ValueError(f"no weights to use: workdir {workdir} has no checkpoints and config.init_from is empty")
    if set(settings.init_parts) != {"backbone", "head"}:
        raise ValueError(f"config.init_parts is {settings.init_parts}: a model that is not trained needs all its parts")
    weights = _from_source(settings, abstract, space, codes)
    return jax.tree.map(put, weights, abstract), None
