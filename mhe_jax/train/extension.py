"""A run that begins where another one is, with classes that the other has not: `config.new_classes = 'extend'`.

    config.init_from           its classes, codes and weights
    the data                   the same classes, and new ones
    one pass                   mean features of all classes, by the other run's backbone
    WORKDIR                    the new classes in free codes or new groups, their rows begun; a checkpoint of step 0

The other run is only read. Until WORKDIR has taken a step it predicts as the other run does, to the bit: the new rows
are there, but the programs are those of the old tables.
"""

import dataclasses
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mhe_jax.codes.extension import extended
from mhe_jax.data import stores
from mhe_jax.data.build import Data
from mhe_jax.data.dataset import DataError
from mhe_jax.heads import beginning, growth
from mhe_jax.labels import LabelCodes
from mhe_jax.settings import Settings, defaults
from mhe_jax.train import experiment, label_codes, numbered
from mhe_jax.train.class_means import class_means
from mhe_jax.train.classes import UNTRAINED, Begun, Classes
from mhe_jax.train.trained_model import trained_model
from mhe_jax.train.weights import abstract_weights

# Of a run's learning rate, what one that extends it has; see docs/classes.md for what more costs the old classes.
_RATE = 0.1


class Extended(NamedTuple):
    """What an extended run begins with.

    classes, codes: of the new run. weights: {'params', 'batch_stats'}, on the host. splits: with ids of the new run.
    """

    classes: Classes
    codes: LabelCodes
    weights: dict
    splits: Any


def check(settings: Settings, workdir: pathlib.Path) -> None:
    """Raises ValueError, naming the field, if a config cannot extend what `config.init_from` has trained.

    A run that has begun in `workdir` needs the other one no more, and passes.
    """
    if settings.new_classes != "extend" or experiment.is_begun(workdir):
        return
    source = pathlib.Path(settings.init_from).expanduser()
    if not settings.init_from or not (source / "classes.json").is_file():
        raise ValueError(
            f"config.new_classes is 'extend', but config.init_from {settings.init_from!r} is no run of this program: "
            "name the folder of the run to extend"
        )
    if tuple(settings.init_parts) != ("backbone", "head"):
        raise ValueError(
            f"config.init_parts is {tuple(settings.init_parts)}, but config.new_classes 'extend' keeps the head: take "
            "('backbone', 'head')"
        )
    if settings.codes.to_dict() != defaults()["codes"].to_dict():
        raise ValueError(
            f"config.codes.name is {settings.codes.name!r}, but config.new_classes 'extend' keeps the codes of "
            "config.init_from: set codes.name = 'identity', its path and epochs as they are by default"
        )
    before, _ = experiment.read_workdir(source)
    for where, here, there in (
        ("data.name", settings.data.name, before.data.name),
        ("head.name", settings.head.name, before.head.name),
    ):
        if here != there:
            raise ValueError(f"config.{where} is {here!r}, but {source} was trained with {there!r}: take that")
    sizes = tuple(settings.head.get("head_sizes", ()))
    if sizes and sizes != tuple(before.head.get("head_sizes", ())):
        raise ValueError(
            f"config.head.head_sizes is {sizes}, but an extended run keeps the digits of {source}: leave them at "
            f"{tuple(before.head.get('head_sizes', ()))}"
        )


def classes_of(
    settings: Settings, workdir: pathlib.Path, data: Data, splits: Any, mesh: Mesh
) -> tuple[Classes, LabelCodes, Any, dict | None]:
    """The classes of a run that starts, or goes on, in `workdir`, by data that is loaded.

    Returns:
      the classes; their codes, if the run keeps a list of its own; the splits with its ids as labels; and the weights
      of an extended run that begins, None for all others.
    """
    if experiment.is_begun(workdir):
        _, classes = experiment.read_workdir(workdir)
        if classes.is_kept:
            codes = label_codes.stored(workdir, classes.number)
            return classes, codes, numbered.numbered(workdir, classes, data, splits), None
    elif settings.new_classes == "extend":
        found = planned(settings, data, splits, mesh)
        return found.classes, found.codes, found.splits, found.weights
    return Classes(data.num_classes, splits.class_names), LabelCodes.identity(data.num_classes), splits, None


