"""Pictures in tables: columns, row groups, and what is damaged of them."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mhe_jax.data.dataset import BadExample, DataError
from mhe_jax.data.images import table_source
from mhe_jax.data.images.file_sources import tell_large_groups
from tests.data.images.written import NAMES, opened, rows, saved, write, write_parquet


def test_columns_of_another_type_and_mixed_schemas(folder, tmp_path):
    some = list(rows(folder / "train"))
    load = opened(tmp_path / "t", valid_share=0.3).load
    (tmp_path / "t").mkdir()
    for columns, message in (
        ({"image": ["a"], "label": ["a"]}, r"0.parquet: the column 'image' is string; it must hold the bytes of pict"),
        ({"image": [b"a"], "label": [0.5]}, r"0.parquet: the column 'label' is double; labels must be integers or str"),
        ({"image": [b"a"], "label": [None]}, r"0.parquet: the column 'label' is null; labels must be"),
        ({"image": [b"a", b"b"], "label": ["a", None]}, r"0.parquet: row 1 has no label"),
        ({"pixels": [b"a"], "label": [1]}, r"0.parquet has the columns 'pixels', 'label'; set config.data.image_key"),
        ({"img": [b"a"], "fine_label": [1]}, r"has the columns 'img', 'fine_label'; set config.data.label_key to one"),
        ({"image": [], "label": []}, r"the column 'image' is null"),
    ):
        pq.write_table(pa.table(columns), tmp_path / "t" / "0.parquet")
        with pytest.raises(DataError, match=message):
            load()
    write_parquet(tmp_path / "t" / "0.parquet", some[:0], structs=False)
    with pytest.raises(DataError, match=r"the column 'label' is null"):
        load()
    write_parquet(tmp_path / "t" / "0.parquet", some[:4])
    write_parquet(tmp_path / "t" / "1.parquet", some[4:], structs=True, names=NAMES)
    with pytest.raises(
        DataError, match=r"1.parquet has the columns 'image' in structs and 'label' of integers with 3 na"
    ):
        load()
    write_parquet(tmp_path / "t" / "1.parquet", some[4:])
    whole = (tmp_path / "t" / "1.parquet").read_bytes()
    (tmp_path / "t" / "1.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"1.parquet cannot be read at its end, where the columns are told"):
        load()


def test_a_damaged_row_group_and_a_row_without_bytes_are_bad_examples(folder, tmp_path):
    some = list(rows(folder / "train"))
    path = write_parquet(tmp_path / "0.parquet", some)
    train, *_ = opened(path, valid_share=0.3).sources()
    found = path.read_bytes()
    place = found.index(some[1][2])
    path.write_bytes(found[: place - 40] + b"\xff" * 80 + found[place + 40 :])
    with pytest.raises(BadExample, match=r"0.parquet: row \d: .*0.parquet cannot be read in row group 0"):
        [train.read(index) for index in range(len(train))]
    table = pa.table({"image": [{"bytes": None, "path": None}, {"bytes": b"x", "path": None}], "label": [0, 0]})
    pq.write_table(
        table.cast(pa.schema({"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "label": "i8"})), path
    )
    source = opened(path, valid_share=0.3).sources()
    with pytest.raises(BadExample, match=r"0.parquet: row 0: holds no bytes of a picture"):
        [part.read(0) for part in source[:2]]


def test_damaged_arrow_folders_are_told(folder, tmp_path):
    some = list(rows(folder / "train"))
    saved(tmp_path / "s", {"train": some, "test": some})
    root = tmp_path / "s"
    for path, content, message in (
        (root / "train" / "data-00000-of-00002.arrow", b"ARROW1", r"00002.arrow cannot be read as an Arrow file"),
        (root / "train" / "state.json", b"{}", r"is there"),
        (
            root / "train" / "state.json",
            b'{"_data_files": [1]}',
            r"train/state.json is damaged: _data_files names no f",
        ),
        (root / "train" / "state.json", b"[]", r"train/state.json is damaged: it holds no object"),
        (root / "dataset_dict.json", b"{", r"dataset_dict.json is damaged"),
    ):
        before = path.read_bytes()
        path.write_bytes(content)
        if content == b"{}":
            message = r"none to train on"
        with pytest.raises(DataError, match=message):
            opened(root).load()
        path.write_bytes(before)
    assert len(opened(root).sources()[0]) == 9


def test_large_row_groups_are_told_where_pictures_are_streamed(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("mhe_jax.data.images.file_sources._LARGE", 100)
    path = write("parquet", tmp_path / "other", folder)
    with pytest.warns(UserWarning, match=r"00002.parquet has row groups of up to 0 MiB, one of which is decoded for"):
        opened(path).load()
    opened(path, in_memory=True).load()


def test_a_file_without_row_groups_and_labels_beyond_int64(tmp_path):
    kind = pa.schema({"image": pa.binary(), "label": pa.uint64()})
    with pq.ParquetWriter(tmp_path / "none.parquet", kind):
        pass
    tell_large_groups(table_source.ParquetSource((str(tmp_path / "none.parquet"),), (), *[np.zeros(0)] * 4))
    pq.write_table(pa.table({"image": [b"", b""], "label": [1, 2**63]}, kind), tmp_path / "large.parquet")
    with pytest.raises(DataError, match=r"large.parquet: row 1: a label is too large"):
        opened(tmp_path / "large.parquet", valid_share=0.3).load()


def test_row_groups_are_kept_within_a_memory(folder, tmp_path, monkeypatch):
    train, *_ = opened(write("parquet", tmp_path / "other", folder)).sources()
    expected = [train.read(index)[0] for index in range(9)]
    monkeypatch.setattr(table_source, "_MOST_KEPT", 1)
    train = pickle.loads(pickle.dumps(train))
    assert [train.read(index)[0] for index in (8, *range(8))] == [expected[8], *expected[:8]]
    assert len(train._kept) == 1


def test_pictures_that_datasets_has_not_copied_are_read_where_they_are(folder, tmp_path):
    some = list(rows(folder / "train"))
    images = [{"bytes": None, "path": f"folder/train/{key}.{extension}"} for key, extension, *_ in some]
    pq.write_table(pa.table({"image": images, "label": [name for *_, name in some]}), tmp_path / "0.parquet")
    with pytest.raises(DataError, match=r"the column 'image' is struct<.*>; it must hold the bytes of pictures"):
        opened(tmp_path / "0.parquet", valid_share=0.3).load()
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    labels = pa.array([name for *_, name in some])
    pq.write_table(pa.table({"image": pa.array(images, kind), "label": labels}), tmp_path / "0.parquet")
    train, *_ = opened(tmp_path / "0.parquet", valid_share=0.3).sources()
    assert {train.read(index)[0] for index in range(len(train))} < {data for _, _, data, _ in some}
    (tmp_path / "below").mkdir()
    outside = pa.array([{**image, "path": f"../{image['path']}"} for image in images], kind)
    pq.write_table(pa.table({"image": outside, "label": labels}), tmp_path / "below" / "0.parquet")
    with pytest.raises(
        BadExample, match=r"below/0.parquet: row \d: its path '../folder/train/.*' leads out of the folder"
    ):
        opened(tmp_path / "below" / "0.parquet", valid_share=0.3).sources()[0].read(0)
    with pytest.raises(
        BadExample, match=r"0.parquet: row \d: holds a path for a picture, which is not read in a store"
    ):
        opened(f"file://{tmp_path}/0.parquet", valid_share=0.3).sources()[0].read(0)
    (folder / "train" / "ant" / "1.png").unlink()
    (folder / "train" / "ant" / "2.png").unlink()
    with pytest.raises(BadExample, match=r"folder/train/ant/\d.png: cannot be read: No such file"):
        [train.read(index) for index in range(len(train))]
