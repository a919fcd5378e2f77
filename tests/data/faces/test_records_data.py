import io
import pickle

import jax
import numpy as np
import PIL.Image
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.faces.folder import FaceRecords
from mhe_jax.data.faces.formats.recordio import index_lines, pack_image, write_record
from mhe_jax.data.feeds import eval_feed, train_feed
from mhe_jax.data.images import decode

LABELS = (2, 0, 2, 3, 0, 2, 3)  # identity 1 has no picture, none has one


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "png")
    return pixels, file.getvalue()


def write_records(root, labels, damaged=()):
    offsets = []
    with (root / "train.rec").open("wb") as file:
        for key, label in enumerate(labels):
            offsets.append(file.tell())
            write_record(file, pack_image(label, key, b"broken" if key in damaged else png(key)[1]))
    (root / "train.idx").write_bytes(index_lines(range(len(labels)), offsets))
    (root / "property").write_text("4,16,16\n")
    return offsets


@pytest.fixture
def root(tmp_path):
    """Records of four identities, and a .bin file of 10 pairs."""
    write_records(tmp_path, LABELS)
    bins = [png(100 + number)[1] for number in range(20)]
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((bins, [True, False] * 5), protocol=2))
    return tmp_path


def records(root, **fields):
    return FaceRecords(path=str(root), eval_sets=("lfw.bin",), image_size=16, **fields)


@pytest.mark.parametrize("in_memory", [False, True])
def test_every_record_is_a_training_picture(root, in_memory):
    data = records(root, in_memory=in_memory)
    images = data.load()
    assert data.num_classes == 4
    assert images.class_names == ()
    assert images.facts == {
        "images": 7,
        "identities": 4,
        "single_image_identities": 0,
        "identities_without_images": 1,
    }
    train = images.train
    loaded = [
        (train.images[i], int(train.labels[i])) if in_memory else train.load_example(i, None)
        for i in range(train.num_examples)
    ]
    assert tuple(label for _, label in loaded) == LABELS
    for number, (image, _) in enumerate(loaded):
        np.testing.assert_array_equal(image, png(number)[0])
    assert [pairs.name for pairs in images.eval.pairs] == ["lfw"]
    assert images.eval.num_examples == eval_feed(images.eval, 20).num_examples == 20


def test_identities_are_named_by_a_file_beside_the_records(root):
    (root / "classes.txt").write_text("ann\nbob\ncleo\ndora\n")
    assert records(root).load().class_names == ("ann", "bob", "cleo", "dora")


def test_worker_processes_load_the_same_batches(root):
    in_workers = train_feed(records(root, num_workers=1).load().train, 3, seed=0)
    expected = train_feed(records(root).load().train, 3, seed=0).chunk(0, 2)
    jax.tree.map(np.testing.assert_array_equal, in_workers.chunk(0, 2), expected)
    in_workers.close()


def test_pairs_in_text_lie_beside_the_records(root):
    (root / "pairs.txt").write_text("a.png b.png 0\n" * 10)
    for name in "ab":
        (root / "faces").mkdir(exist_ok=True)
        (root / "faces" / f"{name}.png").write_bytes(png(ord(name))[1])
    data = FaceRecords(path=str(root), eval_sets=("lfw.bin", "pairs.txt"), eval_root="faces", image_size=16)
    lfw, pairs = data.load().eval.pairs
    assert lfw.second.tolist() == list(range(1, 20, 2))
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([20] * 10, [21] * 10)


def test_damaged_records_are_named_or_skipped_and_counted(root):
    write_records(root, LABELS, damaged=(4,))  # the label can be read, the picture cannot
    with pytest.raises(decode.BadExample, match=r"train\.rec record 4 at byte \d+: cannot be decoded"):
        train_feed(records(root).load().train, 7, seed=0).chunk(0, 1)
    images = records(root, on_bad_example="skip").load()
    assert images.facts["images"] == 7
    offsets = write_records(root, LABELS)
    content = bytearray((root / "train.rec").read_bytes())
    content[offsets[1] : offsets[1] + 4] = bytes(4)  # the magic number: not even the label can be read
    (root / "train.rec").write_bytes(content)
    with pytest.raises(decode.BadExample, match=r"train\.rec record 1 at byte"):
        records(root).load()
    images = records(root, on_bad_example="skip").load()
    assert images.facts == {
        "images": 6,
        "identities": 4,
        "single_image_identities": 1,
        "identities_without_images": 1,
    }
    feed = train_feed(images.train, 7, seed=0)
    assert feed.chunk(0, 1)["weight"].sum() == 6
    assert feed.bad_examples == 1


@pytest.mark.parametrize("on_bad_example", ["raise", "skip"])
def test_labels_that_are_no_identity_are_errors(root, on_bad_example):
    for label in (-1, 4):
        write_records(root, (0, 1, label))
        with pytest.raises(DataError, match=rf"record 2 at byte \d+: its label is {label}, which is not an identity"):
            records(root, on_bad_example=on_bad_example).load()


def test_errors_name_the_file(root):
    with pytest.raises(DataError, match=rf"config\.data\.num_classes is 9 but {root} has 4 classes"):
        records(root, num_classes=9).load()
    write_records(root, (0, 0))
    (root / "property").write_text("1,16,16\n")
    with pytest.raises(DataError, match=rf"{root} has 1 identities: training needs at least 2"):
        records(root).load()
    (root / "train.rec").unlink()
    with pytest.raises(DataError, match=r"train\.rec does not exist"):
        records(root).load()
