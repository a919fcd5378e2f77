"""Losses of the heads and their gradients against PyTorch, in the paper's and in the reference's form."""

import jax
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mhe_jax.heads import HEADS
from mhe_jax.interop.torch import import_state_dict
from mhe_jax.labels import LabelSpace
from mhe_jax.ops.sampling import BatchUnion
from tests.parity import torch_models

pytestmark = pytest.mark.torch

BATCH, DIM, HIDDEN = 9, 12, 8


def digits_of(space, labels):
    return torch.from_numpy(space.encode(labels).astype(np.int64))


def split(model, features, space):
    return torch.split(model.classifier(features), space.head_sizes, dim=1)


def one_hot(model, features, labels, space, smoothing=0.0):
    target = torch.from_numpy(labels).long()
    return F.cross_entropy(model.fc(features), target, reduction="none", label_smoothing=smoothing)


def product_per_head(model, features, labels, space):
    digits = digits_of(space, labels)
    heads = split(model, features, space)
    return sum(F.cross_entropy(logits, digits[:, h], reduction="none") for h, logits in enumerate(heads))


def product_joint(model, features, labels, space, smoothing=0.0):
    """Cross-entropy over the logits of all classes: every sum of one logit per head, padding codes left out."""
    joint = torch.zeros(len(labels), 1)
    for logits in split(model, features, space):
        joint = (joint[:, :, None] + logits[:, None, :]).flatten(1)
    joint, target = joint[:, : space.num_classes], torch.from_numpy(labels).long()
    return F.cross_entropy(joint, target, reduction="none", label_smoothing=smoothing)


def hot(space, labels):
    digits = digits_of(space, labels)
    return torch.cat([F.one_hot(digits[:, h], n) for h, n in enumerate(space.head_sizes)], dim=1).float()


def product_softmax_concat(model, features, labels, space):
    return -(hot(space, labels) * F.log_softmax(model.classifier(features), dim=1)).sum(1)


def product_bce_concat(model, features, labels, space):
    return F.multilabel_soft_margin_loss(model.classifier(features), hot(space, labels), reduction="none")


def cascade(model, features, labels, space, mask_padding=False):
    digits, labels = digits_of(space, labels), torch.from_numpy(labels).long()
    loss = 0
    for h, size in enumerate(space.head_sizes):
        if h == 0:
            parents, logits = torch.zeros_like(labels), model.group(features)
        else:
            number = h if space.num_heads > 2 else ""
            parents = labels // space.strides[h - 1]
            children = parents[:, None] * size + torch.arange(size)
            rows = getattr(model, f"embed{number}")(children)
            logits = torch.bmm(rows, getattr(model, f"classifier{number}")(features)[:, :, None])[:, :, 0]
        if mask_padding:
            first_class = (parents[:, None] * size + torch.arange(size)) * space.strides[h]
            logits = logits.masked_fill(first_class >= space.num_classes, -torch.inf)
        loss = loss + F.cross_entropy(logits, digits[:, h], reduction="none")
    return loss


def sampled(model, features, labels, space, mask_padding=False):
    groups = sampled_groups(labels, space)
    size = space.strides[0]
    logits = torch.einsum("bknd,bd->bkn", model.weight[groups], features).flatten(1)
    ids = (torch.from_numpy(groups)[:, :, None] * size + torch.arange(size)).flatten(1)
    if mask_padding:
        logits = logits.masked_fill(ids >= space.num_classes, -torch.inf)
    return F.cross_entropy(logits, torch.from_numpy(labels % size).long(), reduction="none")


