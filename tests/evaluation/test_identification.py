"""1:N identification against loops over probes, galleries and thresholds."""

import math

import numpy as np
import pytest

from mhe_jax.evaluation.identification import identify, identify_templates
from mhe_jax.evaluation.ijb_meta import Subjects


def by_loops(gallery, gallery_subjects, probes, probe_subjects):
    """The figures, with a sort per probe and a loop over all thresholds."""
    mated_best, unmated_best, places = [], [], []
    for probe, subject in zip(probes, probe_subjects, strict=True):
        scores = [float(probe @ g / np.linalg.norm(probe) / np.linalg.norm(g)) for g in gallery]
        order = sorted(range(len(scores)), key=lambda j: (-scores[j], j))
        ranked = [int(gallery_subjects[j]) for j in order]
        if subject in gallery_subjects:
            places.append(ranked.index(subject))
            mated_best.append((scores[order[0]], ranked[0] == subject))
        else:
            unmated_best.append(scores[order[0]])
    figures = {f"rank{k}": np.mean([place < k for place in places]) for k in (1, 5, 10)}
    for name in ("1e-1", "1e-2"):
        rates = [0.0]
        for threshold in {score for score, _ in mated_best}:
            if np.mean([score >= threshold for score in unmated_best]) <= float(name):
                rates.append(np.mean([score >= threshold and right for score, right in mated_best]))
        figures[f"tpir@{name}"] = max(rates) if float(name) * len(unmated_best) >= 1 else math.nan
    return figures | {"mated": len(mated_best), "unmated": len(unmated_best)}


def draw(seed, people, in_gallery, probes, noise):
    """A gallery of the first people and probes of all."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((people, 6))
    subjects = rng.permutation(1000)[:people]
    who = rng.integers(0, people, probes)
    gallery = centers[:in_gallery] + noise * rng.standard_normal((in_gallery, 6))
    return gallery, subjects[:in_gallery], centers[who] + noise * rng.standard_normal((probes, 6)), subjects[who]


@pytest.mark.parametrize(("seed", "noise", "probes"), [(0, 0.2, 401), (1, 0.5, 401), (2, 1.0, 90), (3, 0.0, 300)])
def test_equals_loops(seed, noise, probes):
    case = draw(seed, 29, 17, probes, noise)
    found, expected = identify(*case), by_loops(*case)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name
    assert found["rank1"] <= found["rank5"] <= found["rank10"] <= 1
    assert math.isnan(found["tpir@1e-2"]) == (probes == 90)


def test_hand_computed():
    """Subjects 1, 2 and 3 on three axes; ten unmated probes, one of them at a similarity of 0.9."""
    cosine = lambda c, axis, other: c * np.eye(4)[axis] + math.sqrt(1 - c * c) * np.eye(4)[other]
    probes = [
        cosine(0.99, 0, 3),  # subject 1, found
        cosine(0.8, 1, 3),  # subject 2, found, but less similar than an unmated probe
        cosine(0.95, 0, 1),  # subject 2, taken for 1 with certainty
        cosine(0.9, 2, 3),  # unmated
        *[cosine(0.1, 2, 3)] * 9,
    ]
    found = identify(np.eye(4)[:3], np.array([1, 2, 3]), np.stack(probes), np.array([1, 2, 2] + [7] * 10))
    assert (found["mated"], found["unmated"]) == (3, 10)
    assert found["rank1"] == pytest.approx(2 / 3)
    assert found["rank5"] == 1
    # One of ten may be reported: from below 0.8 on, both that were found rightly are.
    assert found["tpir@1e-1"] == pytest.approx(2 / 3)
    assert math.isnan(found["tpir@1e-2"])


def test_several_templates_of_a_subject_and_galleries_smaller_than_ten():
    gallery = np.array([[1, 0.0], [0.9, 0.1], [0, 1]])
    found = identify(gallery, np.array([4, 5, 4]), np.array([[0.1, 1], [0.9, 0.1]]), np.array([4, 4]))
    assert (found["rank1"], found["rank5"], found["rank10"]) == (0.5, 1, 1)
    assert math.isnan(found["tpir@1e-1"])  # there is no unmated probe


def test_without_a_mated_probe_nothing_is_measured():
    found = identify(np.eye(2), np.array([1, 2]), np.eye(2), np.array([3, 4]))
    assert (found.pop("mated"), found.pop("unmated")) == (0, 2)
    assert len(found) == 5
    assert np.isnan(list(found.values())).all()


def test_galleries_their_mean_and_both():
    gallery, subjects, probes, probe_subjects = draw(5, 20, 20, 300, 0.8)
    embeddings = np.concatenate([gallery, probes])
    one, other = Subjects(np.arange(11), subjects[:11]), Subjects(np.arange(11, 20), subjects[11:])
    found = identify_templates(embeddings, {"G1": one, "G2": other}, Subjects(np.arange(20, 320), probe_subjects))
    assert set(found) == {"G1", "G2", "G1+G2", "mean"}
    assert found["G1"] == identify(gallery[:11], subjects[:11], probes, probe_subjects)
    assert found["G2"] == identify(gallery[11:], subjects[11:], probes, probe_subjects)
    assert found["G1+G2"]["mated"] == 300
    assert found["G1+G2"]["rank1"] == identify(gallery, subjects, probes, probe_subjects)["rank1"]
    for name, value in found["mean"].items():
        assert value == pytest.approx((found["G1"][name] + found["G2"][name]) / 2)
        assert 0 < value < 1 or name in ("rank5", "rank10")
