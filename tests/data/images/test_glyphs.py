import unicodedata
import warnings

import jax
import numpy as np
import PIL.Image
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.images import glyphs
from mhe_jax.data.images.glyphs import Glyphs


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of this module's own; the first test fills it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def characters():
    return glyphs.choose_characters()


@pytest.fixture(scope="module")
def data():
    return Glyphs()


@pytest.fixture(scope="module")
def images(data, cache):
    return data.load()


def drawing(character, characters, face="DejaVuSans", size=32):
    drawn, places = glyphs.draw(face, characters[characters == ord(character)], size)
    assert places.tolist() == [0]
    return drawn[0]


def test_the_classes_are_the_same_everywhere(images, data):
    assert data.num_classes == len(images.class_names) == 2919
    assert images.class_names[0] == "U+0021 EXCLAMATION MARK"
    assert len(set(images.class_names)) == 2919


def test_look_alikes_are_one_class(characters):
    kept = set(map(chr, characters))
    assert {"A", "a", "O", "o", "0", "'", ",", "é", "Ж", "Ω", "→"} <= kept
    assert not kept & {"\N{GREEK CAPITAL LETTER ALPHA}", "\N{CYRILLIC CAPITAL LETTER A}", " ", "\N{NO-BREAK SPACE}"}


def test_every_class_is_in_every_sans_and_serif_face(images, data):
    assert len(images.eval.labels) == 2 * 2919
    np.testing.assert_array_equal(np.bincount(images.eval.labels), 2)
    assert np.bincount(images.train.labels, minlength=2919).min() == 6
    assert np.bincount(images.train.labels).max() == 10
    assert images.train.images.shape[1:] == data.image_shape
    assert images.train.images.dtype == np.uint8


def test_held_out_faces_are_only_in_evaluation(images, characters):
    where = int(np.flatnonzero(characters == ord("g"))[0])
    held_out, upright = (drawing("g", characters, face) for face in ("DejaVuSerif-Italic", "DejaVuSerif"))

    def holds(split, image):
        return any(np.array_equal(other[:, :, 0], image) for other in split.images[split.labels == where])

    assert holds(images.eval, held_out)
    assert not holds(images.train, held_out)
    assert holds(images.train, upright)
    assert not holds(images.eval, upright)


def test_drawings_of_classes_differ(images):
    """Almost: at this size hinting makes a few outlines one drawing."""
    first = images.train.images[:2919]  # DejaVu Sans, the first face
    assert len({image.tobytes() for image in first}) >= 2900


def test_case_place_and_accents_stay_apart(characters):
    upper, lower = (drawing(letter, characters) for letter in "Oo")
    assert (upper.max(axis=1) > 99).sum() > (lower.max(axis=1) > 99).sum() + 2
    comma, quote = (np.flatnonzero(drawing(mark, characters).max(axis=1)) for mark in ",'")
    assert comma.min() > quote.max()
    accented, plain = (drawing(letter, characters) for letter in "Àa")
    assert np.flatnonzero(accented.max(axis=1)).min() < np.flatnonzero(plain.max(axis=1)).min() - 4


@pytest.mark.parametrize("size", [16, 32, 48])
def test_ink_is_whole_and_centred(characters, size):
    some = characters[::29]
    drawn, _ = glyphs.draw("DejaVuSerif-BoldItalic", some, size)
    columns = drawn.max(axis=1) > 0
    left, right = columns.argmax(axis=1), columns[:, ::-1].argmax(axis=1)
    assert np.abs(left - right).max() <= 1
    for character in "ẪǠ‱":  # the tallest and the widest
        ink = drawing(character, characters, "DejaVuSerif-BoldItalic", size) > 0
        assert ink.any(axis=0).sum() <= size
        assert ink.any(axis=1).sum() <= size
        assert ink.sum() > size


