"""Margins against their closed forms in angles, and their gradients where those are delicate."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from ml_collections import ConfigDict

from mhe_jax import registry
from mhe_jax.ops import margins
from mhe_jax.ops.lengths import safe_normalize

# An even number of them: none is pi / 2, a kink.
ANGLES = np.linspace(0.02, math.pi - 0.02, 100)
COSINES = jnp.asarray(np.cos(ANGLES), jnp.float32)
NORMS = jnp.linspace(4.0, 130.0, len(ANGLES))
EDGES = jnp.array([1 + 1e-6, 1.0, 1 - 6e-8, -1 + 6e-8, -1.0, -1 - 1e-6], jnp.float32)
ALL = pytest.mark.parametrize("name", margins.MARGINS)


def target(margin, cosines=COSINES, norms=NORMS):
    return np.asarray(margin.target(cosines, norms, margin.statistics()))


@functools.partial(jax.jit, static_argnums=0)
def slopes(margin, cosines, norms):
    """Derivatives of the target by cosine and by norm."""
    return jax.grad(lambda c, n: margin.target(c, n, margin.statistics()).sum(), argnums=(0, 1))(cosines, norms)


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=2e-6)


def test_no_margin_is_the_cosine():
    assert np.array_equal(target(margins.Margin()), COSINES)


def test_arcface_adds_to_the_angle_and_shifts_the_cosine_beyond_pi():
    expected = np.where(np.cos(ANGLES) > -math.cos(0.5), np.cos(ANGLES + 0.5), np.cos(ANGLES) - 0.5 * math.sin(0.5))
    close(target(margins.ArcFace()), expected)
    close(target(margins.ArcFace(beyond="none")), np.cos(ANGLES + 0.5))
    close(target(margins.ArcFace(beyond="easy", m=0.3)), np.cos(ANGLES + 0.3 * (np.cos(ANGLES) > 0)))


def test_only_the_shift_makes_large_angles_fall_all_the_way():
    for margin in (margins.ArcFace(), margins.CurricularFace(), margins.MagFace(beyond="shift")):
        assert (np.diff(target(margin, norms=jnp.full(100, 60.0))) < 0).all()
    assert (np.diff(target(margins.ArcFace(beyond="none")))[-10:] > 0).all()


def test_at_the_branches_none_is_continuous_shift_drops_and_easy_jumps_to_the_cosine():
    def step(beyond, angle):
        around = jnp.cos(jnp.array([angle - 1e-4, angle + 1e-4]))
        before, after = target(margins.ArcFace(beyond=beyond), around, jnp.ones(2))
        return after - before

    assert abs(step("none", math.pi - 0.5)) < 1e-4
    # From cos(pi) to cos(pi - m) - m sin(m).
    assert step("shift", math.pi - 0.5) == pytest.approx(1 - math.cos(0.5) - 0.5 * math.sin(0.5), abs=2e-4)
    assert step("easy", math.pi / 2) == pytest.approx(math.sin(0.5), abs=3e-4)


def test_cosface_and_the_combined_margin():
    close(target(margins.CosFace(m=0.35)), np.cos(ANGLES) - 0.35)
    combined = margins.CombinedMargin(m1=1.35, m2=0.4, m3=0.15)
    close(target(combined), np.cos(1.35 * ANGLES + 0.4) - 0.15)
    close(target(margins.CombinedMargin(m1=1.0, m2=0.5, m3=0.0)), target(margins.ArcFace(beyond="none")))


def test_curricularface_marks_negatives_beyond_the_margin_as_hard():
    margin = margins.CurricularFace(m=0.4)
    close(target(margin), target(margins.ArcFace(m=0.4)))
    close(margin.threshold(COSINES, NORMS, margin.statistics()), np.cos(ANGLES + 0.4))
    negatives, threshold = np.array([[-0.2, 0.1, 0.5], [0.3, 0.31, -0.9]]), np.array([[0.1], [0.3]])
    expected = [[-0.2, 0.1, 0.5 * 0.7], [0.3, 0.31 * 0.51, -0.9]]
    close(margins.hard_negatives(jnp.asarray(negatives), jnp.asarray(threshold), 0.2), expected)


def test_magface_has_a_margin_that_grows_with_the_clipped_norm_and_a_penalty_that_falls():
    margin = margins.MagFace(beyond="none")
    clipped = np.clip(NORMS, 10.0, 110.0)
    close(target(margin), np.cos(ANGLES + 0.45 + (clipped - 10) / 100 * 0.35))
    close(target(margins.MagFace()), np.where(np.cos(ANGLES) > 0, target(margin), COSINES))
    penalty = np.asarray(margin.penalty(NORMS))
    np.testing.assert_allclose(penalty, 35 * (clipped / 110**2 + 1 / clipped), rtol=1e-6)
    inside = (NORMS > 10) & (NORMS < 110)
    assert (np.diff(penalty[inside]) < 0).all()
    _, by_norm = slopes(margin, COSINES, NORMS)
    assert np.array_equal(np.asarray(by_norm) != 0, inside)


def test_adaface_gives_a_large_norm_an_additive_margin_and_a_small_one_an_angular_margin():
    margin = margins.AdaFace(m=0.3, h=1.0)
    statistics = {"batch_mean": jnp.float32(20.0), "batch_std": jnp.float32(10.0)}
    for norm, z in ((5.0, -1.0), (25.0, 0.5), (500.0, 1.0), (0.0, -1.0)):
        ours = margin.target(COSINES, jnp.full_like(COSINES, norm), statistics)
        angles = np.clip(ANGLES, math.acos(0.999), math.acos(-0.999))
        expected = np.cos(np.clip(angles - 0.3 * z, 1e-3, math.pi - 1e-3)) - 0.3 * (1 + z)
        np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_a_reference_gradient_keeps_the_value_and_ignores_the_margin():
    ours, plain = margins.ArcFace(beyond="none", reference_gradient=True), margins.ArcFace(beyond="none")
    assert np.array_equal(target(ours), target(plain))
    assert np.array_equal(slopes(ours, COSINES, NORMS)[0], np.ones(100))


@ALL
def test_gradients_agree_with_differences_away_from_the_kinks(name):
    margin = margins.MARGINS[name]()
    cosines, norms = jnp.array([-0.6, -0.3, 0.2, 0.7, 0.95]), jnp.array([12.0, 30.0, 60.0, 90.0, 100.0])
    statistics = margin.statistics()
    value = lambda c: margin.target(jnp.asarray(c), norms, statistics)
    check_grads(value, (cosines,), 1, modes=["rev"], atol=1e-2, rtol=1e-2)
    if name == "magface":
        both = lambda n: margin.target(cosines, jnp.asarray(n), statistics) + margin.penalty(jnp.asarray(n))
        check_grads(both, (norms,), 1, modes=["rev"], atol=1e-3, rtol=1e-2, eps=1e-2)
    else:
        assert not slopes(margin, cosines, norms)[1].any()


@ALL
def test_everything_is_finite_at_the_ends_and_for_zero_features(name):
    margin = margins.MARGINS[name]()
    assert np.isfinite(target(margin, EDGES, jnp.zeros(6))).all()
    gradients = slopes(margin, EDGES, jnp.zeros(6))
    assert np.isfinite(gradients).all()
    # Out of range, the cosine is constant; the bound is that of 1 / sin one rounding away from +-1.
    assert gradients[0][0] == gradients[0][5] == 0
    assert np.abs(gradients[0]).max() < 1 / math.sqrt(1e-7)

    def loss(features, rows):
        unit, norms = safe_normalize(features)
        cosines = unit @ safe_normalize(rows)[0].T
        own, statistics = jnp.diagonal(cosines), margin.statistics()
        logits = margin.scale * jnp.where(jnp.eye(3, dtype=bool), margin.target(own, norms, statistics), cosines)
        penalty = margin.penalty(norms)
        return -jnp.diagonal(jax.nn.log_softmax(logits)).sum() + (0.0 if penalty is None else penalty.sum())

    # The features: zero, equal to their class, opposite to it.
    rows = jax.random.normal(jax.random.key(1), (3, 7))
    features = rows * jnp.array([0.0, 1.0, -3.0])[:, None]
    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(features, rows)
    assert np.isfinite(value)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert not gradients[0][0].any()


@ALL
def test_bfloat16_becomes_float32_also_when_compiled(name):
    margin = margins.MARGINS[name]()

    @jax.jit
    def step(cosines, norms):
        statistics = margin.updated(margin.statistics(), cosines, norms, jnp.ones(cosines.shape))
        return margin.target(cosines, norms, statistics), margin.penalty(norms), statistics

    narrow = COSINES.astype(jnp.bfloat16), NORMS.astype(jnp.bfloat16)
    wide = [array.astype(jnp.float32) for array in narrow]
    ours, expected = step(*narrow), step(*wide)
    assert all(array.dtype == jnp.float32 for array in jax.tree.leaves(ours))
    jax.tree.map(close, ours, expected)
    assert hash(margin) == hash(margins.MARGINS[name]())


def test_cosines_are_clamped_with_the_whole_gradient_up_to_the_ends():
    close(margins.clamp_cosine(EDGES), np.clip(EDGES, -1, 1))
    gradient = jax.grad(lambda c: margins.clamp_cosine(c).sum())(EDGES)
    assert gradient.tolist() == [0, 1, 1, 1, 1, 0]


def padded(*columns):
    """The columns with rows of padding in between, which hold what must not be read."""
    rows = [jnp.stack([jnp.asarray(column), jnp.full(len(column), jnp.nan)], axis=1).reshape(-1) for column in columns]
    return *rows, jnp.tile(jnp.array([0.5, 0.0]), len(columns[0]))


def test_statistics_are_moving_averages_over_the_real_rows():
    rng = np.random.default_rng(1)
    curricular, ada = margins.CurricularFace(), margins.AdaFace(t_alpha=0.2)
    updates = [jax.jit(margin.updated) for margin in (curricular, ada)]
    t, (mean, std) = 0.0, (20.0, 100.0)
    seen, moments = curricular.statistics(), ada.statistics()
    assert seen == {"t": 0.0}
    assert moments == {"batch_mean": 20.0, "batch_std": 100.0}
    for _ in range(3):
        cosines, norms = rng.uniform(-1, 1, 7).astype(np.float32), rng.uniform(0, 130, 7).astype(np.float32)
        rows = padded(cosines, norms)
        seen, moments = updates[0](seen, *rows), updates[1](moments, *rows)
        t = 0.01 * cosines.mean() + 0.99 * t
        clipped = np.clip(norms, 0.001, 100)
        mean, std = 0.2 * clipped.mean() + 0.8 * mean, 0.2 * clipped.std(ddof=1) + 0.8 * std
        np.testing.assert_allclose([seen["t"], *moments.values()], [t, mean, std], rtol=1e-5)
    assert curricular.hard_boost(seen) == seen["t"]


def test_a_batch_without_a_value_leaves_the_statistic_as_it_was():
    rows = jnp.array([0.5, 0.5, 0.5])
    for margin in (margins.CurricularFace(), margins.AdaFace()):
        old = {key: jnp.float32(3.0) for key in margin.statistics()}
        assert margin.updated(old, rows, rows, jnp.zeros(3)) == old
        assert old == {key: 3.0 for key in old}
    # One row has a mean, but no spread.
    one = margins.AdaFace().updated({"batch_mean": 3.0, "batch_std": 3.0}, rows, rows, jnp.array([0.0, 1.0, 0.0]))
    np.testing.assert_allclose([one["batch_mean"], one["batch_std"]], [0.99 * 3 + 0.01 * 0.5, 3.0], rtol=1e-6)


def test_nothing_flows_back_through_the_statistics():
    margin = margins.CurricularFace()
    boost = lambda c: margin.hard_boost(margin.updated(margin.statistics(), c, jnp.abs(c), jnp.ones(c.shape)))
    assert boost(COSINES[:9]) > 0
    assert not jax.jit(jax.grad(boost))(COSINES[:9]).any()


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("none", "scale", 0.0),
        ("none", "scale", math.inf),
        ("arcface", "m", -0.1),
        ("arcface", "m", "0.5"),
        ("arcface", "beyond", "never"),
        ("cosface", "m", 1.5),
        ("combined", "m1", 0),
        ("combined", "m2", 2.0),
        ("combined", "m3", math.nan),
        ("curricularface", "m", True),
        ("curricularface", "alpha", 0.0),
        ("magface", "l_a", 0.0),
        ("magface", "u_a", 10.0),
        ("magface", "l_margin", -0.1),
        ("magface", "u_margin", 0.4),
        ("magface", "lambda_g", -1.0),
        ("magface", "beyond", ""),
        ("adaface", "m", 2),
        ("adaface", "h", 0),
        ("adaface", "t_alpha", 1.1),
    ],
)
def test_a_field_out_of_range_is_named(name, field, value):
    section = ConfigDict({"name": name, field: value})
    with pytest.raises(ValueError, match=rf"^config\.head\.margin\.{field} is .*; it must be "):
        registry.build(margins.MARGINS, section, "config.head.margin")


def test_margins_are_built_from_their_section():
    section = ConfigDict({"name": "magface", "scale": 32, "u_a": 50.0})
    assert registry.build(margins.MARGINS, section, "config.head.margin") == margins.MagFace(scale=32, u_a=50.0)
    with pytest.raises(ValueError, match="config.head.margin.m is not a field of 'magface'"):
        registry.build(margins.MARGINS, ConfigDict({"name": "magface", "m": 0.5}), "config.head.margin")
