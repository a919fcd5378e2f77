import io
import json
import os
import pathlib
import pickle
import struct

import numpy as np
import PIL.Image
import pytest

from mhe_jax.cli.convert import main
from mhe_jax.data.dataset import BadExample, DataError
from mhe_jax.data.faces import picture_writers, resumable
from mhe_jax.data.faces.convert import convert
from mhe_jax.data.faces.formats.recordio import RecordFile, unpack_image
from mhe_jax.data.faces.formats.records import open_records

PEOPLE = {"ann": 3, "bob": 1, "Zoë": 4, "cy d": 2}
SORTED = sorted(PEOPLE)


def encoded(seed, kind="jpeg"):
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture
def people(tmp_path):
    """Ten pictures of four people; one is a PNG."""
    for place, (name, count) in enumerate(PEOPLE.items()):
        (tmp_path / "people" / name).mkdir(parents=True)
        for number in range(count):
            kind = "png" if (name, number) == ("Zoë", 2) else "jpeg"
            (tmp_path / "people" / name / f"{number}.{kind}").write_bytes(encoded(10 * place + number, kind))
    return tmp_path / "people"


def tree(folder):
    """Every file below a folder, and its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
    monkeypatch.setattr("mhe_jax.data.faces.picture_writers._FLOAT_WHOLE", 14)
    convert(people, tmp_path / "plain")
    found, ranges = read_as_insightface(tmp_path / "plain")
    assert ranges is None
    assert [label for _, label in found] == [0] * 4 + [1] * 3 + [2] + [3] * 2
    keys = [unpack_image(payload, "x").key for _, payload in RecordFile(tmp_path / "plain" / "train.rec").scan()]
    assert keys == list(range(10))
    assert open_records(str(tmp_path / "plain")).num_classes == 4
    monkeypatch.setattr("mhe_jax.data.faces.picture_writers._FLOAT_WHOLE", 15)
    convert(people, tmp_path / "headed")
    assert read_as_insightface(tmp_path / "headed")[1] is not None


class Stop(KeyboardInterrupt):
    pass


def stop_after(monkeypatch, count, target=picture_writers, name="write_record"):
    """Lets `count` calls write(to, bytes) through; the next one stops when half of its bytes are written."""
    original, calls = getattr(target, name), [0]

    def write(to, data):
        calls[0] += 1
        if calls[0] <= count:
            return original(to, data)
        if target is picture_writers:
            to.write(data[: len(data) // 2])
        else:
            original(to, data[: len(data) // 2])
        raise Stop

    monkeypatch.setattr(target, name, write)


@pytest.mark.parametrize("kind", ["records", "folders"])
def test_an_interrupted_conversion_goes_on_to_the_same_bytes(people, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(resumable, "_BLOCK", 3)
    if kind == "records":
        (people / "ann" / "1.jpeg").write_bytes(b"broken")
        source, total = people, 9 + 1 + 4  # pictures, header and people
        write = {"target": picture_writers, "name": "write_record"}
    else:
        source, total = tmp_path / "source", 10
        convert(people, source)
        write = {"target": pathlib.Path, "name": "write_bytes"}
    whole = convert(source, tmp_path / "whole", on_bad_example="skip")
    for count in range(total):
        dest = tmp_path / f"dest{count}"
        with monkeypatch.context() as patch:
            stop_after(patch, count, **write)
            with pytest.raises(Stop):
                convert(source, dest, on_bad_example="skip")
        assert not dest.exists()
        outcome = convert(source, dest, on_bad_example="skip")
        assert (outcome.examples, outcome.what, len(outcome.bad)) == (whole.examples, whole.what, len(whole.bad))
        assert tree(dest) == tree(tmp_path / "whole")
        assert not (tmp_path / f"dest{count}.partial").exists()


def test_a_resumed_conversion_does_not_write_again_what_is_done(people, tmp_path, monkeypatch):
    monkeypatch.setattr(resumable, "_BLOCK", 3)
    with monkeypatch.context() as patch:
        stop_after(patch, 8)
        with pytest.raises(Stop):
            convert(people, tmp_path / "dest")
    progress = json.loads((tmp_path / "dest.partial" / "progress.json").read_text())
    assert progress["next"] == 6
    with monkeypatch.context() as patch:
        stop_after(patch, 9)  # 4 pictures, the header and 4 people
        convert(people, tmp_path / "dest")
    assert (tmp_path / "dest" / "train.rec").is_file()


def test_a_resumed_conversion_may_write_less_than_the_interrupted_one(people, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 9)
        with pytest.raises(Stop):
            convert(people, tmp_path / "dest")
    for path in (people / "ann").iterdir():
        path.write_bytes(b"broken")
    for dest in ("dest", "whole"):
        convert(people, tmp_path / dest, on_bad_example="skip")
    assert tree(tmp_path / "dest") == tree(tmp_path / "whole")


def test_partial_folders_of_something_else_are_refused(people, tmp_path, monkeypatch):
    partial = tmp_path / "dest.partial"
    partial.mkdir()
    (partial / "mine.txt").write_text("x")
    with pytest.raises(DataError, match=rf"{partial} holds something else than an unfinished conversion: remove it"):
        convert(people, tmp_path / "dest")
    (partial / "mine.txt").unlink()
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stop):
            convert(people, tmp_path / "dest")
    (people / "dan").mkdir()
    (people / "dan" / "0.jpg").write_bytes(encoded(99))
    with pytest.raises(DataError, match=rf"{partial} holds an unfinished conversion of something else: remove it"):
        convert(people, tmp_path / "dest")
    (people / "dan" / "0.jpg").unlink()
    (people / "dan").rmdir()
    (partial / "train.rec").write_bytes(b"")
    (partial / "progress.json").write_text(
        (partial / "progress.json").read_text().replace('"writer": {}', '"writer": {"train.rec": 8}')
    )
    with pytest.raises(DataError, match=r"train\.rec is shorter than when its conversion stopped: remove"):
        convert(people, tmp_path / "dest")


def test_two_processes_do_not_write_the_same_folder(people, tmp_path):
    with resumable.partial_folder(tmp_path / "dest") as partial:
        with pytest.raises(DataError, match=rf"{partial} is being written by another process"):
            convert(people, tmp_path / "dest")
        (partial / "progress.json").write_text("{}")
    assert tree(tmp_path / "dest") == {}


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


def test_the_command_line(people, tmp_path, capsys, monkeypatch):
    (people / "bob" / "0.jpeg").write_bytes(b"broken")
    command = ["mhe convert", str(people), str(tmp_path / "dest")]
    assert main(command) == 2
    assert capsys.readouterr().err.startswith(f"error: {people}/bob/0.jpeg: cannot be decoded")
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert main([*command, "--on_bad_example=skip"]) == 130
    assert capsys.readouterr().err == f"interrupted: the same command goes on with {tmp_path}/dest\n"
    assert main([*command, "--on_bad_example=skip", "--from=folder", "--to=rec"]) == 0
    output = capsys.readouterr()
    assert output.out.startswith(f"{tmp_path}/dest: 9 pictures of 4 identities, 1 unreadable pictures left out, ")
    assert output.err.startswith(f"left out: {people}/bob/0.jpeg: cannot be decoded")
    for arguments in (["mhe convert", "--help"], ["mhe convert", "a"], ["mhe convert", "a", "b", "--to=zip"]):
        with pytest.raises(SystemExit):
            main(arguments)
    assert "mhe convert ~/faces/train ~/faces/records" in capsys.readouterr().out
