"""Features in safetensors and Parquet, labels in JSON lines: the same data as from .npy files, and each mistake."""

import json

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import scipy.sparse

from mhe_jax.data.dataset import DataError
from mhe_jax.data.features.arrays import open_features
from tests.data.features.rows import CLASSES, ROWS, WIDTH, write_features
from tests.data.features.test_folder import data, load


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mhe_jax" / "features"


@pytest.fixture(params=["features", "features_multilabel"])
def name(request):
    return request.param


@pytest.fixture
def folder(tmp_path, name):
    """Rows with one label, or with many."""
    write_features(tmp_path / "data", multilabel=name == "features_multilabel")
    return tmp_path / "data"


def labels_of(folder, split):
    """A label for each row, or a list."""
    if (folder / split / "labels.npy").exists():
        return np.load(folder / split / "labels.npy").tolist()
    return [row.indices.tolist() for row in scipy.sparse.load_npz(folder / split / "labels.npz")]


def as_lines(folder, label=lambda number: number):
    for split in ROWS:
        rows = labels_of(folder, split)
        shown = [[*map(label, row)] if isinstance(row, list) else label(row) for row in rows]
        text = "".join(f"{json.dumps(row)}\n" for row in shown)
        for path in folder.glob(f"{split}/labels.np?"):
            path.unlink()
        (folder / split / "labels.jsonl").write_text(text)


