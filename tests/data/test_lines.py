import gzip
import tracemalloc

import pytest

from mhe_jax.data import lines as lines_module
from mhe_jax.data.dataset import DataError
from mhe_jax.data.lines import TextScan, json_field, names_of_lines, read_json_lines, read_lines


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n\n b \n", ["a", "", " b "]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\xef\xbb\xbfa\nb", ["a", "b"]),
        # Other separators, of which str.splitlines and text mode make line ends, belong to the text.
        ("a\x0b\x0c\x1c\x85\u2028b\rc\nd".encode(), ["a\x0b\x0c\x1c\x85\u2028b\rc", "d"]),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_only_a_line_feed_ends_a_line(tmp_path, data, lines, packed):
    path = tmp_path / ("texts.txt.gz" if packed else "texts.txt")
    path.write_bytes(gzip.compress(data) if packed else data)
    assert list(read_lines(path)) == lines


def test_bytes_that_are_not_utf8_are_told_with_their_line(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes("gut\nschön\n".encode() + b"ab\xff\nnever seen\n")
    lines = read_lines(path)
    assert [next(lines), next(lines)] == ["gut", "schön"]
    with pytest.raises(DataError, match=rf"^{path}:3: byte 3 of the line is not UTF-8"):
        next(lines)


def test_a_line_without_an_end_takes_no_more_memory_than_the_longest(tmp_path, monkeypatch):
    monkeypatch.setattr(lines_module, "_LONGEST", 1 << 20)
    path = tmp_path / "texts.txt.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"short\n")
        for _ in range(64):
            file.write(bytes(1 << 20))
    lines = read_lines(path)
    assert next(lines) == "short"
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"^{path}:2: the line is longer than 1 MiB$"):
        next(lines)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
    path.write_bytes(gzip.compress(b"a" * (1 << 20)))
    assert list(map(len, read_lines(path))) == [1 << 20]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "texts.txt.gz"
    with pytest.raises(DataError, match=rf"^{path} does not exist"):
        list(read_lines(path))
    path.write_bytes(b"not packed\n")
    with pytest.raises(DataError, match=rf"^{path} cannot be read after line 0: .*gzip"):
        list(read_lines(path))
    # So long that the first lines come out before the cut is met.
    path.write_bytes(gzip.compress(b"".join(b"%d\n" % i for i in range(300_000)))[:-1000])
    with pytest.raises(DataError, match=rf"^{path} cannot be read after line [1-9]\d+: "):
        list(read_lines(path))
    with pytest.raises(DataError, match=rf"^{tmp_path} cannot be read"):
        list(read_lines(tmp_path))


def test_json_lines(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}\n\n{"b": "\\ud83d\\ude00"}\n   \n')
    assert list(read_json_lines(path)) == [(1, {"a": 1}), (3, {"b": "😀"})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": 1', r"malformed JSON \(Expecting .* at column 8\)"),
        ('[{"a": 1},', "malformed JSON"),
        ("{'a': 1}", "malformed JSON"),
        ('{"a": 1} {"b": 2}', r"malformed JSON \(Extra data at column 10\)"),
        ("[" * 100_000, "malformed JSON"),
        ('{"a": ' + "1" * 5000 + "}", "malformed JSON"),
        ("[1]", "must be a JSON object, but this is a list"),
        ("null", "but this is null"),
        ('{"a": ["x\\uD83D"]}', "half a surrogate pair"),
        ('{"a": "\\ude00\\ud83d"}', "half a surrogate pair"),
    ],
)
def test_a_line_that_is_no_object_is_told_with_its_number(tmp_path, line, message):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}\n\n' + line + "\n")
    with pytest.raises(DataError, match=rf"^{path}:3: .*{message}"):
        list(read_json_lines(path))


def test_fields_are_checked(tmp_path):
    path = tmp_path / "a.json"
    record = {"text": "a", "labels": "b", "none": None}
    assert json_field(record, "text", str, path, 5) == "a"
    with pytest.raises(
        DataError, match=rf"^{path}:5: the field 'title' is missing \(there are: 'text', 'labels', 'none'\)"
    ):
        json_field(record, "title", str, path, 5)
    with pytest.raises(DataError, match=rf"^{path}:5: the field 'labels' must be a list but is a string"):
        json_field(record, "labels", list, path, 5)
    with pytest.raises(DataError, match="'none' must be a string but is null"):
        json_field(record, "none", str, path, 5)
    with pytest.raises(DataError, match=r"there are: none"):
        json_field({}, "text", str, path, 5)


def test_a_scan_counts_and_tells_texts_apart():
    scan = TextScan(["a", "", " \t", "b"])
    assert (scan.documents, scan.empty) == (4, 2)
    assert scan.fingerprint == TextScan(iter(["a", "", " \t", "b"])).fingerprint
    others = [
        ["a", "", " \t"],
        ["a", "", " \t", "c"],
        ["b", "", " \t", "a"],
        ["a", " \t", "", "b"],
        ["a", "", " ", "\tb"],
    ]
    prints = {TextScan(texts).fingerprint for texts in [*others, ["a", "", " \t", "b"], ["a\nb"], ["a", "b"], ["ab"]]}
    assert len(prints) == len(others) + 4


def test_lines_may_keep_their_ends(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\n\nb\r\r\nc\xc2\x85")
    assert list(read_lines(tmp_path / "a.txt", ends=True)) == ["a\r\n", "\n", "b\r\r\n", "c\x85"]


def test_blank_lines_end_a_file_of_names():
    assert names_of_lines(["ant", " bee", "", " "], "classes.txt") == ("ant", " bee")
    assert names_of_lines([""], "classes.txt") == ()
    with pytest.raises(DataError, match=r"^classes\.txt:2: the line is blank, but each names a class$"):
        names_of_lines(["ant", "", "bee", ""], "classes.txt")
