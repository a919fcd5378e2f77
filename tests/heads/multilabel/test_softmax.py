"""The two heads that train one softmax per label of a document, `mhp` and `mhs`, against dense ones."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import meta

from mhe_jax.heads import MultiLabelProductHead, MultiLabelSampledHead
from mhe_jax.heads.base import Context
from mhe_jax.labels import LabelSpace
from mhe_jax.ops.sampling import PerExample, PositiveOnly, RandomGroups

DIM = 6
SPACES = [LabelSpace(37, (8, 5)), LabelSpace(53, (5, 4, 3))]


def initialised(kind, space, **fields):
    head = kind(space, DIM, **fields)
    shapes = jax.eval_shape(lambda: head.init(jax.random.key(0), jnp.zeros((1, DIM)), 1, method="topk"))
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape, dtype=np.float32))
    return head, jax.tree.map(draw, meta.unbox(shapes)["params"])


def batch(space):
    rng = np.random.default_rng(1)
    labels = np.full((7, 5), -1, np.int32)
    for row, count in enumerate([3, 0, 1, 5, 2, 4, 1]):
        labels[row, rng.permutation(5)[:count]] = rng.choice(space.num_classes, count, replace=False)
    return jnp.asarray(rng.standard_normal((7, DIM), dtype=np.float32)), jnp.asarray(labels)


def code_logits(space, params, features, rank):
    """Logits of all codes: the sum of the digits' logits, or the rows of the table."""
    if "weight" in params:
        return features @ params["weight"].reshape(-1, DIM).T
    flat = (features @ params["kernel"] + params["bias"][None, :]).reshape(len(features), rank, -1)
    total, start = jnp.zeros((len(features), rank, 1)), 0
    for size in space.head_sizes:
        total = (total[..., :, None] + flat[:, :, None, start : start + size]).reshape(len(features), rank, -1)
        start += size
    return jax.nn.logsumexp(total, axis=1)


def compare(head, params, labels, features, allowed, rank=1):
    """Loss and gradients against a softmax over the `allowed` codes for each label."""
    hot = jax.nn.one_hot(labels, head.label_space.num_codes)
    smooth = head.label_smoothing
    weights = jnp.arange(1.0, 8.0)

    def oracle(params, features):
        logits = jnp.where(allowed[None, :], code_logits(head.label_space, params, features, rank), -1e30)
        targets = (1 - smooth) * hot + smooth * (allowed / allowed.sum())[None, None, :]
        each = optax.softmax_cross_entropy(jnp.broadcast_to(logits[:, None, :], hot.shape), targets)
        each = jnp.where(labels >= 0, each, 0.0)
        counts = (labels >= 0).sum(axis=1)
        loss = each.sum(axis=1) / (jnp.maximum(counts, 1) if head.reduction == "mean" else 1)
        return loss @ weights

    ours = lambda p, x: head.apply({"params": p}, x, labels, Context(key=jax.random.key(5)), method="loss")[0] @ weights
    ours, oracle = (jax.jit(jax.value_and_grad(fn, (0, 1)))(params, features) for fn in (ours, oracle))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), ours, oracle)


@pytest.mark.parametrize(
    ("space", "fields"),
    [
        (SPACES[0], {}),
        (SPACES[1], {"label_smoothing": 0.2, "reduction": "mean"}),
        (SPACES[1], {"rank": 3}),
        (SPACES[0], {"mask_padding": False}),
    ],
    ids=str,
)
def test_product_is_a_softmax_of_the_kronecker_sum_for_each_label(space, fields):
    head, params = initialised(MultiLabelProductHead, space, **fields)
    features, labels = batch(space)
    competing = space.num_classes if fields.get("mask_padding", True) else space.num_codes
    compare(head, params, labels, features, np.arange(space.num_codes) < competing, fields.get("rank", 1))


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize(
    "fields",
    [
        {"label_smoothing": 0.2, "block_size": 4},
        {"reduction": "mean", "mask_padding": False},
        {"sampler": RandomGroups(rate=0.9)},
    ],
    ids=str,
)
def test_sampled_is_a_softmax_over_the_groups_of_all_labels(space, fields):
    head, params = initialised(MultiLabelSampledHead, space, **fields)
    features, labels = batch(space)
    labels = labels.at[3:].set(-1)  # so that not every group is true
    size, key = space.strides[0], jax.random.key(5)
    groups = np.asarray(head.apply({"params": params}, labels.reshape(-1), key, method="sample_groups")).ravel()
    true = set(labels[labels >= 0].tolist())
    assert {label // size for label in true} <= set(groups.tolist())
    codes = np.arange(space.num_codes)
    competing = space.num_classes if fields.get("mask_padding", True) else space.num_codes
    allowed = np.isin(codes // size, groups) & (codes < competing)
    assert not allowed.all()
    compare(head, params, labels, features, allowed)


@pytest.mark.parametrize("sampler", [PerExample(), PositiveOnly()])
def test_samplers_for_one_label_are_refused_with_the_reason(sampler):
    with pytest.raises(ValueError, match="is for one label per example"):
        initialised(MultiLabelSampledHead, SPACES[0], sampler=sampler)


@pytest.mark.parametrize("kind", [MultiLabelProductHead, MultiLabelSampledHead])
def test_other_reductions_are_refused(kind):
    with pytest.raises(ValueError, match="config.head.reduction is 'max'; it must be mean or sum"):
        initialised(kind, SPACES[0], reduction="max")
