"""Which head for so many classes on such a device: all of them by their shapes, the best few by compiling them."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mhe_jax.data.build import Data, build_data
from mhe_jax.data.faces.dataset import FaceData
from mhe_jax.data.features.dataset import FeatureData
from mhe_jax.data.images.dataset import ImageData
from mhe_jax.data.texts.sparse.dataset import SparseData
from mhe_jax.recipes import heads
from mhe_jax.recipes.files import load_config
from mhe_jax.settings import Settings
from mhe_jax.targets.target import Target
from mhe_jax.train import backbone
from mhe_jax.train.reporting import programs, remedies
from mhe_jax.train.reporting.head_costs import HeadCost, ambient, attempted, checked

# By kind of data, from the most accurate where all fit (docs/results.md): the head, and the shipped config with it.
RANKED = {
    "images": {
        "ohe": (heads.ohe, "image_folder_ohe"),
        "mhs": (heads.mhs_of_batch, "image_folder_mhs"),
        "mhc": (heads.mhc, "image_folder_mhc"),
        "mhp": (heads.mhp, "image_folder_mhp"),
    },
    "images_multilabel": {
        "ohe": (heads.xmc_ohe, "image_folder_ohe:labels"),
        "mhc": (heads.xmc_mhc, "image_folder_mhc:labels"),
        "mhs": (heads.xmc_mhs, "image_folder_mhs:labels"),
        "mhp": (heads.xmc_mhp, "image_folder_mhp:labels"),
    },
    "texts_single": {
        "ohe": (heads.ohe, "xmc_folder:ohe,single"),
        "mhs": (heads.mhs_of_batch, "xmc_folder:mhs,single"),
        "mhc": (heads.mhc, "xmc_folder:mhc,single"),
        "mhp": (heads.mhp, "xmc_folder:mhp,single"),
    },
    "texts": {
        "ohe": (heads.xmc_ohe, "xmc_folder:ohe"),
        "mhc": (heads.xmc_mhc, "xmc_folder:mhc"),
        "mhs": (heads.xmc_mhs, "xmc_folder:mhs"),
        "mhp": (heads.xmc_mhp, "xmc_folder:mhp"),
    },
    "words": {
        "ohe": (heads.xmc_ohe, "bag_ohe"),
        "mhc": (heads.xmc_mhc, "bag_mhc"),
        "mhs": (heads.xmc_mhs, "bag_mhs"),
        "mhp": (heads.xmc_mhp, "bag_mhp"),
    },
    "words_single": {
        "ohe": (heads.ohe, "bag_ohe:single"),
        "mhs": (heads.mhs_of_batch, "bag_mhs:single"),
        "mhc": (heads.mhc, "bag_mhc:single"),
        "mhp": (heads.mhp, "bag_mhp:single"),
    },
    "features": {
        "ohe": (heads.ohe, "features_ohe"),
        "mhs": (heads.mhs_of_batch, "features_mhs"),
        "mhc": (heads.mhc, "features_mhc"),
        "mhp": (heads.mhp, "features_mhp"),
    },
    "features_multilabel": {
        "ohe": (heads.xmc_ohe, "features_ohe:multilabel"),
        "mhc": (heads.xmc_mhc, "features_mhc:multilabel"),
        "mhs": (heads.xmc_mhs, "features_mhs:multilabel"),
        "mhp": (heads.xmc_mhp, "features_mhp:multilabel"),
    },
    "faces": {
        "ohe": (heads.face_ohe, "arcface_folder:full"),
        "partial": (heads.face_partial, "arcface_folder:partial"),
        "mhs": (heads.face_mhs, "arcface_folder:mhs"),
        "mhc": (heads.face_mhc, "arcface_folder:mhc"),
        "mhp": (heads.face_mhp, "arcface_folder:mhp"),
    },
}
_CONFIRMED = 3


@dataclasses.dataclass(frozen=True)
class Choice:
    """One way to train the classifier.

    head: a key of `RANKED`. shipped: a config with it. changes: fields that differ from the asked config's, by path.
    estimated: bytes of a device, by the shapes of the state and its gradient; without logits and activations.
    cost: of the compiled programs, where they were.
    """

    head: str
    shipped: str
    changes: dict[str, Any]
    model: tuple[Settings, ConfigDict, Mesh]
    estimated: int
    cost: HeadCost | None = None

    @property
    def flags(self) -> str:
        """The changes as flags of a command line."""
        return _flags(self.changes)


@dataclasses.dataclass(frozen=True)
class Advice:
    """choices: from the one to take first; those that were compiled have a cost. memory: bytes of a device."""

    choices: tuple[Choice, ...]
    memory: int
    num_classes: int
    batch_size: int

    @property
    def best(self) -> Choice | None:
        """The first choice whose compiled programs fit; None if none of those that were compiled does."""
        return next((one for one in self.choices if one.cost and one.cost.fits(self.memory)), None)


def advise(config: ConfigDict, target: Target | None, memory: int) -> Advice:
    """Compares heads, meshes and optimizers for the data, classes, features and batch of a config.

    The state of each is known from its shapes. Three are compiled, of those that may fit the most accurate; if none of
    them fits the next three, and so on. What cannot be built or trained so is left out.

    Args:
      target: devices to compile for; None for those that are here.
      memory: bytes that programs may have on each device.

    Raises:
      ValueError: as `describe`, and if nothing is possible for the config.
    """
    settings, _ = checked(config, target)
    failed: list[ValueError] = []
    waiting = sorted(_choices(config, target, failed), key=lambda one: one.estimated > memory)  # stable
    choices: list[Choice] = []
    while waiting and not any(one.cost and one.cost.fits(memory) for one in choices):
        if choices and waiting[0].estimated > memory:
            break
        few, waiting = waiting[:_CONFIRMED], waiting[_CONFIRMED:]
        for one, cost in zip(few, attempted([one.model for one in few]), strict=True):
            if isinstance(cost, HeadCost):
                choices.append(dataclasses.replace(one, cost=cost))
            else:
                failed.append(cost)
    choices += waiting
    if not choices:
        raise failed[0]
    return Advice(tuple(choices), memory, settings.data.num_classes, settings.global_batch_size)


def as_text(advice: Advice) -> str:
    """A table of the choices in MiB of a device, and the command that trains the best one on data of one's own.

    The figures are of the asked config's network; the command is of a shipped config, with its own.
    """
    lines = [
        f"{advice.num_classes:,} classes, batch {advice.batch_size}, at most {_mebibytes(advice.memory)} MiB on a "
        "device; the most accurate first:",
        f"{'head':8} {'by its shapes':>14} {'compiled':>14}",
    ]
    for one in advice.choices:
        compiled = _mebibytes(one.cost.peak) if one.cost else "-"
        verdict = "" if one.cost is None else "  fits" if one.cost.fits(advice.memory) else "  does not fit"
        lines.append(f"{one.head:8} {_mebibytes(one.estimated):>14} {compiled:>14}{verdict:14}  {one.flags}".rstrip())
    best = advice.best
    if best is None:
        return "\n".join([*lines, "", "None fits: more devices, a smaller batch, or config.accumulate_steps."])
    flags, why = _for_shipped(best)
    flags = f" {flags}" if flags else ""
    command = (
        f"mhe train --config={best.shipped} --config.data.path=DATA --config.global_batch_size={advice.batch_size}"
    )
    whose = f"Compiled on the asked network, which may not be that of {best.shipped}; `mhe describe` compiles it:"
    return "\n".join([*lines, "", *why, whose, f"{command}{flags}"])


def _for_shipped(best: Choice) -> tuple[str, list[str]]:
    """Flags that the shipped config of a choice takes, and lines on what they have other than the choice."""
    shipped = load_config(best.shipped)
    changes, why = dict(best.changes), []
    if "optimizer.momentum" in changes and "momentum" not in shipped.optimizer:
        changes = {path: value for path, value in changes.items() if not path.startswith("optimizer.")}
        why.append(f"{best.shipped} trains by {shipped.optimizer.name}, whose state is more than that of the figure.")
    if shipped.codes.name == "warmup":
        # It would have been chosen before: the warm-up's head is the most accurate one.
        changes["codes.name"] = "pretrained" if backbone.is_identity(shipped.backbone) else "identity"
        why.append(f"A warm-up, from which {best.shipped} has its codes, trains a one-hot head, which does not fit.")
    return _flags(changes), why


def _flags(changes: dict[str, Any]) -> str:
    return " ".join(f"--config.{path}={value}" for path, value in changes.items())


def _choices(config: ConfigDict, target: Target | None, failed: list[ValueError]) -> Iterator[Choice]:
    """What can be built; `failed` gets why the others cannot."""
    kind = _kind(build_data(config.data))
    for name, (section, shipped) in RANKED[kind].items():
        fields = ConfigDict(section())
        if kind == "faces" and "margin" in config.head:
            fields.margin = config.head.margin
        may_own = name in ("ohe", "mhc")
        owned = remedies.owned_tables(Settings.from_config(config)) if may_own else []
        for changes in _changes(config, target, owned):
            changed = config.copy_and_resolve_references()
            with changed.unlocked():
                changed.head = fields
                changed.table_optimizer = ConfigDict(
                    heads.FACE_SPARSE_TABLES if name == "partial" else {"name": "none"}
                )
                changed.update_from_flattened_dict(changes)
            try:
                settings, mesh = checked(changed, target)
                estimated = _estimated(settings, fields, mesh)
            except ValueError as error:
                failed.append(error)
                continue
            yield Choice(name, shipped, changes, (settings, fields, mesh), estimated)


def _kind(data: Data) -> str:
    """A key of `RANKED`."""
    if isinstance(data, FeatureData):
        return "features_multilabel" if data.multilabel else "features"
    if isinstance(data, FaceData):
        return "faces"
    if isinstance(data, ImageData):
        return "images_multilabel" if data.multilabel else "images"
    kind = "words" if isinstance(data, SparseData) else "texts"
    return kind if data.multilabel else f"{kind}_single"


def _changes(config: ConfigDict, target: Target | None, owned: list) -> Iterator[dict[str, Any]]:
    """What makes a model smaller, from what costs nothing: rows over all devices, an optimizer without slots, then a
    table that is all there is, where the head can have one."""
    devices = len(target.devices) if target else jax.device_count()
    meshes: list[dict] = [{"mesh.data": 1, "mesh.classes": devices}] if devices > 1 else [{}]
    # The shipped config may look ahead where the asked one does not, and needs a momentum for that.
    plain = {"optimizer.momentum": 0.0, "optimizer.nesterov": False}
    slots: list[dict] = [{}, plain] if config.optimizer.get("momentum") else [{}]
    for change, mesh in itertools.product([*slots, *owned], meshes):
        yield {**mesh, **change}


def _estimated(settings: Settings, section: ConfigDict, mesh: Mesh) -> int:
    with ambient(settings, mesh):
        model = programs.build_model(settings, section, mesh)
    tables, params = model.optimizer.tables, model.state.params
    dense = {**params, "head": {name: leaf for name, leaf in params["head"].items() if name not in tables}}
    return _bytes(model.state) + _bytes(dense)


def _bytes(tree: Any) -> int:
    """Bytes of one device."""
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:,.1f}"
