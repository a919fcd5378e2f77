"""Heads on cosines against PyTorch: loss and gradients over several steps, and PartialFC's update of sampled rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.core import meta
from ml_collections import ConfigDict
from torch.nn import functional as F

from mhe_jax.heads import build_head
from mhe_jax.heads.base import Context
from mhe_jax.labels import LabelSpace
from mhe_jax.train.optim import rules
from mhe_jax.train.optim.table_rules import SGD
from tests.parity import torch_margins

pytestmark = pytest.mark.torch

DIM, BATCH, SPACE = 8, 6, LabelSpace(37, (8, 5))
MARGINS = {
    "arcface": ("arcface", {"m": 0.3}),
    "cosface": ("cosface", {}),
    "combined": ("combined", {}),
    "curricularface": ("curricularface", {"alpha": 0.5}),
    "magface": ("magface", {"l_a": 1.0, "u_a": 12.0}),
    "adaface": ("adaface", {"t_alpha": 0.5}),
}
SCALE = 8.0


def batches():
    """Features of different lengths, labels, and the table: NumPy float32, three batches."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, BATCH, DIM)) * rng.uniform(0.5, 4, size=(3, BATCH, 1))
    return features.astype(np.float32), rng.integers(37, size=(3, BATCH)), rng.normal(size=(40, DIM)).astype(np.float32)


def ours(section, params, step_features, step_labels, statistics, key=None):
    """Loss, gradients, and the statistics after the batch."""
    head = build_head(ConfigDict({**section, "head_sizes": SPACE.head_sizes}), SPACE, DIM)
    expected = jax.eval_shape(lambda: head.init(jax.random.key(0), jnp.ones((1, DIM)), 1, method="topk"))["params"]
    assert jax.tree.map(jnp.shape, meta.unbox(expected)) == jax.tree.map(jnp.shape, params)
    statistics = head.statistics() if statistics is None else statistics
    weight = jnp.ones(BATCH)

    def loss(params, features):
        context = Context(key=key, weight=weight, statistics=statistics)
        arguments = features, jnp.asarray(step_labels), context
        per_example, values = head.apply({"params": params}, *arguments, method="loss")
        return per_example.mean(), (per_example, head.updated_statistics(statistics, values, weight))

    (_, (per_example, after)), grads = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, step_features)
    return per_example, grads, after


