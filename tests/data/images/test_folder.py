import pathlib

import jax
import numpy as np
import PIL.Image
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.feeds import eval_feed, train_feed
from mhe_jax.data.images import decode
from mhe_jax.data.images.encoded import find_channels
from mhe_jax.data.images.folder import ImageFolder, ImageNet, scan


def save(path, seed, shape=(40, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def root(tmp_path):
    """Three classes with 4, 3 and 2 pictures to train and one each to validate, of different shapes."""
    for label, name in enumerate(("cat", "ant", "bee")):
        for number in range(4 - label):
            save(tmp_path / "train" / name / f"{number}.png", 10 * label + number, (40 + number, 50))
        save(tmp_path / "val" / name / "0.jpeg", 100 + label)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not a picture")
    return tmp_path


def folder(root, **fields):
    return ImageFolder(path=str(root), image_size=28, **fields)


def test_classes_are_the_sorted_folders_and_files_follow_in_order(root):
    data = folder(root)
    images = data.load()
    assert images.class_names == ("ant", "bee", "cat")
    assert data.num_classes == 3
    assert (images.train.num_examples, images.eval.num_examples) == (9, 3)
    source = scan(root / "train")
    assert source.labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert source.read(4)[1:] == (1, str(root / "train" / "bee" / "1.png"))
    assert source.read(4)[0] == (root / "train" / "bee" / "1.png").read_bytes()


def test_streamed_evaluation_is_in_order_with_the_documented_geometry(root):
    data = folder(root)
    chunk = eval_feed(data.load().eval, 2).chunk(0, 2)
    assert chunk["label"].tolist() == [[0, 1], [2, 2]]  # the last row is a filler
    assert chunk["weight"].tolist() == [[1, 1], [1, 0]]
    picture = np.asarray(PIL.Image.open(root / "val" / "ant" / "0.jpeg"))
    resized = np.asarray(PIL.Image.fromarray(picture).resize((40, 32), PIL.Image.Resampling.BILINEAR))
    assert np.abs(chunk["image"][0, 0].astype(int) - resized[2:30, 6:34]).max() <= 2  # another JPEG decoder
    np.testing.assert_array_equal(data.read_image(root / "val" / "ant" / "0.jpeg"), chunk["image"][0, 0])


def test_streamed_training_crops_each_example_by_seed_epoch_and_index(root):
    feed = train_feed(folder(root).load().train, 3, seed=0)
    first, again = feed.chunk(0, 6), train_feed(folder(root).load().train, 3, seed=0).chunk(3, 3)
    np.testing.assert_array_equal(first["image"][3:], again["image"])
    assert first["image"].shape == (6, 3, 28, 28, 3)
    order = np.random.default_rng((0, 0)).permutation(9)
    assert first["label"][:3].ravel().tolist() == scan(root / "train").labels[order].tolist()
    in_epoch = [dict(zip(np.random.default_rng((0, e)).permutation(9).tolist(), range(9), strict=True)) for e in (0, 1)]
    views = first["image"].reshape(2, 9, 28, 28, 3)
    assert not np.array_equal(views[0][in_epoch[0][4]], views[1][in_epoch[1][4]])
    plain = train_feed(folder(root, augmentation="none").load().train, 9, seed=0).chunk(0, 2)["image"]
    np.testing.assert_array_equal(plain[0][in_epoch[0][4]], plain[1][in_epoch[1][4]])


def test_worker_processes_load_the_same_batches(root):
    (root / "train" / "ant" / "1.png").write_bytes(b"broken")
    in_threads, in_workers = (
        train_feed(folder(root, num_workers=workers, on_bad_example="skip").load().train, 3, seed=0)
        for workers in (0, 2)
    )
    expected = in_threads.chunk(2, 5)
    jax.tree.map(np.testing.assert_array_equal, in_workers.chunk(2, 5), expected)
    # One picture is broken: it is met in several epochs, and counted once.
    assert int((expected["weight"] == 0).sum()) > 1
    assert in_workers.bad_examples == in_threads.bad_examples == 1
    in_workers.close()
    failing = eval_feed(folder(root, num_workers=1).load().train, 9)
    with pytest.raises(decode.BadExample, match=r"ant/1\.png: cannot be decoded"):
        failing.chunk(0, 1)
    failing.close()


def test_in_memory_splits_hold_the_evaluation_view_of_every_file(root):
    data = folder(root, in_memory=True, channels=1, mean=(0.5,), std=(0.5,))
    images = data.load()
    assert data.augmentation == "flip_crop"
    assert images.train.images.shape == (9, 28, 28, 1)
    assert images.train.labels.tolist() == scan(root / "train").labels.tolist()
    np.testing.assert_array_equal(images.train.images[4], data.read_image(root / "train" / "bee" / "1.png"))
    assert data.resize_size == 28
    assert folder(root).resize_size == 32


BY_THE_PICTURES = {"channels": 0, "augmentation": "auto", "mean": (0.5,), "std": (0.25,)}


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize(
    ("mode", "channels", "augmentation"),
    [("RGB", 3, "flip_crop"), ("P", 3, "flip_crop"), ("L", 1, "affine"), ("1", 1, "affine"), ("grey RGB", 1, "affine")],
)
def test_what_is_left_to_the_pictures_is_told_by_their_pixels(root, mode, channels, augmentation, in_memory):
    for path in root.glob("*/*/*.*g"):
        picture = PIL.Image.open(path)
        picture = picture.convert("L").convert("RGB") if mode == "grey RGB" else picture.convert(mode)
        picture.save(path.with_suffix(".png"))
        if path.suffix != ".png":
            path.unlink()
    data = folder(root, in_memory=in_memory, **BY_THE_PICTURES)
    images = data.load()
    assert (data.channels, data.augmentation, data.image_shape) == (channels, augmentation, (28, 28, channels))
    shown = images.eval.images if in_memory else eval_feed(images.eval, 3).chunk(0, 1)["image"][0]
    assert shown.shape == (3, 28, 28, channels)
    assert data.moments == ((0.5,) * channels, (0.25,) * channels)


def test_one_picture_in_colour_makes_the_network_see_colours(root):
    for path in root.glob("train/*/*.png"):
        PIL.Image.open(path).convert("L").save(path)
    (root / "train" / "ant" / "0.png").write_bytes(b"damaged")
    source = scan(root / "train")
    assert find_channels(source) == 1
    save(root / "train" / "cat" / "2.png", 0)
    assert find_channels(source) == 3
    assert find_channels(source, sample=2) == 1  # the first picture and the fifth


@pytest.mark.parametrize(("channels", "augmentation"), [(1, "affine"), (3, "flip_crop")])
def test_explicit_channels_stay_and_decide_the_augmentation(root, channels, augmentation):
    data = folder(root, **{**BY_THE_PICTURES, "channels": channels})
    data.load()
    assert (data.channels, data.augmentation) == (channels, augmentation)
    data = folder(root, **{**BY_THE_PICTURES, "augmentation": "none"})
    data.load()
    assert (data.channels, data.augmentation) == (3, "none")


@pytest.mark.parametrize("augmentation", ["flip_crop", "affine", "none"])
@pytest.mark.parametrize("in_memory", [False, True])
def test_device_augmentation_is_what_the_host_has_not_done(root, augmentation, in_memory):
    data = folder(root, in_memory=in_memory, augmentation=augmentation)
    batch = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 3), dtype=np.uint8)
    changed = not np.allclose(jax.jit(data.augment)(batch, jax.random.key(0)), data.normalize(batch), atol=1e-5)
    assert changed == (augmentation == "affine" or (augmentation == "flip_crop" and in_memory))


