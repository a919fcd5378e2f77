import os
import pickle

import jax
import numpy as np
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.images.cifar import Cifar10, Cifar100, read_pickle


def rows(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def write(path, content, protocol=2):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol))


@pytest.fixture
def cifar100(tmp_path):
    folder = tmp_path / "cifar-100-python"
    write(folder / "meta", {"fine_label_names": [f"class {i}" for i in range(100)]})
    write(folder / "train", {"data": rows(6, 0), "fine_labels": [5, 99, 0, 1, 2, 3], "coarse_labels": [0] * 6})
    write(folder / "test", {"data": rows(2, 1), "fine_labels": [7, 8]})
    return tmp_path


@pytest.mark.parametrize("inside", ["", "cifar-100-python"])
def test_cifar100_from_the_folder_or_its_parent(cifar100, inside):
    data = Cifar100(path=str(cifar100 / inside))
    images = data.load()
    assert data.num_classes == 100
    assert images.class_names[99] == "class 99"
    assert images.train.labels.tolist() == [5, 99, 0, 1, 2, 3]
    assert images.train.labels.dtype == np.int32
    # Row = all red pixels, then green, then blue, each in reading order.
    row, image = rows(6, 0)[1], images.train.images[1]
    np.testing.assert_array_equal(image[3, 4], row[[3 * 32 + 4, 1024 + 3 * 32 + 4, 2048 + 3 * 32 + 4]])
    assert images.eval.images.shape == (2, 32, 32, 3)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_cifar10_joins_its_parts_in_order_with_byte_keys_and_any_protocol(tmp_path, protocol):
    folder = tmp_path / "cifar-10-batches-py"
    write(folder / "batches.meta", {b"label_names": [b"plane", *(b"x%d" % i for i in range(9))]}, protocol)
    for part in range(1, 6):
        # What nobody needs may be anything plain.
        more = {b"filenames": np.array([b"a.png", b"b.png"]), b"mean": 0.5}
        content = {b"data": rows(2, part), b"labels": [part, 0], **more}
        write(folder / f"data_batch_{part}", content, protocol)
    write(folder / "test_batch", {b"data": rows(1, 9), b"labels": np.array([4])}, protocol)
    images = Cifar10(path=str(tmp_path), num_classes=10).load()
    assert images.train.labels.tolist() == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]
    assert images.class_names[:2] == ("plane", "x0")
    np.testing.assert_array_equal(images.train.images[2, 0, 0, 0], rows(2, 2)[0, 0])


def test_numpy_1_arrays_pickled_by_python_2_are_read(tmp_path):
    # What Python 2 wrote for {'data': array([[1, 2]], uint8)}: str keys, numpy.core, and bytes as a plain string.
    text = (
        b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01K\x02\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x02\xfe\x02tbs."
    )
    (tmp_path / "old").write_bytes(text)
    content = read_pickle(tmp_path / "old")
    np.testing.assert_array_equal(content["data"], [[254, 2]])


class Runs:
    def __init__(self, call, *arguments):
        self.call = (call, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("call", [(os.system, "touch {}"), (eval, "open('{}', 'w')"), (getattr, str, "join")])
def test_a_pickle_cannot_run_code(tmp_path, call):
    flag = tmp_path / "flag"
    call = [part.format(flag) if isinstance(part, str) else part for part in call]
    write(tmp_path / "evil", {"data": Runs(*call)})
    with pytest.raises(DataError, match="evil: not a CIFAR pickle, or a damaged one: it refers to .*neither"):
        read_pickle(tmp_path / "evil")
    assert not flag.exists()


def test_missing_data_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError) as error:
        Cifar10(path=str(tmp_path)).load()
    assert f"{tmp_path} holds no cifar-10-batches-py: run curl" in str(error.value)
    assert "cifar-10-python.tar.gz" in str(error.value)
    assert f"prepare_tfds.py --dataset cifar10 --data_dir {tmp_path}" in str(error.value)


def test_bad_files_are_named(cifar100):
    folder = cifar100 / "cifar-100-python"
    load = Cifar100(path=str(cifar100)).load
    with pytest.raises(DataError, match=r"num_classes is 10 but .*cifar-100-python has 100 classes"):
        Cifar100(path=str(cifar100), num_classes=10).load()
    write(folder / "test", {"data": rows(2, 1), "fine_labels": [7, 100]})
    with pytest.raises(DataError, match="test: labels reach from 7 to 100, of 100 classes"):
        load()
    write(folder / "test", {"data": rows(2, 1), "fine_labels": [7]})
    with pytest.raises(DataError, match=r"test: 'data' is uint8 \(2, 3072\); it must be uint8 \(1, 3072\)"):
        load()
    write(folder / "test", {"data": rows(2, 1)})
    with pytest.raises(DataError, match="test: has no 'fine_labels'; it has data"):
        load()
    write(folder / "test", [1])
    with pytest.raises(DataError, match="test: not a CIFAR pickle, or a damaged one: it holds a list"):
        load()
    (folder / "test").write_bytes(b"\x80\x02}U")
    with pytest.raises(DataError, match="test: not a CIFAR pickle, or a damaged one"):
        load()
    (folder / "test").unlink()
    with pytest.raises(DataError, match="test: cannot be read: No such file"):
        load()


def test_augmentation_crops_flips_and_normalises(cifar100):
    data = Cifar100(path=str(cifar100))
    images = np.full((4, 32, 32, 3), 255, np.uint8)
    out = np.asarray(jax.jit(data.augment)(images, jax.random.key(1)))
    # A crop of white padded with black holds nothing but the two normalised colours.
    expected = [(np.array([0.0, 1.0]) - mean) / std for mean, std in zip(data.mean, data.std, strict=True)]
    for channel, values in enumerate(expected):
        assert np.abs(out[..., channel, None] - values).min(axis=-1).max() < 1e-5
    assert not np.array_equal(out[0], out[1])
    np.testing.assert_allclose(data.normalize(images)[0, 0, 0], [values[1] for values in expected], atol=1e-5)
