import pickle
import struct
import warnings

import numpy as np
import pytest

from mhe_jax.data.dataset import BadExample, DataError
from mhe_jax.data.faces.formats.records import RecordSource, open_records, read_property

MAGIC = bytes.fromhex("0a23d7ce")


def frame(payload, kind=0):
    return MAGIC + struct.pack("<I", kind << 29 | len(payload)) + payload + b"\0" * (-len(payload) % 4)


def image(key, label, content):
    return struct.pack("<IfQQ", 0, label, key, 0) + content


def several(key, labels, content=b""):
    return struct.pack("<IfQQ", len(labels), 0, key, 0) + struct.pack(f"<{len(labels)}f", *labels) + content


PICTURES = {1: (0, b"a"), 2: (0, b"bb"), 3: (1, b"ccc"), 4: (2, b"dddd"), 5: (2, b"eeeee")}
HEADED = [
    (0, several(0, (6, 9))),
    *((key, image(key, *entry)) for key, entry in PICTURES.items()),
    (6, several(6, (1, 3))),
    (7, several(7, (3, 4))),
    (8, several(8, (4, 6))),
]
PLAIN = [(key, image(key, *PICTURES[key])) for key in (4, 1, 5, 2, 3)]


def write(folder, entries, num_classes=3, index=True):
    """A set of records, by hand; returns their offsets."""
    data, lines, offsets = b"", "", []
    for key, payload in entries:
        lines += f"{key}\t{len(data)}\n"
        offsets.append(len(data))
        data += payload if payload.startswith(MAGIC) else frame(payload)
    (folder / "train.rec").write_bytes(data)
    if index:
        (folder / "train.idx").write_text(lines)
    if num_classes:
        (folder / "property").write_text(f"{num_classes},112,112\n")
    return offsets


def content(source):
    return [source.read(index)[:2] for index in range(len(source))]


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("entries", [HEADED, HEADED[1:6] + HEADED[:1] + HEADED[6:]], ids=["first", "after images"])
def test_headed_sets_hold_the_images_before_the_identities(tmp_path, entries, index):
    offsets = write(tmp_path, entries, index=index)
    if index:
        source = open_records(str(tmp_path))
    else:
        with pytest.warns(UserWarning, match=r"train\.idx does not exist: its content is found by reading"):
            source = open_records(str(tmp_path))
    assert source.num_classes == 3
    assert source.keys.tolist() == [1, 2, 3, 4, 5]
    assert content(source) == [(data, label) for label, data in PICTURES.values()]
    labels = source.read_labels()
    assert (labels.tolist(), labels.dtype) == ([0, 0, 1, 2, 2], np.int32)
    place = [key for key, _ in entries].index(3)
    assert source.read(2)[2] == f"{tmp_path}/train.rec record 3 at byte {offsets[place]}"
    again = pickle.loads(pickle.dumps(source))
    assert content(again) == content(source)


def test_plain_sets_hold_an_image_at_every_key_in_the_order_of_the_index(tmp_path):
    write(tmp_path, PLAIN)
    source = open_records(str(tmp_path / "train.rec"))
    assert source.keys.tolist() == [4, 1, 5, 2, 3]
    assert source.read_labels().tolist() == [2, 0, 2, 0, 1]
    assert content(source)[0] == (b"dddd", 2)


def test_records_without_ids_are_numbered_as_they_lie(tmp_path):
    write(tmp_path, [(key, image(0, *PICTURES[key])) for key in (4, 1, 5)], index=False)
    with pytest.warns(UserWarning, match="does not exist"):
        source = open_records(str(tmp_path))
    assert source.keys.tolist() == [0, 1, 2]
    assert source.read_labels().tolist() == [2, 0, 2]


@pytest.mark.parametrize(("entries", "expected"), [(HEADED, 3), (PLAIN, 3), (PLAIN[1:2], 1)])
def test_without_a_property_file_the_header_or_the_labels_tell_the_classes(tmp_path, entries, expected):
    write(tmp_path, entries, num_classes=None)
    assert open_records(str(tmp_path)).num_classes == expected