def compare(section, to_params, torch_loss, steps=3):
    """Runs both sides on the batches; `torch_loss(features, table, labels, state)` gives losses [B]."""
    features, labels, table = batches()
    statistics, state = None, {}
    for step in range(steps):
        per_example, (d_params, d_features), statistics = ours(
            section, to_params(table), features[step], labels[step], statistics
        )
        x, w = (torch.tensor(array, requires_grad=True) for array in (features[step], table))
        expected = torch_loss(x, w, torch.tensor(labels[step]), state)
        expected.mean().backward()
        np.testing.assert_allclose(per_example, expected.detach(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(d_features, x.grad, rtol=1e-5, atol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), d_params, to_params(w.grad.numpy())
        )


def margin(name, fields):
    return {"name": name, "scale": SCALE, **fields}


@pytest.mark.parametrize(("name", "fields"), MARGINS.values(), ids=MARGINS)
def test_the_full_softmax(name, fields):
    section = {"name": "ohe", "margin": margin(name, fields), "block_size": 7}
    torch_loss = lambda x, w, y, state: torch_margins.loss(name, {"scale": SCALE, **fields}, x, w[:37], y, state)
    compare(section, lambda table: {"kernel": table[:37]}, torch_loss)


def sampled_torch(name, fields, choose, mask_padding):
    """The softmax over the codes of `choose(labels [B]) -> bool [B, 8]` groups; the own code is always among them."""

    def loss(x, w, y, state):
        norms, cosines = x.norm(dim=1), F.linear(F.normalize(x), F.normalize(w))
        logits = torch_margins.logits(name, {"scale": SCALE, **fields}, cosines, norms, y, state)
        codes = torch.arange(40)
        allowed = choose(y)[:, codes // 5] & ((codes < 37) | (not mask_padding))
        total = F.cross_entropy(logits.masked_fill(~allowed, -torch.inf), y, reduction="none")
        return total + torch_margins.penalty(name, fields, norms)

    return loss


def of_the_batch(y):
    return torch.isin(torch.arange(8), y // 5).expand(len(y), 8)


def own_alone(y):
    return F.one_hot(y // 5, 8).bool()


@pytest.mark.parametrize("mask_padding", [True, False], ids=["masked", "reference"])
@pytest.mark.parametrize(
    ("sampler", "choose"), [("batch_union", of_the_batch), ("positive_only", own_alone)], ids=["B1", "MHS"]
)
@pytest.mark.parametrize("name", ["arcface", "curricularface"])
def test_sampled_groups(name, sampler, choose, mask_padding):
    fields = MARGINS[name][1]
    section = {
        "name": "mhs",
        "margin": margin(name, fields),
        "sampler": {"name": sampler},
        "mask_padding": mask_padding,
    }
    to_params = lambda table: {"weight": table.reshape(8, 5, DIM)}
    compare(section, to_params, sampled_torch(name, fields, choose, mask_padding))


@pytest.mark.parametrize("objective", ["ce_per_head", "bce_per_head"])
def test_short_heads(objective):
    """`bce_per_head` is ArcFaceV3: a margin on each digit, and the mean sigmoid cross-entropy of each head."""

    def loss(x, w, y, state):
        total = 0
        for rows, digit in ((w[:8], y // 5), (w[8:13], y % 5)):
            cosines = F.linear(F.normalize(x), F.normalize(rows))
            logits = torch_margins.logits("arcface", {"scale": SCALE, "m": 0.3}, cosines, x.norm(dim=1), digit, {})
            if objective == "ce_per_head":
                total = total + F.cross_entropy(logits, digit, reduction="none")
            else:
                target = F.one_hot(digit, len(rows)).float()
                total = total + F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=1)
        return total

    section = {"name": "mhp", "margin": margin("arcface", {"m": 0.3}), "objective": objective}
    compare(section, lambda table: {"kernel": table[:13]}, loss)


def test_the_tree_is_a_softmax_over_groups_and_one_over_the_members():
    def loss(x, w, y, state):
        norms, unit = x.norm(dim=1), F.normalize(x)
        fields = {"scale": SCALE, "m": 0.3}
        groups = torch_margins.logits("arcface", fields, F.linear(unit, F.normalize(w[:8])), norms, y // 5, {})
        members = torch.einsum("bd,bnd->bn", unit, F.normalize(w.reshape(8, 5, DIM), dim=2)[y // 5])
        inside = torch_margins.logits("arcface", fields, members, norms, y % 5, {})
        inside = inside.masked_fill((y // 5 * 5)[:, None] + torch.arange(5) >= 37, -torch.inf)
        return F.cross_entropy(groups, y // 5, reduction="none") + F.cross_entropy(inside, y % 5, reduction="none")

    features, labels, table = batches()
    section = {"name": "mhc", "margin": margin("arcface", {"m": 0.3})}
    params = {"table_0": table[None, :8], "table_1": table.reshape(8, 5, DIM)}
    per_example, (d_params, d_features), _ = ours(section, params, features[0], labels[0], None)
    x, w = (torch.tensor(array, requires_grad=True) for array in (features[0], table))
    expected = loss(x, w, torch.tensor(labels[0]), {})
    expected.mean().backward()
    np.testing.assert_allclose(per_example, expected.detach(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(d_features, x.grad, rtol=1e-5, atol=1e-5)
    summed = np.array(d_params["table_1"]).reshape(40, DIM)
    summed[:8] += np.asarray(d_params["table_0"][0])
    np.testing.assert_allclose(summed, w.grad, rtol=1e-5, atol=1e-5)


def test_sampled_rows_move_as_partial_fc_moves_them():
    """Its first version makes the sampled rows and their momentum a parameter of the optimizer for one step."""
    features, labels, table = batches()
    space = LabelSpace(37, (37, 1))
    sampler = {"name": "random_groups", "rate": 0.4}
    section = {"name": "mhs", "margin": margin("arcface", {"m": 0.3}), "sampler": sampler}
    head = build_head(ConfigDict({**section, "head_sizes": space.head_sizes}), space, DIM)
    rule = SGD(momentum=0.9, weight_decay=0.1)
    tables = {"weight": jnp.asarray(table[:37, None])}
    slots = rules.init(rule, tables)
    weight, momentum = torch.tensor(table[:37]), torch.zeros(37, DIM)
    for step in range(3):
        x, y, key = jnp.asarray(features[step]), jnp.asarray(labels[step]), jax.random.key(step)
        blocks = head.apply({"params": tables}, x, y, Context(key=key), method="blocks")
        rows = {"weight": rules.gather(tables["weight"], blocks["weight"])}
        context = Context(key=key, blocks=blocks)
        loss = lambda p, x=x, y=y, context=context: head.apply({"params": p}, x, y, context).mean()
        tables, slots = rules.apply(rule, tables, slots, blocks, jax.grad(loss)(rows), 0.5)

        index = torch.tensor(np.asarray(blocks["weight"]).reshape(-1))
        assert len(index) == 14  # int(0.4 * 37)
        sub = weight[index].requires_grad_()
        torch_labels = torch.searchsorted(index, torch.tensor(labels[step]))
        fields = {"scale": SCALE, "m": 0.3}
        torch_margins.loss("arcface", fields, torch.tensor(features[step]), sub, torch_labels, {}).mean().backward()
        optimizer = torch.optim.SGD([sub], lr=0.5, momentum=0.9, weight_decay=0.1)
        optimizer.state[sub]["momentum_buffer"] = momentum[index].clone()
        optimizer.step()
        weight, momentum = weight.clone(), momentum.clone()
        weight[index], momentum[index] = sub.detach(), optimizer.state[sub]["momentum_buffer"]
    np.testing.assert_allclose(tables["weight"][:, 0], weight, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slots["weight"]["trace"][:, 0], momentum, rtol=1e-5, atol=1e-5)
