"""Every reader on mutated files: it reads what is there, or says in one line, naming the file, what is wrong with it.

What a reader may not do is die by a signal, raise anything but the two errors of data, or take memory that the bytes do
not account for. The caches, which have seals, have tests of their own.
"""

import gzip
import io
import json
import pickle
import resource
import warnings

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest
import scipy.sparse

from mhe_jax.data.dataset import BadExample, DataError
from mhe_jax.data.faces.formats.bins import read_bin, write_bin
from mhe_jax.data.faces.formats.names import read_names, write_names
from mhe_jax.data.faces.formats.pairs_file import read_pairs
from mhe_jax.data.faces.formats.recordio import index_lines, pack_image, write_record
from mhe_jax.data.faces.formats.records import open_records
from mhe_jax.data.images.cifar import read_pickle
from mhe_jax.data.images.decode import decode
from mhe_jax.data.texts.formats.layouts import read_corpora
from mhe_jax.data.texts.formats.sparse import read_label_matrix

TIMES = 40
MEMORY = 512 << 20  # more than the process has at the beginning
JUNK = (b"\0", b"\xff", b"\n", b"-1", b"2147483648", b"9" * 40, b"{}", b"[" * 2000, b"\x1b[2J", b"nan", b"\xed\xa0\x80")


def picture(kind):
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(buffer, kind)
    return buffer.getvalue()


def pictures(folder):
    for kind in ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF"):
        (folder / f"a.{kind}").write_bytes(picture(kind))
    return lambda path: decode(path.read_bytes(), 3, str(path)).shape


def bins(folder):
    for name, items in (("a.bin", [picture("PNG")] * 4), ("b.bin", [np.frombuffer(picture("JPEG"), np.uint8)] * 4)):
        (folder / name).write_bytes(pickle.dumps((items, [True, False]), 2))
    write_bin(folder / "c.bin", [picture("PNG")] * 4, [True, False])
    return read_bin


def cifar(folder):
    content = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 2], b"filenames": [b"a", b"b"]}
    for protocol in (0, 2, 4):
        (folder / f"batch{protocol}").write_bytes(pickle.dumps(content, protocol))
    return read_pickle


def records(folder):
    with (folder / "train.rec").open("wb") as rec:
        offsets = []
        for key, labels in enumerate([(4, 6), 0.0, 1.0, 1.0, (1, 2), (2, 4)]):
            offsets.append(rec.tell())
            write_record(rec, pack_image(labels, key, picture("JPEG") if isinstance(labels, float) else b""))
    (folder / "train.idx").write_bytes(index_lines(range(6), offsets))
    (folder / "property").write_text("2,10,10\n")

    def read(path):
        source = open_records(str(folder))
        return source.read_labels(), [source.read(index) for index in range(len(source))]

    return read


def names(folder):
    write_names(folder, ("one", "two", "drei"))
    return lambda path: read_names(folder, 3)


def pairs(folder):
    (folder / "a.jpg").write_bytes(b"")
    (folder / "pairs.txt").write_text("a.jpg a.jpg 1\na.jpg a.jpg 0\n")
    return lambda path: read_pairs(folder / "pairs.txt", folder)


def matrices(folder):
    (folder / "a.txt").write_text("3 4\n0:1 2:0.5\n\n3:1\n")
    scipy.sparse.save_npz(folder / "b.npz", scipy.sparse.csr_matrix(np.eye(3, 4)))
    return lambda path: read_label_matrix(path, 3)


def documents(folder):
    for split in ("train", "test"):
        (folder / f"{split}_raw_texts.txt").write_text("red fox\ngreen frog\n")
        (folder / f"{split}_labels.txt").write_text("1 2\n3\n")
    return lambda path: read_all(folder)


def json_lines(folder):
    lines = "".join(json.dumps({"text": "red \u00e9", "labels": ["a", word]}) + "\n" for word in ("b", "c"))
    (folder / "train.jsonl").write_text(lines)
    (folder / "test.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return lambda path: read_all(folder)


def repository(folder):
    line = json.dumps({"title": "red", "content": None, "target_ind": [0, 1], "target_rel": [1.0, 0.5]}) + "\n"
    for name in ("trn.json", "tst.json"):
        (folder / name).write_text(line * 2)
    (folder / "lbl.json").write_text('{"title": "a"}\n{"title": "b"}\n')
    (folder / "filter_labels_test.txt").write_text("0 1\n")
    return lambda path: read_all(folder)


def fasttext(folder):
    lines = "".join(f"__label__a __label__{word} red \u00e9\n" for word in ("b", "c"))
    (folder / "train.txt").write_text(lines)
    (folder / "test.txt.gz").write_bytes(gzip.compress(lines.encode()))
    return lambda path: read_all(folder)


def csv_tables(folder):
    (folder / "train.csv").write_text('text,labels\n"red, \u00e9\n""fox""",a;b\nblue,c\n')
    (folder / "test.tsv").write_text("labels\ttext\na\tred\n\tblue\n")
    (folder / "dev.csv.gz").write_bytes(gzip.compress(b"text,labels\ngreen,c\n"))
    return lambda path: read_all(folder)


def csv_of_ones(folder):
    (folder / "train.csv").write_text("text,a,b,c\nred,0,1,0\nblue,1,1,0\n")
    return lambda path: read_all(folder)


def parquet(folder):
    words = {"text": ["red", "blue \u00e9", None] * 20, "labels": [["a", "b"], [], ["c"]] * 20}
    for split, kind in (("train", "snappy"), ("test", "none")):
        pyarrow.parquet.write_table(pyarrow.table(words), folder / f"{split}.parquet", compression=kind)
    return lambda path: read_all(folder)


def read_all(folder):
    corpora = read_corpora(folder)
    return [list(corpus.texts()) for corpus in (corpora.train, corpora.test, corpora.valid) if corpus]


def mutated(whole, rng):
    """The bytes with a few of them changed, cut, doubled, or replaced by what readers dislike."""
    data = bytearray(whole)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(0, len(data) + 1))
        kind = rng.integers(5)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del data[place : place + int(rng.integers(1, 20))]
        elif kind == 2:
            data[place:place] = JUNK[rng.integers(len(JUNK))]
        elif kind == 3:
            data[place : place + 4] = rng.bytes(4)
        else:
            data[place:place] = data[max(0, place - 30) : place]
    return bytes(data)


@pytest.fixture
def little_memory():
    """An allocation of more than MEMORY fails, as it would where there is no more."""
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


FORMATS = (
    *(pictures, bins, cifar, records, names, pairs),
    *(matrices, documents, json_lines, repository, fasttext, csv_tables, csv_of_ones, parquet),
)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
def test_a_mutated_file_is_read_or_told_in_one_line(tmp_path, make):
    read = make(tmp_path)
    rng, told = np.random.default_rng(0), []
    files = [path for path in sorted(tmp_path.iterdir()) if path.stat().st_size]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in files:
            read(path)
        for path in files:
            whole = path.read_bytes()
            for _ in range(TIMES):
                path.write_bytes(mutated(whole, rng))
                try:
                    read(path)
                except (DataError, BadExample) as error:
                    told.append(str(error))
            path.write_bytes(whole)
    assert len(told) > TIMES * len(files) / 10
    for message in told:
        assert message.isprintable(), message
        assert str(tmp_path) in message
        assert len(message) < 3000