def sampled_groups(labels, space):
    """The true group in slot 0, and the two that follow it."""
    return (labels[:, None] // space.strides[0] + np.arange(3)) % space.head_sizes[0]


def sampled_union(model, features, labels, space):
    """The groups of the whole batch compete."""
    size, groups = space.strides[0], np.unique(labels // space.strides[0])
    logits = features @ model.weight[groups].flatten(0, 1).T
    target = np.searchsorted(groups, labels // size) * size + labels % size
    return F.cross_entropy(logits, torch.from_numpy(target).long(), reduction="none")


FULL, PADDED = LabelSpace(20, (4, 5)), LabelSpace(18, (4, 5))
THREE, THREE_PADDED = LabelSpace(24, (2, 3, 4)), LabelSpace(19, (2, 3, 4))
REFERENCE = {"mask_padding": False}

CASES = {
    "ohe": ("ohe", LabelSpace(17, (17,)), {}, one_hot),
    "ohe-smoothed": ("ohe", LabelSpace(17, (17,)), {"label_smoothing": 0.1}, lambda *a: one_hot(*a, smoothing=0.1)),
    "ohe-blocks": ("ohe", LabelSpace(17, (17,)), {"block_size": 5}, one_hot),
    "mhp": ("mhp", FULL, {}, product_per_head),
    "mhp-3": ("mhp", THREE, {}, product_per_head),
    "mhp-padded": ("mhp", PADDED, {}, product_joint),
    "mhp-3-padded-smoothed": (
        "mhp",
        THREE_PADDED,
        {"label_smoothing": 0.1},
        lambda *a: product_joint(*a, smoothing=0.1),
    ),
    "mhp-padded-reference": ("mhp", PADDED, REFERENCE, product_per_head),
    "mhp-softmax-concat": ("mhp", THREE_PADDED, {"objective": "softmax_concat"}, product_softmax_concat),
    "mhp-bce-concat": ("mhp", THREE_PADDED, {"objective": "bce_concat"}, product_bce_concat),
    "mhc": ("mhc", FULL, {}, cascade),
    "mhc-3": ("mhc", THREE, {}, cascade),
    "mhc-3-padded": ("mhc", THREE_PADDED, {}, lambda *a: cascade(*a, mask_padding=True)),
    "mhc-3-padded-reference": ("mhc", THREE_PADDED, REFERENCE, cascade),
    "mhs": ("mhs", FULL, {}, sampled),
    "mhs-padded": ("mhs", PADDED, {}, lambda *a: sampled(*a, mask_padding=True)),
    "mhs-padded-reference": ("mhs", PADDED, REFERENCE, sampled),
    "mhs-union": ("mhs", FULL, {"sampler": BatchUnion()}, sampled_union),
}


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients(case):
    head_name, space, fields, torch_loss = CASES[case]
    torch.manual_seed(0)
    model = torch_models.Classifier(head_name, space.head_sizes, DIM, HIDDEN)
    with torch.no_grad():
        for parameter in model.parameters():  # logits of order 1, so that no softmax is nearly uniform
            parameter.normal_(0, 0.5)
    rng = np.random.default_rng(0)
    features = rng.standard_normal((BATCH, DIM), dtype=np.float32)
    # The last class is among the labels: it lies in the incomplete group of a padded space.
    labels = np.append(rng.integers(0, space.num_classes, BATCH - 1), space.num_classes - 1).astype(np.int32)

    torch_features = torch.from_numpy(features).requires_grad_()
    expected = torch_loss(model, torch_features, labels, space)
    expected.mean().backward()

    extra = {"hidden_dim": HIDDEN} if head_name == "mhc" else {}
    head = HEADS[head_name](label_space=space, features_dim=DIM, **fields, **extra)
    params = head_params(head, {name: tensor.detach() for name, tensor in model.state_dict().items()})

    def mean_loss(params, features):
        if head_name == "mhs" and torch_loss is not sampled_union:
            groups = sampled_groups(labels, space)
            losses = head.apply({"params": params}, features, labels, groups, method="loss_among")
        else:
            losses = head.apply({"params": params}, features, labels)
        return losses.mean(), losses

    (gradients, feature_gradients), losses = jax.grad(mean_loss, (0, 1), has_aux=True)(params, features)
    expected_gradients = head_params(head, {name: parameter.grad for name, parameter in model.named_parameters()})
    np.testing.assert_allclose(losses, expected.detach(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(feature_gradients, torch_features.grad, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), gradients, expected_gradients)


def head_params(head, tensors):
    """Torch tensors by name as the head's parameter tree."""
    features = jax.ShapeDtypeStruct((1, DIM), np.float32)
    init = jax.eval_shape(lambda x: head.init(jax.random.key(0), x, 1, method="topk"), features)
    like = {"params": {"head": init["params"]}}
    state = {name: tensor.numpy() for name, tensor in tensors.items()}
    return import_state_dict(state, like, parts=("head",))["params"]["head"]
