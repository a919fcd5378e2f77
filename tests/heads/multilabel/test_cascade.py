"""MultiLabelCascadeHead against plans of candidates made row by row with sets and lists."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import meta
from ml_collections import ConfigDict

from mhe_jax.heads import MultiLabelCascadeHead, build_head
from mhe_jax.labels import LabelSpace

DIM, HIDDEN = 6, 5
SPACES = [LabelSpace(40, (8, 5)), LabelSpace(37, (8, 5)), LabelSpace(53, (5, 4, 3)), LabelSpace(101, (3, 5, 3, 3))]
# Rows with none, one, several and more labels than any number of candidates below; padding anywhere.
COUNTS = [0, 1, 4, 9, 2, 7, 0]


def initialised(space, **fields):
    head = MultiLabelCascadeHead(space, DIM, hidden_dim=HIDDEN, **fields)
    shapes = jax.eval_shape(lambda: head.init(jax.random.key(0), jnp.zeros((1, DIM)), 1, method="topk"))
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape, dtype=np.float32))
    return head, jax.tree.map(draw, meta.unbox(shapes)["params"])


def batch(space, counts=COUNTS, width=9):
    rng = np.random.default_rng(1)
    labels = np.full((len(counts), width), -1, np.int32)
    for row, count in enumerate(counts):
        labels[row, rng.permutation(width)[:count]] = rng.choice(space.num_classes, count, replace=False)
    labels[-2, 0] = space.num_classes - 1  # of the group that may be short
    return jnp.asarray(rng.standard_normal((len(counts), DIM), dtype=np.float32)), labels


def node_logits(space, params, features):
    """Logits of all nodes of each level, [B, nodes]."""
    levels = [features @ params["root"]["kernel"] + params["root"]["bias"][None, :]]
    for level in range(1, space.num_heads):
        linear = params[f"project_{level}"]
        query = features @ linear["kernel"] + linear["bias"][None, :]
        levels.append(jnp.einsum("bd,pnd->bpn", query, params[f"table_{level}"]).reshape(features.shape[0], -1))
    return levels


def path_scores(space, levels):
    """Sums of log-sigmoids down to each node."""
    scores, total = [], 0.0
    for level, logits in enumerate(levels):
        total = np.repeat(total, space.head_sizes[level], axis=1) if level else 0.0
        total = total + np.asarray(jax.nn.log_sigmoid(logits), np.float64)
        scores.append(total)
    return scores


def plan(space, levels, labels, k, max_labels=0, copy_last=False):
    """For each level and row: candidate nodes after injection, their targets, and the nodes kept for the next level."""
    scores = path_scores(space, levels)
    parents, result = [[0] for _ in labels], []
    for level, (size, stride) in enumerate(zip(space.head_sizes, space.strides, strict=True)):
        last, rows, kept = level == space.num_heads - 1, [], []
        children = [
            [p * size + i for p in row if p >= 0 for i in range(size) if p * size + i < space.num_nodes(level)]
            for row in parents
        ]
        longest = max(map(len, children))
        for row, candidates in enumerate(children):
            true = [int(y) // stride for y in labels[row] if y >= 0]
            true = set(true[:max_labels] if last and max_labels else true)
            nodes = candidates + [candidates[-1]] * ((longest - len(candidates)) if copy_last else 0)
            hot = [node in true for node in nodes]
            if sum(hot) != len(true):
                for node in sorted(true - set(nodes)):  # matters only where there is no room for all
                    if False in hot:
                        first = hot.index(False)
                        nodes[first], hot[first] = node, True
            rows.append((nodes, hot))
            order = sorted(set(candidates) | true, key=lambda n: (n in true, scores[level][row, n]), reverse=True)
            kept.append(order[:k])
        result.append((rows, parents))
        parents = kept
    return result


def planned_loss(space, params, features, planned, mean):
    total = 0.0
    for logits, (rows, _) in zip(node_logits(space, params, features), planned, strict=True):
        longest = max(len(nodes) for nodes, _ in rows)
        fill = lambda values, longest=longest: np.array([list(row) + [0] * (longest - len(row)) for row in values])
        nodes, hot = fill([nodes for nodes, _ in rows]), fill([hot for _, hot in rows])
        counts = np.array([[len(nodes)] for nodes, _ in rows])
        signed = jnp.take_along_axis(logits, nodes, axis=1) * np.where(hot, -1.0, 1.0)
        weights = (np.arange(longest)[None, :] < counts) / (counts if mean else 1)
        total += (jax.nn.softplus(signed) * weights).sum(axis=1)
    return total


CASES = [
    (SPACES[0], {"num_candidates": 3}),
    (SPACES[1], {"num_candidates": 2}),
    (SPACES[1], {"num_candidates": 8, "reduction": "sum"}),
    (SPACES[1], {"num_candidates": 3, "mask_padding": False, "max_labels": 3}),
    (SPACES[2], {"num_candidates": 1}),
    (SPACES[2], {"num_candidates": 3, "reduction": "sum", "max_labels": 2}),
    (SPACES[2], {"num_candidates": 4, "mask_padding": False}),
    (SPACES[3], {"num_candidates": 2}),
    (SPACES[3], {"num_candidates": 50}),
]


@pytest.mark.parametrize(("space", "fields"), CASES, ids=str)
def test_loss_and_gradients_follow_the_plan(space, fields):
    head, params = initialised(space, **fields)
    features, labels = batch(space)
    copy_last, mean = not fields.get("mask_padding", True), fields.get("reduction", "mean") == "mean"
    levels = node_logits(space, params, features)
    planned = plan(space, levels, labels, fields["num_candidates"], fields.get("max_labels", 0), copy_last)
    weights = jnp.arange(1.0, 8.0)

    def ours(params, features):
        loss, _ = head.apply({"params": params}, features, jnp.asarray(labels), method="loss")
        return loss @ weights, loss

    def oracle(params, features):
        loss = planned_loss(space, params, features, planned, mean)
        return loss @ weights, loss

    (_, loss), grads = jax.jit(jax.value_and_grad(ours, (0, 1), has_aux=True))(params, features)
    (_, expected), expected_grads = jax.jit(jax.value_and_grad(oracle, (0, 1), has_aux=True))(params, features)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), grads, expected_grads)


def test_a_batch_of_one_and_a_row_alone_have_the_loss_of_the_batch():
    head, params = initialised(SPACES[1], num_candidates=2)
    features, labels = batch(SPACES[1])
    loss = jax.jit(lambda x, y: head.apply({"params": params}, x, y, method="loss")[0])
    single = [loss(features[i : i + 1], labels[i : i + 1])[0] for i in range(7)]
    np.testing.assert_allclose(single, loss(features, labels), rtol=1e-5)


def test_recall_is_that_of_the_groups_before_any_is_forced():
    space = SPACES[1]
    head, params = initialised(space, num_candidates=3)
    features, labels = batch(space)
    _, values = jax.jit(lambda x: head.apply({"params": params}, x, jnp.asarray(labels), method="loss"))(features)
    order = np.argsort(-np.asarray(node_logits(space, params, features)[0]), axis=1)[:, :3]
    groups = [{y // 5 for y in row if y >= 0} for row in labels.tolist()]
    expected = [len(g & set(best)) / len(g) if g else 1.0 for g, best in zip(groups, order.tolist(), strict=True)]
    np.testing.assert_allclose(values["group_recall"], expected, rtol=1e-6)
    assert 0 < np.mean(expected) < 1
    best = head.apply({"params": params}, features, 3, method="group_topk")
    np.testing.assert_array_equal(best, order)
    assert (np.asarray(head.apply({"params": params}, features, 11, method="group_topk"))[:, 8:] == -1).all()


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("mask_padding", [True, False])
def test_a_wide_beam_ranks_all_labels_and_scores_agree(space, mask_padding):
    head, params = initialised(space, num_candidates=space.num_classes, mask_padding=mask_padding)
    features, _ = batch(space)
    dense = path_scores(space, node_logits(space, params, features))[-1][:, : space.num_classes]
    order = np.argsort(-dense, axis=1)
    for k in (1, space.num_classes):
        scores, ids = jax.jit(lambda x, k=k: head.apply({"params": params}, x, k, method="topk"))(features)
        np.testing.assert_array_equal(ids, order[:, :k])
        np.testing.assert_allclose(scores, np.take_along_axis(dense, order[:, :k], axis=1), rtol=1e-4, atol=1e-5)
    again = jax.jit(lambda x, ids: head.apply({"params": params}, x, ids, method="scores"))(features, ids)
    np.testing.assert_allclose(again, scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("space", SPACES[1:3], ids=str)
@pytest.mark.parametrize("apart", [False, True])
def test_a_narrow_beam_follows_its_best_nodes_and_marks_what_is_missing(space, width, apart):
    head, params = initialised(space, **({"beam_width": width} if apart else {"num_candidates": width}))
    features, _ = batch(space)
    levels = node_logits(space, params, features)
    # Without labels the plan keeps what a beam keeps.
    planned, scores = plan(space, levels, np.full((7, 1), -1), width), path_scores(space, levels)[-1]
    found_scores, found = jax.jit(lambda x: head.apply({"params": params}, x, 12, method="topk"))(features)
    for row, (nodes, _) in enumerate(planned[-1][0]):
        expected = sorted(nodes, key=lambda n, row=row: -scores[row, n])[:12]
        assert found[row].tolist() == expected + [-1] * (12 - len(expected))
        np.testing.assert_allclose(found_scores[row, : len(expected)], scores[row, expected], rtol=1e-5)
        assert (found_scores[row, len(expected) :] == -jnp.inf).all()


def test_training_and_ranking_keep_numbers_of_their_own():
    features, labels = batch(SPACES[1])
    found = {}
    for widths in ((2, 0), (2, 5), (5, 0), (5, 5)):
        head, params = initialised(SPACES[1], num_candidates=widths[0], beam_width=widths[1])
        loss = head.apply({"params": params}, features, jnp.asarray(labels), method="loss")[0]
        found[widths] = loss, head.apply({"params": params}, features, 20, method="topk")[0]
    for widths, trains_as, ranks_as in (((2, 5), (2, 0), (5, 0)), ((5, 5), (5, 0), (5, 0))):
        np.testing.assert_array_equal(found[widths][0], found[trains_as][0])
        np.testing.assert_array_equal(found[widths][1], found[ranks_as][1])
    assert (found[2, 0][0] != found[5, 0][0]).any()
    assert (found[2, 0][1] != found[5, 0][1]).any()


@pytest.mark.parametrize(("groups", "kept"), [(7, 7), (40, 20), (120, 24), (320, 64), (321, 20)])
def test_without_a_number_a_share_of_the_groups_is_kept(groups, kept):
    head = MultiLabelCascadeHead(LabelSpace(groups * 3, (groups, 3)), DIM, hidden_dim=16, num_candidates=0)
    assert head.candidate_bytes(1) == 4 * kept * 3 * 16


def test_parameters_have_the_documented_names_shapes_and_ranges():
    space = SPACES[2]
    head = MultiLabelCascadeHead(space, DIM, hidden_dim=HIDDEN)
    params = meta.unbox(jax.jit(lambda: head.init(jax.random.key(0), jnp.zeros((1, DIM)), 1, method="topk"))())[
        "params"
    ]
    linear = lambda outputs: {"kernel": (DIM, outputs), "bias": (outputs,)}
    assert jax.tree.map(jnp.shape, params) == {
        "root": linear(5),
        "project_1": linear(HIDDEN),
        "project_2": linear(HIDDEN),
        "table_1": (5, 4, HIDDEN),
        "table_2": (20, 3, HIDDEN),
    }
    assert head.sparse_tables() == ("table_1", "table_2")
    bound = (6 / (53 + HIDDEN)) ** 0.5  # Xavier of [labels, hidden]
    assert 0.9 * bound < float(jnp.abs(params["table_2"]).max()) <= bound
    assert float(jnp.abs(params["root"]["kernel"]).max()) <= DIM**-0.5


def test_bfloat16_stays_close_to_float32():
    features, labels = batch(SPACES[1])
    results = []
    for dtype in (jnp.float32, jnp.bfloat16):
        head, params = initialised(SPACES[1], dtype=dtype, num_candidates=8)
        loss = lambda p, head=head: head.apply({"params": p}, features, jnp.asarray(labels), method="loss")[0].sum()
        results.append(jax.jit(jax.value_and_grad(loss))(params))
    assert results[1][0].dtype == jnp.float32
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.03 * float(jnp.abs(b).max())), *results[::-1])


def test_memory_of_the_candidates_is_estimated():
    head = MultiLabelCascadeHead(LabelSpace.grouped(670091, 8400), 3840, hidden_dim=400, num_candidates=75)
    assert head.candidate_bytes(32) == 4 * 32 * 75 * 80 * 400
    assert "num_candidates: 75 x 80 candidates" in head.memory_advice(32)
    assert "of 32 documents are up to 293.0 MiB" in head.memory_advice(32)
    deep = MultiLabelCascadeHead(LabelSpace(53, (5, 4, 3)), DIM, hidden_dim=2, num_candidates=6)
    assert deep.candidate_bytes(1) == 4 * (5 * 4 + 6 * 3) * 2


@pytest.mark.parametrize(
    ("sizes", "fields", "message"),
    [
        ((6,), {}, r"config.head.head_sizes \(6,\) has one level: a cascade has at least two"),
        ((2, 3), {"num_candidates": -1}, r"num_candidates \(-1\), beam_width \(0\)"),
        ((2, 3), {"beam_width": -1}, r"beam_width \(-1\) and max_labels \(0\) at least 0"),
        ((2, 3), {"max_labels": -1}, r"max_labels \(-1\) at least 0"),
        ((2, 3), {"reduction": "none"}, "config.head.reduction is 'none'; it must be mean or sum"),
    ],
)
def test_impossible_settings_are_refused(sizes, fields, message):
    with pytest.raises(ValueError, match=message):
        initialised(LabelSpace(6, sizes), **fields)


def test_a_prior_offsets_each_levels_logits_alike_in_loss_ranking_and_scores():
    space = LabelSpace(23, (6, 4))
    section = {"name": "mhc", "hidden_dim": 5, "num_candidates": 2, "reduction": "sum"}
    build = lambda prior: build_head(ConfigDict({**section, "prior": prior}), space, 7, kind="multilabel")
    heads = build(0.0), build(0.1)
    features, labels = jnp.zeros((2, 7)), jnp.array([[3, 9, 20], [-1, -1, -1]])
    params = heads[0].init(jax.random.key(0), features, 1, method="topk")
    zeros = jax.tree.map(jnp.zeros_like, params)
    # With weights of 0 a level's logit is its offset: 2.3 expected labels among 6 groups, among 2 x 4 candidates.
    group, leaf = 2.3 / 6, 2.3 / 8
    found = heads[1].apply(zeros, features, labels, method="scores")
    np.testing.assert_allclose(found[0], np.log(group * leaf), rtol=1e-5)
    np.testing.assert_allclose(heads[1].apply(zeros, features, 3, method="topk")[0], np.log(group * leaf), rtol=1e-5)
    nothing = -6 * np.log(1 - group) - 8 * np.log(1 - leaf)
    loss = heads[1].apply(zeros, features, labels, method="loss")[0]
    # Labels 3, 9 and 20 lie in three groups; two are kept, and the third's label takes a negative's place.
    odds = lambda p: np.log((1 - p) / p)
    np.testing.assert_allclose(loss, [nothing + 3 * odds(group) + 3 * odds(leaf), nothing], rtol=1e-5)
    assert heads[0].apply(zeros, features, labels, method="scores")[0, 0] == pytest.approx(np.log(0.25))
    with pytest.raises(ValueError, match=r"config.head.prior is 1.0; it must be in \[0, 1\)"):
        build(1.0).init(jax.random.key(0), features, 1, method="topk")