def test_the_cache_is_used_and_mended(cache, images, monkeypatch):
    path = glyphs.cache_file(32)
    assert path.parent.parent == cache
    before = path.stat().st_mtime_ns
    again = Glyphs().load()
    np.testing.assert_array_equal(again.train.images, images.train.images)
    np.testing.assert_array_equal(again.eval.labels, images.eval.labels)
    assert path.stat().st_mtime_ns == before
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    with pytest.warns(UserWarning, match="is damaged and is made again"):
        mended = Glyphs().load()
    np.testing.assert_array_equal(mended.train.images, images.train.images)
    monkeypatch.setattr(glyphs, "drawings", lambda size: pytest.fail("the mended cache was not used"))
    Glyphs().load()
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing half-written is left


def test_no_bit_of_the_cache_may_change(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    drawn = tuple(np.arange(40).reshape(shape) for shape in ((10, 2, 2, 1), (40,), (5, 8), (40,)))
    monkeypatch.setattr(glyphs, "drawings", lambda size: drawn)
    glyphs.cached_drawings(32)
    path, rng, damaged = glyphs.cache_file(32), np.random.default_rng(0), 0
    whole = path.read_bytes()
    for place in rng.integers(0, len(whole), 150).tolist():
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found = glyphs.cached_drawings(32)
        damaged += len(warned)
        for array, expected in zip(found, drawn, strict=True):
            np.testing.assert_array_equal(array, expected)
    assert damaged > 75  # the others change dates and the like
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_cache_that_cannot_be_written_is_only_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(glyphs, "drawings", lambda size: (np.zeros(1), np.zeros(1), np.zeros(1), np.zeros(1)))
    with pytest.warns(UserWarning, match="cannot be written"):
        glyphs.cached_drawings(32)


def test_augmented_and_plain_pixels_are_about_normal(data, images):
    batch = images.train.images[:: len(images.train.images) // 64]
    normal = np.asarray(data.normalize(batch))
    assert abs(normal.mean()) < 0.1
    assert abs(normal.std() - 1) < 0.2
    augmented = np.asarray(jax.jit(data.augment)(batch, jax.random.key(0)))
    assert augmented.shape == normal.shape
    assert np.abs(augmented - normal).mean() > 0.05
    plain = Glyphs(augmentation=0.0, noise=0.0)
    np.testing.assert_array_equal(plain.augment(batch, jax.random.key(0)), plain.normalize(batch))


def test_a_users_picture_of_ink_on_paper_is_inverted(tmp_path, data, characters):
    ink = drawing("g", characters)
    PIL.Image.fromarray(255 - ink).convert("RGB").save(tmp_path / "paper.png")
    PIL.Image.fromarray(ink).save(tmp_path / "screen.png")
    for name in ("paper.png", "screen.png"):
        image = data.read_image(tmp_path / name)
        assert image.shape == data.image_shape
        assert np.abs(image[:, :, 0].astype(int) - ink).max() <= 1


@pytest.mark.parametrize(("bright", "inverted"), [(0.4, False), (0.6, True)])
def test_paper_is_what_most_of_a_border_says(tmp_path, data, bright, inverted):
    side = data.image_size
    pixels = np.zeros((side, side), np.uint8)
    pixels[:, : round(bright * side)] = 255
    PIL.Image.fromarray(pixels).save(tmp_path / "half.png")
    found = data.read_image(tmp_path / "half.png")[:, :, 0]
    np.testing.assert_array_equal(found, 255 - pixels if inverted else pixels)


def test_bad_fields_are_errors():
    with pytest.raises(ValueError, match="eval_faces is .*Comic.*; it must name one or more of DejaVuSans,"):
        Glyphs(eval_faces=("Comic",))
    with pytest.raises(ValueError, match="none is left to train on"):
        Glyphs(eval_faces=glyphs.FACES)
    with pytest.raises(ValueError, match=r"config\.data\.image_size is 8"):
        Glyphs(image_size=8)
    with pytest.raises(DataError, match=r"config\.data\.num_classes is 3000 but the DejaVu faces .* has 2919 classes"):
        Glyphs(num_classes=3000).load()


def test_names_are_unicodes():
    assert glyphs.character_name(0x416) == "U+0416 " + unicodedata.name("Ж")
