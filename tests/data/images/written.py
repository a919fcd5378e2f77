"""The same pictures in every layout: the files that WebDataset, pyarrow and Hugging Face's datasets would write."""

import io
import json
import os
import shutil
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq

from mhe_jax.data.images.folder import ImageFolder, scan

NAMES = ("ant", "bee", "cat")


def opened(path, **fields):
    return ImageFolder(path=str(path), image_size=28, **fields)


def rows(folder):
    """(key, extension, bytes, class) of the pictures of a class folder, in the order in which it is read."""
    source = scan(folder)
    for index in range(len(source)):
        data, label, path = source.read(index)
        stem, extension = os.path.splitext(os.path.relpath(path, folder))
        yield stem, extension[1:], data, source.class_names[label]


def add(tar, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def write_tar(path, some, label="cls"):
    """One shard, of (key, extension, bytes, class)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, extension, data, name in some:
            add(tar, f"{key}.{extension}", data)
            add(tar, f"{key}.{label}", json.dumps({"label": name}).encode() if label == "json" else str(name).encode())
            add(tar, f"{key}.txt", b"a caption")
    return path


def table(some, *, structs=False, names=()):
    """A table with columns image and label, as `datasets` writes one where `structs` or `names` are given."""
    some = list(some)
    pictures = [data for _, _, data, _ in some]
    images = (
        pa.array([{"bytes": data, "path": None} for data in pictures]) if structs else pa.array(pictures, pa.binary())
    )
    labels = [name for *_, name in some]
    if names:
        labels = pa.array([list(names).index(name) for name in labels], pa.int64())
    made = pa.table({"image": images, "label": labels})
    if structs or names:
        label = {"names": list(names), "_type": "ClassLabel"} if names else {"dtype": "string", "_type": "Value"}
        told = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
        made = made.replace_schema_metadata({"huggingface": json.dumps(told)})
    return made


def write_parquet(path, some, row_group_size=3, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(some, **how), path, row_group_size=row_group_size)
    return path


def write_arrow(path, some, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = table(some, **how)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, made.schema) as writer:
        writer.write_table(made, max_chunksize=2)
    return path


def saved(folder, splits, **how):
    """What `DatasetDict.save_to_disk` leaves, with two files of training."""
    folder.mkdir(parents=True)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    for split, some in splits.items():
        some = list(some)
        parts = [some[:2], some[2:]] if split == "train" else [some]
        files = [f"data-{place:05}-of-{len(parts):05}.arrow" for place in range(len(parts))]
        for name, part in zip(files, parts, strict=True):
            write_arrow(folder / split / name, part, **how)
        write_arrow(folder / split / "cache-0123.arrow", some[:1], **how)
        (folder / split / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in files]}))


def write_tars(root, folder, shards=2, label="cls"):
    """All splits of a class folder as `root/<split>-{000000..}.tar`."""
    for split in ("train", "val"):
        some = list(rows(folder / split))
        size = -(-len(some) // shards)
        for number in range(shards):
            write_tar(root / f"{split}-{number:06}.tar", some[number * size : (number + 1) * size], label)


def write(layout, root, folder):
    """The pictures of class folders in another layout; returns what `config.data.path` would be."""
    splits = {split: list(rows(folder / split)) for split in ("train", "val")}
    match layout:
        case "tar" | "tar of JSON":
            write_tars(root, folder, label="json" if "JSON" in layout else "cls")
        case "tar by pattern":
            write_tars(root, folder)
            return f"{root}/{{train-{{000000..000001}},val-*}}.tar"
        case "tar in a folder for each split":
            write_tars(root, folder)
            for path in list(root.iterdir()):
                split, _, number = path.name.partition("-")
                (root / split).mkdir(exist_ok=True)
                path.rename(root / split / f"shard-{number}")
        case "tar with classes.txt":
            for split, some in splits.items():
                write_tar(root / f"{split}.tar", [(*row[:3], str(NAMES.index(row[3]))) for row in some])
            (root / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
        case "parquet" | "parquet of structs" | "parquet of numbers":
            how = {"structs": "structs" in layout, "names": NAMES if "numbers" in layout else ()}
            write_parquet(root / "data" / "train-00000-of-00002.parquet", splits["train"][:5], **how)
            write_parquet(root / "data" / "train-00001-of-00002.parquet", splits["train"][5:], **how)
            write_parquet(root / "data" / "validation-00000-of-00001.parquet", splits["val"], **how)
        case "the hub's cache":
            version = root / "snapshots" / "0123abcd"
            (root / "refs").mkdir(parents=True)
            (root / "refs" / "main").write_text("0123abcd")
            (root / "snapshots" / "older").mkdir(parents=True)
            blob = write_parquet(root / "blobs" / "f00", splits["train"], structs=True, names=NAMES)
            other = write_parquet(root / "blobs" / "f01", splits["val"], structs=True, names=NAMES)
            (version / "data").mkdir(parents=True)
            (version / "data" / "train-00000-of-00001.parquet").symlink_to(blob)
            (version / "data" / "test-00000-of-00001.parquet").symlink_to(other)
        case "the hub's cache of folders":
            (root / "refs").mkdir(parents=True)
            shutil.copytree(folder, root / "snapshots" / "0123abcd")
        case "saved":
            saved(root, {"train": splits["train"], "validation": splits["val"]}, structs=True, names=NAMES)
        case "arrow":
            write_arrow(root / "birds-train.arrow", splits["train"])
            write_arrow(root / "birds-test.arrow", splits["val"])
    return str(root)
