"""The same pictures from class folders, tar shards, Parquet and Arrow files, on disks and in stores."""

import pickle

import fsspec
import numpy as np
import pytest

from mhe_jax.data.dataset import BadExample, DataError
from mhe_jax.data.feeds import train_feed
from tests.data.images.written import (
    NAMES,
    opened,
    rows,
    write,
    write_parquet,
    write_tar,
)

LAYOUTS = ("tar", "tar of JSON", "tar by pattern", "tar in a folder for each split", "tar with classes.txt", "parquet")
LAYOUTS += (
    "parquet of structs",
    "parquet of numbers",
    "the hub's cache",
    "the hub's cache of folders",
    "saved",
    "arrow",
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_examples_of_class_folders_in_their_order(layout, folder, tmp_path):
    train, evaluate, names = opened(write(layout, tmp_path / "other", folder)).sources()
    of_folders = opened(folder).sources()
    assert names == train.class_names == evaluate.class_names == NAMES
    for source, expected in zip((train, evaluate), of_folders[:2], strict=True):
        assert source.labels.tolist() == expected.labels.tolist()
        assert source.labels.dtype == np.int32
        again = pickle.loads(pickle.dumps(source))
        for index in range(len(expected)):
            assert source.read(index)[:2] == again.read(index)[:2] == expected.read(index)[:2]


def test_a_line_of_classes_is_a_name(folder, tmp_path):
    path = write("tar with classes.txt", tmp_path / "other", folder)
    names = tmp_path / "other" / "classes.txt"
    names.write_bytes("\ufeffant\r\nbee\u2028s\x85\r\ncat\n\n".encode())
    assert opened(path).sources()[2] == ("ant", "bee\u2028s\x85", "cat")
    names.write_bytes(b"ant\n\nbee\ncat\n")
    with pytest.raises(DataError, match=r"classes\.txt:2: the line is blank"):
        opened(path).sources()
    names.write_bytes(b"ant\nb\xffe\ncat\n")
    with pytest.raises(DataError, match=r"classes\.txt:2: byte 2 of the line is not UTF-8"):
        opened(path).sources()


@pytest.mark.parametrize("layout", ["tar", "parquet", "saved"])
def test_worker_processes_and_threads_load_what_they_load_of_folders(layout, folder, tmp_path):
    path = write(layout, tmp_path / "other", folder)
    expected = train_feed(opened(folder).load().train, 3, seed=0).chunk(2, 4)
    for workers in (0, 2):
        found = train_feed(opened(path, num_workers=workers).load().train, 3, seed=0).chunk(2, 4)
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("layout", ["tar", "parquet"])
@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_stores_are_read_as_disks_are(layout, protocol, folder, tmp_path):
    path = write(layout, tmp_path / "other", folder)
    if protocol == "memory":
        store = fsspec.filesystem("memory")
        store.put(path, "/birds", recursive=True)
        path = "memory://birds"
    else:
        path = f"file://{path}"
    try:
        for given in (path, f"{path}/*.tar" if layout == "tar" else f"{path}/data/*.parquet"):
            train, evaluate, names = opened(given).sources()
            expected = opened(folder).sources()
            assert names == NAMES
            assert [train.read(index)[:2] for index in range(9)] == [expected[0].read(index)[:2] for index in range(9)]
            assert len(evaluate) == 3
            assert train.read(0)[2].startswith(f"{protocol}://")
        assert opened(path, in_memory=True).load().train.images.shape == (9, 28, 28, 3)
    finally:
        if protocol == "memory":
            store.rm("/birds", recursive=True)


def test_a_store_without_its_package_or_its_files_is_told(folder):
    with pytest.raises(DataError, match=r"s3://birds/train.tar cannot be read without another package: .*s3fs"):
        opened("s3://birds/train.tar").load()
    with pytest.raises(DataError, match=r"nothing://birds/train.tar cannot be opened: .*nothing"):
        opened("nothing://birds/train.tar").load()
    with pytest.raises(
        DataError, match=r"memory://birds holds neither .tar nor .parquet files; class folders must lie"
    ):
        opened("memory://birds").load()
    with pytest.raises(DataError, match=r"there is no file memory://birds/train-000001.tar"):
        opened("memory://birds/train-{000001..000002}.tar").load()
    with pytest.raises(DataError, match=r"memory://birds/train.arrow: Arrow files are mapped .* must lie on a disk"):
        opened("memory://birds/train.arrow").load()
    with pytest.raises(DataError, match=r"memory://birds/train.tar cannot be read"):
        opened("memory://birds/train.tar").load()


def test_an_explicit_layout_and_explicit_keys_decide(folder, tmp_path):
    root = tmp_path / "other"
    some = list(rows(folder / "train"))
    write_tar(root / "train.tar", some)
    with pytest.raises(DataError, match=r"no file has one of val, valid, validation, test in its name"):
        opened(root).load()
    write_parquet(root / "train.parquet", some)
    with pytest.raises(DataError, match=r"other holds files of several layouts, parquet, tar: set config.data.layout"):
        opened(root, valid_share=0.3).load()
    with pytest.raises(
        DataError, match=r"config.data.layout is 'arrow', but .*other holds no file that ends in .arrow"
    ):
        opened(root, layout="arrow").load()
    with pytest.raises(DataError, match=r"config.data.image_key is 'jpg', but .*folder holds class folders"):
        opened(folder, image_key="jpg").load()
    with pytest.raises(DataError, match=r"key 'ant/0' has no label: there is no 'kind' in its .json"):
        opened(root, layout="tar", label_key="kind").load()
    with pytest.raises(DataError, match=r"train.tar holds no picture \(webp\)"):
        opened(root, layout="tar", image_key="webp").load()
    with pytest.raises(
        DataError, match=r"config.data.label_key is 'kind', but .*train.parquet has .* 'image', 'label'"
    ):
        opened(root, layout="parquet", label_key="kind").load()
    with pytest.raises(ValueError, match=r"config.data.layout is 'zip'; it must be one of 'auto', 'folders', 'tar'"):
        opened(root, layout="zip")
    assert len(opened(root, layout="tar", valid_share=0.3).sources()[0]) < 9


@pytest.mark.parametrize("layout", ["tar", "parquet"])
def test_pictures_are_held_out_of_every_class_and_stay_as_others_come(layout, folder, tmp_path):
    some = list(rows(folder / "train"))
    write_ = {"tar": write_tar, "parquet": write_parquet}[layout]
    path = write_(tmp_path / "other" / f"all.{layout}", some[::-1])
    train, evaluate, names = opened(path, valid_share=0.3).sources()
    assert names == NAMES
    assert sorted([*train.rows, *evaluate.rows] if layout == "parquet" else [*train.keys, *evaluate.keys]) == sorted(
        range(9) if layout == "parquet" else [key.encode() for key, *_ in some]
    )
    assert set(evaluate.labels) == set(train.labels) == {0, 1, 2}
    write_tar(tmp_path / "more" / "train.tar", some)
    write_tar(tmp_path / "more" / "val.tar", some)
    with pytest.raises(DataError, match=r"config.data.valid_share is 0.3, but .*val.tar is there: set it to 0"):
        opened(tmp_path / "more", valid_share=0.3).load()


def test_files_of_no_split_beside_files_of_one_and_of_no_training(folder, tmp_path):
    some = list(rows(folder / "train"))
    write_tar(tmp_path / "a" / "0.tar", some)
    write_tar(tmp_path / "a" / "val-0.tar", some)
    with pytest.raises(DataError, match=r"a/0.tar is of no split by its name, but .*a/val-0.tar is"):
        opened(tmp_path / "a").load()
    (tmp_path / "a" / "0.tar").unlink()
    with pytest.raises(DataError, match=r"a holds files of val, but none to train on"):
        opened(tmp_path / "a").load()


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_the_name_of_the_folder_itself_is_no_split(name, folder, tmp_path):
    some = list(rows(folder / "train"))
    write_tar(tmp_path / name / "0.tar", some)
    for path in (tmp_path / name, tmp_path / name / "0.tar", tmp_path / name / "*.tar", f"file://{tmp_path}/{name}"):
        assert len(opened(path, valid_share=0.3).sources()[0]) > 3
    write_tar(tmp_path / name / "train" / "1.tar", some)
    (tmp_path / name / "0.tar").rename(tmp_path / name / "val.tar")
    assert len(opened(tmp_path / name).sources()[0]) == 9


def test_an_archive_beside_class_folders_is_told(folder, tmp_path):
    write_tar(folder / "train" / "backup.tar", [])
    with pytest.raises(
        DataError,
        match=r"train holds backup.tar, and pictures in ant and bee: set config.data.layout to 'tar' or to 'fol",
    ):
        opened(folder / "train", valid_share=0.3).load()
    assert opened(folder / "train", valid_share=0.3, layout="folders").sources()[2] == NAMES


def test_damaged_pictures_are_told_with_shard_and_member_or_row_and_may_be_skipped(folder, tmp_path):
    (folder / "train" / "bee" / "1.png").write_bytes(b"no picture")
    for layout, where in (("tar", r"train-000001.tar: member bee/1.png"), ("parquet", r"of-00002.parquet: row 0")):
        path = write(layout, tmp_path / layout, folder)
        with pytest.raises(BadExample, match=rf"{where}: cannot be decoded as an image: 10 bytes in no known format"):
            opened(path, in_memory=True).load()
        with pytest.raises(BadExample, match=where):
            train_feed(opened(path).load().train, 9, seed=0).chunk(0, 1)
        feed = train_feed(opened(path, on_bad_example="skip").load().train, 9, seed=0)
        assert feed.chunk(0, 1)["weight"].sum() == 8
        assert feed.bad_examples == 1
