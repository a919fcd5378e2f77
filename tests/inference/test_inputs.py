import gzip

import numpy as np
import pytest

from mhe_jax.inference.inputs import texts


class Words:
    """Stands for the data of a run: a token a word."""

    def encode(self, some):
        return np.zeros((len(some), 1), np.int32), np.array([len(text.split()) for text in some])


def names(source):
    return [name for some, _ in texts(str(source), Words(), 2) for name in some]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".txt", ".tsv"])
@pytest.mark.parametrize("packed", [False, True])
def test_files_are_read_by_their_names_packed_or_not(tmp_path, suffix, packed):
    data = b'{"text": "a b"}\n{"text": "c"}\n'
    path = tmp_path / ("texts" + suffix + ".gz" * packed)
    path.write_bytes(gzip.compress(data) if packed else data)
    expected = ["a b", "c"] if suffix.startswith(".json") else data.decode().splitlines()
    assert names(path) == expected


@pytest.mark.parametrize(
    "source", ["no.txt", "no.jsonl", "no.json", "no.csv", "no.tsv", "no.txt.gz", "./no", "/nowhere/no"]
)
def test_what_is_meant_as_a_file_has_to_be_there(source):
    with pytest.raises(ValueError, match=f"--input: there is no file {source}"):
        names(source)


def test_a_folder_is_no_text(tmp_path, monkeypatch):
    (tmp_path / "documents").mkdir()
    monkeypatch.chdir(tmp_path)
    for source in ("documents", tmp_path / "documents", "."):
        with pytest.raises(ValueError, match=f"--input: {source} is a folder; name a file of texts"):
            names(source)


@pytest.mark.parametrize("source", ["fox", "see a.txt", "x" * 5000, "", "either/or", "3.5"])
def test_anything_else_is_the_text_itself(source):
    assert names(source) == [source]
