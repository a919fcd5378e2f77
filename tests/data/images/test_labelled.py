"""Pictures with labels in files: the same pictures in each form, and what is wrong with one."""

import json

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest

from mhe_jax.codes.relabel import relabelled
from mhe_jax.data.dataset import DataError, StreamSplit
from mhe_jax.data.feeds import eval_feed, train_feed
from mhe_jax.data.images.labelled import LabelledImages
from mhe_jax.data.known_labels import known_labels
from mhe_jax.inference.truth import true_splits
from mhe_jax.labels import LabelCodes
from mhe_jax.train.data_digest import differences, figures

SIZE = 8
ROWS = [("a.png", ["sea", "sky"], []), ("below/b.png", ["sky"], ["cat"]), ("c.png", [], []), ("d.png", ["cat"], [])]
KINDS = ("csv", "tsv", "jsonl", "parquet", "ones.csv")


def picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.full((SIZE, SIZE, 3), (value, 0, 0), np.uint8)).save(path)


def write(folder, rows=ROWS, kind="csv", name="labels"):
    """Pictures of the rows, and their file of labels."""
    for number, (file, _, _) in enumerate(rows):
        picture(folder / file, number)
    files, labels, ignored = (list(part) for part in zip(*rows, strict=True))
    if kind == "parquet":
        table = pyarrow.table({"file_name": files, "labels": labels, "ignored": ignored})
        pyarrow.parquet.write_table(table, folder / f"{name}.parquet")
    elif kind == "jsonl":
        lines = [{"file_name": f, "labels": of, "ignored": i} for f, of, i in rows]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    elif kind == "ones.csv":
        names = ["cat", "sea", "sky"]
        lines = [[f, *("01"[one in of] for one in names), ";".join(i)] for f, of, i in rows]
        text = "\n".join(map(",".join, [["file_name", *names, "ignored"], *lines]))
        (folder / f"{name}.csv").write_text(text)
    else:
        tab = "\t" if kind == "tsv" else ","
        lines = [tab.join((f, ";".join(of), ";".join(i))) for f, of, i in rows]
        (folder / f"{name}.{kind}").write_text("\n".join([tab.join(("file_name", "labels", "ignored")), *lines]))


def data(path, **fields):
    fields = {"image_size": SIZE, "in_memory": True, "augmentation": "none", **fields}
    return LabelledImages(path=str(path), **fields)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "streamed"])
