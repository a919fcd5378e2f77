"""The one-hot and the cascade head for many labels against a PyTorch module that goes through a batch row by row."""

import jax
import numpy as np
import pytest
import torch
from flax.core import meta
from torch import nn
from torch.nn import functional as F

from mhe_jax.heads import MULTILABEL_HEADS
from mhe_jax.labels import LabelSpace

pytestmark = pytest.mark.torch

DIM, HIDDEN = 12, 8
# More groups than any number of candidates below; none; several; one; and the last, short group in every batch.
COUNTS = (9, 0, 5, 1, 7, 0, 3, 2, 9)


class Published(nn.Module):
    """Groups and candidates as the published text model has them, with its parameter names; G groups of e labels."""

    def __init__(self, space):
        super().__init__()
        self.num_labels, (groups, self.size) = space.num_classes, space.head_sizes
        self.l0, self.l1 = nn.Linear(DIM, groups), nn.Linear(DIM, HIDDEN)
        self.embed = nn.Embedding(space.num_classes, HIDDEN)

    def members(self, group):
        return list(range(group * self.size, min((group + 1) * self.size, self.num_labels)))

    def candidates(self, ranked):
        """Lists of label ids, filled up to the longest with copies of the last one, and the group of each."""
        rows = [[(label, group) for group in row for label in self.members(group)] for row in ranked]
        longest = max(map(len, rows))
        return [row + [row[-1]] * (longest - len(row)) for row in rows]

    def loss(self, features, rows, k, max_labels=100):
        group_logits = self.l0(features)
        true_groups = torch.zeros_like(group_logits)
        for row, labels in enumerate(rows):
            true_groups[row, [label // self.size for label in labels]] = 1
        ranks = group_logits.detach().sigmoid() + true_groups
        candidates = self.candidates(ranks.topk(k, dim=1).indices.tolist())
        ids, targets = [], []
        for pairs, labels in zip(candidates, rows, strict=True):
            true, own = set(labels[:max_labels]), [label for label, _ in pairs]
            hot = [float(label in true) for label in own]
            if sum(hot) != len(true):
                for label in true.difference(own):
                    first = hot.index(0.0)
                    own[first], hot[first] = label, 1.0
            ids.append(own)
            targets.append(hot)
        logits = torch.bmm(self.embed(torch.tensor(ids)), self.l1(features)[:, :, None])[:, :, 0]
        per_row = lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="none").mean(1)
        return per_row(logits, torch.tensor(targets)) + per_row(group_logits, true_groups)

    def ranking(self, features, k):
        """Label ids and scores of each row, best first, a label listed once."""
        scores = self.l0(features).sigmoid()
        ranked = scores.topk(k, dim=1).indices
        rows = []
        for row, pairs in enumerate(self.candidates(ranked.tolist())):
            query = self.l1(features[row])
            found = {}
            for label, group in pairs:
                found[label] = float((self.embed.weight[label] @ query).sigmoid() * scores[row, group])
            rows.append(sorted(found.items(), key=lambda item: -item[1]))
        return rows


def documents(space, counts=COUNTS):
    rng = np.random.default_rng(0)
    labels = np.full((len(counts), 9), -1, np.int32)
    for row, count in enumerate(counts):
        labels[row, rng.permutation(9)[:count]] = rng.choice(space.num_classes, count, replace=False)
    labels[3, :] = -1
    labels[3, 4] = space.num_classes - 1
    features = rng.standard_normal((len(counts), DIM), dtype=np.float32)
    return features, labels, [[int(label) for label in row if label >= 0] for row in labels]


def ours(name, space, model, **fields):
    """The head, and the model's parameters as its own; `arrange` does the same to gradients."""
    head = MULTILABEL_HEADS[name](label_space=space, features_dim=DIM, **fields)

    def arrange(get):
        if name == "ohe":
            return {"kernel": get("weight").numpy(), "bias": get("bias").numpy()}
        linear = lambda layer: {"kernel": get(f"{layer}.weight").numpy().T, "bias": get(f"{layer}.bias").numpy()}
        table = np.zeros((space.num_codes, HIDDEN), np.float32)
        table[: space.num_classes] = get("embed.weight").numpy()
        return {"root": linear("l0"), "project_1": linear("l1"), "table_1": table.reshape(*space.head_sizes, HIDDEN)}

    return (
        head,
        arrange(lambda key: model.get_parameter(key).detach()),
        lambda: arrange(lambda key: model.get_parameter(key).grad),
    )


def compare(head, params, expected_gradients, features, labels, expected, torch_features):
    def mean_loss(params, features):
        losses, _ = head.apply({"params": params}, features, labels, method="loss")
        return losses.mean(), losses

    (gradients, d_features), losses = jax.jit(jax.grad(mean_loss, (0, 1), has_aux=True))(params, features)
    np.testing.assert_allclose(losses, expected.detach(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(d_features, torch_features.grad, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), gradients, expected_gradients())


def normal(model):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # logits of order 1, so that groups are ranked clearly
            parameter.normal_(0, 0.5)
    return model


SPACES = {"full": LabelSpace(40, (8, 5)), "ragged": LabelSpace(38, (8, 5))}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("max_labels", [0, 4])
def test_cascade_loss_and_gradients(space, k, max_labels):
    model = normal(Published(space))
    features, labels, rows = documents(space)
    if k == 1:  # a row must have places for all its labels
        labels[labels // 5 % 2 == 1] = -1
        rows = [[int(label) for label in row if label >= 0][:3] for row in labels]
        labels = np.array([row + [-1] * (9 - len(row)) for row in rows], np.int32)
    torch_features = torch.from_numpy(features).requires_grad_()
    expected = model.loss(torch_features, rows, k, max_labels or 100)
    expected.mean().backward()
    fields = {"hidden_dim": HIDDEN, "num_candidates": k, "max_labels": max_labels, "mask_padding": False}
    head, params, gradients = ours("mhc", space, model, **fields)
    compare(head, params, gradients, features, labels, expected, torch_features)


def test_every_row_may_hold_the_short_group():
    """Rows are filled up to the longest of the batch: where all hold the short group, none is."""
    space = SPACES["ragged"]
    model = normal(Published(space))
    features, labels = documents(space)[0][:2], np.array([[37, 4], [36, -1]], np.int32)
    torch_features = torch.from_numpy(features).requires_grad_()
    expected = model.loss(torch_features, [[37, 4], [36]], 3)
    expected.mean().backward()
    head, params, gradients = ours("mhc", space, model, hidden_dim=HIDDEN, num_candidates=3, mask_padding=False)
    compare(head, params, gradients, features, labels, expected, torch_features)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("k", [1, 3, 8])
def test_cascade_inference(space, k):
    model = normal(Published(space))
    features = documents(space)[0]
    with torch.no_grad():
        expected = model.ranking(torch.from_numpy(features), k)
    head, params, _ = ours("mhc", space, model, hidden_dim=HIDDEN, num_candidates=k, mask_padding=False)
    scores, ids = jax.jit(lambda p, x: head.apply({"params": p}, x, 20, method="topk"))(params, features)
    for row, ranked in enumerate(expected):
        ranked = ranked[:20]
        assert ids[row].tolist() == [label for label, _ in ranked] + [-1] * (20 - len(ranked))
        np.testing.assert_allclose(np.exp(scores[row, : len(ranked)]), [s for _, s in ranked], rtol=1e-5, atol=1e-6)
    groups = head.apply({"params": params}, features, 5, method="group_topk")
    np.testing.assert_array_equal(groups, model.l0(torch.from_numpy(features)).topk(5, dim=1).indices)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_one_hot_loss_and_gradients(reduction):
    space = LabelSpace(40, (40,))
    model = normal(nn.Linear(DIM, 40))
    features, labels, rows = documents(space)
    target = torch.zeros(len(rows), 40)
    for row, own in enumerate(rows):
        target[row, own] = 1
    torch_features = torch.from_numpy(features).requires_grad_()
    expected = F.binary_cross_entropy_with_logits(model(torch_features), target, reduction="none")
    expected = expected.mean(1) if reduction == "mean" else expected.sum(1)
    expected.mean().backward()
    head, params, gradients = ours("ohe", space, model, reduction=reduction, block_size=7)
    compare(head, params, gradients, features, labels, expected, torch_features)


def test_initial_values_have_the_ranges_of_the_published_layers():
    space = SPACES["ragged"]
    head = MULTILABEL_HEADS["mhc"](label_space=space, features_dim=DIM, hidden_dim=HIDDEN)
    init = lambda: head.init(jax.random.key(0), np.zeros((1, DIM), np.float32), 1, method="topk")
    params, model = meta.unbox(jax.jit(init)())["params"], Published(space)
    nn.init.xavier_uniform_(model.embed.weight)
    spread = lambda x: float(abs(x).max())
    assert spread(np.asarray(params["table_1"])) == pytest.approx(spread(model.embed.weight.detach()), rel=0.05)
    assert spread(np.asarray(params["root"]["kernel"])) == pytest.approx(spread(model.l0.weight.detach()), rel=0.15)
