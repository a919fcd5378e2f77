"""Soft labels, weights and raised logits: one result on one device and on a mesh, in value and gradient."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.heads import build_head
from mhe_jax.heads.base import Context

CLASSES, DIM, BATCH, WIDTH = 22, 6, 8, 3
UNION = {"name": "batch_union", "parts": 4}
HEADS = {
    "softmax ohe": {},
    "softmax mhc": {"head_sizes": (4, 6), "hidden_dim": 5, "objective": "candidates", "num_candidates": 2},
    "softmax mhp": {"head_sizes": (4, 6)},
    "softmax mhs": {"head_sizes": (4, 6), "sampler": UNION},
    "multilabel ohe": {},
    "multilabel mhc": {"head_sizes": (4, 6), "hidden_dim": 5, "num_candidates": 2},
    "multilabel mhp": {"head_sizes": (4, 6)},
    "multilabel mhs": {"head_sizes": (4, 6), "sampler": UNION},
}


def found(name):
    """Loss and gradient with respect to features and the root of the parameters, under the ambient mesh."""
    kind, head = name.split()
    head = build_head(head, num_classes=CLASSES, features_dim=DIM, kind=kind, **HEADS[name])
    features = jax.random.normal(jax.random.key(1), (BATCH, DIM))
    params = nn.unbox(head.init(jax.random.key(0), features, 1, method="topk"))
    rng = np.random.default_rng(0)
    labels = jnp.asarray(np.stack([rng.choice(CLASSES, WIDTH, replace=False) for _ in range(BATCH)]))
    given = {"targets": jnp.asarray(rng.dirichlet(np.ones(WIDTH), BATCH), jnp.float32)}
    if kind == "softmax":
        prior = np.log(rng.dirichlet(np.ones(CLASSES))).astype(np.float32)
        given |= {"adjustment": head.adjustment(prior), "temperature": 1.5}
    else:
        given["label_weights"] = jnp.asarray(rng.uniform(0.5, 3, (BATCH, WIDTH)), jnp.float32)
    context = Context(key=jax.random.key(2), **given)
    loss = lambda x, p: head.apply(p, x, labels, context, method="loss")[0]
    value, grads = jax.jit(
        lambda x, p: (loss(x, p), jax.grad(lambda *a: loss(*a) @ jnp.arange(1.0, 9.0), (0, 1))(x, p))
    )(features, params)
    return jax.device_get((value, grads))


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_a_mesh_gives_the_result_of_one_device(name):
    one = found(name)
    mesh = jax.make_mesh((2, 4), ("data", "class"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        several = found(name)
    # Tables have more rows there.
    same = lambda a, b: np.testing.assert_allclose(b[: len(a)], a, rtol=1e-4, atol=2e-5)
    jax.tree.map(same, one, several)
