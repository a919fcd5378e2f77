"""CascadeHead with objective `candidates` against a float64 oracle that goes through the tree node by node."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import meta

from mhe_jax.heads import CascadeHead
from mhe_jax.labels import LabelSpace

DIM, HIDDEN, BATCH = 6, 5, 8
SPACES = [LabelSpace(13, (13,)), LabelSpace(37, (8, 5)), LabelSpace(53, (5, 4, 3)), LabelSpace(17, (7, 3))]


def initialised(space, **fields):
    head = CascadeHead(space, DIM, hidden_dim=HIDDEN, objective="candidates", **fields)
    params = meta.unbox(head.init(jax.random.key(0), jnp.zeros((1, DIM)), 1, method="topk"))["params"]
    return head, jax.tree.map(lambda x: 2 * x, params)


def batch(space):
    features = 3 * jax.random.normal(jax.random.key(1), (BATCH, DIM))
    return features, jax.random.randint(jax.random.key(2), (BATCH,), 0, space.num_classes)


def is_live(space, level, node):
    return node * space.strides[level] < space.num_classes


class Oracle:
    """One example: own logits of all nodes, the loss, and its gradients by the chain rule, all in float64 loops."""

    def __init__(self, space, params, x):
        self.space = space
        self.params = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
        self.x = np.asarray(x, np.float64)
        self.own = [self.x @ self.params["root"]["kernel"] + self.params["root"]["bias"]]
        self.queries = [self.x]
        for level in range(1, space.num_heads):
            linear = self.params[f"project_{level}"]
            self.queries.append(self.x @ linear["kernel"] + linear["bias"])
            self.own.append(self.params[f"table_{level}"].reshape(-1, HIDDEN) @ self.queries[-1])

    def path(self, level, node):
        """The node of each level on the way to a node."""
        for step in reversed(self.space.head_sizes[1 : level + 1]):
            yield level, node
            level, node = level - 1, node // step
        yield level, node

    def logit(self, level, node):
        return sum(self.own[h][n] for h, n in self.path(level, node))

    def children(self, level, kept):
        size = self.space.head_sizes[level]
        return [n for parent in kept for n in range(parent * size, (parent + 1) * size)]

    def loss(self, label, width, mask_padding, smoothing):
        """The loss, and its gradient with respect to the own logits of all nodes."""
        space, kept, total = self.space, [0], 0.0
        d_own = [np.zeros_like(own) for own in self.own]
        for level, stride in enumerate(space.strides):
            true = label // stride
            children = self.children(level, kept)
            competing = [n for n in children if is_live(space, level, n) or not mask_padding]
            logits = np.array([self.logit(level, n) for n in competing])
            probabilities = np.exp(logits - np.logaddexp.reduce(logits))
            target = (1 - smoothing) * (np.array(competing) == true) + smoothing / len(competing)
            total -= target @ np.log(probabilities)
            for n, slope in zip(competing, probabilities - target, strict=True):
                for h, ancestor in self.path(level, n):
                    d_own[h][ancestor] += slope
            others = sorted(
                (n for n in children if is_live(space, level, n) and n != true), key=lambda n: -self.logit(level, n)
            )
            kept = [true, *others[: width - 1]]
        return total, d_own

    def gradients(self, d_own):
        """Those of the features and of the parameters."""
        d_params = {"root": {"kernel": np.outer(self.x, d_own[0]), "bias": d_own[0]}}
        d_x = self.params["root"]["kernel"] @ d_own[0]
        for level in range(1, self.space.num_heads):
            table, linear = self.params[f"table_{level}"], self.params[f"project_{level}"]
            d_query = table.reshape(-1, HIDDEN).T @ d_own[level]
            d_params[f"table_{level}"] = np.outer(d_own[level], self.queries[level]).reshape(table.shape)
            d_params[f"project_{level}"] = {"kernel": np.outer(self.x, d_query), "bias": d_query}
            d_x = d_x + linear["kernel"] @ d_query
        return d_params, d_x


@pytest.mark.parametrize(
    ("space", "fields"),
    [
        (SPACES[0], {"num_candidates": 3}),
        (SPACES[1], {"num_candidates": 1}),
        (SPACES[1], {"num_candidates": 3, "label_smoothing": 0.2}),
        (SPACES[1], {"num_candidates": 3, "mask_padding": False}),
        (SPACES[2], {"num_candidates": 2}),
        (SPACES[2], {"num_candidates": 3, "label_smoothing": 0.1, "mask_padding": False}),
        (SPACES[2], {"num_candidates": 50, "label_smoothing": 0.1}),
        (SPACES[3], {"num_candidates": 4}),
    ],
    ids=str,
)
def test_loss_and_gradients_equal_those_of_the_tree_node_by_node(space, fields):
    head, params = initialised(space, **fields)
    features, labels = batch(space)
    weights = np.linspace(0.5, 1.5, BATCH)

    def weighted(params, features):
        losses = head.apply({"params": params}, features, labels, method="loss")[0]
        return losses @ jnp.asarray(weights, jnp.float32), losses

    gradient = jax.jit(jax.value_and_grad(weighted, (0, 1), has_aux=True))
    (_, losses), (d_params, d_features) = gradient(params, features)
    total = jax.tree.map(lambda p: np.zeros(p.shape), params)
    for b in range(BATCH):
        oracle = Oracle(space, params, features[b])
        options = fields.get("mask_padding", True), fields.get("label_smoothing", 0.0)
        loss, d_own = oracle.loss(int(labels[b]), fields["num_candidates"], *options)
        np.testing.assert_allclose(losses[b], loss, rtol=1e-5)
        d_expected, d_x = oracle.gradients(d_own)
        np.testing.assert_allclose(d_features[b], weights[b] * d_x, rtol=1e-4, atol=1e-5)
        total = jax.tree.map(lambda a, d, w=weights[b]: a + w * d, total, d_expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), d_params, total)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_with_every_node_it_is_the_softmax_over_all_classes(space):
    head, params = initialised(space, num_candidates=space.num_classes, beam_width=space.num_classes)
    features, labels = batch(space)
    last = space.num_heads - 1
    oracles = [Oracle(space, params, x) for x in features]
    joint = np.array([[o.logit(last, c) for c in range(space.num_classes)] for o in oracles], np.float32)
    dense = np.asarray(jax.nn.log_softmax(joint))
    scores, ids = jax.jit(lambda x: head.apply({"params": params}, x, space.num_classes, method="topk"))(features)
    np.testing.assert_array_equal(ids, np.argsort(-dense, axis=1))
    np.testing.assert_allclose(scores, np.take_along_axis(dense, np.asarray(ids), axis=1), rtol=1e-4, atol=1e-5)
    found = jax.jit(lambda x, ids: head.apply({"params": params}, x, 3, ids, method="topk_and_scores"))(features, ids)
    np.testing.assert_allclose(found[2], scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found[1], ids[:, :3])
    losses = head.apply({"params": params}, features, labels, method="loss")[0]
    expected = optax.softmax_cross_entropy_with_integer_labels(joint, labels)
    for level in range(last):
        nodes = range(space.num_nodes(level))
        logits = np.array([[o.logit(level, n) for n in nodes] for o in oracles], np.float32)
        expected += optax.softmax_cross_entropy_with_integer_labels(logits, labels // space.strides[level])
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


@pytest.mark.parametrize("width", [1, 2])
def test_a_ranking_is_a_softmax_over_the_children_of_the_beam(width):
    space = LabelSpace(53, (5, 4, 3))
    head, params = initialised(space, beam_width=width, num_candidates=4)
    features, _ = batch(space)
    every = jnp.broadcast_to(jnp.arange(space.num_classes), (BATCH, space.num_classes))
    call = jax.jit(lambda x, ids: head.apply({"params": params}, x, 9, ids, method="topk_and_scores"))
    scores, ids, given = call(features, every)
    np.testing.assert_allclose(given, head.apply({"params": params}, features, every, method="scores"), rtol=1e-5)
    for b in range(BATCH):
        oracle, kept = Oracle(space, params, features[b]), [0]
        for level in range(3):
            children = [n for n in oracle.children(level, kept) if is_live(space, level, n)]
            kept = sorted(children, key=lambda n, level=level: -oracle.logit(level, n))[: width if level < 2 else 9]
        assert kept == np.asarray(ids[b, : len(kept)]).tolist()
        assert (np.asarray(ids[b, len(kept) :]) == -1).all()
        assert (scores[b, len(kept) :] == -jnp.inf).all()
        logits = np.array([oracle.logit(2, c) for c in range(space.num_classes)])
        log_sum = np.logaddexp.reduce(logits[children])
        np.testing.assert_allclose(scores[b, : len(kept)], logits[kept] - log_sum, rtol=1e-4, atol=1e-5)
        outside = np.isin(np.arange(space.num_classes), children, invert=True)
        expected = logits - np.where(outside, np.logaddexp(log_sum, logits), log_sum)
        np.testing.assert_allclose(given[b], expected, rtol=1e-4, atol=1e-5)
        assert (given[b] <= 1e-6).all()


def test_one_candidate_is_the_path():
    """The true node's logit is added to all that compete, and counts for nothing."""
    space = SPACES[2]
    joint, params = initialised(space, num_candidates=1)
    path = CascadeHead(space, DIM, hidden_dim=HIDDEN)
    losses = [head.apply({"params": params}, *batch(space), method="loss")[0] for head in (joint, path)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_negative_labels_and_bfloat16_give_finite_losses_near_those_of_float32():
    space = SPACES[1]
    features, labels = batch(space)
    labels = labels.at[0].set(-1)
    found = []
    for dtype in (jnp.float32, jnp.bfloat16):
        head, params = initialised(space, dtype=dtype, num_candidates=8)
        loss = lambda p, head=head: head.apply({"params": p}, features, labels, method="loss")[0].sum()
        found.append(jax.value_and_grad(loss)(params))
    assert found[1][0].dtype == jnp.float32
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.03 * float(jnp.abs(b).max())), *found[::-1])


def test_features_that_are_no_numbers_find_no_class():
    head, params = initialised(SPACES[1])
    scores, ids = head.apply({"params": params}, jnp.full((2, DIM), jnp.nan), 5, method="topk")
    assert (ids == -1).all()
    assert (scores == -jnp.inf).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objective": "joint"}, "config.head.objective is 'joint'; it must be one of path, candidates"),
        ({"num_candidates": 0}, r"num_candidates \(0\) and beam_width \(10\) must be at least 1"),
        ({"objective": "path", "num_candidates": 4}, "config.head.num_candidates is 4, but .* 'path' trains no"),
    ],
)
def test_impossible_fields_are_named(fields, message):
    head = CascadeHead(SPACES[1], DIM, **{"objective": "candidates", **fields})
    with pytest.raises(ValueError, match=message):
        head.init(jax.random.key(0), jnp.zeros((1, DIM)), 1, method="topk")
