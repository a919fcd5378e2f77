"""Which registry each section of a config is built from, and so what the fields are that a config leaves out."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from mhe_jax import registry
from mhe_jax.codes.sources import SOURCES
from mhe_jax.data.build import DATA
from mhe_jax.data.class_weights import CLASS_WEIGHTS
from mhe_jax.data.faces.dataset import FaceData
from mhe_jax.data.images.recipes import RECIPES
from mhe_jax.data.sampling import SAMPLINGS
from mhe_jax.data.teacher import DISTILLATIONS
from mhe_jax.heads import HEADS, MARGIN_HEADS, MULTILABEL_HEADS
from mhe_jax.interop.huggingface import PRETRAINED
from mhe_jax.models import BACKBONES, ENCODERS, ON_FEATURES, ON_SPARSE, PARTS, SIDE_BY_SIDE
from mhe_jax.ops.margins import MARGINS
from mhe_jax.ops.sampling import SAMPLERS
from mhe_jax.registry import Registry
from mhe_jax.settings import Settings, defaults, flat, free_fields
from mhe_jax.train.optim.averages import AVERAGES
from mhe_jax.train.optim.clip import CLIPS
from mhe_jax.train.optim.optimizer import OPTIMIZERS
from mhe_jax.train.optim.schedules import SCHEDULES
from mhe_jax.train.optim.table_rules import TABLE_OPTIMIZERS


def registries(data_name: str, single_label: bool = False) -> dict[str, Registry]:
    """The registry of each section by its path, outer sections first; what a head is depends on the data.

    single_label: whether examples of data that may have many labels each have just one.
    """
    data = DATA.get(data_name, object)
    heads = (
        MULTILABEL_HEADS
        if getattr(data, "multilabel", False) and not single_label
        else MARGIN_HEADS
        if issubclass(data, FaceData)
        else HEADS
    )
    return {
        "data": DATA,
        "backbone": {**BACKBONES, **ENCODERS, **ON_FEATURES, **ON_SPARSE, **SIDE_BY_SIDE, **PRETRAINED},
        "backbone.network": {**PARTS["network"], **PRETRAINED},
        "backbone.bag": PARTS["bag"],
        "head": heads,
        "head.margin": MARGINS,
        "head.sampler": SAMPLERS,
        "augment": RECIPES,
        "codes": SOURCES,
        "class_weights": CLASS_WEIGHTS,
        "sampling": SAMPLINGS,
        "distillation": DISTILLATIONS,
        "optimizer": OPTIMIZERS,
        "schedule": SCHEDULES,
        "average": AVERAGES,
        "table_optimizer": TABLE_OPTIMIZERS,
        "clip": CLIPS,
    }


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config by their paths, those it leaves out at their defaults; a field without one stays out."""
    found = flat({**defaults(), **config})
    for path, names in _registries_of(found).items():
        constructor = names.get(found.get(f"{path}.name", ""))
        for field, default in registry.options(constructor).items() if constructor else ():
            nested = f"{path}.{field}"
            if default is inspect.Parameter.empty or any(name.startswith(f"{nested}.") for name in found):
                continue
            if dataclasses.is_dataclass(default):
                default = registry.section_of(registries("")[nested], default)
            for name, value in flat(default, nested).items():
                found.setdefault(name, value)
    return found


def _registries_of(fields: Mapping[str, Any]) -> dict[str, Registry]:
    return registries(fields.get("data.name", ""), fields.get("data.single_label", False))


def is_free(path: str, config: Mapping[str, Any]) -> bool:
    """Whether a field may change when a run is resumed, see `mhe_jax.settings.option`.

    Args:
      path: `head.block_size`.
      config: the fields of the config by their paths.
    """
    if path.partition(".")[0] in free_fields(Settings):
        return True
    section, _, field = path.rpartition(".")
    entries = _registries_of(config).get(section, {})
    entry = entries.get(config.get(f"{section}.name", ""))
    return isinstance(entry, type) and field in free_fields(entry)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The fields in which a run's config, `old`, and another one differ, but for those that are free.

    A field that one of them leaves out counts at its default: a config from before the field existed means that.
    """
    said = flat(old).keys() | flat(new).keys()
    before, after = completed(old), completed(new)
    shown = lambda config, name: config.get(name, "absent")
    return [
        f"{name}: {shown(before, name)} there, {shown(after, name)} here"
        for name in sorted(said)
        if _plain(shown(before, name)) != _plain(shown(after, name)) and not is_free(name, after)
    ]


def _plain(value: Any) -> Any:
    """As JSON has it, which knows no tuples."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
