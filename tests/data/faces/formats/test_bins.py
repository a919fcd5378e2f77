import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.faces.formats.bins import read_bin, write_bin

PICTURES = [bytes(range(start, start + 250)) for start in range(6)]
SAME = [True, False, True]
ARRAYS = [np.frombuffer(picture, np.uint8) for picture in PICTURES]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lfw.bin"


def check(path):
    pictures, same = read_bin(path)
    assert pictures == PICTURES
    assert {type(picture) for picture in pictures} == {bytes}
    assert (same.tolist(), same.dtype) == (SAME, bool)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "pictures",
    [PICTURES, tuple(PICTURES), ARRAYS, np.array(PICTURES, object)],
    ids=["bytes", "tuple", "arrays", "objects"],
)
@pytest.mark.parametrize(
    "same", [SAME, tuple(SAME), np.array(SAME), list(np.array(SAME)), [1, 0, 1], np.array([1, 0, 1])], ids=repr
)
def test_pickles_of_python_3(path, protocol, pictures, same):
    path.write_bytes(pickle.dumps((pictures, same), protocol))
    check(path)


def python_2(protocol):
    """What cPickle of Python 2 writes, by hand: str opcodes and a memo that is counted from 1."""
    if protocol == 2:
        strings = b"".join(
            b"U" + bytes([len(item)]) + item + b"q" + bytes([place]) for place, item in enumerate(PICTURES, 3)
        )
        return b"\x80\x02]q\x01(" + strings + b"e]q\x02(\x88\x89\x88e\x86."
    text = b"".join(b"S" + repr(item)[1:].encode() + b"\np%d\na" % place for place, item in enumerate(PICTURES, 3))
    return b"((lp1\n" + text + b"(lp2\nI01\naI00\naI01\natp9\n."


@pytest.mark.parametrize("protocol", [0, 2])
def test_pickles_of_python_2(path, protocol):
    path.write_bytes(python_2(protocol))
    check(path)


def test_long_strings_of_python_2(path):
    long = os.urandom(70_000)
    path.write_bytes(b"\x80\x02](T" + struct.pack("<i", len(long)) + long + b"h\x00e]\x88a\x86.")
    with pytest.raises(DataError, match="not a verification set"):  # place 0 of the memo is empty
        read_bin(path)
    path.write_bytes(b"\x80\x02](T" + struct.pack("<i", len(long)) + long + b"q\x01h\x01e]\x88a\x86.")
    assert read_bin(path)[0] == [long, long]


def test_written_sets_are_plain_pickles_with_equal_pictures_once(path):
    write_bin(path, PICTURES, np.array(SAME))
    check(path)
    assert pickle.loads(path.read_bytes(), encoding="bytes") == (PICTURES, SAME)
    twice = [bytes(bytearray(picture)) for picture in PICTURES * 2]
    size = path.stat().st_size
    write_bin(path, twice, SAME * 2)
    assert read_bin(path)[0] == PICTURES * 2
    assert path.stat().st_size < size + 50
    for pictures, same in ((PICTURES, SAME[:2]), ([], [])):
        with pytest.raises(ValueError, match=f"{len(pictures)} pictures do not make {len(same)} pairs of two"):
            write_bin(path, pictures, same)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2, 3], "holds a list; a verification set is"),
        (7, "holds 7; a verification set is"),
        ((PICTURES, None), "the truth values are a NoneType; they must be a list"),
        (("word", SAME), "the pictures are 'word'; they must be a list"),
        ((PICTURES, SAME[:2]), "holds 6 pictures and 2 pairs; each pair has two pictures"),
        (([], []), "holds 0 pictures and 0 pairs"),
        (([*PICTURES[:5], "word"], SAME), "picture 5 is 'word'; it must be bytes"),
        (([*PICTURES[:5], np.zeros(3, np.float32)], SAME), "picture 5 is a numpy array; it must be bytes"),
        (([*PICTURES[:5], 3], SAME), "picture 5 is 3; it must be bytes"),
        ((PICTURES, [True, 2, True]), "truth value 1 is 2; it must be True or False"),
        ((PICTURES, [True, None, True]), "truth value 1 is a NoneType; it must be"),
        ((PICTURES, np.array([1.0, 0.0, 1.0])), "truth value 0 is a float; it must be True or False"),
        ((PICTURES, {1: True}), "the truth values are a dict; they must be a list"),
        ((PICTURES, [1.0, 0.0, 1.0]), "truth value 0 is a float; it must be True or False"),
    ],
)
def test_other_content_is_named(path, content, message):
    path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=rf"^{path}: .*{message}"):
        read_bin(path)


def test_damage_is_told_with_its_byte(path):
    data = pickle.dumps((PICTURES, SAME), protocol=2)
    path.write_bytes(data[:-1])
    with pytest.raises(DataError, match=rf"a damaged one: it is not complete, but ends at byte {len(data) - 1}$"):
        read_bin(path)
    path.write_bytes(b"\x80\x02\xff.")
    with pytest.raises(DataError, match=r"a damaged one: the operation 'ÿ' at byte 2 is refused"):
        read_bin(path)


