"""`mhe align`: faces of a folder by given landmarks; and by a detector, where one is installed."""

import importlib.util

import cv2
import numpy as np
import PIL.Image
import pytest

from mhe_jax.cli.align import main
from mhe_jax.data.dataset import DataError
from mhe_jax.data.faces.align_folder import read_landmarks
from mhe_jax.data.faces.alignment import LANDMARKS
from mhe_jax.inference.face_detection import FaceDetector

HEADER = "2\nleft_eye_x left_eye_y right_eye_x right_eye_y nose_x nose_y left_x left_y right_x right_y\n"


@pytest.fixture
def photos(tmp_path):
    """Two turned faces of a person in larger pictures, with their landmarks; returns the upright ones."""
    rng = np.random.default_rng(0)
    upright, lines = [], []
    (tmp_path / "photos" / "a person").mkdir(parents=True)
    for number, angle in enumerate((0.3, -0.2)):
        face = np.asarray(PIL.Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((112, 112)))
        turn = 1.5 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        photo = cv2.warpAffine(face, np.column_stack([turn, (70, 70)]), (320, 300))
        PIL.Image.fromarray(photo).save(tmp_path / "photos" / "a person" / f"{number}.png")
        marks = " ".join(f"{value:.4f}" for value in (LANDMARKS @ turn.T + 70).ravel())
        lines.append(f"a person/{number}.png {marks}\n")
        upright.append(face)
    (tmp_path / "points.txt").write_text("".join(lines))
    return upright


def align(tmp_path, *flags):
    return main(["mhe align", str(tmp_path / "photos"), str(tmp_path / "out"), *flags])


def test_faces_come_out_upright_and_what_is_there_is_kept(photos, tmp_path, capsys):
    landmarks = f"--landmarks={tmp_path / 'points.txt'}"
    assert align(tmp_path, landmarks) == 0
    assert capsys.readouterr().out == f"{tmp_path}/out: 2 faces of 112x112\n"
    for number, face in enumerate(photos):
        found = np.asarray(PIL.Image.open(tmp_path / "out" / "a person" / f"{number}.png"))
        assert np.abs(found.astype(int) - face)[8:-8, 8:-8].mean() < 3
    kept = tmp_path / "out" / "a person" / "0.png"
    kept.write_bytes(b"mine")
    (tmp_path / "out" / "a person" / "1.png").unlink()
    assert align(tmp_path, landmarks) == 0
    assert kept.read_bytes() == b"mine"
    assert cv2.imread(str(tmp_path / "out" / "a person" / "1.png")).shape == (112, 112, 3)
    assert sorted(path.name for path in kept.parent.iterdir()) == ["0.png", "1.png"]


def test_faces_of_another_size_or_by_other_landmarks_are_no_mixture(photos, tmp_path, capsys):
    points = tmp_path / "points.txt"
    first, second = points.read_text().splitlines()
    points.write_text(f"{first}\n")
    assert align(tmp_path, f"--landmarks={points}", "--size=56") == 0
    assert align(tmp_path, f"--landmarks={points}") == 2
    assert "out has faces of 56x56, but --size is 112: take another folder" in capsys.readouterr().err
    points.write_text(f"{first}\n{second}\n")  # more of them
    assert align(tmp_path, f"--landmarks={points}", "--size=56") == 0
    words = first.split()
    points.write_text(" ".join([*words[:-1], "9"]) + "\n")
    assert align(tmp_path, f"--landmarks={points}", "--size=56") == 2
    assert "out has a face of a person/0.png by other landmarks: take another folder" in capsys.readouterr().err
    for dest in ("photos", "photos/faces"):
        assert main(["mhe align", str(tmp_path / "photos"), str(tmp_path / dest), f"--landmarks={points}"]) == 2
        assert f"{tmp_path}/{dest} lies in {tmp_path}/photos, whose pictures are read" in capsys.readouterr().err


