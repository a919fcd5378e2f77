"""Text encoders: shapes, padding, pooling, dropout switches, remat and errors. Their arithmetic: tests/parity."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict

from mhe_jax.models import ENCODERS, build_backbone
from mhe_jax.models.layers import attention
from mhe_jax.models.layers.dropout import dropout, is_active
from mhe_jax.models.texts import relative
from mhe_jax.models.texts.pooling import POOLINGS, last_layers, pool

SIZES = {"vocab_size": 31, "hidden_size": 12, "num_layers": 2, "num_heads": 3, "intermediate_size": 17}
KINDS = {
    "bert": {"name": "bert", "max_positions": 13},
    "mpnet": {"name": "bert", "max_positions": 13, "position_offset": 2, "token_types": 0, "relative_positions": True},
    "modernbert": {"name": "modernbert", "local_window": 4, "hidden_dropout": 0.1, "attention_dropout": 0.1},
    "xlnet": {"name": "xlnet"},
}
IDS = np.random.default_rng(0).integers(1, 31, (3, 7)).astype(np.int32)
LENGTHS = np.array([7, 1, 4], np.int32)


def build(kind, dtype=jnp.float32, **fields):
    return build_backbone(ConfigDict({**SIZES, **KINDS[kind], **fields}), dtype)


@functools.cache
def params_of(kind):
    return jax.jit(lambda: build(kind).init(jax.random.key(0), IDS, LENGTHS, train=False))()


def jitted(encoder):
    """Features as a compiled function of (variables, ids, lengths, train), `train` being traced."""
    return jax.jit(lambda v, ids, n, train: encoder.apply(v, ids, n, train, rngs={"dropout": jax.random.key(1)}))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_features_have_the_promised_width_and_dtype(kind, dtype):
    encoder = build(kind, dtype, feature_layers=3)
    variables = jax.eval_shape(lambda: encoder.init(jax.random.key(0), IDS, LENGTHS, train=False))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert set(variables) == {"params"}
    features = jax.eval_shape(lambda v: encoder.apply(v, IDS, LENGTHS, train=False), variables)
    assert features.shape == (3, encoder.features_dim) == (3, 36)
    assert features.dtype == dtype
    states = jax.eval_shape(lambda v: encoder.apply(v, IDS, LENGTHS, False, method="hidden_states"), variables)
    assert [(state.shape, state.dtype) for state in states] == [((3, 7, 12), dtype)] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_close_to_float32(kind):
    exact, rough = (build(kind, dtype, pooling="mean") for dtype in (jnp.float32, jnp.bfloat16))
    ours, expected = (jitted(e)(params_of(kind), IDS, LENGTHS, False).astype(np.float32) for e in (rough, exact))
    np.testing.assert_allclose(ours, expected, atol=0.05)
    assert np.abs(expected).max() > 1


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_neighbours_in_the_batch_change_nothing(kind):
    encoder = build(kind)
    states = jax.jit(lambda v, ids, n: encoder.apply(v, ids, n, False, method="hidden_states")[1:])
    features = lambda *batch: np.concatenate(
        [last_layers(states(params_of(kind), *batch), batch[1], pooling, 2) for pooling in POOLINGS], axis=1
    )
    expected = features(IDS, LENGTHS)
    longer = np.pad(IDS, [(0, 0), (0, 5)])
    longer = np.where(np.arange(12)[None, :] < LENGTHS[:, None], longer, 9)
    np.testing.assert_allclose(features(longer, LENGTHS), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(features(IDS[2:, :4], LENGTHS[2:]), expected[2:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_tokens_is_finite_and_counts_as_one_token(kind):
    encoder = build(kind, pooling="mean")
    gradient = jax.jit(jax.grad(lambda v, n: encoder.apply(v, IDS, n, False)[:, 0].sum()))
    empty, one = (gradient(params_of(kind), jnp.array([n, 2, 2])) for n in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, empty, one)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(empty))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_against_a_loop(pooling):
    rng = np.random.default_rng(0)
    layers = [rng.standard_normal((3, 7, 5), dtype=np.float32) for _ in range(4)]
    of_row = {"first": lambda row, n: row[0], "last": lambda row, n: row[n - 1], "mean": lambda row, n: row[:n].mean(0)}
    rows = lambda layer: np.stack([of_row[pooling](layer[b], LENGTHS[b]) for b in range(3)])
    np.testing.assert_allclose(pool(jnp.asarray(layers[0]), LENGTHS, pooling), rows(layers[0]), rtol=1e-6, atol=1e-6)
    expected = np.concatenate([rows(layers[3]), rows(layers[2]), rows(layers[1])], axis=1)
    ours = last_layers([jnp.asarray(layer) for layer in layers], LENGTHS, pooling, 3)
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)


class Dropped(nn.Module):
    rate: float

    def __call__(self, x, train):
        return dropout(self, x, self.rate, train)


def test_dropout_keeps_the_mean_and_scales():
    x = jnp.full((100, 101), 2.0)
    run = jax.jit(lambda train: Dropped(0.3).apply({}, x, train, rngs={"dropout": jax.random.key(0)}))
    on = np.asarray(run(True))
    np.testing.assert_allclose(np.unique(on), [0, 2 / 0.7], rtol=1e-6)
    np.testing.assert_allclose((on == 0).mean(), 0.3, atol=0.02)
    np.testing.assert_array_equal(run(False), x)
    static = Dropped(0.3).apply({}, x, True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_array_equal(on, static)
    # No random stream is asked for where nothing can be dropped.
    np.testing.assert_array_equal(Dropped(0.3).apply({}, x, False), x)
    np.testing.assert_array_equal(Dropped(0.0).apply({}, x, True), x)
    assert [is_active(0.1, train) for train in (True, False, jnp.asarray(False))] == [True, False, True]


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_switched_by_a_traced_value(kind):
    encoder = build(kind, feature_dropout=0.5, feature_layers=2)
    run = jitted(encoder)
    on, off = (run(params_of(kind), IDS, LENGTHS, train) for train in (True, False))
    assert run._cache_size() == 1
    fixed = jax.jit(
        lambda v, train: encoder.apply(v, IDS, LENGTHS, train, rngs={"dropout": jax.random.key(1)}), static_argnums=1
    )
    np.testing.assert_allclose(on, fixed(params_of(kind), True), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(off, fixed(params_of(kind), False), rtol=1e-5, atol=1e-5)
    assert np.mean(on == 0) > 0.2
    assert np.mean(off == 0) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_dropout_has_its_own_rate(kind):
    """Rates of 0 draw nothing, and attention's dropout leaves the embeddings alone."""
    none = build(kind, hidden_dropout=0.0, attention_dropout=0.0)
    states = jax.jit(lambda v, train: none.apply(v, IDS, LENGTHS, train, method="hidden_states"), static_argnums=1)
    plain = states(params_of(kind), False)
    jax.tree.map(np.testing.assert_array_equal, states(params_of(kind), True), plain)
    weights, key = build(kind, num_layers=1, hidden_dropout=0.0, attention_dropout=0.5), jax.random.key(0)
    states = jax.jit(lambda v: weights.apply(v, IDS, LENGTHS, True, method="hidden_states", rngs={"dropout": key}))
    embeddings, first = states(params_of(kind))
    np.testing.assert_array_equal(embeddings, plain[0])
    assert np.abs(first - plain[1]).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_remat_changes_nothing_but_memory(kind):
    def value_and_grad(remat):
        encoder = build(kind, remat=remat)
        features = lambda v, key: encoder.apply(v, IDS, LENGTHS, True, rngs={"dropout": key})
        run = jax.jit(jax.value_and_grad(lambda v, key: jnp.square(features(v, key) - 1).sum()))
        return lambda key: jax.tree.leaves(run(params_of(kind), jax.random.key(key)))

    remat = value_and_grad(True)
    again, kept, other = remat(1), value_and_grad(False)(1), remat(2)
    # A gradient is a sum over the positions of all texts and the width, which rounds by eps of its largest terms each;
    # attention's biases sum to nearly nothing, so that the terms' size is that of the largest gradients.
    terms, size = IDS.size * SIZES["hidden_size"], max(np.abs(leaf).max() for leaf in kept[1:])
    atol = np.finfo(np.float32).eps * terms * size
    for a, b in zip(again, kept, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=atol)
    # Another dropout in what is computed again would be seen from far.
    assert max(np.abs(a - b).max() for a, b in zip(other[1:], kept[1:], strict=True)) > 1000 * atol
    encoder = build(kind, remat=True)
    text = str(jax.make_jaxpr(lambda v: encoder.apply(v, IDS, LENGTHS, False))(params_of(kind)))
    assert text.count("remat") >= SIZES["num_layers"]


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_have_names_for_weight_decay_and_torchs_initial_values(kind):
    encoder = build(kind, hidden_size=48, vocab_size=300)
    params = jax.jit(lambda: encoder.init(jax.random.key(0), IDS, LENGTHS, train=False))()["params"]
    for path, leaf in traverse_util.flatten_dict(params, sep="/").items():
        if path.endswith("/scale"):
            assert path.endswith("norm/scale")
            np.testing.assert_array_equal(leaf, 1)
        elif path.endswith("/bias"):
            np.testing.assert_array_equal(leaf, 0)
        else:
            assert 0.015 < np.std(leaf) < 0.025, path
            assert leaf.ndim > 1


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dropped", [False, True])
def test_attention_against_a_loop(biased, dropped):
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((3, 7, 2, 5), dtype=np.float32) for _ in range(3))
    bias = rng.standard_normal((2, 7, 7), dtype=np.float32) if biased else None
    keep = rng.integers(0, 2, (3, 2, 7, 7)).astype(np.float32)
    ours = attention.self_attention(
        *map(jnp.asarray, (query, key, value)), jnp.asarray(LENGTHS), bias, (lambda w: w * keep) if dropped else None
    )
    for b, n in enumerate(LENGTHS):
        for h in range(2):
            scores = query[b, :, h] @ key[b, :n, h].T / np.sqrt(5) + (bias[h, :, :n] if biased else 0)
            weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
            expected = (weights * keep[b, h, :, :n] if dropped else weights) @ value[b, :n, h]
            np.testing.assert_allclose(ours[b, :, h], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("t", [1, 2, 7])
def test_skew_against_a_loop(t):
    scores = np.random.default_rng(0).standard_normal((2, 3, t, 2 * t)).astype(np.float32)
    ours = relative.skew(jnp.asarray(scores))
    for i in range(t):
        for j in range(t):
            np.testing.assert_array_equal(ours[..., i, j], scores[..., i, t - i + j])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 13}, r"hidden_size \(13\) must be a multiple of num_heads \(3\)"),
        ({"pooling": "max"}, "pooling is 'max'; it must be one of first, last, mean"),
        ({"activation": "silu"}, "activation is 'silu'; it must be one of gelu"),
        ({"feature_layers": 4}, r"feature_layers is 4; with 2 layers and the embeddings it must be in 1 .. 3"),
        ({"feature_layers": 0}, "feature_layers is 0"),
        ({"hidden_dropout": 1.0}, r"hidden_dropout is 1.0; it must be in \[0, 1\)"),
        ({"attention_dropout": -0.1}, "attention_dropout is -0.1"),
        ({"num_layers": 0}, "num_layers must be at least 1, not 0"),
        ({"vocab_size": 0}, "vocab_size must be at least 1, not 0"),
        ({"depth": 3}, "config.backbone.depth is not a field of"),
    ],
)
@pytest.mark.parametrize("name", ENCODERS)
def test_mistakes_in_the_config_are_named(name, fields, message):
    with pytest.raises(ValueError, match=f"config.backbone.{message}" if "config" not in message else message):
        build(name, **fields)