def as_parquet(folder, fixed=False, parts=2, label=lambda number: number, column="features"):
    for split in ROWS:
        rows, features = labels_of(folder, split), np.load(folder / split / "features.npy").astype(np.float32)
        kind = pa.list_(pa.float32(), WIDTH) if fixed else pa.list_(pa.float32())
        many = isinstance(rows[0], list)
        shown = [[*map(label, row)] if many else label(row) for row in rows]
        table = pa.table(
            {"id": range(len(rows)), column: pa.array(list(features), kind), "labels" if many else "label": shown}
        )
        for path in folder.glob(f"{split}/*"):
            path.unlink()
        for part in range(parts):
            start, end = (len(rows) * place // parts for place in (part, part + 1))
            pq.write_table(table.slice(start, end - start), folder / split / f"part{part}.parquet", row_group_size=10)


def assert_same(found, expected, dtype):
    for split in ("train", "eval", "test"):
        one, other = getattr(found, split), getattr(expected, split)
        assert one.features.dtype == dtype
        np.testing.assert_array_equal(one.features, other.features.astype(dtype))
        dense = [
            split.labels.toarray() if scipy.sparse.issparse(split.labels) else split.labels for split in (one, other)
        ]
        np.testing.assert_array_equal(*dense)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_a_safetensors_file_is_a_memory_map(folder, name, dtype):
    expected = load(folder, name)
    for split in ROWS:
        path = folder / split / "features.npy"
        tensor = np.load(path).astype(dtype)
        safetensors.numpy.save_file({"anything": tensor}, path.with_suffix(".safetensors"))
        path.unlink()
    found = load(folder, name)
    assert_same(found, expected, dtype)
    base = found.train.features
    while not isinstance(base, np.memmap):
        base = base.base


@pytest.mark.parametrize("word", [False, True])
def test_labels_are_read_from_lines(folder, name, word):
    expected = load(folder, name)
    as_lines(folder, (lambda number: f"class {number:02}") if word else (lambda number: number))
    found = load(folder, name)
    assert_same(found, expected, np.float16)
    assert found.class_names == (tuple(f"class {number:02}" for number in range(CLASSES)) if word else ())


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("word", [False, True])
def test_parquet_is_decoded_once(folder, name, fixed, word, cache):
    expected = load(folder, name)
    label = (lambda number: f"class {number:02}") if word else (lambda number: number)
    as_parquet(folder, fixed, label=label, column="embedding" if fixed else "features")
    assert_same(load(folder, name), expected, np.float32)
    assert len(list(cache.iterdir())) == len(ROWS)
    times = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    assert_same(load(folder, name), expected, np.float32)
    assert times == {path: path.stat().st_mtime_ns for path in cache.rglob("*")}


@pytest.mark.parametrize("name", ["features"], indirect=True)
def test_labels_beside_parquet_are_taken(folder):
    expected = load(folder)
    rows = {split: labels_of(folder, split) for split in ROWS}
    as_parquet(folder, label=lambda number: 0)
    for split, labels in rows.items():
        np.save(folder / split / "labels.npy", labels)
    with pytest.raises(DataError, match=r"holds labels\.npy, and part0\.parquet labels in .* 'label': leave one"):
        load(folder)
    for path in folder.glob("*/*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns("label"), path)
    assert_same(load(folder), expected, np.float32)


@pytest.mark.parametrize("name", ["features"], indirect=True)
def test_of_two_columns_of_labels_each_kind_of_data_takes_its_own(folder):
    expected = load(folder)
    as_parquet(folder)
    with pytest.raises(DataError, match=r"part0\.parquet has the column 'label', one label .* = 'features', for which"):
        load(folder, "features_multilabel")
    for path in folder.glob("*/*.parquet"):
        table = pq.read_table(path)
        several = [[label, (label + 1) % CLASSES] for label in table["label"].to_pylist()]
        pq.write_table(table.append_column("labels", pa.array(several)), path)
    assert_same(load(folder), expected, np.float32)
    many = load(folder, "features_multilabel")
    for split in ("train", "eval", "test"):
        one = getattr(expected, split).labels
        found = getattr(many, split).labels
        assert (found.sum(axis=1) == 2).all()
        assert (found[np.arange(len(one)), one] == 1).all()


def test_messages_name_the_parquet_file(tmp_path):
    write_features(tmp_path / "data")
    as_parquet(tmp_path / "data", parts=1)
    path = tmp_path / "data/val/part0.parquet"
    table = pq.read_table(path).drop_columns("label")
    pq.write_table(table.append_column("label", pa.array([-1] * len(table))), path)
    with pytest.raises(DataError, match=r"val/part0\.parquet: row 0 has label -1, but .*train/part0\.parquet says"):
        load(tmp_path / "data")


def tensors(path, **arrays):
    safetensors.numpy.save_file(arrays, path)
    return path


BAD_TENSORS = {
    "two": (
        {"a": np.ones((3, 2), np.float32), "b": np.ones(3, np.float32)},
        r"holds 2 tensors \(a, b\); one is needed",
    ),
    "type": ({"a": np.ones((3, 2))}, r"holds F64 \[3, 2\]; features must be F16, BF16 or F32"),
    "rank": ({"a": np.ones(3, np.float32)}, r"holds float32 \[3\]; features must be"),
    "no rows": ({"a": np.ones((0, 2), np.float32)}, "has 0 rows of 2 features"),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_another_tensor_is_one_line(tmp_path, case):
    arrays, message = BAD_TENSORS[case]
    with pytest.raises(DataError, match=rf"f\.safetensors {message}"):
        open_features(tensors(tmp_path / "f.safetensors", **arrays))


def test_a_cut_file_of_tensors_and_one_of_another_width_are_named(tmp_path):
    path = tensors(tmp_path / "f.safetensors", a=np.ones((30, 2), np.float32))
    with pytest.raises(DataError, match=r"f\.safetensors has 2 features a row, but 4 are expected"):
        open_features(path, 4)
    for size in (path.stat().st_size - 8, 4, 0):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(DataError, match=r"f\.safetensors is not a readable safetensors file"):
            open_features(path)


def test_a_row_of_tensors_that_is_not_finite_is_named(tmp_path):
    write_features(tmp_path / "data")
    features = np.load(tmp_path / "data/val/features.npy").astype(ml_dtypes.bfloat16)
    features[7, 3] = np.nan
    (tmp_path / "data/val/features.npy").unlink()
    tensors(tmp_path / "data/val/features.safetensors", a=features)
    with pytest.raises(DataError, match=r"features\.safetensors: row 7 holds a NaN or an infinity"):
        load(tmp_path / "data")


def table(**columns):
    return pa.table({"features": [[1.0, 2.0]] * 4, "label": [0, 1, 2, 3], **columns})


BAD_TABLES = {
    "no features": (
        pa.table({"x": [1], "label": [0]}),
        "has the columns x, label; one is needed of features or embedding",
    ),
    "integers": (
        table(features=[[1, 2]] * 4),
        "the column 'features' is list<.*int64>; it must hold lists of floating",
    ),
    "no lists": (table(features=[1.0] * 4), "the column 'features' is double; it must hold lists of floating point"),
    "mixed widths": (
        table(features=[[1.0, 2.0]] * 3 + [[1.0]]),
        "row 3 has 1 features, but row 0 2: all need the same",
    ),
    "no row": (table(features=[[1.0, 2.0]] * 3 + [None]), "row 3 has no features, or one without a value"),
    "no value": (table(features=[[1.0, None], *[[1.0, 2.0]] * 3]), "row 0 has no features, or one without a value"),
    "float labels": (table(label=[0.5] * 4), "the column 'label' is double; it must hold integers or strings"),
    "list of one": (table(label=[[0]] * 4), "the column 'label' is list<.*>; it must hold integers or strings"),
    "no label": (table(label=[0, None, 1, 2]), "row 1 has no label"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_another_table_is_one_line(tmp_path, case, cache):
    write_features(tmp_path / "data")
    made, message = BAD_TABLES[case]
    for path in (tmp_path / "data/val").iterdir():
        path.unlink()
    pq.write_table(made, tmp_path / "data/val/rows.parquet")
    with pytest.raises(DataError, match=rf"rows\.parquet:? {message}"):
        load(tmp_path / "data")
    assert list(cache.iterdir()) == []


def test_a_cut_table_another_width_and_rows_of_another_file_are_named(tmp_path):
    write_features(tmp_path / "data")
    as_parquet(tmp_path / "data", parts=1)
    path = tmp_path / "data/val/part0.parquet"
    rows = pq.read_table(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"part0\.parquet cannot be read at its end"):
        load(tmp_path / "data")
    pq.write_table(pa.table({"features": [[1.0]] * 4, "label": [0, 1, 2, 3]}), path)
    with pytest.raises(DataError, match="has 1 features a row, but 12 are expected"):
        load(tmp_path / "data")
    pq.write_table(rows.drop_columns("label"), path)
    with pytest.raises(DataError, match=r"labels\.npy: cannot be read: No such file"):
        load(tmp_path / "data")
    pq.write_table(rows, path)
    pq.write_table(rows.drop_columns("id").rename_columns(["embedding", "label"]), path.with_name("part1.parquet"))
    with pytest.raises(DataError, match="the Parquet files have other columns"):
        load(tmp_path / "data")
    path.with_name("part1.parquet").unlink()
    np.save(path.with_name("features.npy"), np.ones((3, 2), np.float32))
    with pytest.raises(DataError, match=r"holds features\.npy, part0\.parquet: leave one of them"):
        load(tmp_path / "data")


BAD_LINES = {
    "rows": ("0\n1\n", r"labels\.jsonl has 2 rows, but the features beside it have 21"),
    "no JSON": ("0\n{\n", r"labels\.jsonl:2: malformed JSON"),
    "float": ("0\n0.5\n", r"labels\.jsonl:2: the line is 0\.5; it must be an integer or a string"),
    "truth": ("true\n", r"labels\.jsonl:1: the line is true; it must be"),
    "both": ('0\n"a"\n', r"labels\.jsonl:2: labels are integers, or strings, in all lines; not both"),
    "list": ("[0]\n" * 21, r"labels\.jsonl:1: the line is \[0\]; it must be an integer or a string"),
    "class": ("0\n" * 20 + "99\n", r"labels\.jsonl: row 20 has label 99, but .* says that there are 11 classes"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_another_line_is_named(tmp_path, case):
    write_features(tmp_path / "data")
    text, message = BAD_LINES[case]
    (tmp_path / "data/val/labels.npy").unlink()
    (tmp_path / "data/val/labels.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        data(tmp_path / "data", num_classes=CLASSES).load()


def several(folder, **lines):
    """Features of as many rows as there are lines, and these as labels.jsonl."""
    for split, rows in lines.items():
        (folder / split).mkdir(exist_ok=True)
        np.save(folder / split / "features.npy", np.ones((len(rows), 2), np.float32))
        (folder / split / "labels.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return load(folder, "features_multilabel")


@pytest.mark.parametrize("kind", [int, str])
def test_rows_of_noughts_and_ones_are_read_as_such(tmp_path, kind):
    hot = [[0, 0, 1], [1, 0, 1]]
    train = [*([*map(kind, row)] for row in hot), []]
    found = several(tmp_path, train=train, val=[[], train[0]])
    assert found.train.labels.toarray().tolist() == [*hot, [0, 0, 0]]
    assert found.eval.labels.toarray().tolist() == [[0, 0, 0], hot[0]]
    (tmp_path / "classes.txt").write_text("cat\ndog\nemu\n")
    assert several(tmp_path, train=train).class_names == ("cat", "dog", "emu")
    with pytest.raises(DataError, match=r"val/labels\.jsonl: row 1 is no row of 3 noughts and ones"):
        several(tmp_path, train=train, val=[train[0], train[0][:1]])
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"train/labels\.jsonl has 3 columns, but .*classes\.txt 2 labels"):
        several(tmp_path, train=train, val=train)


def test_lists_are_of_one_kind_in_all_splits(tmp_path):
    with pytest.raises(
        DataError,
        match=r"val/labels\.jsonl holds int64 labels, but that of train/ <U3: all splits need strings",
    ):
        several(tmp_path, train=[["cat", "dog"], ["emu"]], val=[[0], []])
    assert several(tmp_path, val=[[], ["dog"]]).class_names == ("cat", "dog", "emu")


def test_lists_name_the_row_of_a_label_that_is_none(tmp_path):
    write_features(tmp_path / "data", multilabel=True)
    as_lines(tmp_path / "data", str)
    path = tmp_path / "data/val/labels.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{line}\n" for line in [*lines[:4], '["1", "none"]', *lines[5:]]))
    with pytest.raises(DataError, match=r"labels\.jsonl: row 4 has label 'none', which is none of the 11 classes"):
        load(tmp_path / "data", "features_multilabel")
    (tmp_path / "data/val/labels.npz").touch()
    with pytest.raises(DataError, match=r"holds labels\.npz and labels\.jsonl: leave one of them"):
        load(tmp_path / "data", "features_multilabel")


@pytest.mark.parametrize("name", ["features_multilabel"], indirect=True)
@pytest.mark.parametrize("numbers", ["lines", "matrix"])
def test_labels_of_all_splits_are_of_one_kind(folder, name, numbers):
    matrix = (folder / "val" / "labels.npz").read_bytes()
    as_lines(folder, "class {:02}".format)
    path = folder / "val" / "labels.jsonl"
    path.write_text("[]\n" * (ROWS["val"] - 1) + ("[3]\n" if numbers == "lines" else "[]\n"))
    if numbers == "matrix":
        path.unlink()
        path.with_suffix(".npz").write_bytes(matrix)
    with pytest.raises(DataError, match=r"val/labels\.\w+ holds int64 labels, but that of train/ <U8: all splits need"):
        load(folder, name)
    path.with_suffix(".npz").unlink(missing_ok=True)
    path.write_text("[]\n" * (ROWS["val"] - 1) + '["class 03"]\n')
    (folder / "test" / "labels.jsonl").write_text("[]\n" * ROWS["test"])
    assert load(folder, name).eval.labels.nonzero()[1].tolist() == [3]