@pytest.mark.parametrize("first", [2**24, 2**24 + 1, 2**24 + 3, 17_186_135, 2**25 + 2, 2**25 + 5])
def test_numbers_that_float32_rounds_in_the_header_are_found_from_the_records(tmp_path, first):
    """Of the largest sets the header names an image as an identity, or an identity's record as an image."""
    end = first + 3
    keys = [1, *range(first - 5, first)]
    entries = [(0, several(0, (first, end))), *((key, image(key, 1, b"x")) for key in keys)]
    entries += [(key, several(key, (1, 3))) for key in range(first, end)]
    write(tmp_path, entries, num_classes=None)
    with pytest.warns(UserWarning, match=f"{first - 1 - len(keys)} of {first - 1} images are not in the index"):
        source = open_records(str(tmp_path), "skip")
    assert source.keys.tolist() == keys
    assert source.num_classes == 3


def test_more_identities_than_float32_tells_apart(tmp_path):
    write(tmp_path, [(1, image(1, 2.0**24 + 2, b"x"))], num_classes=None)
    with pytest.raises(
        DataError, match=r"train\.rec: 16777219 identities, but RecordIO's float32 labels end at 16777216"
    ):
        open_records(str(tmp_path))
    source = RecordSource(str(tmp_path / "train.rec"), np.array([1]), np.array([0]), 2**24 + 1)
    write(tmp_path, [(1, image(1, 2.0**24, b"x"))], num_classes=None)
    assert source.read(0)[1] == 2**24


def test_a_number_of_identities_is_not_believed_beyond_reason(tmp_path):
    write(tmp_path, PLAIN, num_classes=9_999_999)
    with pytest.raises(DataError, match=r"train\.rec announces 9999999 identities, but lists 5 entries"):
        open_records(str(tmp_path))


def test_labels_of_unusual_records(tmp_path):
    """Several labels, of which the first counts, records in parts, and nothing but a header."""
    split = image(2, 1, b"AAAA" + MAGIC + b"BB")
    parts = frame(split[:28], 1) + frame(split[32:], 3)
    at_once = frame(image(3, 0, b""), 1) + frame(b"", 3)  # the payload ends with the magic number
    entries = [(1, several(1, (2, 7, 9), b"x")), (2, parts), (3, at_once), (4, image(4, 1, b""))]
    write(tmp_path, entries)
    source = open_records(str(tmp_path))
    assert source.read_labels().tolist() == [2, 1, 0, 1]
    assert content(source) == [(b"x", 2), (b"AAAA" + MAGIC + b"BB", 1), (MAGIC, 0), (b"", 1)]


def test_labels_are_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("mhe_jax.data.faces.formats.records._BLOCK", 3)
    labels = np.random.default_rng(0).integers(0, 50, 100)
    entries = [(key, image(key, label, b"x" * (key % 9))) for key, label in enumerate(labels)]
    write(tmp_path, entries, num_classes=50)
    np.testing.assert_array_equal(open_records(str(tmp_path)).read_labels(), labels)


@pytest.mark.parametrize("label", [-1, 3, 1.5, float("nan"), float("inf"), 1e20])
@pytest.mark.parametrize("kind", ["one", "several", "parts"])
def test_a_label_that_is_no_identity_names_the_record(tmp_path, label, kind):
    bad = {
        "one": image(7, label, b"x"),
        "several": several(7, (label, 1)),
        "parts": frame(image(7, label, b""), 1) + frame(b"x", 3),
    }[kind]
    offsets = write(tmp_path, [(1, image(1, 0, b"x")), (7, bad)])
    source = open_records(str(tmp_path))
    message = rf"train\.rec record 7 at byte {offsets[1]}: its label is \S+, which is not an identity from 0 to 2"
    with pytest.raises(DataError, match=message):
        source.read_labels()
    with pytest.raises(DataError, match=message):
        source.read(1)


def test_a_damaged_record_is_a_bad_example(tmp_path):
    offsets = write(tmp_path, HEADED)
    data = bytearray((tmp_path / "train.rec").read_bytes())
    data[offsets[3]] = 0
    (tmp_path / "train.rec").write_bytes(data)
    source = open_records(str(tmp_path))
    message = rf"^{tmp_path}/train\.rec record 3 at byte {offsets[3]}: no record begins at byte {offsets[3]}: 0023d7ce"
    for read in (lambda: source.read(2), source.read_labels):
        with pytest.raises(BadExample, match=message):
            read()
    assert source.read(3)[:2] == (b"dddd", 2)
    assert open_records(str(tmp_path), "skip").read_labels().tolist() == [0, 0, -1, 2, 2]


