"""CascadeHead against the distribution that its tree of softmaxes defines, worked out class by class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta

from mhe_jax.heads import CascadeHead
from mhe_jax.labels import LabelSpace

DIM, HIDDEN = 6, 5
SPACES = [LabelSpace(13, (13,)), LabelSpace(37, (8, 5)), LabelSpace(53, (5, 4, 3)), LabelSpace(101, (3, 4, 3, 3))]


def initialised(space, **fields):
    head = CascadeHead(space, DIM, hidden_dim=HIDDEN, **fields)
    return head, meta.unbox(head.init(jax.random.key(0), jnp.zeros((1, DIM)), 1, method="topk"))["params"]


def batch(space, size=7):
    features = 3 * jax.random.normal(jax.random.key(1), (size, DIM))
    return features, jax.random.randint(jax.random.key(2), (size,), 0, space.num_classes)


def level_logits(space, params, features, level):
    """Logits of all nodes of a level, [B, parents, n]."""
    if level == 0:
        return (features @ params["root"]["kernel"] + params["root"]["bias"][None, :])[:, None, :]
    linear = params[f"project_{level}"]
    return jnp.einsum("bd,pnd->bpn", features @ linear["kernel"] + linear["bias"][None, :], params[f"table_{level}"])


def log_probs(space, params, features, mask_padding=True):
    """Log-probabilities [B, classes]: one product of conditionals per class."""
    total = jnp.zeros((features.shape[0], 1))
    for level, size in enumerate(space.head_sizes):
        logits = level_logits(space, params, features, level)
        nodes = jnp.arange(logits.shape[1] * size).reshape(1, -1, size)
        if mask_padding:
            logits = jnp.where(nodes < space.num_nodes(level), logits, -1e30)
        total = (total[:, :, None] + jax.nn.log_softmax(logits)).reshape(features.shape[0], -1)
    return total[:, : space.num_classes]


@pytest.mark.parametrize(("space", "mask_padding"), [*((space, True) for space in SPACES), (SPACES[2], False)], ids=str)
def test_loss_is_the_negative_log_probability(space, mask_padding):
    head, params = initialised(space, mask_padding=mask_padding)
    features, labels = batch(space)
    weights = jnp.arange(1.0, 8.0)

    def oracle(params, features):
        dense = log_probs(space, params, features, mask_padding)
        return -jnp.take_along_axis(dense, labels[:, None], axis=1)[:, 0] @ weights

    ours = lambda p, x: head.apply({"params": p}, x, labels, method="loss")[0] @ weights
    ours, oracle = (jax.jit(jax.value_and_grad(fn, (0, 1)))(params, features) for fn in (ours, oracle))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), ours, oracle)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_wide_beam_is_exact_and_scores_agree(space):
    head, params = initialised(space, beam_width=space.num_classes)
    features, _ = batch(space)
    dense = np.asarray(log_probs(space, params, features))
    np.testing.assert_allclose(np.exp(dense).sum(axis=1), 1.0, rtol=1e-5)
    order = np.argsort(-dense, axis=1)
    for k in (1, space.num_classes):
        scores, ids = jax.jit(lambda x, k=k: head.apply({"params": params}, x, k, method="topk"))(features)
        np.testing.assert_array_equal(ids, order[:, :k])
        np.testing.assert_allclose(scores, np.take_along_axis(dense, order[:, :k], axis=1), rtol=1e-4, atol=1e-5)
    again = jax.jit(lambda x, ids: head.apply({"params": params}, x, ids, method="scores"))(features, ids)
    np.testing.assert_allclose(again, scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [1, 2])
def test_a_narrow_beam_follows_its_best_nodes_only(width):
    space = LabelSpace(53, (5, 4, 3))
    head, params = initialised(space, beam_width=width)
    features, _ = batch(space)
    scores, ids = jax.jit(lambda x: head.apply({"params": params}, x, 9, method="topk"))(features)
    logits = [np.asarray(level_logits(space, params, features, level)) for level in range(3)]
    for b in range(len(features)):
        beam = [(0.0, 0)]
        for level, size in enumerate(space.head_sizes):
            children = []
            for score, node in beam:
                kept = [n for n in range(size) if node * size + n < space.num_nodes(level)]
                conditional = jax.nn.log_softmax(logits[level][b, node, np.array(kept)])
                children += [(score + float(c), node * size + n) for c, n in zip(conditional, kept, strict=True)]
            beam = sorted(children, reverse=True)[: width if level < 2 else 9]
        found = np.asarray(ids[b])
        assert [node for _, node in beam] == found[: len(beam)].tolist()
        np.testing.assert_allclose(scores[b, : len(beam)], [score for score, _ in beam], rtol=1e-5)
        assert (found[len(beam) :] == -1).all()
        assert (scores[b, len(beam) :] == -jnp.inf).all()


def test_label_smoothing_is_spread_over_the_siblings_that_exist():
    space = LabelSpace(7, (3, 3))  # the last node has one child
    features = batch(space, 1)[0]
    sharp, params = initialised(space)
    smooth, _ = initialised(space, label_smoothing=0.3)
    loss = lambda head, label: float(head.apply({"params": params}, features, jnp.array([label]), method="loss")[0][0])
    root = jax.nn.log_softmax(level_logits(space, params, features, 0)[0, 0])
    # An only child is certain, smoothed or not: what remains is the root's cross-entropy.
    assert loss(sharp, 6) == pytest.approx(-float(root[2]), rel=1e-5)
    assert loss(smooth, 6) == pytest.approx(-0.7 * float(root[2]) - 0.1 * float(root.sum()), rel=1e-5)


def test_parameters_have_the_documented_names_shapes_and_ranges():
    _, params = initialised(LabelSpace(53, (5, 4, 3)))
    shapes = jax.tree.map(jnp.shape, params)
    linear = lambda outputs: {"kernel": (DIM, outputs), "bias": (outputs,)}
    assert shapes == {
        "root": linear(5),
        "project_1": linear(HIDDEN),
        "project_2": linear(HIDDEN),
        "table_1": (5, 4, HIDDEN),
        "table_2": (20, 3, HIDDEN),
    }
    bound = (6 / (60 + HIDDEN)) ** 0.5
    assert 0.9 * bound < float(jnp.abs(params["table_2"]).max()) <= bound
    assert float(jnp.abs(params["project_1"]["kernel"]).max()) <= DIM**-0.5


def test_without_bias_there_is_none():
    _, params = initialised(LabelSpace(37, (8, 5)), use_bias=False)
    assert set(params["root"]) == set(params["project_1"]) == {"kernel"}


def test_negative_labels_give_finite_losses_and_gradients():
    space = LabelSpace(37, (8, 5))
    head, params = initialised(space)
    loss = lambda x: head.apply({"params": params}, x, jnp.full(7, -1), method="loss")[0].sum()
    value, gradient = jax.value_and_grad(loss)(batch(space)[0])
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()


def test_bfloat16_stays_close_to_float32():
    space = LabelSpace(37, (8, 5))
    features, labels = batch(space)
    results = []
    for dtype in (jnp.float32, jnp.bfloat16):
        head, params = initialised(space, dtype=dtype)
        loss = lambda p, head=head: head.apply({"params": p}, features, labels, method="loss")[0].sum()
        results.append(jax.value_and_grad(loss)(params))
    assert results[1][0].dtype == jnp.float32
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.03 * float(jnp.abs(b).max())), *results[::-1])


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match=r"num_candidates \(10\) and beam_width \(0\) must be at least 1"):
        initialised(LabelSpace(6, (2, 3)), beam_width=0)


def test_features_that_are_no_numbers_find_no_class():
    space = LabelSpace(37, (8, 5))
    head, params = initialised(space)
    scores, ids = head.apply({"params": params}, jnp.full((2, DIM), jnp.nan), 5, method="topk")
    assert (ids == -1).all()
    assert (scores == -jnp.inf).all()
