"""What a config will cost, without reading data or running a step: label space, parameters, memory of each head."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.heads import HEADS, digits_of
from mhe_jax.heads.base import Head
from mhe_jax.settings import Settings
from mhe_jax.targets.target import Target
from mhe_jax.train import warm_up
from mhe_jax.train.reporting import programs, remedies, report
from mhe_jax.train.reporting.head_costs import HeadCost, ambient, checked, measure


@dataclasses.dataclass(frozen=True)
class Description:
    """What `describe` found.

    target: the devices that were compiled for; None for those that are here.
    facts: lines for people about the model.
    heads: the config's own head, and its siblings where asked for, in the order of `HEADS`; chosen: its name.
    remedies: if that does not fit the target, changes of the config, and what its head takes with each.
    """

    target: Target | None
    mesh: dict[str, int]
    device_kind: str
    facts: tuple[str, ...]
    heads: tuple[HeadCost, ...]
    chosen: str
    remedies: tuple[tuple[str, HeadCost], ...] = ()


def describe(config: ConfigDict, target: Target | None = None, siblings: bool = True) -> Description:
    """A config's model, and with `siblings` every head on its backbone, on the devices that are here or on `target`.

    The programs of each head are compiled for abstract arrays, so a model may be far larger than this machine.

    Raises:
      ValueError: for anything wrong with the config, and if it leaves to the data how many classes there are, the
        channels of the pictures or the size of a batch.
    """
    settings, mesh = checked(config, target)
    space = digits_of(settings.head.name, settings.head.get("head_sizes", ()), settings.data.num_classes)
    with ambient(settings, mesh):
        model = programs.build_model(settings, settings.head, mesh)
    facts = [
        f"classes       {space.num_classes:,}",
        f"head          {settings.head.name}, head_sizes {space.head_sizes}: "
        f"{space.num_codes:,} codes, {space.num_codes - space.num_classes:,} of them padding",
        *_stages(model.task.head),
        f"features      {model.task.head.features_dim}",
        f"batch         {_batch_shapes(settings)}, compute in {settings.dtype}",
        "",
        report.parameter_table(model.state.params),
    ]
    sections = {name: _sibling(name, space.head_sizes, settings.head) for name in HEADS if siblings}
    sections[settings.head.name] = settings.head
    heads = measure([(settings, section, mesh) for section in sections.values()], with_lengths=settings.head.name)
    facts[2:2] = _warm_up(config, mesh, target)
    (own,) = (one for one in heads if one.head == settings.head.name)
    helps = () if target is None or target.fits(own.peak) else tuple(remedies.tried(config, target))
    shape = {"data": mesh.shape["data"], "class": mesh.shape["class"]}
    kind = mesh.devices.flat[0].device_kind
    return Description(target, shape, kind, tuple(facts), tuple(heads), settings.head.name, helps)


def _warm_up(config: ConfigDict, mesh: Mesh, target: Target | None) -> list[str]:
    """What to know of a config whose codes come from a warm-up."""
    if config.codes.name != "warmup" or config.new_classes == "extend":
        return []
    settings = Settings.from_config(warm_up.config_of(config))
    (cost,) = measure([(settings, settings.head, mesh)])
    verdict = f", which {target.verdict(cost.peak)}" if target else ""
    return [
        f"warm-up       {config.codes.epochs:g} epochs with a one-hot head, {cost.peak / 2**20:,.1f} MiB at the peak"
        f"{verdict}; what follows is of the phase after it"
    ]


def _stages(head: Head) -> list[str]:
    """What to know of a head that trains in stages."""
    stages: Sequence[Any] = head.stages()
    if len(stages) == 1:
        return []
    shares = ", ".join(f"{stage.sampler.rate:g}" for stage in stages)
    return [f"stages        {shares} of the groups, each in a part of the run; what follows is of the last"]


def _batch_shapes(settings: Settings) -> str:
    batch = build_data(settings.data).abstract_batch(settings.global_batch_size)
    return ", ".join(f"{name} {'x'.join(map(str, leaf.shape))}" for name, leaf in batch.items() if name != "weight")


def _sibling(name: str, head_sizes: tuple[int, ...], described: ConfigDict) -> ConfigDict:
    """Another head at its defaults, with the same digits where both have several, and the margin if there is one."""
    keep = name != "ohe" and len(head_sizes) > 1
    margin = {"margin": described.margin} if "margin" in described else {}
    return ConfigDict({"name": name, "head_sizes": head_sizes if keep else (), **margin})
