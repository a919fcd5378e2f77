"""Which entries of a folder are pictures; torchvision's own walk is the oracle where it has one."""

import os

import pytest

from mhe_jax.data.dataset import BadExample, DataError
from mhe_jax.data.images import listing
from mhe_jax.data.images.decode import read_bytes
from mhe_jax.data.images.folder import scan
from mhe_jax.data.images.listing import EXTENSIONS, is_stray, list_folders, list_pictures

PICTURES = (
    "b.jpg",
    "a.JPG",
    "2021/n.png",
    "2021/deep/m.png",
    "2021-x/k.png",
    "z/a.tif",
    "notes.txt",
    "2021/notes.jpg.bak",
)


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def torchvision_order(folder):
    """As torchvision.datasets.folder.make_dataset walks the folder of a class."""
    found = []
    for root, _, names in sorted(os.walk(folder, followlinks=True)):
        found += [os.path.join(root, name) for name in sorted(names) if name.lower().endswith(EXTENSIONS)]
    return [os.fsencode(os.path.relpath(path, folder)) for path in found]


def test_pictures_below_a_class_are_found_in_torchvisions_order(tmp_path):
    touch(tmp_path / "cat", *PICTURES)
    found, left_out = list_pictures(tmp_path / "cat")
    assert found == torchvision_order(tmp_path / "cat")
    assert found == [b"a.JPG", b"b.jpg", b"2021/n.png", b"2021-x/k.png", b"2021/deep/m.png", b"z/a.tif"]
    assert left_out == []
    source = scan(tmp_path)
    assert source.labels.tolist() == [0] * 6
    assert source.read(4) == (b"", 0, str(tmp_path / "cat" / "2021/deep/m.png"))


STRAY = (
    ".ipynb_checkpoints",
    "@eaDir",
    "__MACOSX",
    ".Trash-1000",
    "@__thumb",
    "#recycle",
    "lost+found",
    "$RECYCLE.BIN",
)


@pytest.mark.parametrize("name", STRAY)
def test_what_systems_and_tools_leave_is_left_out_and_counted(tmp_path, name):
    touch(tmp_path, "cat/0.jpg", "dog/0.jpg", f"{name}/0.jpg", f"cat/{name}/1.jpg", "dog/._0.jpg", "dog/.DS_Store")
    with pytest.warns(UserWarning, match=rf"^{tmp_path}: left out 3 hidden or special files and folders: ") as warned:
        source = scan(tmp_path)
    assert len(warned) == 1
    assert source.class_names == ("cat", "dog")
    assert [bytes(file) for file in source.files] == [b"0.jpg", b"0.jpg"]
    assert is_stray(name)


def test_ordinary_names_stay():
    for name in ("@handle", "#1", "_", "a.b", "System", "recycle", "__init__", "~", "\u732b", "lost"):
        assert not is_stray(name)


def test_links_are_followed_but_not_in_a_circle(tmp_path):
    touch(tmp_path, "cat/0.jpg", "elsewhere/1.jpg")
    (tmp_path / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "cat")
    (tmp_path / "cat" / "gone.jpg").symlink_to(tmp_path / "nowhere")  # a picture that cannot be read
    found, _ = list_pictures(tmp_path / "cat")
    assert set(found) == {b"0.jpg", b"gone.jpg", b"more/1.jpg", b"again/elsewhere/1.jpg"}


def test_pipes_are_no_pictures(tmp_path):
    touch(tmp_path, "0.jpg", "2.jpg/0.png")
    os.mkfifo(tmp_path / "1.jpg")
    assert list_pictures(tmp_path) == ([b"0.jpg", b"2.jpg/0.png"], ["1.jpg"])


def test_a_link_named_like_a_picture_is_told_when_it_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, target in (("0.jpg", "/dev/zero"), ("1.jpg", "pipe"), ("2.jpg", "."), ("3.jpg", "nowhere")):
        (tmp_path / name).symlink_to(target)
    assert list_pictures(tmp_path) == ([b"0.jpg", b"1.jpg", b"2.jpg", b"3.jpg"], [])
    for name in ("0.jpg", "1.jpg", "2.jpg", "3.jpg"):
        with pytest.raises(BadExample, match=rf"{name}: cannot be read: "):
            read_bytes(tmp_path / name)


class Watched:
    """An entry of a folder that notes when, being a link, it is followed."""

    def __init__(self, entry, followed):
        self.entry, self.followed = entry, followed
        self.name, self.path, self.is_symlink = entry.name, entry.path, entry.is_symlink

    def is_dir(self, *, follow_symlinks=True):
        self.note(follow_symlinks)
        return self.entry.is_dir(follow_symlinks=follow_symlinks)

    def is_file(self, *, follow_symlinks=True):
        self.note(follow_symlinks)
        return self.entry.is_file(follow_symlinks=follow_symlinks)

    def note(self, follow_symlinks):
        if follow_symlinks and self.is_symlink():
            self.followed.append(os.fsdecode(self.name))


def test_links_to_pictures_are_not_followed_and_those_to_classes_are(tmp_path, monkeypatch):
    """Following each would be a message to a network disk for each picture, at every start."""
    touch(tmp_path, *[f"real/{i}.jpg" for i in range(9)], "more/9.jpg")
    (tmp_path / "train" / "cat").mkdir(parents=True)
    for i in range(9):
        (tmp_path / "train" / "cat" / f"{i}.jpg").symlink_to(tmp_path / "real" / f"{i}.jpg")
    (tmp_path / "train" / "dog").symlink_to(tmp_path / "more")
    (tmp_path / "train" / "cat" / "below").symlink_to(tmp_path / "more")
    followed: list[str] = []
    entries = listing._entries
    monkeypatch.setattr(listing, "_entries", lambda folder: [Watched(entry, followed) for entry in entries(folder)])
    source = scan(tmp_path / "train")
    assert source.class_names == ("cat", "dog")
    assert [bytes(file) for file in source.files] == [*(b"%d.jpg" % i for i in range(9)), b"below/9.jpg", b"9.jpg"]
    assert sorted(followed) == ["below", "dog"]


def test_folders_deeper_than_the_stack_of_python(tmp_path):
    depth = 1100
    try:
        os.makedirs(tmp_path / "d")
        for level in range(2, depth):
            os.mkdir(os.path.join(tmp_path, *["d"] * level))
        assert list_pictures(tmp_path) == ([], [])
    finally:  # which shutil.rmtree cannot do
        for level in range(depth - 1, 0, -1):
            os.rmdir(os.path.join(tmp_path, *["d"] * level))


def test_a_folder_that_is_not_there(tmp_path):
    for lists in (list_folders, list_pictures):
        with pytest.raises(DataError, match=rf"^{tmp_path}/no cannot be listed: No such file or directory$"):
            lists(tmp_path / "no")
