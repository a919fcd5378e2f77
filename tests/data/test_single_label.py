"""Documents with one label each, and those that are not."""

import json

import numpy as np
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.feeds import train_feed
from mhe_jax.data.texts.sparse.words import WordData

TEXTS = [("sea and sky", "blue"), ("sun and sand", "yellow"), ("sea and sun", "blue"), ("sky and sand", "yellow")]


def write(folder, lines):
    for split in ("train", "test"):
        rows = [json.dumps({"text": text, "labels": labels}) + "\n" for text, labels in lines]
        (folder / f"{split}.jsonl").write_text("".join(rows))


@pytest.mark.parametrize("listed", [False, True], ids=["alone", "in a list"])
def test_a_batch_has_a_label_an_example(tmp_path, listed):
    write(tmp_path, [(text, [label] if listed else label) for text, label in TEXTS])
    data = WordData(path=str(tmp_path), single_label=True, min_documents=1)
    assert not data.multilabel
    assert data.abstract_batch(4)["label"].shape == (4,)
    splits = data.load()
    assert splits.class_names == ("blue", "yellow")
    labels = train_feed(splits.train, 4, seed=0).chunk(0, 1)["label"]
    assert labels.shape == (1, 4)
    assert sorted(labels[0]) == [0, 0, 1, 1]


@pytest.mark.parametrize(("labels", "number"), [(["blue", "green"], 2), ([], 0)])
def test_an_example_with_another_number_of_labels_is_told(tmp_path, labels, number):
    write(tmp_path, [*TEXTS, ("fog", labels)])
    message = rf"train.jsonl: example 5 has {number} labels, but config.data.single_label asks for one each \(1 of 5"
    with pytest.raises(DataError, match=message):
        WordData(path=str(tmp_path), single_label=True, min_documents=1).load()
    assert np.diff(WordData(path=str(tmp_path), min_documents=1).load().train.labels.indptr).tolist() == [1] * 4 + [
        number
    ]