def planned(settings: Settings, data: Data, splits: Any, mesh: Mesh) -> Extended:
    """What the extension of `config.init_from` by the classes of `data`, which is loaded, begins with.

    Raises:
      ValueError: if the data has no new class, lacks one, or is not what the other run takes.
    """
    if jax.process_count() > 1:
        raise ValueError("an extension begins in one process: start one, and the others once it has saved step 0")
    source = pathlib.Path(settings.init_from).expanduser()
    config, before = experiment.read_workdir(source)
    codes = label_codes.stored(source, before.number)
    trained = trained_model(settings, data, mesh, source)
    if (trained.classes.states(trained.codes) == UNTRAINED).any():
        raise ValueError(f"{source} has not trained on its own new classes yet: mhe train --workdir={source}")
    kept = before.kept(config.head)
    numbering, new = kept.numbering(splits.class_names, data.num_classes, str(source))
    if not new:
        raise DataError(f"the data has no class that {source} does not know: there is nothing to extend it by")
    classes = dataclasses.replace(kept, number=kept.number + len(new), names=(*kept.names, *new))
    splits = numbered.by(numbering, classes, source, data, splits)
    with jax.set_mesh(mesh), jax.default_matmul_precision(settings.matmul_precision):
        means = class_means(
            trained.task, trained.weights, splits.train, settings.global_batch_size, mesh, classes.number
        )
    space = trained.task.head.label_space
    # Where classes share all digits, a new one tells its class from all others, and can be begun.
    alone = settings.head.name == "mhp"
    placed, sizes = extended(space, codes, means.vectors, means.present, settings.seed, alone)
    ids = tuple(range(kept.number, classes.number))
    begun = Begun(ids, space.head_sizes, space.num_classes)
    classes = dataclasses.replace(classes, head_sizes=sizes, begun=begun)
    # A code that a retired class had may be a new one's.
    task = experiment.build_task(
        settings, settings.head, data, classes.number, space=classes.space(settings.head, placed)
    )
    with jax.set_mesh(mesh):
        abstract = abstract_weights(task, mesh)["params"]["head"]
    weights = jax.device_get(trained.weights)
    head = growth.resized(weights["params"]["head"], trained.task.head, task.head, abstract)
    known, added = _with_examples(np.arange(kept.number), placed, means), _added(np.array(ids), placed, means)
    old = placed.codes(np.arange(kept.number))
    head = beginning.begun(head, task.head, known._replace(taken=old[old >= 0]), added)
    weights = {**weights, "params": {**weights["params"], "head": head}}
    return Extended(classes, placed, weights, splits)


def _with_examples(ids: np.ndarray, codes: LabelCodes, means: Any) -> beginning.Placed:
    """The codes and means of those of some classes that have both."""
    ids = ids[means.present[ids] & (codes.codes(ids) >= 0)]
    return beginning.Placed(codes.codes(ids), means.means[ids])


def _added(ids: np.ndarray, codes: LabelCodes, means: Any) -> beginning.Placed:
    """The codes of new classes, and their means; of those without examples the mean of all classes, which is likely to
    be none of them: a row of zeros would be one half to a sigmoid."""
    ids = ids[codes.codes(ids) >= 0]
    everywhere = means.means[means.present].mean(axis=0)
    return beginning.Placed(codes.codes(ids), np.where(means.present[ids, None], means.means[ids], everywhere))


def config_of(
    workdir: pathlib.Path, data: str, epochs: float, freeze: bool = True, learning_rate: float = 0.0
) -> ConfigDict:
    """The config of a run that extends the one in `workdir`: the same, but for what is trained, and for how long.

    Args:
      workdir: a run, on data of files.
      data: a folder or file like the run's own.
      epochs: passes over it; the learning rate falls from the start on, without a warm-up.
      freeze: whether the head alone is trained.
      learning_rate: at its highest; 0: a tenth of the run's, as rows that are begun are nearly where they belong.

    Raises:
      ValueError: if the folder is not a run's, or its data has no path.
    """
    config = experiment.usable_config(workdir)
    if "path" not in config.data:
        raise ValueError(
            f"{workdir} was trained on data {config.data.name!r}, which is no folder: extend it by mhe train, with "
            f"--config.init_from={workdir} --config.new_classes=extend"
        )
    if not (stores.is_remote(data) or stores.is_pattern(data) or pathlib.Path(data).expanduser().exists()):
        raise DataError(f"--data: there is no file or folder {data}")
    with config.unlocked(), config.ignore_type():
        config.data.path, config.init_from, config.init_parts = data, str(workdir), ("backbone", "head")
        config.new_classes, config.codes, config.freeze_backbone = "extend", defaults()["codes"], freeze
        config.total_epochs, config.total_steps = epochs or 1.0, 0
        if "warmup_epochs" in config.schedule:
            config.schedule.warmup_epochs = 0.0
        config.schedule.learning_rate = learning_rate or _RATE * config.schedule.learning_rate
        # What only the backbone has, what would begin after the last epoch, and scores of other examples.
        nothing: dict[str, Any] = {"unfreeze_steps": ()}
        if freeze:
            nothing.update(backbone_rate=1.0, layer_decay=1.0, bag_rate=1.0)
            config.dropout_off_after_step = 0
            if "head" not in config.clip.get("parts", ("head",)):
                config.clip = defaults()["clip"]
        config.optimizer.update({name: value for name, value in nothing.items() if name in config.optimizer})
        config.class_weights.start_epoch = config.sampling.start_epoch = 0.0
        if "start_epoch" in config.average:
            config.average.start_epoch = 0
        config.distillation = defaults()["distillation"]
        # Whatever cadence the run had, of steps perhaps that are fewer now.
        config.eval_every_steps = config.checkpoint_every_steps = 0
        config.eval_every_epochs = config.checkpoint_every_epochs = 1.0
    return config
