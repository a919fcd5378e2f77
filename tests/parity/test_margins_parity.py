"""Margin softmaxes over several steps against PyTorch: losses, gradients and running statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from mhe_jax.ops import margins
from mhe_jax.ops.lengths import safe_normalize
from tests.parity import torch_margins

pytestmark = pytest.mark.torch

BATCH, CLASSES, DIM = 24, 7, 5

CASES = [
    ("none", {"scale": 20.0}),
    ("arcface", {}),
    ("arcface", {"m": 0.3, "beyond": "easy", "scale": 30.0}),
    ("arcface", {"beyond": "none"}),
    ("arcface", {"beyond": "none", "reference_gradient": True}),
    ("cosface", {}),
    ("combined", {}),
    ("combined", {"m1": 1.35, "m2": 0.1, "m3": 0.35}),
    ("curricularface", {}),
    ("curricularface", {"m": 0.4, "alpha": 0.3}),
    ("magface", {}),
    ("magface", {"beyond": "shift", "lambda_g": 20.0}),
    ("adaface", {}),
    ("adaface", {"m": 0.3, "h": 1.0, "t_alpha": 0.5}),
]


def batch(rng, weight):
    """Features at all angles to their classes, of norms below and above all limits, and labels."""
    labels = rng.integers(CLASSES, size=BATCH)
    directions = weight[labels] * np.linspace(-3, 3, BATCH)[:, None] + rng.normal(size=(BATCH, DIM))
    units = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return (units * rng.uniform(4, 130, size=(BATCH, 1))).astype(np.float32), labels


def step(margin, features, weight, labels, statistics):
    """Losses [B] of the softmax over all classes, and the statistics after the batch."""
    unit, norms = safe_normalize(features)
    cosines = margins.clamp_cosine(unit @ safe_normalize(weight)[0].T)
    own = jnp.take_along_axis(cosines, labels[:, None], axis=1)[:, 0]
    statistics = margin.updated(statistics, own, norms, jnp.ones(len(labels)))
    threshold = margin.threshold(own, norms, statistics)
    if threshold is not None:
        cosines = margins.hard_negatives(cosines, threshold[:, None], margin.hard_boost(statistics))
    target = margin.target(own, norms, statistics)
    is_own = jnp.arange(weight.shape[0])[None, :] == labels[:, None]
    log_probabilities = jax.nn.log_softmax(margin.scale * jnp.where(is_own, target[:, None], cosines))
    penalty = margin.penalty(norms)
    losses = -jnp.take_along_axis(log_probabilities, labels[:, None], axis=1)[:, 0]
    return losses + (0.0 if penalty is None else penalty), statistics


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_losses_gradients_and_statistics_over_several_steps(name, fields):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(CLASSES, DIM)).astype(np.float32)
    margin = margins.MARGINS[name](**fields)
    statistics, state = margin.statistics(), {}

    def total(features, weight, labels, statistics):
        losses, statistics = step(margin, features, weight, labels, statistics)
        return losses.sum(), (losses, statistics)

    ours = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
    for _ in range(3):
        features, labels = batch(rng, weight)
        inputs = [torch.tensor(array, requires_grad=True) for array in (features, weight)]
        expected = torch_margins.loss(name, fields, *inputs, torch.tensor(labels), state)
        expected.sum().backward()
        (_, (losses, statistics)), gradients = ours(features, weight, labels, statistics)
        np.testing.assert_allclose(losses, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
        for gradient, tensor in zip(gradients, inputs, strict=True):
            scale = tensor.grad.abs().max().item()
            np.testing.assert_allclose(gradient / scale, tensor.grad.numpy() / scale, atol=1e-5)
        assert statistics.keys() == state.keys()
        for key, value in state.items():
            np.testing.assert_allclose(statistics[key], value.item(), rtol=1e-5, atol=1e-6)
