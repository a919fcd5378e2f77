"""A tensorflow-datasets set is written and read back, all without TensorFlow.

tfds needs TensorFlow to encode arrays; Pillow images, files and bytes it stores without.
"""

import importlib.util
import runpy
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from mhe_jax.data.dataset import DataError
from mhe_jax.data.feeds import eval_feed, train_feed
from mhe_jax.data.images.cifar import Cifar100
from mhe_jax.data.images.tfds import TfdsImages, find_prepared
from mhe_jax.recipes.files import load_config
from mhe_jax.train.loop import train_and_evaluate


def picture(number, size):
    return np.random.default_rng(number).integers(0, 256, (size, size + number % 5, 3), dtype=np.uint8)


def tiny_builder(name, counts, size=36):
    """Class of a set `name` with counts = {split: number of pictures} and labels 0, 1, 2, 0, 1, ..."""

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.2.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=["ant", "bee", "cat"]),
                "number": np.int64,
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(count) for split, count in counts.items()}

        def _generate_examples(self, count):
            for number in range(count):
                image = PIL.Image.fromarray(picture(number, size))
                yield number, {"image": image, "label": number % 3, "number": number}

    Tiny.name = name
    return Tiny


def prepare(folder, name, counts, size=36):
    tiny_builder(name, counts, size)(data_dir=folder, file_format="array_record").download_and_prepare()


@pytest.fixture(scope="module", autouse=True)
def _no_tensorflow():
    before = "tensorflow" in sys.modules
    yield
    assert ("tensorflow" in sys.modules) == before, "these tests imported TensorFlow"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepare(folder, "tiny", {"train": 8, "test": 5})
    prepare(folder, "cifar100", {"train": 4, "test": 2}, size=32)
    return folder


def stored_numbers(data_dir, split):
    """Which picture each record holds: tfds shuffles when it writes."""
    builder = tfds.builder_from_directory(find_prepared(str(data_dir), "tiny"))
    return [int(record["number"]) for record in builder.as_data_source(split)]


def test_records_are_streamed_in_order_with_image_folder_geometry(data_dir):
    data = TfdsImages(path=str(data_dir), dataset="tiny", image_size=28)
    images = data.load()
    assert images.class_names == ("ant", "bee", "cat")
    assert (images.train.num_examples, images.eval.num_examples) == (8, 5)
    chunk = eval_feed(images.eval, 5).chunk(0, 1)
    for number, image, label in zip(
        stored_numbers(data_dir, "test"), chunk["image"][0], chunk["label"][0], strict=True
    ):
        assert label == number % 3
        resized = PIL.Image.fromarray(picture(number, 36)).resize(
            (int(32 * (36 + number % 5) / 36), 32), PIL.Image.Resampling.BILINEAR
        )
        left = round((resized.width - 28) / 2)
        np.testing.assert_array_equal(image, np.asarray(resized)[2:30, left : left + 28])
    assert train_feed(images.train, 4, seed=0).chunk(0, 2)["image"].shape == (2, 4, 28, 28, 3)


def test_slices_of_splits_are_splits(data_dir):
    data = TfdsImages(path=str(data_dir), dataset="tiny:1.2.0", train_split="train[2:]", eval_split="train[:2]")
    images = data.load()
    assert (images.train.num_examples, images.eval.num_examples) == (6, 2)


def test_in_memory(data_dir):
    images = TfdsImages(path=str(data_dir), dataset="tiny", image_size=20, in_memory=True).load()
    assert images.train.images.shape == (8, 20, 20, 3)
    assert images.train.labels.tolist() == [number % 3 for number in stored_numbers(data_dir, "train")]


def test_cifar_reads_a_prepared_set(data_dir):
    with pytest.raises(DataError, match="num_classes is 100 but .* has 3 classes"):
        Cifar100(path=str(data_dir), num_classes=100).load()
    images = Cifar100(path=str(data_dir)).load()
    assert images.train.images.shape == (4, 32, 32, 3)
    assert sorted(images.train.labels.tolist()) == [0, 0, 1, 2]


def test_errors_name_the_field_and_the_command(data_dir, tmp_path):
    def load(**fields):
        return TfdsImages(**{"path": str(data_dir), "dataset": "tiny", **fields}).load()

    with pytest.raises(DataError, match=rf"prepare_tfds\.py --dataset flowers --data_dir {data_dir}"):
        load(dataset="flowers")
    with pytest.raises(DataError, match=r"no prepared tensorflow-datasets set 'tiny:9\.0\.0'"):
        load(dataset="tiny:9.0.0")
    with pytest.raises(DataError, match=r"config\.data\.eval_split is 'val', but .* has the splits train, test"):
        load(eval_split="val")
    with pytest.raises(DataError, match=r"config\.data\.label_key is 'number', which is no ClassLabel feature"):
        load(label_key="number")
    with pytest.raises(DataError, match=r"config\.data\.image_key is 'picture', which is no Image feature"):
        load(image_key="picture")
    info = find_prepared(str(data_dir), "tiny") / "dataset_info.json"
    other = tmp_path / "tiny" / "1.2.0"
    other.mkdir(parents=True)
    for name in ("features.json", "label.labels.txt"):
        (other / name).write_bytes((info.parent / name).read_bytes())
    (other / "dataset_info.json").write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(DataError, match=r"is prepared as tfrecord, which only TensorFlow reads"):
        load(path=str(tmp_path))


def test_the_newest_version_is_taken(tmp_path):
    for version in ("9.0.0", "10.0.0", "incomplete.X_11.0.0"):
        folder = tmp_path / "set" / "small" / version
        folder.mkdir(parents=True)
        (folder / "dataset_info.json").write_text("")
    assert find_prepared(str(tmp_path), "set/small").name == "10.0.0"
    assert find_prepared(str(tmp_path), "set/small:9.0.0").name == "9.0.0"


def test_the_preparing_script_writes_what_is_read(tmp_path, data_dir, monkeypatch, capsys):
    """With a builder that needs no TensorFlow in the place of a catalogue's."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(tfds, "builder", lambda name, **options: tiny_builder(name, {"train": 3, "test": 2})(**options))
    script = runpy.run_path("launch/prepare_tfds.py")
    script["main"](["--dataset", "tiny", "--data_dir", str(tmp_path)])
    assert "train 3, test 2" in capsys.readouterr().out
    assert TfdsImages(path=str(tmp_path), dataset="tiny").load().train.num_examples == 3


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed here")
def test_preparing_without_tensorflow_says_what_to_install(tmp_path):
    command = [sys.executable, "launch/prepare_tfds.py", "--dataset", "mnist", "--data_dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("pip install 'mhe-jax[prepare]'")
    assert "Traceback" not in done.stderr


def test_a_set_is_trained_on_end_to_end(tmp_path):
    prepare(tmp_path, "tiny", {"train": 24, "test": 11})
    config = load_config("image_folder_mhc:small,tfds,smoke")
    config.data.update(path=str(tmp_path), dataset="tiny", in_memory=False, augmentation="flip_crop")
    result = train_and_evaluate(config, tmp_path / "run")
    assert result["step"] == 2
    assert result["num_classes"] == 3
    assert np.isfinite(result["last"]["loss"])