def test_a_file_that_is_not_there():
    with pytest.raises(DataError, match=r"/no/such\.bin: cannot be read: No such file"):
        read_bin("/no/such.bin")


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(touched):
    """Pickles that would create the file `touched`, change this process or reach what they should not."""
    command = f"touch {touched}"
    yield pickle.dumps(Call(os.system, command))
    yield pickle.dumps(([Call(os.system, command)] * 2, [True]), protocol=0)
    yield pickle.dumps(([Call(exec, f"open({str(touched)!r}, 'w')")] * 2, [Call(eval, "1")]), protocol=4)
    yield pickle.dumps(([Call(map, os.system, [command])] * 2, [Call(list, Call(map, os.system, [command]))]))
    yield b"cos\nsystem\n(S'" + command.encode() + b"'\ntR."
    yield b"(S'" + command.encode() + b"'\nios\nsystem\n."  # INST
    yield b"(cos\nsystem\nS'" + command.encode() + b"'\no."  # OBJ
    yield b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c" + bytes([len(command)]) + command.encode() + b"\x85R."
    yield b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93."
    yield b"\x80\x04\x8c\x08builtins\x8c\x0d__import__.os\x93."
    yield b"\x80\x04\x8c\x07_codecs\x8c\x0fencode.__self__\x93."
    yield b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R."  # another codec
    yield b"\x80\x02c_codecs\ndecode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R."
    yield b"\x80\x02\x82\x01."  # EXT1
    yield b"\x80\x02\x83\x01\x01."
    yield b"\x80\x02\x84\x01\x01\x01\x01."
    yield b"\x80\x02Pname\n."  # a persistent id
    yield b"\x80\x02K\x01Q."
    yield b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7ftR."  # an array of 2 GiB
    yield b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x02tb."
    yield b"\x80\x02c_codecs\nencode\n}X\x08\x00\x00\x00__code__K\x01sb."  # sets an attribute of the function
    yield b"\x80\x02c_codecs\nencode\nN}X\x08\x00\x00\x00__code__K\x01s\x86b."
    yield b"\x80\x02cnumpy\ndtype\nX\x01\x00\x00\x00O\x85\x81."  # NEWOBJ


def test_nothing_in_a_pickle_is_executed(path, tmp_path):
    touched = tmp_path / "touched"
    cases = list(hostile(touched))
    assert len(cases) == 23
    for data in cases:
        path.write_bytes(data)
        with pytest.raises(DataError, match=rf"^{path}: (not a verification set, or a damaged one|holds )"):
            read_bin(path)
    assert not touched.exists()
    path.write_bytes(cases[0])
    with pytest.raises(DataError, match=r"it refers to posix\.system, which is neither a plain value nor an array"):
        read_bin(path)
    pickle.loads(cases[0])  # the plain unpickler does run it
    assert touched.exists()


ONE_TEXT = b"\x80\x02X" + struct.pack("<I", 50_000) + b"a" * 50_000 + b"q\x01c_codecs\nencode\nq\x02]("
LENGTHS = {
    "a place in the memo": b"\x80\x02]r\xff\xff\xff\x7f.",
    "a place in the memo, in text": b"]p2000000000\n.",
    "bytes": b"\x80\x04\x8e\xff\xff\xff\xff\x7f\0\0\0abc.",
    "a bytearray": b"\x80\x05\x96\xff\xff\xff\xff\x7f\0\0\0abc.",
    "text": b"\x80\x04\x8d\xff\xff\xff\xff\x7f\0\0\0abc.",
    "4-byte length": b"\x80\x03B\xff\xff\xff\x7fabc.",
    "a number": b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
    "a frame": b"\x80\x04\x95\xff\xff\xff\xff\x7f\0\0\0N.",
    "a negative length": b"\x80\x02T\xff\xff\xff\xffabc.",
    "digits": b"I" + b"9" * 100_000 + b"\n.",
    "a text that is encoded again and again": ONE_TEXT + b"h\x02h\x01X\x06\x00\x00\x00latin1\x86R" * 10_000 + b"e.",
}


@pytest.mark.parametrize("data", LENGTHS.values(), ids=LENGTHS)
def test_announced_lengths_take_no_memory(path, data):
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"^{path}: "):
        read_bin(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_a_picture_named_many_times_is_kept_once(path):
    """A bytearray would be copied for each of its places."""
    path.write_bytes(pickle.dumps(([bytearray(10_000)] * 20_000, [True] * 10_000), protocol=5))
    tracemalloc.start()
    pictures, _ = read_bin(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(pictures) == 20_000
    assert peak < 16 << 20


def test_files_cut_anywhere(path):
    for whole in (pickle.dumps(([picture[:9] for picture in PICTURES], SAME), protocol) for protocol in (0, 2, 4)):
        for cut in range(len(whole)):
            path.write_bytes(whole[:cut])
            with pytest.raises(DataError, match=rf"^{path}: "):
                read_bin(path)


def test_random_damage_raises_only_what_is_documented(path):
    rng = np.random.default_rng(0)
    short = [picture[:9] for picture in PICTURES]
    arrays = [np.frombuffer(picture, np.uint8) for picture in short]
    wholes = [pickle.dumps((items, SAME), protocol) for items in (short, arrays) for protocol in (0, 2, 4, 5)]
    errors = 0
    for _ in range(40):
        for whole in wholes:
            data = bytearray(whole)
            for place in rng.integers(0, len(data), rng.integers(1, 5)):
                data[place] = rng.integers(256)
            path.write_bytes(data)
            try:
                pictures, same = read_bin(path)
                assert len(pictures) == 2 * len(same)
            except DataError:
                errors += 1
        path.write_bytes(rng.bytes(rng.integers(1, 50)))
        with pytest.raises(DataError):
            read_bin(path)
    assert errors > 150