def test_unreadable_pictures_in_memory(root):
    path = root / "train" / "bee" / "1.png"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(decode.BadExample, match=rf"{path}: cannot be decoded"):
        folder(root, in_memory=True).load()
    with pytest.warns(UserWarning, match=rf"1 unreadable examples are left out; the last one: {path}"):
        train = folder(root, in_memory=True, on_bad_example="skip").load().train
    assert train.labels.tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
    assert train.bad_examples == train_feed(train, 2, seed=0).bad_examples == 1
    for file in (root / "val").glob("*/*"):
        file.write_bytes(b"")
    with pytest.raises(decode.BadExample, match="no example can be read"), pytest.warns(UserWarning, match="left out"):
        folder(root, in_memory=True, on_bad_example="skip").load()


def remove(path: pathlib.Path):
    for file in path.iterdir():
        remove(file) if file.is_dir() else file.unlink()
    path.rmdir()


def test_errors_name_the_folder(root):
    with pytest.raises(DataError, match=r"config\.data\.path is '/no/such', which is not a folder"):
        ImageFolder(path="/no/such").load()
    with pytest.raises(DataError, match=rf"config\.data\.num_classes is 1000 but {root} has 3 classes"):
        ImageNet(path=str(root)).load()
    (root / "train" / "dog").mkdir()
    with pytest.raises(DataError, match=rf"{root}/train/dog holds no picture"):
        folder(root).load()
    save(root / "train" / "dog" / "0.png", 0)
    save(root / "val" / "cow" / "0.png", 0)
    with pytest.raises(DataError, match=r"1 class folders of .*/val are not in .*/train: 'cow' is not$"):
        folder(root).load()
    remove(root / "val")
    with pytest.raises(DataError, match=rf"{root} holds no val/ or valid/ or validation/ or test/ folder .*; or set "):
        folder(root).load()
    (root / "test").mkdir()
    with pytest.raises(DataError, match=rf"{root}/test has no class folders"):
        folder(root).load()
    save(root / "validation" / "gnu" / "0.png", 0)
    with pytest.raises(DataError, match=r"folders of .*/validation are not"):  # goes before test/
        folder(root).load()


