"""Learning rates of parts of the model, as factors of the schedule's: of the head, the backbone, and its layers."""

from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from mhe_jax.models.depth import distances_from_top


def scale_parts(
    head: float, backbone: float, layer_decay: float = 1.0, bag: float = 1.0
) -> optax.GradientTransformation:
    """Updates of the parts times their rates, the weight decay included, as parameter groups of torch have it.

    Args:
      head: rate of the head.
      backbone: rate of the backbone.
      layer_decay: above 0 and at most 1; a part of the backbone that lies d layers below the last one has the rate
        `backbone` times layer_decay^d, see `mhe_jax.models.depth`.
      bag: rate of the bag of words beside a network, to which alone the backbone's rates belong then.

    Raises:
      ValueError: for another layer_decay; and where the state is made, for a backbone whose layers are not known
        or that has no other than the last, and for a rate of a bag that is not there.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"config.optimizer.layer_decay is {layer_decay}; it must be above 0 and at most 1")
    if head == backbone == layer_decay == bag == 1.0:
        return optax.identity()

    def factors(params: dict) -> dict[str, Any]:
        """A rate of each part, or of each of its parts."""
        whole = params.get("backbone", {})
        beside = "bag" in whole
        if bag != 1.0 and not beside:
            raise ValueError(f"config.optimizer.bag_rate is {bag}, but there is no bag beside a network")
        of_network = network_rates(whole.get("network", {}) if beside else whole)
        return {"head": head, "backbone": {"network": of_network, "bag": bag} if beside else of_network}

    def network_rates(network: dict) -> dict[str, float] | float:
        if layer_decay != 1.0:
            try:
                distances = distances_from_top(network)
            except ValueError as error:
                raise ValueError(f"config.optimizer.layer_decay is {layer_decay}, but {error}") from None
            if not any(distances.values()):
                raise ValueError(
                    f"config.optimizer.layer_decay is {layer_decay}, but the backbone has nothing below its last layer"
                )
            return {name: backbone * layer_decay**d for name, d in distances.items()}
        return backbone

    def init(params):
        factors(params)
        return optax.EmptyState()

    def update(updates, state, params=None):
        scaled = {name: _scaled(rate, updates[name]) for name, rate in factors(updates).items() if name in updates}
        return {**updates, **scaled}, state

    return optax.GradientTransformation(init, update)


def _scaled(rate: Any, updates: Any) -> Any:
    if isinstance(rate, dict):
        return {name: _scaled(rate[name], part) for name, part in updates.items()}
    return updates if rate == 1.0 else jax.tree.map(lambda u: rate * u, updates)


def require_trained_backbone(section: ConfigDict) -> None:
    """Raises ValueError if `config.optimizer` has a rate for a backbone that is frozen."""
    for field in ("backbone_rate", "layer_decay", "bag_rate"):
        if section.get(field, 1.0) != 1.0:
            raise ValueError(
                f"config.optimizer.{field} is {section[field]}, but config.freeze_backbone leaves it nothing to train: "
                "set one of them"
            )
    if section.get("unfreeze_steps"):
        raise ValueError(
            f"config.optimizer.unfreeze_steps is {section.unfreeze_steps}, but config.freeze_backbone keeps all "
            "frozen: set one of them"
        )
