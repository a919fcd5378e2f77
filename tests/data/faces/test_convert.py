"""Folders of identities become RecordIO and come back."""

import os
import struct

import numpy as np
import pytest

from mhe_jax.data.dataset import BadExample, DataError
from mhe_jax.data.faces.convert import convert
from mhe_jax.data.faces.formats.recordio import RecordFile, unpack_image
from mhe_jax.data.faces.formats.records import open_records
from mhe_jax.data.faces.picture_writers import RecordWriter
from tests.data.faces.people import PEOPLE, tree, write_people

SORTED = sorted(PEOPLE)


@pytest.fixture
def people(tmp_path):
    return write_people(tmp_path / "people")


def pictures(folder):
    """The pictures of each person, in order."""
    return {entry.name: [path.read_bytes() for path in sorted(entry.iterdir())] for entry in folder.iterdir()}


def read_as_insightface(folder):
    """(image, label) pairs by the steps of insightface's loader: the index by key, record 0, then its range of keys."""
    data = (folder / "train.rec").read_bytes()
    offsets = dict(map(int, line.split("\t")) for line in (folder / "train.idx").read_text().splitlines())

    def unpack(key):
        magic, length = struct.unpack_from("<II", data, offsets[key])
        assert (magic, length >> 29) == (0xCED7230A, 0)
        payload = data[offsets[key] + 8 : offsets[key] + 8 + length]
        flag, label, number, _ = struct.unpack_from("<IfQQ", payload)
        assert number == key
        return flag, struct.unpack_from(f"<{flag}f", payload, 24) if flag else label, payload[24 + 4 * flag :]

    flag, header, _ = unpack(0)
    if not flag:
        return [unpack(key)[2:0:-1] for key in offsets], None
    ranges = []
    for key in range(int(header[0]), int(header[1])):
        flag, (start, end), rest = unpack(key)
        assert (flag, rest) == (2, b"")
        ranges.append((int(start), int(end)))
    assert len(offsets) == header[1]
    return [unpack(key)[2:0:-1] for key in range(1, int(header[0]))], ranges


def test_folders_become_records_that_insightface_reads(people, tmp_path):
    outcome = convert(people, tmp_path / "records")
    assert (outcome.examples, outcome.what, outcome.bad) == (10, "pictures of 4 identities", ())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["people", "records"]
    assert sorted(tree(tmp_path / "records")) == ["classes.txt", "property", "train.idx", "train.rec"]
    assert (tmp_path / "records" / "property").read_text() == "4,10,12\n"
    assert (tmp_path / "records" / "classes.txt").read_text(encoding="utf-8") == "".join(f"{n}\n" for n in SORTED)
    found, ranges = read_as_insightface(tmp_path / "records")
    of_people = pictures(people)
    assert found == [(data, label) for label, name in enumerate(SORTED) for data in of_people[name]]
    assert ranges == [(1, 5), (5, 8), (8, 9), (9, 11)]
    source = open_records(str(tmp_path / "records"))
    assert (len(source), source.num_classes) == (10, 4)
    assert [source.read(index)[:2] for index in range(10)] == found


def test_and_back_again(people, tmp_path):
    convert(people, tmp_path / "records")
    outcome = convert(tmp_path / "records", tmp_path / "back")
    assert outcome.examples == 10
    assert pictures(tmp_path / "back") == pictures(people)
    assert sorted(path.name for path in (tmp_path / "back" / "Zoë").iterdir()) == [
        "00000001.jpg",
        "00000002.jpg",
        "00000003.png",
        "00000004.jpg",
    ]
    convert(tmp_path / "back", tmp_path / "again")
    assert tree(tmp_path / "again") == tree(tmp_path / "records")


def test_records_without_names_or_order_are_regrouped(people, tmp_path):
    convert(people, tmp_path / "records")
    for name in ("classes.txt", "property"):
        (tmp_path / "records" / name).unlink()
    lines = (tmp_path / "records" / "train.idx").read_text().splitlines()
    starts = [int(line.split("\t")[1]) for line in lines]
    data = (tmp_path / "records" / "train.rec").read_bytes()
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    rows, rec = "", b""
    for place in np.random.default_rng(0).permutation(10).tolist():  # the images alone, as im2rec writes them
        rows += f"{place + 1}\t{len(rec)}\n"
        rec += data[starts[place] : starts[place + 1]]
    (shuffled / "train.rec").write_bytes(rec)
    (shuffled / "train.idx").write_text(rows)
    convert(shuffled, tmp_path / "folders")
    assert sorted(entry.name for entry in (tmp_path / "folders").iterdir()) == ["0", "1", "2", "3"]
    of_people, of_labels = pictures(people), pictures(tmp_path / "folders")
    assert [sorted(of_labels[str(label)]) for label in range(4)] == [sorted(of_people[name]) for name in SORTED]
    assert convert(shuffled / "train.rec", tmp_path / "whole", dest_kind="rec").examples == 10
    found, ranges = read_as_insightface(tmp_path / "whole")
    assert [label for _, label in found] == [0] * 4 + [1] * 3 + [2] + [3] * 2
    assert ranges == [(1, 5), (5, 8), (8, 9), (9, 11)]


