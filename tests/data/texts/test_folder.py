import numpy as np
import pytest
from ml_collections import ConfigDict

from mhe_jax.data.build import build_data
from mhe_jax.data.dataset import DataError
from mhe_jax.data.feeds import train_feed
from mhe_jax.data.texts.word_pieces import train_word_pieces


@pytest.fixture
def section(tmp_path):
    """A small data set in the layout of LightXML, with its tokenizer."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train_raw_texts.txt").write_text("red fox\n\ngreen frog\nred and green\n")
    (folder / "train_labels.txt").write_text("fox\n\nfrog green\nred\n")
    (folder / "test_raw_texts.txt").write_text("Green fox\n")
    (folder / "test_labels.txt").write_text("green fox\n")
    train_word_pieces(["red green fox frog and"], 60).save_pretrained(str(tmp_path / "tokenizer"))
    return ConfigDict(
        {
            "name": "xmc",
            "path": str(folder),
            "tokenizer": str(tmp_path / "tokenizer"),
            "max_length": 8,
            "cache_dir": str(tmp_path / "cache"),
        }
    )


def test_a_folder_becomes_batches(section):
    data = build_data(section)
    texts = data.load()
    assert texts.class_names == ("fox", "frog", "green", "red")
    assert data.num_classes == 4
    chunk = train_feed(texts.train, 4, seed=0).chunk(0, 1)
    rows = zip(*(chunk[name][0] for name in ("input_ids", "length", "label")), strict=True)
    found = {tuple(ids[:n]): row.tolist() for ids, n, row in rows}
    ids, length = data.encode(["red fox", "", "green frog", "red and green"])
    labels = [[0, -1], [-1, -1], [1, 2], [3, -1]]
    assert found == {tuple(row[:n]): label for row, n, label in zip(ids, length, labels, strict=True)}
    np.testing.assert_array_equal(texts.eval.labels.toarray(), [[1, 0, 1, 0]])
    assert texts.facts["train"]["documents_without_labels"] == 1


def test_the_fields_are_checked(section):
    section.num_classes = 5
    with pytest.raises(DataError, match="num_classes is 5 but .* has 4 labels"):
        build_data(section).load()
    section.path = ""
    with pytest.raises(DataError, match="config.data.path is empty"):
        build_data(section).load()
    section.sort_windows = 3
    with pytest.raises(ValueError, match="config.data.sort_windows is not a field of 'xmc'"):
        build_data(section)


def test_constructing_reads_nothing(section):
    section.path = "/nowhere"
    section.tokenizer = "/nowhere/either"
    build_data(section)