def test_pictures_without_a_face_are_named_and_left_out(photos, tmp_path, capsys):
    points = tmp_path / "points.txt"
    first, _ = points.read_text().splitlines()
    flat = "a person/1.png" + " 5" * 10
    for lines, reason in (([first], "no face is known in it"), ([first, flat], "landmarks all lie in one place")):
        points.write_text("\n".join(lines) + "\n")
        assert align(tmp_path, f"--landmarks={points}") == 0
        output = capsys.readouterr()
        assert output.err == f"left out: {tmp_path}/photos/a person/1.png: {reason}\n"
        points.write_text("\n".join([*lines, "a person/9.png" + " 1 2" * 5]) + "\n")
        align(tmp_path, f"--landmarks={points}")
        said = capsys.readouterr().err.splitlines()[0]
        assert said.startswith(
            f"{points} has landmarks of 1 pictures that are not in {tmp_path}/photos, such as a person/9"
        )
        assert output.out.endswith("1 faces of 112x112, 1 pictures left out\n")
    (tmp_path / "photos" / "a person" / "1.png").write_bytes(b"no picture")
    assert align(tmp_path, f"--landmarks={points}") == 0
    assert "1.png: cannot be decoded as an image" in capsys.readouterr().err
    points.write_text("another.png" + " 5" * 10)
    (tmp_path / "out" / "a person" / "0.png").unlink()
    assert align(tmp_path, f"--landmarks={points}") == 2


def test_mistakes_are_one_line(photos, tmp_path, capsys):
    def error(*flags):
        assert align(tmp_path, *flags) == 2
        return capsys.readouterr().err

    assert error("--size=0") == "error: --size is 0; it must be at least 1\n"
    assert "no.txt" in error("--landmarks=no.txt")
    PIL.Image.new("RGB", (9, 9)).save(tmp_path / "photos" / "a person" / "0.jpg")
    assert "a person/0.jpg and a person/0.png would both become" in error(f"--landmarks={tmp_path}/points.txt")
    assert main(["mhe align", str(tmp_path / "nothing"), "out", f"--landmarks={tmp_path}/points.txt"]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/nothing is not a folder\n"
    (tmp_path / "empty").mkdir()
    assert main(["mhe align", str(tmp_path / "empty"), "out", f"--landmarks={tmp_path}/points.txt"]) == 2
    assert "empty holds no picture" in capsys.readouterr().err
    assert "error: --min_confidence is 2.0; it must be in [0, 1]" in error("--min_confidence=2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg 1 2 3\n", r"p.txt:1: a line must be a picture and ten numbers, but is 'a.jpg 1 2 3'"),
        ("a.jpg" + " 1" * 10 + "\nb.jpg" + " x" * 10, r"p.txt:2: a line must be a picture and ten numbers"),
        ("a.jpg" + " 1" * 9 + " nan", r"p.txt:1: a line must be"),
        (2 * ("a.jpg" + " 1" * 10 + "\n"), r"p.txt:2: the picture a.jpg has a line already"),
        (HEADER, r"p.txt names no picture"),
    ],
)
def test_files_of_landmarks_that_are_something_else(text, message, tmp_path):
    (tmp_path / "p.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_landmarks(tmp_path / "p.txt")


def test_the_file_of_celeba_is_read_with_its_header(tmp_path):
    (tmp_path / "p.txt").write_text(HEADER + "000001.jpg    69  109  106  113   77  142   73  152  108  154\n")
    found = read_landmarks(tmp_path / "p.txt")
    assert {name: points.tolist()[0] for name, points in found.items()} == {"000001.jpg": [69, 109]}


def test_the_detector_is_named_where_it_is_missing_and_finds_no_face_in_noise(photos, tmp_path, capsys):
    if importlib.util.find_spec("mtcnn") is None or importlib.util.find_spec("tensorflow") is None:
        assert align(tmp_path) == 2
        assert "`pip install 'mhe-jax[align]'` installs it, or give --landmarks=FILE" in capsys.readouterr().err
        return
    noise = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    assert FaceDetector(0.99)("noise", noise) is None
