"""Lists of pairs become verification sets and come back; what cannot be converted."""

import pickle

import pytest

from mhe_jax.data.dataset import BadExample
from mhe_jax.data.faces.convert import convert
from tests.data.faces.people import tree, write_people


@pytest.fixture
def people(tmp_path):
    return write_people(tmp_path / "people")


@pytest.fixture
def listed(people):
    rows = [("ann/0.jpeg", "ann/1.jpeg", 1), ("ann/0.jpeg", "bob/0.jpeg", 0), ("ann/2.jpeg", "ann/1.jpeg", 1)]
    (people / "pairs.txt").write_text("".join(f"{first} {second} {same}\n" for first, second, same in rows))
    return rows


def test_lists_of_pairs_become_verification_sets_and_back(people, listed, tmp_path):
    outcome = convert(people / "pairs.txt", tmp_path / "ours.bin")
    assert (outcome.examples, outcome.what, outcome.bad) == (3, "pairs", ())
    images, same = pickle.loads((tmp_path / "ours.bin").read_bytes(), encoding="bytes")
    assert images == [(people / name).read_bytes() for row in listed for name in row[:2]]
    assert same == [True, False, True]
    convert(tmp_path / "ours.bin", tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / "pairs.txt").read_text() == (
        "images/00000001.jpg images/00000002.jpg 1\n"
        "images/00000001.jpg images/00000004.jpg 0\n"
        "images/00000005.jpg images/00000002.jpg 1\n"
    )
    assert len(tree(tmp_path / "unpacked")) == 5
    convert(tmp_path / "unpacked", tmp_path / "again.bin")
    assert (tmp_path / "again.bin").read_bytes() == (tmp_path / "ours.bin").read_bytes()
    (people / "pairs.txt").rename(tmp_path / "elsewhere.lst")
    convert(tmp_path / "elsewhere.lst", tmp_path / "third.bin", source_kind="pairs", root=people)
    assert (tmp_path / "third.bin").read_bytes() == (tmp_path / "ours.bin").read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_pairs_of_unreadable_pictures(people, listed, tmp_path):
    (people / "bob" / "0.jpeg").write_bytes(b"broken")
    with pytest.raises(BadExample, match=r"bob/0\.jpeg: cannot be decoded"):
        convert(people / "pairs.txt", tmp_path / "ours.bin")
    outcome = convert(people / "pairs.txt", tmp_path / "ours.bin", on_bad_example="skip")
    assert (outcome.examples, len(outcome.bad)) == (2, 1)
    images, same = pickle.loads((tmp_path / "ours.bin").read_bytes())
    assert (len(images), same) == (4, [True, True])
    images[0] = b"broken"
    (tmp_path / "bad.bin").write_bytes(pickle.dumps((images, same)))
    with pytest.raises(BadExample, match=r"bad\.bin: picture 0: cannot be decoded"):
        convert(tmp_path / "bad.bin", tmp_path / "unpacked")
    outcome = convert(tmp_path / "bad.bin", tmp_path / "unpacked", on_bad_example="skip")
    assert (outcome.examples, len(outcome.bad)) == (1, 1)
    assert (tmp_path / "unpacked" / "pairs.txt").read_text() == "images/00000003.jpg images/00000002.jpg 1\n"
    (tmp_path / "bad.bin").write_bytes(pickle.dumps(([b"broken", images[1]], [True])))
    with pytest.raises(BadExample, match=r"bad\.bin: no pair can be read; the last picture: .*picture 0"):
        convert(tmp_path / "bad.bin", tmp_path / "nothing", on_bad_example="skip")


def test_bad_arguments(people, listed, tmp_path):
    dest = tmp_path / "dest"
    (tmp_path / "a.zip").write_bytes(b"")
    for arguments, message in (
        (("/no/such", dest), "/no/such does not exist"),
        ((tmp_path / "a.zip", dest), r"a\.zip: a file to convert is named \.rec, \.bin, \.txt, or its kind is given"),
        ((people, dest, "folder", "bin"), "people: folder becomes rec, not bin"),
        ((people, people), "people exists: remove it, or name another destination"),
        ((people, dest, "folder", None, tmp_path), "people is no list of pairs"),
        ((people, dest, "folder", None, None, "cry"), "on_bad_example is 'cry'"),
        ((people / "ann", dest, "folder"), "ann has no class folders"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(*arguments)
    assert not dest.exists()
