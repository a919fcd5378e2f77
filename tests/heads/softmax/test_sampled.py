"""SampledHead against softmaxes over the sampled classes, written out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import meta

from mhe_jax.heads import SampledHead, build_head
from mhe_jax.heads.base import Context
from mhe_jax.labels import LabelSpace
from mhe_jax.ops import sampling
from mhe_jax.ops.sampling import BatchUnion, PerExample, PositiveOnly, RandomGroups

DIM = 6
EVERY = [PerExample(), PositiveOnly(), BatchUnion(), RandomGroups(rate=0.7), RandomGroups(rate=0.4, parts=2)]
EVERY += [PerExample(subtract_log_q=True), RandomGroups(rate=1.0, subtract_log_q=True)]
EVERY += [RandomGroups(rate=0.8, subtract_log_q=True)]
SPACES = [LabelSpace(13, (13,)), LabelSpace(37, (8, 5)), LabelSpace(53, (5, 4, 3))]


def initialised(space, **fields):
    head = SampledHead(space, DIM, **fields)
    params = meta.unbox(head.init(jax.random.key(0), jnp.zeros((1, DIM)), 1, method="topk"))["params"]
    return head, jax.tree.map(lambda x: 100 * x, params)


def batch(space, size=7):
    features = jax.random.normal(jax.random.key(1), (size, DIM))
    return features, jax.random.randint(jax.random.key(2), (size,), 0, space.num_classes)


def logits_of_codes(params, features):
    return features @ params["weight"].reshape(-1, DIM).T


@pytest.mark.parametrize("sampler", EVERY, ids=lambda sampler: type(sampler).__name__)
@pytest.mark.parametrize(("space", "mask_padding"), [*((space, True) for space in SPACES), (SPACES[1], False)], ids=str)
def test_loss_and_gradients_equal_a_softmax_over_the_sampled_classes(space, sampler, mask_padding):
    head, params = initialised(space, sampler=sampler, mask_padding=mask_padding, label_smoothing=0.1, block_size=4)
    features, labels = batch(space)
    key, size = jax.random.key(5), space.strides[0]
    groups = np.asarray(head.apply({"params": params}, labels, key, method="sample_groups"))
    sets = groups
    if sampler.one_set:
        one_set = sampling.as_one_set(jnp.asarray(groups), space.head_sizes[0])
        sets = np.broadcast_to(one_set, (7, len(one_set)))
    competing = space.num_classes if mask_padding else space.num_codes
    allowed = np.stack([np.isin(np.arange(space.num_codes) // size, row) for row in sets])
    allowed &= np.arange(space.num_codes) < competing
    weights = jnp.arange(1.0, 8.0)
    true = np.asarray(labels)[:, None] // size
    if sampler.one_set:
        true = np.broadcast_to(np.unique(true), (7, len(np.unique(true))))
    forced = np.stack([np.isin(np.arange(space.num_codes) // size, row) for row in true])
    if getattr(sampler, "subtract_log_q", False) and not forced[allowed].all():
        drawn = [len(set(row.tolist()) - {space.head_sizes[0]}) for row in sets]
        others = space.head_sizes[0] - true.shape[1]
        offsets = np.log(others / (np.array(drawn) - true.shape[1]))[:, None] * ~forced
        assert offsets.max() > 0 or drawn[0] == space.head_sizes[0]
    else:
        offsets = np.zeros((7, 1))

    def oracle(params, features):
        logits = jnp.where(allowed, logits_of_codes(params, features) + jnp.asarray(offsets, jnp.float32), -1e30)
        uniform = jnp.asarray(allowed / allowed.sum(axis=1, keepdims=True))
        return (optax.softmax_cross_entropy(logits, targets(uniform))) @ weights

    def targets(uniform):
        return 0.9 * jax.nn.one_hot(labels, space.num_codes) + 0.1 * uniform

    ours = lambda p, x: head.apply({"params": p}, x, labels, Context(key=key), method="loss")[0] @ weights
    ours, oracle = (jax.jit(jax.value_and_grad(fn, (0, 1)))(params, features) for fn in (ours, oracle))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), ours, oracle)


@pytest.mark.parametrize("groups", [[[2, 0, 7]] * 3, [0, 2, 7, 8, 8]], ids=["per example", "whole batch"])
def test_the_loss_among_given_groups(groups):
    space = LabelSpace(37, (8, 5))
    head, params = initialised(space)
    features, labels = batch(space, 3)[0], jnp.array([12, 10, 14])
    ours = head.apply({"params": params}, features, labels, jnp.array(groups), method="loss_among")
    codes = np.concatenate([np.arange(g * 5, min(g * 5 + 5, 37)) for g in (0, 2, 7)])
    place = np.searchsorted(codes, labels)
    logits = logits_of_codes(params, features)[:, codes]
    np.testing.assert_allclose(ours, optax.softmax_cross_entropy_with_integer_labels(logits, place), rtol=1e-5)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_topk_and_scores_are_log_probabilities_over_all_classes(space):
    head, params = initialised(space, block_size=8, mask_padding=False)
    features, _ = batch(space)
    dense = np.asarray(jax.nn.log_softmax(logits_of_codes(params, features)[:, : space.num_classes]))
    order = np.argsort(-dense, axis=1)
    for k in (1, space.num_classes):
        scores, ids = jax.jit(lambda x, k=k: head.apply({"params": params}, x, k, method="topk"))(features)
        np.testing.assert_array_equal(ids, order[:, :k])
        np.testing.assert_allclose(scores, np.take_along_axis(dense, order[:, :k], axis=1), rtol=1e-4, atol=1e-5)
    again = jax.jit(lambda x, ids: head.apply({"params": params}, x, ids, method="scores"))(features, ids)
    np.testing.assert_allclose(again, scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "sampler", "shape"),
    [
        ((10, 10), PerExample(), (7, 4)),
        ((4, 25), PerExample(drop_one_group=True), (7, 3)),
        ((2, 50), PerExample(drop_one_group=True), (7, 1)),
        ((1, 100), PerExample(drop_one_group=True), (7, 1)),
        ((4, 25), PerExample(num_groups=9), (7, 4)),
        ((10, 10), PositiveOnly(), (7, 1)),
        ((10, 10), BatchUnion(), (1, 7)),
        ((20, 5), RandomGroups(rate=0.5, parts=2), (2, 7)),
    ],
)
def test_how_many_groups_a_step_trains(sizes, sampler, shape):
    space = LabelSpace(100, sizes)
    head = SampledHead(space, DIM, sampler=sampler)
    draw = lambda module, labels: module.sample_groups(labels, jax.random.key(0))
    groups, _ = head.init_with_output(jax.random.key(0), batch(space)[1], method=draw)
    assert groups.shape == shape


@pytest.mark.parametrize("sampler", EVERY, ids=lambda sampler: type(sampler).__name__)
def test_negative_labels_give_finite_losses_and_gradients(sampler):
    space = LabelSpace(37, (8, 5))
    head, params = initialised(space, sampler=sampler)
    labels = jnp.array([-1, 3, -1, 36, -1, -1, 12])
    loss = lambda x: head.apply({"params": params}, x, labels, Context(key=jax.random.key(0)), method="loss")[0]
    assert jnp.isfinite(loss(batch(space)[0])).all()
    assert jnp.isfinite(jax.grad(lambda x: loss(x).sum())(batch(space)[0])).all()


@pytest.mark.parametrize("sampler", ["per_example", "random_groups"])
def test_a_random_sampler_asks_for_its_key(sampler):
    head, params = initialised(LabelSpace(6, (2, 3)), sampler=sampling.SAMPLERS[sampler]())
    with pytest.raises(ValueError, match=f"config.head.sampler '{sampler}' draws at random and needs a key"):
        head.apply({"params": params}, jnp.zeros((1, DIM)), jnp.zeros(1, jnp.int32), method="loss")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PerExample(num_groups=0), "config.head.sampler.num_groups is 0"),
        (lambda: RandomGroups(rate=1.5), "config.head.sampler.rate is 1.5"),
        (lambda: BatchUnion(parts=-1), "config.head.sampler.parts is -1"),
        (lambda: initialised(LabelSpace(6, (2, 3)), label_smoothing=1.0), "config.head.label_smoothing is 1.0"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_module_itself_is_the_loss_and_draws_from_linens_random_numbers():
    space = LabelSpace(37, (8, 5))
    head, (features, labels) = SampledHead(space, DIM), batch(space)
    variables = head.init(jax.random.key(0), features, labels)
    first, again, other = (
        head.apply(variables, features, labels, rngs={"sample": jax.random.key(k)}) for k in (1, 1, 2)
    )
    assert first.shape == (7,)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    with pytest.raises(ValueError, match="needs a key"):
        head.apply(variables, features, labels)


def test_initial_values_are_normal():
    _, params = initialised(LabelSpace(1000, (10, 100)))
    assert params["weight"].shape == (10, 100, DIM)
    assert float(params["weight"].std()) == pytest.approx(1.0, rel=0.03)  # 100 times 0.01


@pytest.mark.parametrize("sampler", [s for s in EVERY if getattr(s, "subtract_log_q", False)], ids=str)
def test_a_temperature_divides_logits_and_not_the_samplers_correction(sampler):
    head, params = initialised(SPACES[1], sampler=sampler)
    features, labels = batch(SPACES[1])
    adjustment = jnp.linspace(-3.0, 1.0, 40).reshape(8, 5)

    def loss(features, **given):
        context = Context(key=jax.random.key(5), **given)
        return head.apply({"params": params}, features, labels, context, method="loss")[0]

    cooled = loss(features, adjustment=adjustment, temperature=4.0)
    np.testing.assert_allclose(cooled, loss(features / 4, adjustment=adjustment / 4), rtol=1e-5)


def test_many_draws_at_a_temperature_are_near_the_whole_softmax():
    space = LabelSpace(400, (400,))
    head, params = initialised(space, sampler=RandomGroups(rate=0.5, subtract_log_q=True))
    features, labels = batch(space)
    context = Context(key=jax.random.key(5), temperature=4.0)
    loss = head.apply({"params": params}, features, labels, context, method="loss")[0]
    whole = optax.softmax_cross_entropy_with_integer_labels(logits_of_codes(params, features) / 4, labels)
    np.testing.assert_allclose(loss, whole, rtol=0.03)


def test_coverage_is_the_share_of_the_groups_that_a_batch_trains():
    features, labels = jnp.ones((4, 3)), jnp.array([0, 1, 5, 5])  # of groups 0, 0, 2, 2 of five
    head = build_head("mhs", num_classes=10, features_dim=3, head_sizes=(5, 2), sampler={"name": "batch_union"})
    params = head.init(jax.random.key(0), features, labels)
    _, found = head.apply(params, features, labels, method="loss")
    np.testing.assert_allclose(found["coverage"], np.full(4, 2 / 5), rtol=1e-6)
