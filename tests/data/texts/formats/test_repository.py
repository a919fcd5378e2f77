import gzip
import json

import numpy as np
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.texts.formats.layouts import read_corpora

TRAIN = [
    {"uid": "a", "title": "Red", "content": "fox\nruns", "target_ind": [3, 0], "target_rel": [1.0, 0.5]},
    {"uid": "b", "title": "", "content": "", "target_ind": []},
    {"uid": "c", "title": "Frog", "target_ind": [1, 1, 2], "target_rel": [1, 2, 0.0]},
]
TEST = [{"uid": "d", "title": " Toad", "content": "", "target_ind": [2]}]
LABELS = [{"uid": str(i), "title": title} for i, title in enumerate(["zero", "one", "two", "one"])]


def write(folder, train=TRAIN, test=TEST, labels=LABELS, packed=False):
    for name, records in (("trn", train), ("tst", test), ("lbl", labels)):
        text = "".join(json.dumps(record) + "\n" for record in records)
        path = folder / (f"{name}.json" + ".gz" * packed)
        path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_json_files(tmp_path, packed):
    corpora = read_corpora(write(tmp_path, packed=packed))
    assert corpora.label_names == ("zero", "one", "two", "one")
    np.testing.assert_array_equal(corpora.train.labels.toarray(), [[0.5, 0, 0, 1], [0, 0, 0, 0], [0, 2, 0, 0]])
    np.testing.assert_array_equal(corpora.test.labels.toarray(), [[0, 0, 1, 0]])
    assert list(corpora.train.texts()) == ["Red fox\nruns", "", "Frog"]
    assert list(corpora.test.texts()) == ["Toad"]
    assert corpora.train.filtered.nnz == corpora.test.filtered.nnz == 0
    assert corpora.layout.startswith("XC repository, JSON (trn.json")
    assert "3 documents, 1 empty texts, 1 documents without labels, 1 labels listed again;" in corpora.layout


def test_the_raw_files_of_amazoncat(tmp_path):
    """Names of labels in Yf.txt, lines of two encodings, and null where there is no content or title."""
    first = b'{"uid": "a", "title": "Caf\xe9", "content": null, "target_ind": [2, 0], "target_rel": [1.0, 1.0]}\n'
    second = '{"uid": "b", "title": null, "content": "\u00fcber", "target_ind": [1]}\n'.encode()
    (tmp_path / "trn.json.gz").write_bytes(gzip.compress(first + second))
    (tmp_path / "tst.json.gz").write_bytes(gzip.compress(second))
    (tmp_path / "Yf.txt").write_bytes(b"books\nd\xe9cor\nm\xc3\xbasica\n\n")
    corpora = read_corpora(tmp_path)
    assert corpora.label_names == ("books", "d\u00e9cor", "m\u00fasica")
    assert list(corpora.train.texts()) == ["Caf\u00e9", "\u00fcber"]
    np.testing.assert_array_equal(corpora.train.labels.toarray(), [[1, 0, 1], [0, 1, 0]])


NAMES_OF_FILTERS = ("filter_labels_train", "trn_filter_labels", "filter_labels_trn")


@pytest.mark.parametrize(
    "names", [(name, name.replace("train", "test").replace("trn", "tst")) for name in NAMES_OF_FILTERS]
)
def test_filters(tmp_path, names):
    write(tmp_path)
    (tmp_path / f"{names[0]}.txt").write_text("2 1\n0 3\n")
    (tmp_path / f"{names[1]}.txt").write_text("")
    corpora = read_corpora(tmp_path)
    np.testing.assert_array_equal(corpora.train.filtered.toarray(), [[0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]])
    assert corpora.test.filtered.nnz == 0
    assert f"{names[0]}.txt" in corpora.layout
    (tmp_path / f"{names[1]}.txt").write_text("0 2\n1 0\n")
    with pytest.raises(DataError, match=rf"{names[1]}.txt:2: document 1, .* there are 1 documents and 4 labels"):
        read_corpora(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": ["Ox"]}, "the field 'title' must be a string but is a list"),
        ({"content": 3}, "the field 'content' must be a string but is a number"),
        ({"target_ind": "3"}, "the field 'target_ind' must be a list"),
        ({"target_ind": [0, 4]}, "'target_ind' holds 4, but there are 4 labels, numbered from 0 to 3"),
        ({"target_ind": [-1]}, "'target_ind' holds -1"),
        ({"target_ind": [1.0]}, "'target_ind' holds 1.0"),
        ({"target_ind": ["1"]}, "'target_ind' holds '1'"),
        ({"target_ind": [True]}, "'target_ind' holds True"),
        ({"target_ind": [2, 1]}, "2 labels in 'target_ind' but 1 in 'target_rel'"),
        ({"target_rel": [-0.5]}, "'target_rel' holds -0.5"),
        ({"target_rel": [float("nan")]}, "'target_rel' holds nan"),
        ({"target_rel": [10**400]}, "'target_rel' holds 10{79}, which"),
        ({"target_rel": [1e39]}, r"'target_rel' holds 1e\+39"),
        ({"target_rel": ["1"]}, "'target_rel' holds '1'"),
        ({"target_rel": 1.0}, "the field 'target_rel' must be a list but is a number"),
    ],
)
def test_a_bad_value_is_told_with_file_and_line(tmp_path, change, message):
    good = {"uid": "e", "title": "Ox", "content": "", "target_ind": [1], "target_rel": [1.0]}
    write(tmp_path, test=[TEST[0], {**good, **change}])
    with pytest.raises(DataError, match=rf"^{tmp_path}/tst.json:2: {message}"):
        read_corpora(tmp_path)


@pytest.mark.parametrize(("name", "field"), [("trn", "title"), ("trn", "target_ind"), ("lbl", "title")])
def test_a_missing_field_is_told_with_file_and_line(tmp_path, name, field):
    records = {"trn": TRAIN, "lbl": LABELS}[name]
    without = [*records[:2], {key: value for key, value in records[2].items() if key != field}]
    write(tmp_path, **{"train" if name == "trn" else "labels": without})
    with pytest.raises(
        DataError, match=rf"^{tmp_path}/{name}.json:3: the field '{field}' is missing \(there are: 'uid'"
    ):
        read_corpora(tmp_path)


def test_malformed_json_is_told_with_file_and_line(tmp_path):
    write(tmp_path)
    with (tmp_path / "trn.json").open("a") as file:
        file.write('{"uid": "x", "title": "cut of')
    with pytest.raises(DataError, match=rf"^{tmp_path}/trn.json:4: malformed JSON"):
        read_corpora(tmp_path)