def test_texts_longer_than_the_positions_are_refused():
    encoder = build("bert", max_positions=6)
    with pytest.raises(ValueError, match="texts of 7 tokens, but config.backbone.max_positions is 6"):
        encoder.init(jax.random.key(0), IDS, LENGTHS, train=False)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_window_hides_what_is_far_away(dtype):
    """Against softmax over the near and real keys alone; a window that holds all of them hides nothing."""
    rng = np.random.default_rng(0)
    query, key, value = (jnp.asarray(rng.normal(size=(3, 7, 2, 8)), dtype) for _ in range(3))
    scores = np.einsum("bind,bjnd->bnij", query, key, dtype=np.float32) / 8**0.5
    places = np.arange(7)
    seen = (abs(places[:, None] - places[None, :]) <= 2)[None, None] & (places < LENGTHS[:, None])[:, None, None, :]
    weights = np.exp(scores) * seen
    expected = np.einsum("bnij,bjnd->bind", weights / np.maximum(weights.sum(-1, keepdims=True), 1e-9), value)
    drop = lambda weights: weights
    real = places < LENGTHS[:, None]
    for found in (attention.self_attention(query, key, value, LENGTHS, drop=by, window=2) for by in (None, drop)):
        tolerance = 1e-5 if dtype == jnp.float32 else 3e-2
        np.testing.assert_allclose(np.asarray(found, np.float32)[real], expected[real], atol=tolerance)
    wide, whole = (attention.self_attention(query, key, value, LENGTHS, window=by) for by in (6, None))
    np.testing.assert_array_equal(wide, whole)


def test_features_have_length_1_where_asked_for():
    plain, unit = (build("bert", pooling="mean", l2_normalize=by) for by in (False, True))
    found, expected = (np.asarray(jitted(e)(params_of("bert"), IDS, LENGTHS, False)) for e in (unit, plain))
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_heads": 4}, r"hidden_size \(12\) by num_heads \(4\) is odd"),
        ({"local_window": 1}, "local_window is 1; it must be at least 2"),
        ({"global_every": 0}, "global_every must be at least 1, not 0"),
    ],
)
def test_impossible_modernberts_are_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        build("modernbert", **fields)


def test_xlnets_positions_come_in_pairs():
    with pytest.raises(ValueError, match="hidden_size is 15; XLNet's positions need an even one"):
        build("xlnet", hidden_size=15)
