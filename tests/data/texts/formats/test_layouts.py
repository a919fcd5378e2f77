import pathlib

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.data.tables.columns import Columns
from mhe_jax.data.texts.folder import XmcText
from mhe_jax.data.texts.formats.layouts import LAYOUTS, read_corpora

LIGHT = {
    "train_raw_texts.txt": "a\n",
    "train_labels.txt": "x\n",
    "test_raw_texts.txt": "b\n",
    "test_labels.txt": "x y\n",
}
LINES = {"train.jsonl": '{"text": "a", "labels": [5]}\n', "test.jsonl": '{"text": "b", "labels": []}\n'}


def write(folder, files):
    for name, text in files.items():
        (folder / name).write_text(text)


def test_no_folder(tmp_path):
    for path in (tmp_path / "nowhere", str(tmp_path / "nowhere")):
        with pytest.raises(DataError, match=rf"config.data.path is '{tmp_path}/nowhere', which is not a folder"):
            read_corpora(path)
    write(tmp_path, {"train.jsonl": ""})
    with pytest.raises(DataError, match="which is not a folder"):
        read_corpora(tmp_path / "train.jsonl")


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, LINES)
    assert read_corpora(pathlib.Path("~")).label_names == ("5",)


def test_an_unknown_folder_lists_all_that_is_looked_for(tmp_path):
    write(tmp_path, {"documents.csv": ""})
    with pytest.raises(
        DataError, match=rf"^{tmp_path} is in no known layout: looked for, with or without .gz but for .npz and .parq"
    ) as error:
        read_corpora(tmp_path)
    for layout in LAYOUTS:
        assert f"{', '.join(layout.looked_for())} ({layout.title})" in str(error.value)


def test_what_is_missing_of_a_layout_is_told(tmp_path):
    write(tmp_path, {name: text for name, text in LIGHT.items() if name != "test_labels.txt"})
    with pytest.raises(DataError, match="for 'LightXML / AttentionXML', test_labels.txt is missing; .*looked for"):
        read_corpora(tmp_path)
    (tmp_path / "train_labels.txt").unlink()
    with pytest.raises(DataError, match="'LightXML / AttentionXML', train_labels.txt, test_labels.txt are missing; "):
        read_corpora(tmp_path)


def test_of_two_layouts_the_first_is_read_and_the_other_told(tmp_path):
    write(tmp_path, {**LINES, **LIGHT})
    corpora = read_corpora(tmp_path)
    assert corpora.label_names == ("x", "y")
    assert corpora.layout.startswith("LightXML / AttentionXML (")
    assert "; the folder is also in the layout 'JSON lines', which is not read; " in corpora.layout
    matrix = scipy.sparse.csr_matrix(np.eye(1, dtype=np.float32))
    for short in ("trn", "tst"):
        scipy.sparse.save_npz(tmp_path / f"Y.{short}.npz", matrix)
        write(tmp_path, {f"X.{short}.txt": "a\n"})
    layout = read_corpora(tmp_path).layout
    assert (
        "the layout 'PECOS / X-Transformer', which is not read; the folder is also in the layout 'JSON lines'" in layout
    )


def test_a_plain_file_is_preferred_to_its_gz(tmp_path):
    write(tmp_path, {**LINES, "train.jsonl.gz": "not packed"})
    assert "train.jsonl," in read_corpora(tmp_path).layout


def one_of_each(folder, title):
    """Writes a folder in a layout, all splits that it knows; returns the files of each."""
    (folder / "raw").mkdir()
    layout = next(layout for layout in LAYOUTS if layout.title == title)
    written = {}
    for split, choices in layout.splits.items():
        written[split] = [folder / name.replace("*", "mine") for name in choices[0].values()]
        for path in written[split]:
            if path.suffix == ".npz":
                scipy.sparse.save_npz(path, scipy.sparse.csr_matrix(np.eye(1, 2, dtype=np.float32)))
            elif path.suffix == ".parquet":
                pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "labels": [["x", "y"]]}), path)
            else:
                path.write_text(CONTENTS[path.name.partition(".")[0] if path.suffix == ".json" else title, path.suffix])
            if path.name.endswith("_X_Y.txt"):
                path.write_text("1 2\n0:1\n")
    return written


