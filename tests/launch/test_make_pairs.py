"""The pictures of several of CIFAR-100's: what is in their quarters are their labels."""

import pickle
import sys

import numpy as np
import pytest

from launch import make_pairs
from mhe_jax.data.images.labelled import LabelledImages

NAMES = [f"class {number}" for number in range(100)]


@pytest.fixture
def cifar(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name, count in (("train", 200), ("test", 60)):
        labels = list(range(count)) if count < 100 else list(range(100)) * (count // 100)
        pixels = np.repeat(np.array(labels, np.uint8)[:, None], 3072, axis=1)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "fine_labels": labels}))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": NAMES}))
    return tmp_path


def run(monkeypatch, cifar, output, *more):
    flags = ["--data_dir", str(cifar), "--output", str(output), *more]
    monkeypatch.setattr(sys, "argv", ["make_pairs.py", *flags])
    make_pairs.main()


def test_labels_are_what_the_quarters_show(monkeypatch, cifar, tmp_path):
    run(monkeypatch, cifar, tmp_path / "pairs", "--train=20", "--val=10", "--test=9", "--side=2")
    data = LabelledImages(path=str(tmp_path / "pairs"), image_size=4, in_memory=True, augmentation="none").load()
    for split, number in ((data.train, 20), (data.eval, 10), (data.test, 9)):
        assert split.num_examples == number
        for image, row in zip(split.images, split.labels, strict=True):
            shown = {f"class {value}" for value in np.unique(image).tolist()} - {"class 128"}
            assert shown == {data.class_names[label] for label in split.many.labels[row].indices}


def test_more_sheets_than_pictures_are_an_error(monkeypatch, cifar, tmp_path):
    with pytest.raises(SystemExit, match="300 sheets need more than the 200 pictures there are"):
        run(monkeypatch, cifar, tmp_path / "pairs", "--train=300")