def test_sets_too_large_for_the_header_have_none(people, tmp_path, monkeypatch):
    monkeypatch.setattr("mhe_jax.data.faces.picture_writers.FLOAT_WHOLE", 14)
    convert(people, tmp_path / "plain")
    found, ranges = read_as_insightface(tmp_path / "plain")
    assert ranges is None
    assert [label for _, label in found] == [0] * 4 + [1] * 3 + [2] + [3] * 2
    keys = [unpack_image(payload, "x").key for _, payload in RecordFile(tmp_path / "plain" / "train.rec").scan()]
    assert keys == list(range(10))
    assert open_records(str(tmp_path / "plain")).num_classes == 4
    monkeypatch.setattr("mhe_jax.data.faces.picture_writers.FLOAT_WHOLE", 15)
    convert(people, tmp_path / "headed")
    assert read_as_insightface(tmp_path / "headed")[1] is not None


def test_unreadable_pictures_stop_or_are_named_and_left_out(people, tmp_path):
    broken = people / "bob" / "0.jpeg"
    broken.write_bytes(b"broken")
    with pytest.raises(BadExample, match=rf"^{broken}: cannot be decoded"):
        convert(people, tmp_path / "dest")
    outcome = convert(people, tmp_path / "dest", on_bad_example="skip")  # takes over what the other left
    assert outcome.examples == 9
    assert len(outcome.bad) == 1
    assert outcome.bad[0].startswith(f"{broken}: cannot be decoded")
    found, ranges = read_as_insightface(tmp_path / "dest")
    assert [label for _, label in found] == [0] * 4 + [1] * 3 + [3] * 2
    assert ranges == [(1, 5), (5, 8), (8, 8), (8, 10)]
    for path in people.glob("*/*"):
        path.write_bytes(b"")
    with pytest.raises(BadExample, match="no picture can be read; the last one: .*cannot be decoded"):
        convert(people, tmp_path / "other", on_bad_example="skip")


def test_a_damaged_file_is_salvaged(people, tmp_path):
    convert(people, tmp_path / "records")
    rec = tmp_path / "records" / "train.rec"
    data = bytearray(rec.read_bytes())
    lines = (tmp_path / "records" / "train.idx").read_text().splitlines()
    second, last = (int(lines[place].split("\t")[1]) for place in (1, 9))
    data[second] = 0
    rec.write_bytes(data[: last + 20])
    with pytest.raises(DataError, match=r"train\.idx:11: the offset .* is beyond the end"):
        convert(rec, tmp_path / "whole", dest_kind="rec")
    outcome = convert(rec, tmp_path / "whole", dest_kind="rec", on_bad_example="skip")
    # The header is lost too, so that it and the people's records count as pictures that cannot be read.
    assert (outcome.examples, len(outcome.bad)) == (8, 7)
    assert any(f"record 2 at byte {second}: no record begins" in message for message in outcome.bad)
    found, _ = read_as_insightface(tmp_path / "whole")
    assert [label for _, label in found] == [0] * 3 + [1] * 3 + [2] + [3]


def test_names_that_cannot_be_kept_or_used(people, tmp_path):
    convert(people, tmp_path / "records")
    names = tmp_path / "records" / "classes.txt"
    for lines, message in (
        (["a", "b", "c"], r"classes\.txt has 3 names, but there are 4 identities"),
        (["a", "b", "../c", "d"], r"classes\.txt:3: '\.\./c' cannot be the name of an identity's folder"),
        (["a", "..", "c", "d"], r"classes\.txt:2: '\.\.' cannot be"),
        (["a", "", "c", "d"], r"classes\.txt:2: '' cannot be"),
        (["a", "b\0", "c", "d"], r"classes\.txt:2: 'b\\x00' cannot be"),
        (["a", "b", "c", "a"], r"classes\.txt:4: 'a' is also on line 1"),
    ):
        names.write_text("\n".join(lines) + "\n")
        with pytest.raises(DataError, match=message):
            convert(tmp_path / "records", tmp_path / "folders")
    (people / "bob").rename(people / "bo\nb")
    with pytest.raises(DataError, match=r"the identity 'bo\\nb' cannot be named in classes\.txt: rename its folder"):
        convert(people, tmp_path / "other")
    (people / "bo\nb").rename(os.fsdecode(os.fsencode(people) + b"/bo\xff"))
    with pytest.raises(DataError, match=r"the identity 'bo\\udcff' cannot be named"):
        convert(people, tmp_path / "third")


def test_identities_that_records_cannot_number_are_refused(tmp_path):
    RecordWriter(tmp_path, (), 10, 2**24 + 1).close()
    with pytest.raises(DataError, match="16777218 identities, but RecordIO's float32 labels end at 16777216"):
        RecordWriter(tmp_path, (), 10, 2**24 + 2)
