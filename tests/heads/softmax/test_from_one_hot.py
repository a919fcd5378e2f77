"""What a head begins with after a one-hot head: the same logits, where it has room for them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mhe_jax.heads import build_head

DIM, BATCH = 6, 9
SPACES = {"full": (12, (3, 4)), "padded": (23, (4, 3, 2)), "groups": (10, (4, 3))}


@pytest.fixture(params=SPACES)
def problem(request):
    """Number of classes, digits, features, and a one-hot head's parameters with two rows of padding."""
    classes, sizes = SPACES[request.param]
    rng = np.random.default_rng(0)
    one_hot = {"kernel": rng.normal(size=(classes + 2, DIM)), "bias": rng.normal(size=classes + 2)}
    features = rng.normal(size=(BATCH, DIM))
    return classes, sizes, *jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (features, one_hot))


def begun(name, problem, **fields):
    classes, sizes, features, one_hot = problem
    head = build_head(name, num_classes=classes, head_sizes=sizes, features_dim=DIM, **fields)
    labels = jnp.zeros(BATCH, jnp.int32)
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    params = nn.unbox(head.init(rngs, features, labels)["params"])
    after = jax.jit(head.from_one_hot)(params, one_hot)
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert shapes(after) == shapes(params)
    return head, after


def log_probs(problem, bias=True):
    classes, _, features, one_hot = problem
    logits = features @ one_hot["kernel"][:classes].T + (one_hot["bias"][None, :classes] if bias else 0)
    return jax.nn.log_softmax(logits)


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_joint_cascade_with_room_has_the_same_probabilities(problem, use_bias):
    fields = {"objective": "candidates", "beam_width": 100, "hidden_dim": 8, "use_bias": use_bias}
    head, params = begun("mhc", problem, **fields)
    everything = jnp.broadcast_to(jnp.arange(problem[0]), (BATCH, problem[0]))
    found = head.apply({"params": params}, problem[2], everything, method="scores")
    np.testing.assert_allclose(found, log_probs(problem, use_bias), atol=2e-4)


def test_siblings_are_told_apart_on_a_path_too(problem):
    head, params = begun("mhc", problem, hidden_dim=8)
    everything = jnp.broadcast_to(jnp.arange(problem[0]), (BATCH, problem[0]))
    found = np.asarray(head.apply({"params": params}, problem[2], everything, method="scores"))
    last = problem[1][-1]
    siblings = lambda x: np.diff(np.asarray(x)[:, : problem[0] // last * last].reshape(BATCH, -1, last), axis=2)
    np.testing.assert_allclose(siblings(found), siblings(log_probs(problem)), atol=2e-4)


def test_narrow_cascades_keep_the_most(problem):
    near = []
    for hidden_dim in (1, 2, 4, 7):
        head, params = begun("mhc", problem, objective="candidates", beam_width=100, hidden_dim=hidden_dim)
        everything = jnp.broadcast_to(jnp.arange(problem[0]), (BATCH, problem[0]))
        found = head.apply({"params": params}, problem[2], everything, method="scores")
        near.append(float(jnp.abs(found - log_probs(problem)).mean()))
    assert near[3] < 1e-3 < near[2] < near[0]


@pytest.mark.parametrize(("storage", "atol"), [("float32", 1e-5), ("bfloat16", 0.1), ("float8", 1.0)])
def test_a_sampled_head_has_the_rows(problem, storage, atol):
    head, params = begun("mhs", problem, sampler={"name": "batch_union"}, storage=storage)
    everything = jnp.broadcast_to(jnp.arange(problem[0]), (BATCH, problem[0]))
    found = head.apply({"params": params}, problem[2], everything, method="scores")
    np.testing.assert_allclose(found, log_probs(problem, bias=False), atol=atol)


def test_others_begin_as_they_are(problem):
    _, params = begun("mhp", problem)
    again = build_head("mhp", num_classes=problem[0], head_sizes=problem[1], features_dim=DIM)
    labels = jnp.zeros(BATCH, jnp.int32)
    want = nn.unbox(again.init(jax.random.key(0), problem[2], labels)["params"])
    jax.tree.map(np.testing.assert_array_equal, params, want)