CONTENTS = {
    **{(layout.title, ".txt"): "a\n" for layout in LAYOUTS},
    ("fastText", ".txt"): "__label__x a\n",
    ("JSON lines", ".jsonl"): '{"text": "a", "labels": ["x"]}\n',
    ("CSV or TSV", ".csv"): "text,labels\na,x\n",
    **{(name, ".json"): '{"title": "a", "target_ind": [0]}\n' for name in ("trn", "tst", "lbl")},
}


@pytest.mark.parametrize("title", [layout.title for layout in LAYOUTS])
def test_every_layout_goes_without_test_and_validation_documents(tmp_path, title):
    written = one_of_each(tmp_path, title)
    corpora = read_corpora(tmp_path)
    assert corpora.layout.startswith(f"{title} (")
    assert "not read" not in corpora.layout
    assert list(corpora.test.texts()) == list(corpora.train.texts()) == ["a"]
    assert (corpora.valid is not None) == ("validation" in written)
    if "validation" in written:
        assert list(corpora.valid.texts()) == ["a"]
        assert corpora.layout.endswith("; test: 1 documents; validation: 1 documents")
    labels = corpora.train.labels.toarray()
    for path in {*written["test"], *written.get("validation", [])}:
        path.unlink()
    alone = read_corpora(tmp_path)
    assert alone.test is None
    assert alone.valid is None
    np.testing.assert_array_equal(alone.train.labels.toarray(), labels)


@pytest.mark.parametrize("title", [layout.title for layout in LAYOUTS if "validation" in layout.splits])
@pytest.mark.parametrize("word", ["valid", "validation", "val", "dev"])
def test_validation_files_have_four_names(tmp_path, title, word):
    for path in one_of_each(tmp_path, title)["validation"]:
        path.rename(path.with_name(path.name.replace("valid", word)))
    assert list(read_corpora(tmp_path).valid.texts()) == ["a"]


def test_texts_without_the_labels_beside_them_are_told(tmp_path):
    write(tmp_path, {**LIGHT, "dev_raw_texts.txt": "c\n"})
    with pytest.raises(DataError, match="for 'LightXML / AttentionXML', dev_labels.txt is missing; .*looked for"):
        read_corpora(tmp_path)


def test_features_without_texts_are_not_taken_for_fasttext(tmp_path):
    write(tmp_path, {"train.txt": "2 4 3\n0,2 1:0.5\n1 3:1\n", "test.txt": "1 4 3\n0 1:0.5\n"})
    with pytest.raises(
        DataError,
        match=r"train.txt begins with three numbers, .* which config.data.name = 'sparse' reads; for 'fastText'",
    ):
        read_corpora(tmp_path)
    (tmp_path / "train.txt").write_text("sports a text\n")
    with pytest.raises(DataError, match="known layout: for 'fastText', train.txt has no lines such as it has; looked"):
        read_corpora(tmp_path)
    write(tmp_path, LINES)
    assert read_corpora(tmp_path).label_names == ("5",)


def test_of_two_files_that_a_pattern_fits_neither_is_taken(tmp_path):
    write(tmp_path, {"a.train": "__label__x a\n", "b.train": "__label__y b\n"})
    with pytest.raises(DataError, match=r"\(fastText\): a.train and b.train may each be the train file: leave one of"):
        read_corpora(tmp_path)


@pytest.mark.parametrize("field", Columns("x", "x", "x").fields())
def test_columns_are_an_error_where_there_are_none(tmp_path, field):
    write(tmp_path, LINES)
    with pytest.raises(DataError, match=rf"config.data.{field} is 'x', but {tmp_path} \(JSON lines\) has no columns"):
        XmcText(path=str(tmp_path), **{field: "x"}).read()