@pytest.mark.parametrize("flag", [3, 2**32 - 1])
def test_a_record_with_fewer_labels_than_it_announces(tmp_path, flag):
    write(tmp_path, [(1, struct.pack("<IfQQ", flag, 0, 1, 0) + struct.pack("<2f", 1, 1)), (2, image(2, 1, b"x"))])
    source = open_records(str(tmp_path))
    for read in (lambda: source.read(0), source.read_labels):
        with pytest.raises(BadExample, match=rf"record 1 at byte 0: 32 bytes are too few for its {flag} labels"):
            read()
    assert open_records(str(tmp_path), "skip").read_labels().tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3\t1000", r"train\.idx:4: the offset 1000 of record 3 is beyond the end of .*train\.rec, at byte 344"),
        ("3\t2", r"train\.idx:4: the offset 2 of record 3 is no multiple of 4"),
        ("9\t108", r"record 0 says that images have the keys 1 to 5, but the index has 4 of them: 3 is missing"),
        ("2\t108", r"train\.idx:4: repeats the key 2"),
        ("", r"train\.idx:4: must be a key, a tab and an offset"),
    ],
)
def test_an_index_that_is_not_of_these_records(tmp_path, line, message):
    write(tmp_path, HEADED)
    lines = (tmp_path / "train.idx").read_text().splitlines()
    lines[3] = line
    (tmp_path / "train.idx").write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        open_records(str(tmp_path))


def test_an_index_that_is_not_of_all_records(tmp_path):
    offsets = write(tmp_path, PLAIN)
    lines = (tmp_path / "train.idx").read_text().splitlines(keepends=True)
    (tmp_path / "train.idx").write_text("".join(lines[:-1]))
    message = rf"train\.idx:4: the 4 records of the index take the bytes 0 to {offsets[4]} of .*train\.rec, which has"
    with pytest.raises(DataError, match=message):
        open_records(str(tmp_path))
    (tmp_path / "train.idx").write_text("".join(lines[1:]))
    with pytest.raises(DataError, match=rf"train\.idx:4: the 4 records of the index take the bytes {offsets[1]} to"):
        open_records(str(tmp_path))
    (tmp_path / "train.idx").write_text("0\t4\n")
    with pytest.raises(DataError, match=r"train\.idx:1: record 0 cannot be read: .*no record begins at byte 4"):
        open_records(str(tmp_path))
    (tmp_path / "train.idx").write_text("")
    with pytest.raises(DataError, match=r"train\.idx holds no record"):
        open_records(str(tmp_path))


def test_a_cut_file_is_an_error_or_gives_what_is_whole(tmp_path):
    offsets = write(tmp_path, PLAIN)
    data = (tmp_path / "train.rec").read_bytes()
    whole = [(PICTURES[key][1], PICTURES[key][0]) for key, _ in PLAIN]
    for cut in range(1, len(data)):
        (tmp_path / "train.rec").write_bytes(data[:cut])
        complete = sum(end <= cut for end in (*offsets[1:], len(data)))
        with pytest.raises(DataError, match=r"train\.idx:\d: "):
            open_records(str(tmp_path))
        if not complete:
            continue
        source = open_records(str(tmp_path), "skip")
        assert source.read_labels().tolist() == [label for _, label in whole[:complete]] + [-1] * (5 - complete)
        assert [source.read(index)[:2] for index in range(complete)] == whole[:complete]
        for index in range(complete, 5):
            with pytest.raises(BadExample, match=rf"record {PLAIN[index][0]} at byte {offsets[index]}: .*byte {cut}"):
                source.read(index)


