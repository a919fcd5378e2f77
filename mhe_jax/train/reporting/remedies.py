"""What makes a model fit that does not: changes of its config, one by one, compiled."""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.settings import Settings
from mhe_jax.targets.target import Target
from mhe_jax.train.optim.optimizer import OPTIMIZERS
from mhe_jax.train.reporting.head_costs import HeadCost, attempted, checked


def tried(config: ConfigDict, target: Target) -> list[tuple[str, HeadCost]]:
    """Changes of batch, mesh, dtype and optimizer as flags, and what the config's own head takes with each.

    What is not possible for the config is left out.
    """
    changes, models = [], []
    for change in _changes(Settings.from_config(config), len(target.devices)):
        changed = config.copy_and_resolve_references()
        with changed.unlocked():
            changed.update_from_flattened_dict(change)
        try:
            settings, mesh = checked(changed, target)
        except ValueError:  # a batch that cannot be cut so
            continue
        changes.append(" ".join(f"--config.{path}={value}" for path, value in change.items()))
        models.append((settings, settings.head, mesh))
    costs = zip(changes, attempted(models), strict=True)
    return [(change, cost) for change, cost in costs if isinstance(cost, HeadCost)]


def owned_tables(settings: Settings) -> list[dict[str, Any]]:
    """Fields that let a head's loss move its table, see `mhe_jax.ops.owned`, by path; none where that does not go.

    The first have the rule of the config's optimizer, so that they train as it does, but for a cascade's rows, of which
    a step moves those alone that it uses. The second have no momentum, in whose place stands a larger rate, and so no
    state.
    """
    optimizer, clip = settings.optimizer, settings.clip
    clips_head = clip.name != "none" and "head" in clip.get("parts", ("backbone", "head"))
    if settings.accumulate_steps > 1 or clips_head or optimizer.get("no_decay") or optimizer.get("decay_after"):
        return []
    if optimizer.name not in ("sgd", "adamw"):  # LAMB is no rule of tables; others are errors where they are built
        return []
    rate, momentum = optimizer.get("head_rate", 1.0), optimizer.get("momentum", 0.9)
    usual = registry.options(OPTIMIZERS[optimizer.name])
    fields = {
        "updates": "owned",
        "storage": "bfloat16",
        "weight_decay": optimizer.get("weight_decay", usual["weight_decay"]),
    }
    if optimizer.name == "adamw":
        constants = {name: optimizer.get(name, usual[name]) for name in ("b1", "b2", "eps")}
        found = [{"name": "adamw", **fields, "moments": "bfloat16", "rate": rate, **constants}]
    else:
        alone = {"name": "sgd", **fields, "rate": round(rate / (1 - momentum), 6)}
        same = {"name": "sgd", **fields, "moments": "bfloat16", "rate": rate, "momentum": momentum}
        nesterov = optimizer.get("nesterov", False)
        found = [*([same] if momentum and not nesterov else []), alone]
    return [{f"table_optimizer.{name}": value for name, value in one.items()} for one in found]


def _changes(settings: Settings, devices: int) -> Iterator[dict[str, Any]]:
    for parts in (4, 16):
        if settings.table_optimizer.name == "none":
            yield {"accumulate_steps": settings.accumulate_steps * parts}
        yield {"global_batch_size": settings.global_batch_size // parts}
    if settings.dtype == "float32":
        yield {"dtype": "bfloat16"}
    if settings.optimizer.get("momentum"):
        nesterov = {"optimizer.nesterov": False} if settings.optimizer.get("nesterov") else {}
        yield {"optimizer.momentum": 0.0, **nesterov}
    if settings.head.name in ("ohe", "mhc") and settings.table_optimizer.name == "none":
        yield from owned_tables(settings)
    if devices > 1 and settings.mesh.classes == 1:
        yield {"mesh.data": 1, "mesh.classes": devices}
        yield {"shard_backbone": True}