def test_a_class_without_pictures_to_evaluate_is_told(root):
    save(root / "train" / "bat" / "0.png", 5)
    with pytest.warns(UserWarning, match=r"/val: 1 of 4 classes have no pictures to evaluate: 'bat'$"):
        train, evaluate, names = folder(root).sources()
    assert names == ("ant", "bat", "bee", "cat")
    assert [evaluate.read(index)[1:] for index in range(3)] == [
        (label, str(root / "val" / name / "0.jpeg")) for label, name in ((0, "ant"), (2, "bee"), (3, "cat"))
    ]
    assert train.labels.tolist() == [0, 0, 0, 1, 2, 2, 3, 3, 3, 3]


@pytest.mark.parametrize(
    ("name", "how"),
    [("caf\u0065\u0301", "its Unicode form"), ("Caf\u00e9", "capitals"), ("caf\u00e9 ", "white space or width")],
)
def test_classes_that_look_alike_are_told_apart(root, name, how):
    save(root / "train" / "caf\u00e9" / "0.png", 0)
    save(root / "val" / name / "0.png", 0)
    with pytest.raises(DataError, match=r"not; 'caf\\xe9' there differs from '[Cc]af.*' in " + how):
        folder(root).load()


@pytest.mark.parametrize("below", ["", "train"])
def test_a_share_of_the_pictures_is_held_out(tmp_path, below):
    for name, count in (("ant", 60), ("bee", 2), ("cat", 1)):
        for number in range(count):
            path = tmp_path / below / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")

    def sides():
        sources = ImageFolder(path=str(tmp_path), valid_share=0.2).sources()[:2]
        return [{source.read(index)[1:] for index in range(len(source))} for source in sources]

    train, evaluate = sides()
    assert train.isdisjoint(evaluate)
    assert len(train | evaluate) == 63
    assert [sum(label == place for label, _ in evaluate) for place in range(3)] == [pytest.approx(12, abs=5), 1, 0]
    # Pictures that are added take sides, and the others keep theirs.
    for number in range(60, 90):
        (tmp_path / below / "ant" / f"{number}.png").write_bytes(b"")
    more_train, more_evaluate = sides()
    assert train < more_train
    assert evaluate < more_evaluate
    (tmp_path / "valid").mkdir()
    with pytest.raises(DataError, match=r"valid_share is 0\.2, but .*/valid is there: set it to 0"):
        sides()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"valid_share": 1.0}, r"config\.data\.valid_share is 1\.0; it must be at least 0 and below 1"),
        ({"augmentation": "mixup"}, r"config\.data\.augmentation is 'mixup'; it must be one of 'flip_crop',"),
        ({"on_bad_example": "cry"}, r"config\.data\.on_bad_example is 'cry'"),
        ({"last_batch": "pad"}, r"config\.data\.last_batch is 'pad'; it must be one of 'drop', 'keep'"),
        ({"channels": 2}, r"config\.data\.channels is 2; it must be 3"),
        ({"channels": 1}, r"config\.data\.mean is .*; channels = 1 needs as many, or one for all"),
        ({"channels": 0}, r"config\.data\.mean is .*; channels = 0 needs one for all"),
        ({"num_workers": -2}, r"config\.data\.num_workers is -2; it must be at least -1"),
    ],
)
def test_bad_fields_are_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder(path="x", **fields)
