"""The IJB command on a synthetic benchmark and a model that only looks at colours, against loops over the files."""

import json

import cv2
import numpy as np
import PIL.Image
import pytest
import sklearn.metrics

from mhe_jax.data.faces.alignment import LANDMARKS
from mhe_jax.inference import ijb

TEMPLATES, SUBJECTS = 24, 8


class Colours:
    """Mean colours of four parts of a picture; asymmetric, so that mirror images differ."""

    image_shape = (112, 112, 3)

    def __init__(self):
        self.batches = []

    def __call__(self, images):
        assert images.shape[1:] == self.image_shape
        assert images.dtype == np.uint8
        self.batches.append(len(images))
        return np.stack([one_picture(image) for image in images]).astype(np.float32)


def one_picture(image):
    parts = [image[:56, :56], image[:56, 56:], image[56:, :56], image[56:, 56:]]
    weights = (1, 2, 3, 4)
    return np.concatenate([w * (part.mean(axis=(0, 1)) / 128 - 1) for w, part in zip(weights, parts, strict=True)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 templates of 8 subjects with 2 to 5 pictures each, turned and scaled faces in larger pictures."""
    root = tmp_path_factory.mktemp("IJBC")
    (root / "loose_crop").mkdir()
    (root / "meta").mkdir()
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 256, (SUBJECTS, 8, 8, 3), dtype=np.uint8)
    tids, points, subjects = [], [], []
    for template in range(TEMPLATES):
        subject = template % SUBJECTS
        subjects.append(subject)
        for _ in range(int(rng.integers(2, 6))):
            name = f"{len(tids) + 1}.jpg"
            noisy = np.clip(looks[subject] + rng.normal(0, 60, (8, 8, 3)), 0, 255).astype(np.uint8)
            face = np.asarray(PIL.Image.fromarray(noisy).resize((112, 112)))
            angle, scale, shift = rng.uniform(-0.5, 0.5), rng.uniform(0.8, 1.3), rng.uniform(20, 50, 2)
            turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            crop = cv2.warpAffine(face, np.column_stack([turn, shift]), (220, 200), borderValue=(90, 90, 90))
            PIL.Image.fromarray(crop).save(root / "loose_crop" / name, quality=90)
            marks = " ".join(f"{v:.3f}" for v in (LANDMARKS @ turn.T + shift).ravel())
            tids.append(f"{name} {10 * template + 1} {rng.integers(0, 3)}")
            points.append(f"{name} {marks} {rng.uniform(0.2, 1):.3f}")
    pairs = [f"{10 * a + 1} {10 * b + 1} {int(subjects[a] == subjects[b])}" for a in range(24) for b in range(a)]
    write = lambda name, lines: (root / "meta" / name).write_text("".join(f"{line}\n" for line in lines))
    write("ijbc_face_tid_mid.txt", tids)
    write("ijbc_name_5pts_score.txt", points)
    write("ijbc_template_pair_label.txt", pairs)
    header = ["TEMPLATE_ID,SUBJECT_ID,FILENAME"]
    rows = [f"{10 * t + 1},{100 + subjects[t]},x.jpg" for t in range(TEMPLATES)]
    write("ijbc_1N_gallery_G1.csv", header + rows[:4])
    write("ijbc_1N_gallery_G2.csv", header + rows[4:8])
    write("ijbc_1N_probe_mixed.csv", header + rows[8:])
    return root


def by_loops(root, flip=True, detector_score=True, norm_score=True):
    """(templates [24, D], labels of pairs, their scores), from the files."""
    template_sums = {}
    media = {}
    meta = root / "meta"
    lines = [(meta / f"ijbc_{name}.txt").read_text().splitlines() for name in ("face_tid_mid", "name_5pts_score")]
    for where, marks in zip(*lines, strict=True):
        name, template, medium = where.split(" ")
        values = [float(v) for v in marks.split(" ")[1:]]
        source = np.array(values[:10]).reshape(5, 2)
        # x' = a x - b y + c, y' = b x + a y + d, by linear least squares.
        rows = [row for x, y in source for row in ((x, -y, 1, 0), (y, x, 0, 1))]
        (a, b, c, d), *_ = np.linalg.lstsq(np.array(rows), LANDMARKS.ravel())
        matrix = np.array([[a, -b, c], [b, a, d]])
        image = cv2.imread(str(root / "loose_crop" / name))[:, :, ::-1]
        aligned = cv2.warpAffine(np.ascontiguousarray(image), matrix, (112, 112))
        vector = one_picture(aligned) + (one_picture(aligned[:, ::-1]) if flip else 0)
        vector = vector if norm_score else vector / np.linalg.norm(vector)
        vector = vector * values[10] if detector_score else vector
        media.setdefault(int(template), {}).setdefault(medium, []).append(vector)
    for template, vectors in media.items():
        total = sum(np.mean(frames, axis=0) for frames in vectors.values())
        template_sums[template] = total / np.linalg.norm(total)
    labels, scores = [], []
    for line in (meta / "ijbc_template_pair_label.txt").read_text().splitlines():
        one, other, label = map(int, line.split(" "))
        labels.append(label)
        scores.append(float(template_sums[one] @ template_sums[other]))
    return np.stack([template_sums[t] for t in sorted(template_sums)]), np.array(labels), np.array(scores)


@pytest.mark.parametrize(
    "options", [{}, {"flip": False}, {"detector_score": False}, {"norm_score": False}], ids=lambda o: str(*o)
)
def test_verification_equals_loops_over_the_files(folder, tmp_path, options):
    figures = ijb.evaluate(Colours(), folder, "IJBC", tmp_path, **options)
    _, labels, scores = by_loops(folder, **options)
    far, tar, _ = sklearn.metrics.roc_curve(labels, scores)
    assert figures["verification"]["auc"] == pytest.approx(sklearn.metrics.auc(far, tar), abs=1e-9)
    far, tar = far[::-1], tar[::-1]
    for name in ("1e-1", "1e-2"):
        nearest = figures["verification"][f"tar_nearest@{name}"]
        assert nearest == pytest.approx(tar[np.argmin(abs(far - float(name)))], abs=1e-9)
        strict = max(t for f, t in zip(far, tar, strict=True) if f <= float(name))
        assert figures["verification"][f"tar@{name}"] == pytest.approx(strict, abs=1e-9)
    assert 0.6 < figures["verification"]["auc"] < 0.9999
    assert {name: figures[name] for name in options} == options
    assert (figures["pairs"], figures["templates"]) == (276, 24)


def test_identification_equals_loops_over_the_files(folder, tmp_path):
    figures = ijb.evaluate(Colours(), folder, "IJBC", tmp_path)["identification"]
    templates, _, _ = by_loops(folder)
    for gallery, rows in (("G1", range(4)), ("G2", range(4, 8)), ("G1+G2", range(8))):
        hits = []
        for probe in range(8, 24):
            if probe % 8 in rows:
                hits.append(max(rows, key=lambda row, p=probe: templates[p] @ templates[row]) == probe % 8)
        assert figures[gallery]["rank1"] == np.mean(hits)
        assert figures[gallery]["mated"] == len(hits)
    assert figures["mean"]["rank1"] == (figures["G1"]["rank1"] + figures["G2"]["rank1"]) / 2
    assert figures["G1"]["unmated"] == 8
    assert figures["G1"]["tpir@1e-1"] is None


def test_what_is_written(folder, tmp_path):
    figures = ijb.evaluate(Colours(), folder, "IJBC", tmp_path)
    text = (tmp_path / "ijbc.json").read_text()
    assert json.loads(text) == figures
    assert "NaN" not in text
    assert figures["verification"]["tar@1e-6"] is None
    assert "no TAR at a FAR of 1e-3, 1e-4, 1e-5, 1e-6: one of the 252 negatives" in figures["unmeasured"]
    assert cv2.imread(str(tmp_path / "ijbc_roc.png")).shape == (600, 720, 3)


def test_batches_cover_every_picture_in_order(folder, tmp_path, monkeypatch):
    whole = ijb.evaluate(Colours(), folder, "IJBC", tmp_path)
    monkeypatch.setattr(ijb, "_BATCH", 7)
    embed = Colours()
    assert ijb.evaluate(embed, folder, "IJBC", tmp_path) == whole
    assert sum(embed.batches) == 2 * whole["pictures"]
    assert set(embed.batches[:-2]) == {7}


@pytest.fixture
def copied(folder, tmp_path):
    """The benchmark, to be damaged."""
    (tmp_path / "loose_crop").symlink_to(folder / "loose_crop")
    (tmp_path / "meta").mkdir()
    for path in (folder / "meta").iterdir():
        (tmp_path / "meta" / path.name).write_text(path.read_text())
    return tmp_path


def test_without_the_files_of_the_search_protocol(copied):
    for path in (copied / "meta").glob("*.csv"):
        path.unlink()
    figures = ijb.evaluate(Colours(), copied, "IJBC", copied)
    assert figures["identification"] is None
    assert figures["verification"]["auc"] > 0.6


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_is_wrong_is_found_before_anything_is_embedded(copied):
    embed = Colours()
    for name in ("face_tid_mid", "name_5pts_score"):
        change(copied / "meta" / f"ijbc_{name}.txt", "3.jpg", "none.jpg")
    with pytest.raises(ValueError, match=r"1 of \d+ pictures do not exist, the first is .*none.jpg"):
        ijb.evaluate(embed, copied, "IJBC", copied)
    change(copied / "meta" / "ijbc_1N_gallery_G2.csv", "41,", "42,")
    with pytest.raises(ValueError, match=r"G2.csv:2: template 42 has no picture"):
        ijb.evaluate(embed, copied, "IJBC", copied)
    assert embed.batches == []


def test_pictures_that_cannot_be_used_are_named(copied, folder):
    (copied / "loose_crop").unlink()
    (copied / "loose_crop").mkdir()
    for path in (folder / "loose_crop").iterdir():
        (copied / "loose_crop" / path.name).write_bytes(path.read_bytes() if path.name != "5.jpg" else b"no picture")
    with pytest.raises(ValueError, match=r"5\.jpg: cannot be decoded"):
        ijb.evaluate(Colours(), copied, "IJBC", copied)
    points = copied / "meta" / "ijbc_name_5pts_score.txt"
    lines = points.read_text().splitlines()
    lines[1] = f"2.jpg {'5 ' * 10}0.9"
    points.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"2\.jpg: landmarks all lie in one place"):
        ijb.evaluate(Colours(), copied, "IJBC", copied)


def test_models_of_other_shapes(folder, tmp_path):
    class Small(Colours):
        image_shape = (56, 56, 1)

        def __call__(self, images):
            self.batches.append(images.shape[1:])
            return (
                np.repeat(images.reshape(len(images), 56, 56), 2, axis=2)[:, ::7, ::7].reshape(len(images), -1) - 99.0
            )

    small = Small()
    assert ijb.evaluate(small, folder, "IJBC", tmp_path)["verification"]["auc"] > 0.6
    assert set(small.batches) == {(56, 56, 1)}
    small.image_shape = (112, 96, 3)
    with pytest.raises(ValueError, match="112 by 96 pixels, but faces are aligned to a square"):
        ijb.evaluate(small, folder, "IJBC", tmp_path)