@pytest.mark.filterwarnings("ignore:.*train.idx does not exist")
def test_a_cut_file_without_an_index(tmp_path):
    offsets = write(tmp_path, PLAIN, index=False)
    data = (tmp_path / "train.rec").read_bytes()
    (tmp_path / "train.rec").write_bytes(data[: offsets[3] + 10])
    message = rf"train\.rec: damaged record at byte {offsets[3]}: .*; 3 whole records come before it"
    with pytest.raises(DataError, match=message + r" \(on_bad_example='skip' would use those\)"):
        open_records(str(tmp_path))
    with pytest.warns(UserWarning, match=message):
        source = open_records(str(tmp_path), "skip")
    assert source.read_labels().tolist() == [2, 0, 2]
    (tmp_path / "train.rec").write_bytes(data[:10])
    with pytest.raises(DataError, match=r"train\.rec holds no record"), pytest.warns(UserWarning, match="0 whole"):
        open_records(str(tmp_path), "skip")


def test_a_cut_headed_set_whose_index_was_lost(tmp_path):
    offsets = write(tmp_path, HEADED, index=False)
    data = (tmp_path / "train.rec").read_bytes()
    (tmp_path / "train.rec").write_bytes(data[: offsets[4]])  # between two records: nothing is damaged
    with (
        pytest.raises(DataError, match=r"images have the keys 1 to 5, but the index has 3 of them: 4 is missing"),
        pytest.warns(UserWarning, match="does not exist"),
    ):
        open_records(str(tmp_path))
    with pytest.warns(UserWarning, match=r"does not exist|2 of 5 images are not in the index"):
        source = open_records(str(tmp_path), "skip")
    assert source.read_labels().tolist() == [0, 0, 1]


def test_nothing_can_be_read(tmp_path):
    write(tmp_path, [(0, b"short"), (1, b"short")], num_classes=None)
    with pytest.raises(BadExample, match=r"record 0 at byte 0: 5 bytes are too few for the header of an image"):
        open_records(str(tmp_path))
    with pytest.raises(DataError, match=r"train\.rec holds no record that can be read"):
        open_records(str(tmp_path), "skip")


@pytest.mark.parametrize("labels", [(0, 5), (6, 5), (2.5, 5), (float("nan"), 5), (1, 1e20)])
def test_a_header_of_nonsense(tmp_path, labels):
    write(tmp_path, [(0, several(0, labels)), (1, image(1, 0, b"x"))])
    with pytest.raises(
        DataError, match=r"train\.rec record 0 at byte 0: the header says that identities have the keys"
    ):
        open_records(str(tmp_path))


def test_property_files(tmp_path):
    path = tmp_path / "property"
    assert read_property(path) == 0
    for text in ("93431,112,112", "93431,112,112\n", " 93431, 112, 112 \r\n"):
        path.write_text(text)
        assert read_property(path) == 93431
    for text in ("", "0,112,112", "-3,112,112", "93431", "1,2,3,4", "a,112,112", "1e3,112,112", "\u0663,112,112"):
        path.write_text(text)
        with pytest.raises(DataError, match=rf"{path}: must hold num_classes,height,width like 1000,112,112; it holds"):
            read_property(path)


def test_missing_files_and_bad_arguments(tmp_path):
    with pytest.raises(DataError, match=rf"{tmp_path}/train\.rec does not exist"):
        open_records(str(tmp_path))
    with pytest.raises(ValueError, match=r"on_bad_example is 'ignore'; it must be one of 'raise', 'skip'"):
        open_records(str(tmp_path), "ignore")


def test_random_damage_raises_only_what_is_documented(tmp_path):
    rng = np.random.default_rng(0)
    write(tmp_path, HEADED)
    original = {name: (tmp_path / name).read_bytes() for name in ("train.rec", "train.idx", "property")}
    errors = 0
    for _ in range(150):
        for name, data in original.items():
            changed = bytearray(data)
            if name == "train.rec" or rng.random() < 0.3:
                changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
                if rng.random() < 0.3:
                    del changed[rng.integers(len(changed)) :]
            (tmp_path / name).write_bytes(changed)
        if rng.random() < 0.3:
            (tmp_path / "train.idx").unlink()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            for mode in ("raise", "skip"):
                try:
                    source = open_records(str(tmp_path), mode)
                    source.read_labels()
                    content(source)
                except (DataError, BadExample):
                    errors += 1
    assert 50 < errors < 300
