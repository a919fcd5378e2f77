"""Soft labels, temperatures and raised logits of the heads, against the softmax over all classes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.heads import build_head
from mhe_jax.heads.base import Context, log_mean_exp
from mhe_jax.labels import LabelSpace

CLASSES, DIM, BATCH = 11, 6, 5
UNION = {"name": "batch_union"}
# One whose loss is the softmax over all classes: every node is kept, every group is the batch's.
EXACT = {
    "ohe": {},
    "ohe in two parts": {"frequent": 4, "bottleneck": 3},
    "mhp": {"head_sizes": (4, 3)},
    "mhs": {"head_sizes": (1, 11), "sampler": UNION},
}
CASCADE = {"head_sizes": (4, 3), "hidden_dim": 5, "objective": "candidates", "num_candidates": 4, "beam_width": 4}


def made(name, **fields):
    fields = {**EXACT.get(name, {}), **fields}
    head = build_head(name.split()[0], num_classes=CLASSES, features_dim=DIM, **fields)
    features = jax.random.normal(jax.random.key(1), (BATCH, DIM))
    params = jax.tree.map(lambda x: 3 * x, head.init(jax.random.key(0), features, 1, method="topk"))
    return head, params, features


def log_probs(head, params, features):
    ids = jnp.broadcast_to(jnp.arange(CLASSES), (BATCH, CLASSES))
    return head.apply(params, features, ids, method="scores")


def soft(seed=0):
    rng = np.random.default_rng(seed)
    labels = np.stack([rng.choice(CLASSES, 3, replace=False) for _ in range(BATCH)])
    targets = rng.dirichlet(np.ones(3), BATCH).astype(np.float32)
    labels[0, 2], targets[0] = -1, (0.25, 0.75, 0)
    return jnp.asarray(labels), jnp.asarray(targets)


def expected(scores, labels, targets):
    taken = jnp.take_along_axis(scores, jnp.maximum(labels, 0), axis=1)
    return -(targets * taken).sum(axis=1)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("name", [*EXACT, "mhc"])
def test_the_loss_of_soft_labels(name, temperature):
    head, params, features = made(name, **(CASCADE if name == "mhc" else {}))
    labels, targets = soft()
    context = Context(key=jax.random.key(3), targets=targets, temperature=temperature)
    loss, _ = head.apply(params, features, labels, context, method="loss")
    cooled = jax.nn.log_softmax(log_probs(head, params, features) / temperature, axis=1)
    if name == "mhc":
        # Besides, the level of the groups: a distribution over the nodes.
        loss -= expected(jax.nn.log_softmax(of_root(params, features) / temperature, axis=1), labels // 3, targets)
    np.testing.assert_allclose(loss, expected(cooled, labels, targets), rtol=2e-4)


def test_a_path_for_each_of_the_soft_labels():
    head, params, features = made("mhc", head_sizes=(4, 3), hidden_dim=5, objective="path", beam_width=4)
    labels, targets = soft()
    loss, _ = head.apply(params, features, labels, Context(targets=targets), method="loss")
    np.testing.assert_allclose(loss, expected(log_probs(head, params, features), labels, targets), rtol=2e-4)


def of_root(params, features):
    root = params["params"]["root"]
    return features @ root["kernel"] + root["bias"][None, :]


PRIOR = np.log(np.random.default_rng(3).dirichlet(np.ones(CLASSES))).astype(np.float32)


@pytest.mark.parametrize("name", ["ohe", "ohe in two parts", "mhs", "mhc"])
def test_adjusted_logits_are_those_of_the_softmax_plus_the_prior(name):
    head, params, features = made(name, **(CASCADE if name == "mhc" else {}))
    labels = jnp.arange(BATCH) * 2
    context = Context(key=jax.random.key(3), adjustment=head.adjustment(PRIOR))
    loss, _ = head.apply(params, features, labels, context, method="loss")
    adjusted = jax.nn.log_softmax(log_probs(head, params, features) + PRIOR[None, :], axis=1)
    if name == "mhc":
        means = [np.log(np.mean(np.exp(PRIOR[at : at + 3]))) for at in (0, 3, 6, 9)]
        of_nodes = jax.nn.log_softmax(of_root(params, features) + jnp.array(means)[None, :], axis=1)
        loss += jnp.take_along_axis(of_nodes, (labels // 3)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(loss, -jnp.take_along_axis(adjusted, labels[:, None], axis=1)[:, 0], rtol=2e-4)


def test_a_product_is_adjusted_by_its_digits_exactly_where_priors_are_products():
    head = build_head("mhp", num_classes=12, features_dim=DIM, head_sizes=(4, 3))
    features = jax.random.normal(jax.random.key(1), (BATCH, DIM))
    params = head.init(jax.random.key(0), features, 1, method="topk")
    rng = np.random.default_rng(0)
    prior = np.log(np.outer(rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(3)))).reshape(-1).astype(np.float32)
    labels = jnp.array([0, 4, 7, 9, 11])
    context = Context(adjustment=head.adjustment(prior))
    loss, _ = head.apply(params, features, labels, context, method="loss")
    ids = jnp.broadcast_to(jnp.arange(12), (BATCH, 12))
    adjusted = jax.nn.log_softmax(head.apply(params, features, ids, method="scores") + prior[None, :], axis=1)
    np.testing.assert_allclose(loss, -adjusted[jnp.arange(BATCH), labels], rtol=1e-4)


def test_the_mean_of_a_group_is_that_of_its_members_and_the_lowest_where_there_is_none():
    found = log_mean_exp(np.log(np.array([0.2, 0.4, 0.1], np.float32)), np.array([0, 0, 2]), 3)
    np.testing.assert_allclose(np.exp(found), [0.3, 0.1, 0.1], rtol=1e-6)


def test_heads_that_take_no_soft_labels_say_so():
    labels, targets = soft()
    for name, fields, named in (
        ("mhs", {"head_sizes": (4, 3), "sampler": {"name": "per_example", "num_groups": 2}}, "sampler"),
        ("mhp", {"head_sizes": (4, 3), "objective": "bce_concat", "rank": 1}, "objective"),
    ):
        head, params, features = made(name, **fields)
        with pytest.raises(ValueError, match=f"{named} .*takes no soft labels"):
            head.apply(params, features, labels, Context(key=jax.random.key(0), targets=targets), method="loss")


def test_a_head_without_a_softmax_is_not_adjusted():
    head = build_head("ohe", num_classes=CLASSES, features_dim=DIM, margin={"name": "arcface"})
    with pytest.raises(ValueError, match=r"config.logit_adjustment is set, but .* has no softmax"):
        head.adjustment(PRIOR)


def test_sigmoids_of_digits_are_not_adjusted():
    head = build_head("mhp", num_classes=12, features_dim=DIM, head_sizes=(4, 3), objective="bce_concat")
    with pytest.raises(ValueError, match="config.logit_adjustment is set, but config.head.objective 'bce_concat' has"):
        head.adjustment(np.zeros(12, np.float32))


@pytest.mark.parametrize("name", ["mhp", "mhc"])
def test_free_codes_are_in_no_mean_of_priors(name):
    """Codes 1 and 2 of the first node, and all of the third, have no class."""
    free = (1, 2, 6, 7, 8)
    fields = {"objective": "candidates"} if name == "mhc" else {}
    head = build_head(name, LabelSpace(CLASSES, (4, 3), free), DIM, **fields)
    found = head.adjustment(PRIOR)
    of_nodes = found[0] if name == "mhc" else found[:4]
    priors = np.exp(PRIOR)
    lowest = min(priors[code] for code in range(CLASSES) if code not in free)
    expected = [priors[0], priors[3:6].mean(), lowest, priors[9:].mean()]
    np.testing.assert_allclose(np.exp(of_nodes), expected, rtol=1e-5)


def test_codes_without_a_class_are_raised_by_no_more_than_classes():
    for name in ("mhs", "mhc", "mhp"):
        head = build_head(name, LabelSpace(10, (4, 3)), DIM, mask_padding=False)
        for part in jax.tree.leaves(head.adjustment(np.full(10, -2.0, np.float32))):
            np.testing.assert_allclose(part, -2.0, rtol=1e-6)
