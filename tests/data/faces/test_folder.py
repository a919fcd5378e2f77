import io
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from mhe_jax.data.dataset import ArraySplit, DataError, StreamSplit
from mhe_jax.data.faces.folder import FaceFolder
from mhe_jax.data.feeds import eval_feed, train_feed
from mhe_jax.data.images import decode
from tests.data.images.written import rows, write_parquet, write_tar

PEOPLE = {"ann": 3, "bob": 1, "cleo": 2}


def png(seed, size=(16, 16)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def save(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def root(tmp_path):
    """Three people to train on, five others with two pictures each, ten pairs of those and a .bin file of twelve."""
    for number, (person, count) in enumerate(PEOPLE.items()):
        for picture in range(count):
            save(tmp_path / "train" / person / f"{picture}.png", png(10 * number + picture))
    people = ["p", "q", "r", "s", "t"]
    for number, person in enumerate(people):
        for picture in range(2):
            save(tmp_path / "val" / person / f"{picture}.png", png(100 + 10 * number + picture))
    lines = [f"{p}/0.png {p}/1.png 1\n{p}/1.png {q}/0.png 0\n" for p, q in zip(people, [*people[1:], "p"], strict=True)]
    (tmp_path / "friends.txt").write_text("".join(lines))
    bins = [png(1000 + number) for number in range(24)]
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((bins, [True, False] * 6), protocol=2))
    return tmp_path


def faces(root, **fields):
    return FaceFolder(path=str(root), **{"eval_sets": ("friends.txt", "lfw.bin"), "image_size": 16, **fields})


def pixels(data):
    return np.asarray(PIL.Image.open(io.BytesIO(data)))


def test_people_are_the_classes_and_those_with_one_picture_stay(root):
    data = faces(root)
    images = data.load()
    assert images.class_names == ("ann", "bob", "cleo")
    assert data.num_classes == 3
    assert images.train.num_examples == 6
    assert images.facts == {
        "images": 6,
        "identities": 3,
        "single_image_identities": 1,
        "identities_without_images": 0,
    }
    seen = train_feed(images.train, 6, seed=0).chunk(0, 1)
    assert sorted(seen["label"][0].tolist()) == [0, 0, 0, 1, 2, 2]
    assert {name: value.shape for name, value in data.abstract_batch(6).items()} == {
        name: seen[name][0].shape for name in ("image", "label", "weight")
    }


@pytest.mark.parametrize("layout", ["tar", "parquet"])
def test_people_in_shards_are_those_of_folders(root, tmp_path_factory, layout):
    """The same pictures in the same order, beside the same pairs."""
    shards = tmp_path_factory.mktemp("shards")
    people = list(rows(root / "train"))
    for number, some in enumerate((people[:4], people[4:])):
        if layout == "tar":
            write_tar(shards / f"train-{number}.tar", some)
        else:
            write_parquet(shards / "train" / f"{number}.parquet", some)
    for name in ("val", "friends.txt", "lfw.bin"):
        (shards / name).symlink_to(root / name)
    found, expected = faces(shards).load(), faces(root).load()
    assert found.class_names == expected.class_names
    assert found.facts == expected.facts
    one, other = (train_feed(images.train, 6, seed=0).chunk(0, 1) for images in (found, expected))
    for name in ("image", "label"):
        np.testing.assert_array_equal(one[name], other[name])
    (shards / "train" / "ann").mkdir(parents=True)
    save(shards / "train" / "ann" / "0.png", png(0))
    assert faces(shards, layout=layout).load().facts == expected.facts


def test_fields_of_shards_are_taken_and_other_splits_are_left_to_the_pairs(root, tmp_path):
    people = list(rows(root / "train"))
    write_tar(tmp_path / "shards" / "train-0.tar", people, label="json")
    # Of people who are not trained on.
    write_tar(tmp_path / "shards" / "val-0.tar", [("z", "png", png(7), "zoe")], label="json")
    (tmp_path / "shards" / "lfw.bin").symlink_to(root / "lfw.bin")
    only_bin = {"eval_sets": ("lfw.bin",)}
    assert faces(tmp_path / "shards", label_key="label", **only_bin).load().class_names == ("ann", "bob", "cleo")
    with pytest.raises(DataError, match="person"):
        faces(tmp_path / "shards", label_key="person", **only_bin).load()
    with pytest.raises(DataError, match="jpg"):
        faces(tmp_path / "shards", image_key="jpg", **only_bin).load()
    for field in ("image_key", "label_key"):
        with pytest.raises(DataError, match=rf"config\.data\.{field} is 'x', but {root} holds class folders"):
            faces(root, **{field: "x"}).load()


@pytest.mark.parametrize("in_memory", [False, True])
def test_the_sets_share_a_split_of_pictures(root, in_memory):
    split = faces(root, in_memory=in_memory).load().eval
    assert isinstance(split.images, ArraySplit if in_memory else StreamSplit)
    assert split.num_examples == 10 + 24
    feed = eval_feed(split, 34)
    piece = {name: value[0] for name, value in feed.chunk(0, 1).items()}
    pictures = np.asarray(feed.batch(jax.tree.map(jnp.asarray, feed.resident), piece)["image"])
    friends, lfw = split.pairs
    assert (friends.name, lfw.name) == ("friends", "lfw")
    assert friends.same.tolist() == [True, False] * 5
    assert lfw.same.tolist() == [True, False] * 6
    assert friends.first.dtype == friends.second.dtype == lfw.first.dtype == np.int32
    for place, (one, two) in enumerate([("p/0", "p/1"), ("p/1", "q/0"), ("q/0", "q/1")]):
        for index, name in ((friends.first[place], one), (friends.second[place], two)):
            np.testing.assert_array_equal(pictures[index], pixels((root / "val" / f"{name}.png").read_bytes()))
    for place in (0, 5, 11):
        np.testing.assert_array_equal(pictures[lfw.first[place]], pixels(png(1000 + 2 * place)))
        np.testing.assert_array_equal(pictures[lfw.second[place]], pixels(png(1000 + 2 * place + 1)))


def test_streamed_and_in_memory_pictures_are_equal(root):
    data = faces(root, channels=1)
    streamed, held = data.load(), faces(root, channels=1, in_memory=True).load()
    assert held.train.images.shape == (6, 16, 16, 1)
    for one, two in ((streamed.train, held.train), (streamed.eval.images, held.eval.images)):
        loaded = [one.load_example(index, None) for index in range(one.num_examples)]
        np.testing.assert_array_equal(np.stack([image for image, _ in loaded]), two.images)
        assert [label for _, label in loaded] == two.labels.tolist()
    np.testing.assert_array_equal(data.read_image(root / "train" / "bob" / "0.png"), held.train.images[3])


def test_splits_can_be_sent_to_worker_processes(root):
    images = faces(root, num_workers=1).load()
    assert images.train.num_workers == 1
    assert images.eval.images.num_workers == 0
    for split in (images.train, images.eval.images):
        sent = pickle.loads(pickle.dumps(split))
        for index in (0, split.num_examples - 1):
            expected = split.load_example(index, None)
            jax.tree.map(np.testing.assert_array_equal, sent.load_example(index, None), expected)


@pytest.mark.parametrize("in_memory", [False, True])
def test_pictures_of_another_size_are_resized_with_one_warning_for_each_split(root, in_memory):
    for name in ("train/ann/0", "train/cleo/1"):
        save(root / f"{name}.png", png(5, (20, 32)))
    save(root / "val" / "q" / "1.png", png(6, (8, 8)))
    data = faces(root, in_memory=in_memory)
    with pytest.warns(UserWarning, match="are resized") as caught:
        images = data.load()
    first, second = (str(warning.message) for warning in caught)
    assert first == (
        f"train of {root}: 2 of 6 pictures looked at are not 16x16 and are resized: {root}/train/ann/0.png is 32x20"
    )
    assert second.startswith(f"verification of {root}: 1 of 34 pictures looked at")
    feed = train_feed(images.train, 6, seed=0)  # a warning from here on would be an error
    for epoch in range(2):
        feed.chunk(epoch, 1)
    split = images.train
    shown = split.images[0] if in_memory else split.load_example(0, None)[0]
    wide = np.asarray(PIL.Image.open(root / "train/ann/0.png").resize((25, 16), PIL.Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(shown, wide[:, 4:20])
    np.testing.assert_array_equal(shown, data.read_image(root / "train/ann/0.png"))


def test_unreadable_training_pictures_are_named_counted_and_skipped(root):
    broken = root / "train" / "bob" / "0.png"
    broken.write_bytes(b"broken")
    with pytest.raises(decode.BadExample, match=rf"{broken}: cannot be decoded"):
        faces(root, in_memory=True).load()
    with pytest.raises(decode.BadExample, match=rf"{broken}: cannot be decoded"):
        train_feed(faces(root).load().train, 6, seed=0).chunk(0, 1)
    feed = train_feed(faces(root, on_bad_example="skip").load().train, 6, seed=0)
    chunk = feed.chunk(0, 1)
    assert sorted(zip(chunk["weight"][0].tolist(), chunk["label"][0].tolist(), strict=True))[1:] == [
        (1.0, label) for label in (0, 0, 0, 2, 2)
    ]
    assert feed.bad_examples == 1
    with pytest.warns(UserWarning, match=rf"1 unreadable examples are left out; the last one: {broken}"):
        images = faces(root, in_memory=True, on_bad_example="skip").load()
    assert images.train.bad_examples == 1
    assert images.train.labels.tolist() == [0, 0, 0, 2, 2]


@pytest.mark.parametrize("on_bad_example", ["raise", "skip"])
def test_an_unreadable_picture_to_verify_is_always_an_error(root, on_bad_example):
    broken = root / "val" / "q" / "1.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"broken")
    with pytest.raises(decode.BadExample, match=rf"{broken}: cannot be decoded"):
        faces(root, in_memory=True, on_bad_example=on_bad_example).load()
    with pytest.raises(decode.BadExample, match=rf"{broken}: cannot be decoded"):
        faces(root, on_bad_example=on_bad_example).load()
    broken.write_bytes(whole)
    bins = [png(number) for number in range(23)] + [b"broken"]
    (root / "lfw.bin").write_bytes(pickle.dumps((bins, [True, False] * 6), protocol=2))
    with pytest.raises(decode.BadExample, match=r"lfw\.bin: picture 23: cannot be decoded"):
        faces(root, in_memory=True, on_bad_example=on_bad_example).load()


def test_a_set_of_fewer_pairs_than_folds_is_refused_before_training(root):
    lines = (root / "friends.txt").read_text().splitlines(keepends=True)
    (root / "friends.txt").write_text("".join(lines[:9]))
    with pytest.raises(DataError, match=rf"{root}/friends\.txt has 9 pairs; accuracy over 10 folds needs at least 10"):
        faces(root).load()
    bins = [png(number) for number in range(6)]
    (root / "lfw.bin").write_bytes(pickle.dumps((bins, [True, False, True]), protocol=2))
    with pytest.raises(DataError, match=rf"{root}/lfw\.bin has 3 pairs; accuracy over 10 folds needs at least 10"):
        faces(root, eval_sets=("lfw.bin",)).load()


def test_half_of_the_training_pictures_are_mirrored_unless_not_asked(root):
    batch = jnp.asarray(np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3), dtype=np.uint8))
    data, key = faces(root), jax.random.key(0)
    plain, augmented = np.asarray(data.normalize(batch)), np.asarray(data.augment(batch, key))
    mirrored = [np.array_equal(a, p[:, ::-1]) for a, p in zip(augmented, plain, strict=True)]
    assert 6 < sum(mirrored) < 26
    np.testing.assert_array_equal(augmented[~np.array(mirrored)], plain[~np.array(mirrored)])
    np.testing.assert_array_equal(faces(root, flip=False).augment(batch, key), plain)
    assert data.flip_embeddings


def test_a_config_without_verification_says_how_to_name_it(root):
    with pytest.raises(DataError, match=r"config\.data\.eval_sets is empty: name the verification sets .*'lfw\.bin'"):
        FaceFolder(path=str(root))
    with pytest.raises(DataError, match=r"eval_sets names 'agedb\.bin', but .* no file; there are: friends\.txt, lfw"):
        faces(root, eval_sets=("agedb.bin",)).load()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"eval_sets": ("lfw",)}, r"config\.data\.eval_sets names 'lfw'; a verification set is a \.bin or a \.txt"),
        ({"eval_sets": ("lfw.bin", "x/lfw.txt")}, r"config\.data\.eval_sets has more than one set named 'lfw'"),
        ({"on_bad_example": "cry"}, r"config\.data\.on_bad_example is 'cry'"),
        ({"layout": "zip"}, r"config\.data\.layout is 'zip'; it must be one of 'auto', 'folders', 'tar'"),
        ({"channels": 2}, r"config\.data\.channels is 2; it must be 3"),
        ({"image_size": 0}, r"config\.data\.image_size is 0"),
        ({"num_workers": -2}, r"config\.data\.num_workers is -2; it must be at least -1"),
    ],
)
def test_bad_fields_are_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        faces("x", **fields)


def test_errors_name_the_folder(root):
    with pytest.raises(DataError, match=rf"config\.data\.num_classes is 7 but {root} has 3 classes"):
        faces(root, num_classes=7).load()
    with pytest.raises(DataError, match=r"config\.data\.path is '/no/such', which is not a folder"):
        faces("/no/such").load()
    for person in ("bob", "cleo"):
        (root / "train" / person).rename(root / person)
    with pytest.raises(DataError, match=rf"{root} has 1 identities: training needs at least 2"):
        faces(root).load()
