import jax
import numpy as np
import PIL.Image
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.faces.glyph_pairs import glyph_pairs
from mhe_jax.data.faces.glyphs import FaceGlyphs
from mhe_jax.data.images.glyphs import FACES, Glyphs, cached_drawings, character_name


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of this module's own; the first test fills it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


def small(**fields):
    return FaceGlyphs(**{"image_size": 16, "held_out_classes": 60, "num_pairs": 200, **fields})


@pytest.fixture(scope="module")
def drawn(cache):
    return cached_drawings(16)


@pytest.fixture(scope="module")
def loaded(cache):
    data = small()
    return data, data.load()


@pytest.fixture(scope="module")
def held_out(loaded, drawn):
    """What the verified pictures show: characters and typefaces, as the drawings have them."""
    _, images = loaded
    _, labels, faces, characters = drawn
    names = [character_name(int(code)) for code in characters]
    kept = ~np.isin(labels, [place for place, name in enumerate(names) if name in set(images.class_names)])
    return labels[kept], faces[kept]


def test_held_out_characters_are_never_trained_and_all_others_are(loaded, drawn, held_out):
    data, images = loaded
    pictures, labels, _, characters = drawn
    assert data.num_classes == len(images.class_names) == len(characters) - 60 == 2859
    verified = set(held_out[0].tolist())
    assert len(verified) == 60
    others = ~np.isin(labels, sorted(verified))
    np.testing.assert_array_equal(images.train.images, pictures[others])
    np.testing.assert_array_equal(images.eval.images.images, pictures[~others])
    shown = [character_name(int(code)) for code in characters[labels[others]]]
    assert [images.class_names[label] for label in images.train.labels] == shown
    assert images.train.images.shape[1:] == data.image_shape == (16, 16, 1)


def test_every_typeface_is_trained(loaded):
    _, images = loaded
    counts = np.bincount(images.train.labels)
    assert (counts.min(), counts.max()) == (8, len(FACES))
    assert images.facts == {
        "images": len(images.train.labels),
        "identities": 2859,
        "single_image_identities": 0,
        "identities_without_images": 0,
    }


def test_pairs_are_of_two_typefaces_and_balanced_in_every_fold(loaded, held_out):
    _, images = loaded
    characters, faces = held_out
    assert [pairs.name for pairs in images.eval.pairs] == ["glyphs", "glyphs_hard"]
    for pairs in images.eval.pairs:
        assert len(pairs.same) == 200
        np.testing.assert_array_equal(pairs.same, characters[pairs.first] == characters[pairs.second])
        assert (faces[pairs.first] != faces[pairs.second]).all()
        assert [fold.sum() for fold in np.split(pairs.same, 10)] == [10] * 10
        two = np.sort(np.stack([pairs.first, pairs.second], axis=1), axis=1)
        assert len(np.unique(two, axis=0)) == 200


def test_the_seed_decides():
    first, again, other = small().load(), small().load(), small(seed=1).load()
    for one, two in zip(first.eval.pairs, again.eval.pairs, strict=True):
        np.testing.assert_array_equal(one.first, two.first)
        np.testing.assert_array_equal(one.second, two.second)
    assert first.class_names == again.class_names != other.class_names
    assert small(num_pairs=100).load().class_names == first.class_names


def test_look_alikes_are_nearest_of_another_character_and_typeface(loaded, held_out):
    _, images = loaded
    characters, faces = held_out
    pictures = images.eval.images.images.reshape(len(characters), -1).astype(float)
    pairs = images.eval.pairs[1]
    alike = {
        frozenset((characters[i], characters[j]))
        for i in range(len(pictures))
        for j in np.flatnonzero((pictures == pictures[i]).all(axis=1))
        if characters[i] != characters[j]
    }
    for one, two in zip(pairs.first[1::2][:40], pairs.second[1::2][:40], strict=True):
        distance = ((pictures - pictures[one]) ** 2).sum(axis=1)
        distance[(characters == characters[one]) | (faces == faces[one])] = np.inf
        distance[[frozenset((characters[one], other)) in alike for other in characters]] = np.inf
        assert distance[two] == distance.min()
    spread = [np.abs(pictures[p.first] - pictures[p.second]).mean(axis=1)[~p.same].mean() for p in images.eval.pairs]
    assert spread[1] < 0.6 * spread[0]


def test_equal_drawings_are_never_a_pair():
    # Characters 0 and 1 are drawn alike in typeface 0; character 2 is drawn alike in typefaces 0 and 1.
    looks = np.array([[7, 1, 2], [7, 3, 4], [5, 5, 6], [8, 9, 10]])
    images = (looks.reshape(-1, 1, 1) * 20).astype(np.uint8)
    characters, faces = np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4)
    for seed in range(20):
        for pairs in glyph_pairs(images, characters, faces, 12, np.random.default_rng(seed)):
            shown = list(zip(characters[pairs.first], characters[pairs.second], strict=True))
            assert (0, 1) not in shown
            assert (1, 0) not in shown
            assert (looks.ravel()[pairs.first] != looks.ravel()[pairs.second]).all()
            assert [one == two for one, two in shown] == pairs.same.tolist()
    with pytest.raises(DataError, match="the 4 held-out characters give only 11 pairs of one character"):
        glyph_pairs(images, characters, faces, 24, np.random.default_rng(0))


def test_augmentation_is_that_of_glyphs_and_nothing_is_mirrored(loaded, tmp_path):
    data, images = loaded
    batch, key = images.train.images[:8], jax.random.key(0)
    same = Glyphs(image_size=16)
    ours, theirs = jax.jit(lambda images, key: (data.augment(images, key), same.augment(images, key)))(batch, key)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(data.normalize(batch), same.normalize(batch))
    plain = small(augmentation=0.0, noise=0.0)
    np.testing.assert_array_equal(plain.augment(batch, key), plain.normalize(batch))
    assert not data.flip_embeddings
    PIL.Image.fromarray(255 - batch[0, :, :, 0]).save(tmp_path / "paper.png")
    np.testing.assert_array_equal(data.read_image(tmp_path / "paper.png"), batch[0])


def test_bad_fields_are_errors():
    with pytest.raises(ValueError, match=r"config\.data\.held_out_classes is 1; pairs need at least 2"):
        small(held_out_classes=1)
    with pytest.raises(DataError, match=r"config\.data\.held_out_classes is 2918, but there are 2919 characters"):
        small(held_out_classes=2918).load()
    with pytest.raises(ValueError, match=r"config\.data\.image_size is 8"):
        small(image_size=8)
    with pytest.raises(DataError, match=r"num_pairs is 3000, but the 3 held-out characters give only \d+ pairs of one"):
        small(held_out_classes=3, num_pairs=3000).load()
    with pytest.raises(DataError, match=r"num_pairs is 120, but the 3 held-out characters give only \d+ pairs of two"):
        small(held_out_classes=3, num_pairs=120).load()
    with pytest.raises(DataError, match=r"config\.data\.num_classes is 9 but what is not held out of 2919 characters"):
        small(num_classes=9).load()
