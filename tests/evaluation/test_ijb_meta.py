"""The files of IJB-B and IJB-C, whole and broken."""

import numpy as np
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.evaluation.ijb_meta import read_faces, read_searches, read_template_pairs

MARKS = "46.060 62.026 87.785 60.323 68.851 77.656 52.162 99.875 86.450 98.648"
FILES = {
    "ijbc_face_tid_mid.txt": "1.jpg 11 500\n2.jpg 11 501\n3.jpg 12 500\n4.jpg 7 9\n",
    "ijbc_name_5pts_score.txt": "".join(f"{i}.jpg {MARKS} 0.99{i}\n" for i in range(1, 5)),
    "ijbc_template_pair_label.txt": "11 12 0\n7 12 1\n11 11 1\n",
    "ijbc_1N_gallery_G1.csv": "TEMPLATE_ID,SUBJECT_ID,FILENAME\n11,1,img/1.jpg\n11,1,img/2.jpg\n",
    "ijbc_1N_gallery_G2.csv": "TEMPLATE_ID,SUBJECT_ID,FILENAME\n7,2,frames/4.jpg\n",
    "ijbc_1N_probe_mixed.csv": "12,3\n11,1\n",
}
NUMBERS = np.array([7, 11, 12])


@pytest.fixture
def meta(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_faces(meta):
    faces = read_faces(meta, "IJBC")
    assert faces.names == ("1.jpg", "2.jpg", "3.jpg", "4.jpg")
    assert faces.templates.tolist() == [11, 11, 12, 7]
    assert faces.medias.tolist() == [500, 501, 500, 9]
    assert faces.landmarks.shape == (4, 5, 2)
    np.testing.assert_allclose(faces.landmarks[3, :2], [[46.060, 62.026], [87.785, 60.323]], rtol=1e-6)
    np.testing.assert_allclose(faces.scores, [0.991, 0.992, 0.993, 0.994])


def test_pairs_are_rows_of_the_sorted_templates(meta):
    pairs = read_template_pairs(meta, "IJBC", NUMBERS)
    assert pairs.name == "ijbc"
    assert pairs.first.tolist() == [1, 0, 1]
    assert pairs.second.tolist() == [2, 2, 1]
    assert pairs.same.tolist() == [False, True, True]


def test_galleries_and_probes_have_each_template_once(meta):
    galleries, probes = read_searches(meta, "IJBC", NUMBERS)
    assert {name: (g.templates.tolist(), g.subjects.tolist()) for name, g in galleries.items()} == {
        "G1": ([1], [1]),
        "G2": ([0], [2]),
    }
    # This file has no header: its first line counts.
    assert (probes.templates.tolist(), probes.subjects.tolist()) == ([2, 1], [3, 1])


def test_ijb_b_has_galleries_of_another_name(meta):
    for name, text in FILES.items():
        (meta / name.replace("ijbc", "ijbb").replace("_G", "_S")).write_text(text)
        (meta / name).unlink()
    assert read_faces(meta, "IJBB").names[0] == "1.jpg"
    assert read_template_pairs(meta, "IJBB", NUMBERS).name == "ijbb"
    assert list(read_searches(meta, "IJBB", NUMBERS)[0]) == ["S1", "S2"]
    assert read_searches(meta, "IJBC", NUMBERS) is None


@pytest.mark.parametrize("ending", ["\r\n", "\n\n", "  \n"])
def test_line_ends_blank_lines_and_a_byte_order_mark(meta, ending):
    for name, text in FILES.items():
        (meta / name).write_bytes(("\ufeff" + text.replace("\n", ending)).encode())
    assert read_faces(meta, "IJBC").names == ("1.jpg", "2.jpg", "3.jpg", "4.jpg")
    assert read_template_pairs(meta, "IJBC", NUMBERS).first.tolist() == [1, 0, 1]
    assert read_searches(meta, "IJBC", NUMBERS)[1].subjects.tolist() == [3, 1]


def read_all(meta):
    faces = read_faces(meta, "IJBC")
    numbers = np.unique(faces.templates)
    return read_template_pairs(meta, "IJBC", numbers), read_searches(meta, "IJBC", numbers)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("text", "problem"), [(None, "does not exist"), ("", "is empty"), ("\n \n", "is empty")])
def test_files_that_are_missing_or_empty(meta, name, text, problem):
    (meta / name).unlink()
    if text is not None:
        (meta / name).write_text(text)
    with pytest.raises(DataError, match=f"{name} {problem}"):
        read_all(meta)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (
            "face_tid_mid.txt",
            "3.jpg 12 500",
            "3.jpg 12",
            r":3: '3.jpg 12' is not a picture, its template and its media",
        ),
        ("face_tid_mid.txt", "3.jpg 12 500", "3.jpg x 5", r":3: '3.jpg x 5' is not a picture, its template"),
        ("face_tid_mid.txt", "3.jpg 12", f"3.jpg {2**63}", r":3: .* is not a picture, its template"),
        ("face_tid_mid.txt", "3.jpg", "5.jpg", r"score.txt:3: the picture is '3.jpg', but .*mid.txt has '5.jpg' in"),
        ("face_tid_mid.txt", "4.jpg 7 9\n", "", r"score.txt:4: the picture is '4.jpg', but .*mid.txt has no more in"),
        ("name_5pts_score.txt", f"4.jpg {MARKS} 0.994\n", "", r"score.txt ends after 3 pictures, but .*mid.txt has 4"),
        (
            "name_5pts_score.txt",
            " 0.992",
            "",
            r":2: '2.jpg 46.060 .*' is not a picture, five landmarks x y, and a score",
        ),
        ("name_5pts_score.txt", " 0.992", " 1 2", r":2: .* is not a picture, five landmarks"),
        ("name_5pts_score.txt", "0.993", "nan", r":3: .* is not a picture, five landmarks"),
        ("name_5pts_score.txt", "0.993", "0,993", r":3: .* is not a picture, five landmarks"),
        ("template_pair_label.txt", "7 12 1", "7 12", r":2: '7 12' is not two templates and a label"),
        ("template_pair_label.txt", "7 12 1", "7 12.5 1", r":2: '7 12.5 1' is not two templates and a label"),
        ("template_pair_label.txt", "7 12 1", "7 1\ufffd 1", r":2: .* is not two templates and a label"),
        (
            "template_pair_label.txt",
            "7 12 1",
            "7 12 2",
            r":2: the label is 2; it must be 1 for one person and 0 for two",
        ),
        ("template_pair_label.txt", "7 12 1", "8 12 1", r":2: template 8 has no picture"),
        ("template_pair_label.txt", "\n7 12 1", "\n\n7 13 1", r":3: template 13 has no picture"),
        ("1N_gallery_G1.csv", "11,1,img/2", "11,2,img/2", r":3: template 11 is of subject 2, but of 1 above"),
        ("1N_gallery_G1.csv", "11,1,img/2", "13,1,img/2", r":3: template 13 has no picture"),
        ("1N_gallery_G2.csv", "7,2,", "7,a,", r":2: '7 a frames/4.jpg' is not a template and its subject"),
        ("1N_gallery_G2.csv", "7,2,frames/4.jpg\n", "", r"G2.csv has no templates"),
        ("1N_probe_mixed.csv", "11,1\n", "11\n", r":2: '11' is not a template and its subject"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(meta, name, old, new, message):
    path = meta / f"ijbc_{name}"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        read_all(meta)


def test_the_files_as_they_are_can_be_read(meta):
    pairs, searches = read_all(meta)
    assert len(pairs.same) == 3
    assert searches is not None
