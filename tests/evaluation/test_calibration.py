"""Calibration: what was made overconfident on purpose is found out."""

import numpy as np
import pytest

from mhe_jax.evaluation.calibration import Calibration, fit_classes, fit_labels, reliability
from mhe_jax.evaluation.reliability_plot import plot_reliability

HOT = 2.5


def sharpened(seed=0, examples=4000, classes=7):
    """Probabilities of labels drawn from them, and the same made too sure of themselves; of sigmoids."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 1.2, examples)
    hit = rng.random(examples) < 1 / (1 + np.exp(-logits))
    return 1 / (1 + np.exp(-HOT * logits)), hit


def softmaxes(seed=0, examples=4000, classes=7):
    """The probabilities of all classes, best first, made too sure; which one is true; and those that are right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (examples, classes))
    logits = -np.sort(-logits, axis=1)
    soft = lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    true = (rng.random((examples, 1)) > soft(logits).cumsum(axis=1)).sum(axis=1)
    return soft(HOT * logits), np.arange(classes) == true[:, None], soft(logits)


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_labels(kind):
    scores, hit = sharpened()
    calibration = fit_labels(kind, scores, hit)
    other, other_hit = sharpened(seed=1)
    before, after = reliability(other, other_hit).error, reliability(calibration.of_labels(other), other_hit).error
    assert before > 0.1
    assert after < 0.03
    order = np.argsort(other)
    assert (np.diff(calibration.of_labels(other)[order]) >= 0).all()
    if kind == "temperature":
        assert calibration.temperature == pytest.approx(HOT, rel=0.1)


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_classes(kind):
    scores, correct, right = softmaxes()
    calibration = fit_classes(kind, scores, correct, 7)
    found = calibration.of_classes(scores, 7)
    assert reliability(found[:, 0], correct[:, 0]).error < 0.03 < reliability(scores[:, 0], correct[:, 0]).error
    if kind == "temperature":
        np.testing.assert_allclose(found.sum(axis=1), 1)
        np.testing.assert_allclose(found, right, atol=0.03)


def test_classes_that_were_not_kept_share_what_is_left():
    scores, correct, right = softmaxes()
    calibration = fit_classes("temperature", scores[:, :4], correct[:, :4], 7)
    found = calibration.of_classes(scores[:, :4], 7)
    assert (found.sum(axis=1) < 1).all()
    np.testing.assert_allclose(found[:, 0], right[:, 0], atol=0.08)


def test_many_classes_that_are_nearly_alike_get_probabilities_of_a_whole():
    """The powers of all of them together are far below what a float32 tells from 0."""
    rng, classes, kept, too_flat = np.random.default_rng(0), 3000, 100, 5
    logits = -np.sort(-rng.normal(size=(300, classes)), axis=1)
    soft = lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    right = soft(too_flat * logits)
    true = (rng.random((len(logits), 1)) > right.cumsum(axis=1)).sum(axis=1)
    scores = soft(logits)[:, :kept].astype(np.float32)
    calibration = fit_classes("temperature", scores, np.arange(kept) == true[:, None], classes)
    found = calibration.of_classes(scores, classes)
    assert found[:, 0].mean() == pytest.approx(right[:, 0].mean(), rel=0.1)
    told = Calibration("temperature", 1 / too_flat).of_classes(scores, classes)
    np.testing.assert_allclose(told[:, 0], right[:, 0], atol=0.03)
    coldest = Calibration("temperature", 0.05).of_classes(scores[:, :1] * [[1, 1, 0]], 3)
    np.testing.assert_allclose(coldest.sum(axis=1), 1)


def test_what_has_no_probability_gets_none():
    hot = Calibration("temperature", 2.0)
    np.testing.assert_array_equal(hot.of_classes(np.zeros((1, 2), np.float32), 2), 0)
    np.testing.assert_array_equal(hot.of_classes(np.array([[1.0, 0.0]], np.float32), 9), [[1, 0]])
    found = fit_classes(
        "temperature", np.array([[1.0, 0.0]] * 3), np.array([[True, False], [False, True], [False] * 2]), 9
    )
    assert np.isfinite(found.temperature)


def test_nothing_is_done_without_calibration():
    scores = np.array([[0.7, 0.2]])
    for calibration in (
        Calibration(),
        fit_labels("none", scores, scores > 0),
        fit_classes("none", scores, scores > 0, 2),
    ):
        assert calibration.of_labels(scores) is scores
        assert calibration.of_classes(scores, 3) is scores


def test_certain_answers_stay_finite():
    found = fit_labels("temperature", np.array([0.0, 1.0, 1.0, 0.0]), np.array([False, True, False, False]))
    assert np.isfinite(found.of_labels(np.array([0.0, 1.0]))).all()


def test_the_error_is_the_mean_distance():
    curve = reliability(np.array([0.05, 0.05, 0.95, 1.0]), np.array([False, True, True, True]), bins=10)
    assert curve.error == pytest.approx((2 * 0.45 + 2 * 0.025) / 4)
    assert curve.number.tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 0, 2]


def test_the_plot_is_written(tmp_path):
    plot_reliability({"as trained": reliability(*sharpened())}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_isotonic_probabilities_of_classes_are_those_of_a_whole():
    scores, correct, _ = softmaxes()
    for kept in (7, 4):
        found = fit_classes("isotonic", scores[:, :kept], correct[:, :kept], 7).of_classes(scores[:, :kept], 7)
        assert found.min() >= 0
        assert found.sum(axis=1).max() <= 1 + 1e-9
        assert (np.diff(found, axis=1) <= 1e-12).all()
