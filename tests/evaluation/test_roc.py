"""The ROC against counting, threshold by threshold, and against scikit-learn."""

import math

import numpy as np
import pytest
import scipy.optimize
import sklearn.metrics

from mhe_jax.evaluation.verification import FARS, roc


def counted(similarities, same):
    """(FAR, TAR) of every threshold, from above all similarities down, by counting."""
    points = [(0.0, 0.0)]
    for threshold in sorted(set(similarities.tolist()), reverse=True):
        accepted = similarities >= threshold
        points.append(((accepted & ~same).sum() / (~same).sum(), (accepted & same).sum() / same.sum()))
    return points


def draw(seed, count, levels=None, share=0.5, shift=1.0):
    """Similarities of pairs; with `levels` few different ones."""
    rng = np.random.default_rng(seed)
    same = rng.random(count) < share
    found = rng.standard_normal(count) + shift * same
    return (np.round(found * levels) if levels else found).astype(np.float32), same


CASES = [
    draw(0, 101),
    draw(1, 307, levels=2),
    draw(2, 500, levels=1, share=0.05),
    draw(3, 999, share=0.97),
    draw(4, 211, shift=-1.0),
    draw(5, 53, shift=20.0),
]


@pytest.mark.parametrize(("similarities", "same"), CASES)
def test_tar_is_the_largest_whose_far_is_not_above(similarities, same):
    curve, points = roc(similarities, same), counted(similarities, same)
    negatives = int((~same).sum())
    for far in (0.5, 0.2, 0.1, 0.05, 0.03, 1e-2, 1e-3, 1 / negatives, 3 / negatives):
        expected = max(tar for point, tar in points if point <= far)
        if far < 1 / negatives:
            assert math.isnan(curve.tar_at(far))
        else:
            assert curve.tar_at(far) == expected
    assert (curve.positives, curve.negatives) == (int(same.sum()), negatives)
    np.testing.assert_allclose(np.stack([curve.far, curve.tar], axis=1), points, atol=1e-15)


@pytest.mark.parametrize(("similarities", "same"), CASES)
def test_area_is_the_chance_that_a_same_pair_is_more_similar(similarities, same):
    positive, negative = similarities[same][:, None], similarities[~same][None]
    expected = (positive > negative).mean() + 0.5 * (positive == negative).mean()
    curve = roc(similarities, same)
    assert curve.auc == pytest.approx(expected, abs=1e-9)
    assert curve.auc == pytest.approx(sklearn.metrics.roc_auc_score(same, similarities), abs=1e-12)


@pytest.mark.parametrize(("similarities", "same"), CASES)
def test_equal_error_rate_is_where_the_line_of_points_meets_the_diagonal(similarities, same):
    points = counted(similarities, same)
    far, tar = np.array(points).T
    # Along the polyline, parametrised by the number of the point: vertical pieces are no trouble.
    at = lambda position, values: float(np.interp(position, np.arange(len(points)), values))
    where = scipy.optimize.brentq(lambda p: at(p, far) - (1 - at(p, tar)), 0, len(points) - 1, xtol=1e-12)
    assert roc(similarities, same).eer == pytest.approx(at(where, far), abs=1e-9)


def test_hand_computed():
    """Similarities and labels of four pairs: + 0.9, - 0.8, + 0.7, - 0.1."""
    curve = roc(np.array([0.7, 0.8, 0.9, 0.1]), np.array([True, False, True, False]))
    assert curve.far.tolist() == [0, 0, 0.5, 0.5, 1]
    assert curve.tar.tolist() == [0, 0.5, 0.5, 1, 1]
    assert (curve.auc, curve.eer) == (0.75, 0.5)
    assert (curve.tar_at(0.5), curve.tar_at(0.99), curve.tar_at(1)) == (1, 1, 1)
    assert math.isnan(curve.tar_at(0.49))


def test_a_far_of_exactly_one_negative_is_measured():
    same = np.arange(110) >= 100
    similarities = np.where(same, 0.5, np.linspace(0, 0.4, 110))
    similarities[0] = 0.9  # one of a hundred negatives
    curve = roc(similarities, same)
    assert curve.tar_at(0.01) == 1
    assert curve.figures["tar@1e-2"] == 1
    assert all(math.isnan(curve.figures[f"tar@{far}"]) for far in FARS[2:])
    assert curve.unmeasured == ("no TAR at a FAR of 1e-3, 1e-4, 1e-5, 1e-6: one of the 100 negatives is more than that")


def test_where_everything_is_measured_nothing_is_said():
    same = np.zeros(1_000_100, bool)
    same[:100] = True
    curve = roc(np.where(same, 1.0, 0.0), same)
    assert curve.unmeasured == ""
    assert [curve.figures[f"tar@{far}"] for far in FARS] == [1] * 6
    assert (curve.auc, curve.eer) == (1, 0)


def test_ties_of_both_kinds_are_accepted_together():
    curve = roc(np.array([0.5] * 10), np.arange(10) < 5)
    assert (curve.auc, curve.eer, curve.tar_at(0.9)) == (0.5, 0.5, 0)


@pytest.mark.parametrize("same", [[True] * 3, [False] * 3, []])
def test_one_kind_of_pairs_has_no_curve(same):
    message = f"pairs of both kinds, but {sum(same)} are the same and {len(same) - sum(same)} different"
    with pytest.raises(ValueError, match=message):
        roc(np.zeros(len(same)), np.array(same, bool))


def test_tar_without_a_false_accept_is_the_share_of_same_pairs_above_every_other():
    similarities, same = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.7]), np.array([1, 1, 0, 1, 0, 1], bool)
    assert roc(similarities, same).figures["tar@0"] == 2 / 4  # 0.7 is shared with a different pair
    assert roc(-similarities, same).figures["tar@0"] == 0
