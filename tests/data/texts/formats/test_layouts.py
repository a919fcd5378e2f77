import pathlib

import numpy as np
import pytest
import scipy.sparse

from mhe_jax.data.dataset import DataError
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
        DataError, match=rf"^{tmp_path} is in no known layout: looked for, with or without .gz but for .npz: "
    ) as error:
        read_corpora(tmp_path)
    for layout in LAYOUTS:
        assert f"{', '.join(layout.needed.values())} ({layout.title})" in str(error.value)


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