def test_each_form_gives_the_same_batches(tmp_path, kind, in_memory):
    for split in ("train", "val", "test"):
        write(tmp_path / split, kind=kind)
    loaded = data(tmp_path, in_memory=in_memory).load()
    assert loaded.class_names == ("cat", "sea", "sky")
    assert loaded.facts["chosen_on"] == "validation pictures"
    assert loaded.facts["train"] == {"pictures": 4, "labels_per_picture": 1.0, "without_labels": 1, "ignored": 1}
    feed = eval_feed(loaded.eval, 4)
    piece = {name: value[0] for name, value in feed.chunk(0, 1).items()}
    batch = {name: np.asarray(value) for name, value in feed.batch(feed.resident, piece).items()}
    feed.close()
    assert batch["image"][:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert batch["label"].tolist() == [[1, 2], [2, -1], [-1, -1], [0, -1]]
    assert batch["filtered"].tolist() == [[-1], [0], [-1], [-1]]
    assert batch["inverse_propensity"].shape == (3,)
    feed = train_feed(loaded.train, 4, seed=0)
    trained = feed.chunk(0, 1)
    feed.close()
    assert "filtered" not in trained
    assert sorted(map(tuple, trained["ignored"][0])) == [(-1,), (-1,), (-1,), (0,)]
    assert feed.resident.keys() <= {"image"}


def test_codes_take_the_place_of_ids(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / split)
    codes = LabelCodes.of(np.array([2, 0, 1]))  # code of cat, sea, sky: 1, 2, 0
    split = relabelled(data(tmp_path).load(), codes).eval
    found = split.many.of(np.arange(4), evaluates=True)
    assert sorted(found["label"][0].tolist()) == [0, 2]
    assert found["filtered"].tolist() == [[-1], [1], [-1], [-1]]


def test_one_label_each(tmp_path):
    rows = [("a.png", ["sky"], []), ("b.png", ["sea"], [])]
    for split in ("train", "val"):
        write(tmp_path / split, rows)
    one = data(tmp_path, single_label=True)
    assert not one.multilabel
    assert one.load().train.labels.tolist() == [1, 0]
    streamed = data(tmp_path, single_label=True, in_memory=False).load().train
    assert isinstance(streamed, StreamSplit)
    assert streamed.code_of_label.tolist() == [1, 0]
    picture(tmp_path / "train" / "c.png")
    write(tmp_path / "train", [*rows, ("c.png", ["sky", "sea"], [])])
    with pytest.raises(DataError, match="train: example 3 has 2 labels, but config.data.single_label asks for one"):
        data(tmp_path, single_label=True).load()


def test_a_share_is_held_out_by_name_and_the_test_pictures_stay(tmp_path):
    rows = [(f"{number}.png", ["sky"], []) for number in range(40)]
    write(tmp_path, rows)
    loaded = data(tmp_path, valid_share=0.3).load()
    assert 0 < loaded.eval.num_examples < 20
    assert loaded.train.num_examples + loaded.eval.num_examples == 40
    assert loaded.test is None


def test_without_validation_pictures_the_test_pictures_choose(tmp_path):
    for split in ("train", "test"):
        write(tmp_path / split)
    loaded = data(tmp_path).load()
    assert loaded.facts["chosen_on"] == "the test pictures"
    assert loaded.test is None


def test_pictures_that_choose_have_labels_and_pictures_to_test_may_have_none(tmp_path):
    for split in ("train", "val", "test"):
        write(tmp_path / split, ROWS if split != "test" else [("a.png", [], [])])
    assert data(tmp_path).load().test.many.labels.nnz == 0
    (tmp_path / "val").rename(tmp_path / "other")
    with pytest.raises(DataError, match="test: none of the 1 pictures to choose the best checkpoint on has a label"):
        data(tmp_path).load()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "file_name,labels\na.png,x\ngone.png,y\nlost.png,y\n",
            r":3: the picture 'gone.png' is not in .*train \(2 of 3",
        ),
        ("file_name,labels\na.png,x\n", "1 of 2 pictures beside it have no row, such as 'b.png'"),
        ("file_name,labels\na.png,x\nb.png,y\n./a.png,y\n", r":4: the picture ./a.png has a row already, .*csv:2"),
        ("file_name,labels,ignored\na.png,x,x\nb.png,y,\n", ":2: 'x' is a label and ignored"),
        ("name,labels\na.png,x\nb.png,y\n", "there is no column 'file_name' of pictures' paths"),
        ("file_name,words\na.png,x\nb.png,y\n", "there is no column 'label' or 'labels'"),
        ("file_name,labels\n", "2 of 2 pictures beside it have no row"),
        ("file_name,labels\na.png,\nb.png,\n", "train: no picture has a label"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(tmp_path, rows, message):
    picture(tmp_path / "train" / "a.png")
    picture(tmp_path / "train" / "b.png")
    (tmp_path / "train" / "labels.csv").write_text(rows)
    with pytest.raises(DataError, match=message):
        data(tmp_path, valid_share=0.5).load()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"file_name": [1], "labels": [["x"]]}, "row 1: column 'file_name' holds int; texts must be strings"),
        ({"file_name": ["a.png"], "labels": [1.5]}, "row 1: 'labels' holds 1.5, a number"),
        ({"file_name": ["a.png"], "labels": [[{"x": 1}]]}, "row 1: 'labels' holds {'x': 1}, an object"),
    ],
)
def test_a_column_of_another_type_is_told(tmp_path, columns, message):
    picture(tmp_path / "train" / "a.png")
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "train" / "labels.parquet")
    with pytest.raises(DataError, match=message):
        data(tmp_path).load()


def test_labels_of_all_files_are_of_one_kind(tmp_path):
    write(tmp_path / "train", [("a.png", ["x"], [])], "jsonl")
    write(tmp_path / "val", [("a.png", [3], [])], "jsonl")
    with pytest.raises(DataError, match="labels are strings in some files and integers in others"):
        data(tmp_path).load()


def test_folders_that_are_none(tmp_path):
    with pytest.raises(DataError, match="which is not a folder"):
        data(tmp_path / "gone").load()
    picture(tmp_path / "train" / "a.png")
    with pytest.raises(DataError, match="train holds no file of labels: labels.csv, labels.tsv"):
        data(tmp_path).load()
    write(tmp_path / "train")
    (tmp_path / "train" / "metadata.csv").write_text("file_name,labels\n")
    with pytest.raises(DataError, match=r"train holds labels.csv and metadata.csv: leave one of them"):
        data(tmp_path).load()
    (tmp_path / "train" / "metadata.csv").unlink()
    (tmp_path / "train" / "a.png").touch()
    with pytest.raises(DataError, match="holds no val/ or test/ folder"):
        data(tmp_path).load()
    write(tmp_path / "val")
    with pytest.raises(DataError, match="config.data.valid_share is 0.1, but .*val is there: set it to 0"):
        data(tmp_path, valid_share=0.1).load()
    with pytest.raises(ValueError, match="config.data.valid_share is 1.5"):
        data(tmp_path, valid_share=1.5)


@pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "streamed"])
def test_labels_are_known_without_reading_a_picture(tmp_path, in_memory):
    for split in ("train", "val"):
        write(tmp_path / split)
        write(tmp_path / "single" / split, [(row[0], row[1] or ["cat"], []) for row in ROWS[1:]])
    truth = true_splits(data(tmp_path, in_memory=in_memory))[0]["eval"]
    assert truth.labels.toarray().tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert truth.filtered.indices.tolist() == [0]
    assert truth.inverse_propensity.shape == (3,)
    single = data(tmp_path / "single", in_memory=in_memory, single_label=True)
    loaded = single.load()
    assert known_labels(loaded.train).tolist() == [1, 0, 0]
    before = figures(loaded, 2)
    labels = tmp_path / "single" / "train" / "labels.csv"
    labels.write_text(labels.read_text().replace("c.png,cat", "c.png,sky"))
    assert differences(figures(single.load(), 2), before) == ["train labels differ"]


@pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "streamed"])
def test_a_split_without_any_label_has_no_classes(tmp_path, in_memory):
    write(tmp_path / "train", [("a.png", ["sea"], [])])
    write(tmp_path / "val", [("a.png", [], [])])
    with pytest.raises(DataError, match=": no picture of eval has a label: config.data.single_label asks for one"):
        data(tmp_path, in_memory=in_memory, single_label=True).load()


MULTI_HOT = [("a.png", [1, 0, 0, 0], []), ("b.png", [0, 1, 1, 0], []), ("c.png", [], [])]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_rows_of_noughts_and_ones_are_read_as_such(tmp_path, kind):
    for split, rows in (("train", MULTI_HOT), ("val", MULTI_HOT[1:2])):
        write(tmp_path / split, rows, "jsonl" if kind == "csv" else kind)
        if kind == "csv":
            (tmp_path / split / "labels.jsonl").unlink()
            lines = [f'{file},"{labels or ""}"' for file, labels, _ in rows]
            (tmp_path / split / "labels.csv").write_text("\n".join(["file_name,labels", *lines]))
    loaded = data(tmp_path).load()
    assert loaded.class_names == ("0", "1", "2", "3")
    assert loaded.train.many.labels.toarray().tolist() == [[1, 0, 0, 0], [0, 1, 1, 0], [0] * 4]
    assert loaded.eval.many.labels.toarray().tolist() == [[0, 1, 1, 0]]
    assert loaded.facts["layout"].endswith("; these are noughts and ones, for 4 labels")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("a.png", [2, 1], []), r"labels.jsonl:1: 'labels' is no row of 4 noughts and ones"),
        (
            ("a.png", [0, 1, 1, 0], [3]),
            r"labels.jsonl:1: 'ignored' stands beside rows of noughts and ones: write",
        ),
    ],
)
def test_what_does_not_go_with_noughts_and_ones_is_named(tmp_path, row, message):
    write(tmp_path / "train", MULTI_HOT, "jsonl")
    write(tmp_path / "val", [row], "jsonl")
    with pytest.raises(DataError, match=message):
        data(tmp_path).load()


def test_training_pictures_decide_which_columns_are_labels(tmp_path):
    """One of noughts is a label too; another file's column of noughts and ones is none."""
    for split in ("train", "val"):
        for name in "abc":
            picture(tmp_path / split / f"{name}.png")
    ones = {"a": "1,0,0", "b": "0,0,1", "c": "1,0,1"}
    lines = [f"{name}.png,{row},{count}" for count, (name, row) in enumerate(ones.items())]
    (tmp_path / "train" / "labels.csv").write_text("\n".join(["file_name,beach,boat,sea,people", *lines]))
    lines = [f"{name}.png,{row},0,1" for name, row in ones.items()]
    (tmp_path / "val" / "labels.csv").write_text("\n".join(["file_name,beach,boat,sea,people,blurred", *lines]))
    loaded = data(tmp_path).load()
    assert loaded.class_names == ("beach", "boat", "sea")
    expected = [[1, 0, 0], [0, 0, 1], [1, 0, 1]]
    assert loaded.train.many.labels.toarray().tolist() == loaded.eval.many.labels.toarray().tolist() == expected
    assert loaded.facts["layout"] == "labels.csv; labels: 3 columns of noughts and ones"
    (tmp_path / "val" / "labels.csv").write_text("file_name,beach,sea\na.png,1,0\nb.png,1,0\nc.png,1,0\n")
    with pytest.raises(DataError, match=r"val/labels.csv: there is no column 'boat', which holds labels"):
        data(tmp_path).load()


def test_a_share_of_single_labels_leaves_every_class_a_picture(tmp_path):
    rows = [(f"{number}.png", [f"c{number % 7}"], []) for number in range(12)]
    write(tmp_path, rows)
    loaded = data(tmp_path, valid_share=0.5, single_label=True).load()
    assert sorted(set(loaded.train.labels.tolist())) == list(range(7))
    assert sorted(set(loaded.eval.labels.tolist())) >= list(range(5))
    write(tmp_path, [(file, [f"c{number}"], []) for number, (file, _, _) in enumerate(rows)])
    with pytest.raises(DataError, match="no class has two pictures, of which config.data.valid_share takes one"):
        data(tmp_path, valid_share=0.5, single_label=True).load()
    with pytest.warns(UserWarning, match=r"valid_share 0.5 holds out all pictures of (\d) of 12 labels, which are not"):
        loaded = data(tmp_path, valid_share=0.5).load()
    assert loaded.train.num_examples + loaded.eval.num_examples == 12
