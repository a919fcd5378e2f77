"""Optimizers as PyTorch defines them, from optax parts."""

from collections.abc import Callable

import jax
import optax
from ml_collections import ConfigDict

from mhe_jax import registry


def sgd(
    learning_rate: optax.Schedule,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> optax.GradientTransformation:
    """torch.optim.SGD: the decay is added to the gradient before the momentum.

    `decay_all=True` decays biases and BatchNorm parameters too, as the published system does.
    """
    decay = optax.add_decayed_weights(weight_decay, mask=None if decay_all else _matrices)
    return optax.chain(decay, optax.sgd(learning_rate, momentum or None, nesterov))


def adamw(
    learning_rate: optax.Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    decay_all: bool = False,
) -> optax.GradientTransformation:
    """torch.optim.AdamW: bias-corrected, with decoupled decay scaled by the learning rate."""
    return optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=None if decay_all else _matrices)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"sgd": sgd, "adamw": adamw}


def build_optimizer(section: ConfigDict, schedule: optax.Schedule, clip_norm: float) -> optax.GradientTransformation:
    """The optimizer of `config.optimizer`, behind a clip of the global gradient norm when `clip_norm` is positive."""
    optimizer = registry.build(OPTIMIZERS, section, "config.optimizer", learning_rate=schedule)
    return optax.chain(optax.clip_by_global_norm(clip_norm), optimizer) if clip_norm > 0 else optimizer


def _matrices(params):
    """Marks kernels and tables; vectors (biases, normalisation) are not decayed."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
