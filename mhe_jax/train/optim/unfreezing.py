"""Gradual unfreezing: the layers of a backbone begin to learn one after the other, from the last one down."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from mhe_jax.models.depth import distances_from_top


def unfreeze(steps: tuple[int, ...]) -> optax.GradientTransformation:
    """Updates of {'backbone', 'head'} that are 0 until a layer's turn has come; the head learns from the start.

    A layer that waits has its gradient, from which the rules before this one learn their moments; its weights stay, and
    are not decayed. BatchNorm's statistics follow the data all the time. Source: Howard and Ruder, ACL 2018 (ULMFiT,
    arXiv 1801.06146), where the last layer begins first and another one joins it every epoch.

    Args:
      steps: at which optimizer step the last layer of the backbone begins, the one below it, and so on; the last of
        them is that of all below. Of a network beside a bag they are the network's layers, and the bag learns from the
        start.

    Raises:
      ValueError: for steps that are negative or descend; where the state is made, for more of them than layers and for
        a backbone whose layers are not known.
    """
    if min(steps) < 0 or list(steps) != sorted(steps):
        raise ValueError(f"config.optimizer.unfreeze_steps is {steps}; they must be ascending, from 0 on")

    def begins(params: dict) -> dict[str, int]:
        """The step of each part of the backbone."""
        whole = params.get("backbone", {})
        try:
            distances = distances_from_top(whole.get("network", whole))
        except ValueError as error:
            raise ValueError(f"config.optimizer.unfreeze_steps is {steps}, but {error}") from None
        layers = 1 + max(distances.values())
        if len(steps) > layers:
            raise ValueError(f"config.optimizer.unfreeze_steps is {steps}, but the backbone has {layers} layers")
        return {name: steps[min(distance, len(steps) - 1)] for name, distance in distances.items()}

    def init(params):
        begins(params)
        return optax.ScaleByScheduleState(jnp.zeros([], jnp.int32))

    def update(updates, state, params=None):
        whole = updates.get("backbone", {})
        by_part = begins(updates)
        learn = lambda name, part: jax.tree.map(lambda u: jnp.where(state.count >= by_part[name], u, 0), part)
        network = {name: learn(name, part) for name, part in whole.get("network", whole).items()}
        backbone: dict[str, Any] = {**whole, "network": network} if "network" in whole else network
        return {**updates, "backbone": backbone}, optax.ScaleByScheduleState(optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)
