"""From a config to the objects that every mode needs: data description, label space, backbone, head, task."""

import contextlib
import dataclasses
import itertools
import json
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mhe_jax.data.dataset import ImageData
from mhe_jax.heads import DEFAULT_NUM_HEADS, HEADS, build_head
from mhe_jax.interop.torch import import_state_dict, read_checkpoint
from mhe_jax.labels import LabelSpace
from mhe_jax.models import build_backbone
from mhe_jax.tasks.classification import Classification
from mhe_jax.train.checkpoint import Checkpoints
from mhe_jax.train.settings import Settings
from mhe_jax.train.state import abstract_weights
from mhe_jax.train.writers import write_atomically

# Fields that a run may change when it is resumed: they move work around without changing the numbers.
_FREE_FIELDS = {
    "mesh.data",
    "mesh.classes",
    "steps_per_dispatch",
    "log_every_steps",
    "eval_every_epochs",
    "eval_every_steps",
    "checkpoint_every_epochs",
    "checkpoint_every_steps",
    "keep_checkpoints",
    "data.path",
    "data.num_workers",
}


@dataclasses.dataclass(frozen=True)
class Classes:
    """What a run remembers of its data: enough to predict without it. `names` may be empty."""

    number: int
    names: Sequence[str]

    def name(self, index: int) -> str:
        return self.names[index] if self.names else str(index)


def label_space_of(section: ConfigDict, num_classes: int) -> LabelSpace:
    """The label space of `config.head`; an empty `head_sizes` means balanced digits, as many as the head needs.

    Raises:
      ValueError: if the sizes do not fit the classes, or the head.
    """
    sizes = tuple(section.head_sizes)
    if section.name not in HEADS:
        raise ValueError(f"config.head.name is {section.name!r}; it must be one of {', '.join(HEADS)}")
    if not sizes:
        return LabelSpace.balanced(num_classes, DEFAULT_NUM_HEADS[section.name])
    try:
        return LabelSpace(num_classes, sizes)
    except ValueError as error:
        raise ValueError(f"config.head.head_sizes: {error}") from None


def build_task(
    settings: Settings, head_section: ConfigDict, data: ImageData, num_classes: int, mesh: Mesh
) -> Classification:
    """The backbone of a config and a head on a mesh; nothing is computed yet."""
    dtype = jnp.dtype(settings.dtype)
    backbone = build_backbone(settings.backbone, dtype)
    space = label_space_of(head_section, num_classes)
    head = build_head(head_section, space, backbone.features_dim, mesh.shape["class"], dtype)
    return Classification(backbone, head, data)


def claim_workdir(workdir: pathlib.Path, config: ConfigDict, classes: Classes) -> None:
    """Creates a run's folder with config.json and classes.json; one with checkpoints must have the same config.

    Raises:
      ValueError: listing the fields that differ.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "config.json"
    if path.exists() and any(workdir.glob("checkpoints/*")):
        old, new = _flat(json.loads(path.read_text())), _flat(json.loads(config.to_json()))
        different = [
            f"{name}: {old.get(name, 'absent')} there, {new.get(name, 'absent')} here"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name) and name not in _FREE_FIELDS
        ]
        if different:
            raise ValueError(
                f"workdir {workdir} was made with another config: {'; '.join(different)}; "
                "delete it, or choose another --workdir"
            )
        check_classes(workdir, classes)
    if jax.process_index() == 0:
        write_atomically(path, json.dumps(json.loads(config.to_json()), indent=2) + "\n")
        write_atomically(workdir / "classes.json", json.dumps(dataclasses.asdict(classes), ensure_ascii=False) + "\n")


def check_classes(workdir: pathlib.Path, classes: Classes) -> None:
    """Raises ValueError unless the data has the classes that the run in `workdir` was trained on, in their order."""
    _, trained = read_workdir(workdir)
    for index, (old, new) in enumerate(itertools.zip_longest(trained.names, classes.names)):
        if old != new:
            raise ValueError(
                f"the data is not what {workdir} was trained on: class {index} is {new!r}, it was {old!r} there"
            )


def read_workdir(workdir: pathlib.Path) -> tuple[ConfigDict, Classes]:
    """The config and the classes of a run.

    Raises:
      ValueError: if the folder is not a run's.
    """
    try:
        config = ConfigDict(json.loads((workdir / "config.json").read_text()))
        classes = Classes(**json.loads((workdir / "classes.json").read_text()))
    except (OSError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"workdir {workdir} holds no run of this program: {error}") from None
    return config, classes


def initial_weights(settings: Settings, weights: dict, space: LabelSpace) -> dict:
    """`weights` = {'params', 'batch_stats'} with the parts `config.init_parts` taken from `config.init_from`.

    Raises:
      ValueError: if the source is missing, damaged, or of another model.
    """
    source, parts = pathlib.Path(settings.init_from), settings.init_parts
    if not set(parts) <= {"backbone", "head"}:
        raise ValueError(f"config.init_parts is {parts}; it may name backbone and head")
    if source.is_file():
        return import_state_dict(read_checkpoint(source), weights, parts, space)
    if not source.is_dir():
        raise ValueError(f"config.init_from: there is no file or folder {source}")
    wanted: dict = {"params": {part: weights["params"][part] for part in parts}}
    if "backbone" in parts:
        wanted["batch_stats"] = weights["batch_stats"]
    with contextlib.closing(Checkpoints(source, read_only=True)) as checkpoints:
        loaded, _ = checkpoints.restore_weights(wanted, space)
    return {**weights, **loaded, "params": {**weights["params"], **loaded["params"]}}


def trained_weights(settings: Settings, task: Classification, mesh: Mesh, workdir: pathlib.Path | None) -> tuple:
    """The weights to evaluate or predict with: of the best checkpoint in `workdir`, else of `config.init_from`.

    Returns:
      {'params', 'batch_stats'} on the mesh, and the step they are from (None for a file).

    Raises:
      ValueError: if neither holds any.
    """
    abstract, space = abstract_weights(task, mesh), task.head.label_space
    if workdir is not None and (workdir / "checkpoints").is_dir():
        with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
            return checkpoints.restore_weights(abstract, space)
    if not settings.init_from:
        raise ValueError(f"no weights to use: workdir {workdir} has no checkpoints and config.init_from is empty")
    if set(settings.init_parts) != {"backbone", "head"}:
        raise ValueError(f"config.init_parts is {settings.init_parts}: a model that is not trained needs all its parts")
    weights = initial_weights(settings, abstract, space)
    return jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), weights, abstract), None


def _flat(tree, prefix: str = "") -> dict:
    if isinstance(tree, dict) and tree:
        return {
            k: v for name, sub in tree.items() for k, v in _flat(sub, f"{prefix}.{name}" if prefix else name).items()
        }
    return {prefix: tree}
