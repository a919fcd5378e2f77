"""Pickles as data: what is read, and that no file reaches memory or code; the files' own forms are in their tests."""

import pickle
import pickletools
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from mhe_jax.data import pickles


def put(*parts):
    """A pickle of protocol 2 from its operations."""
    return b"\x80\x02" + b"".join(parts) + b"."


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
DTYPE = b"cnumpy\ndtype\nU\x02%bK\x00K\x01\x87R"


def array(
    name=b"u1",
    shape=b"K\x02\x85",
    content=b"U\x02ab",
    state=b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
):
    return ARRAY + b"(K\x01" + shape + DTYPE % name + state + b"\x89" + content + b"tb"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        None,
        {"a": [1, -1, 2**31 - 1, True, False, 0.1], b"b": ("x", (), ("y", "z"), (1, 2, 3, 4)), 3: {}},
        [b"bytes \xff", "text \u00e9\u6f22\ud800", list(range(3000))],
        {"deep": [[[[["x"]]]]]},
    ],
    ids=["none", "dict", "list", "deep"],
)
def test_plain_values_are_read_as_they_were_written(protocol, value):
    assert pickles.loads(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4", "<f4", "b1"])
def test_arrays_are_read_as_they_were_written(protocol, dtype):
    for order in "CF":
        value = np.asarray(np.arange(12).reshape(3, 4) % 5, dtype, order=order)
        found = pickles.loads(pickle.dumps(value, protocol)).numbers()
        assert found.dtype == value.dtype
        np.testing.assert_array_equal(found, value)
    assert pickles.loads(pickle.dumps(value[1, 2], protocol)) == value[1, 2]


@pytest.mark.parametrize("name", [b"f1", b"b2", b"O8", b"S1"])
def test_dtypes_that_are_not_of_numbers_or_do_not_exist(name):
    with pytest.raises(pickles.PickleError, match="not of numbers"):
        pickles.loads(put(array(name))).numbers()


def test_an_array_of_objects_whose_dtype_says_that_it_has_none_is_not_followed():
    """With the flags of the dtype cleared, numpy takes the bytes of the file for the addresses of objects."""
    cleared = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    data = put(array(b"O8", b"K\x01\x85", b"U\x08\x41\x41\x41\x41\x41\x41\x41\x41", cleared))
    with pytest.raises(pickles.PickleError, match="an array is of 'O8', not of numbers"):
        pickles.loads(data).numbers()
    program = f"import pickle; repr(pickle.loads({data!r}, encoding='latin1'))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode < 0  # a signal, in numpy


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (array(shape=b"K\x03\x85"), "an array of 2 bytes cannot have the shape"),
        (array(shape=b"J\xff\xff\xff\xffK\xfe\x86"), "an array's shape is not one of numbers from 0"),
        (array(shape=b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7ft"), "cannot have the shape"),
        (array(content=b"X\x02\x00\x00\x00ab"), "an array's content is not bytes"),
        (array(name=b"V9"), "an array is of 'V9', not of numbers"),
    ],
)
def test_arrays_that_do_not_hold_together(data, message):
    with pytest.raises(pickles.PickleError, match=message):
        pickles.loads(put(data)).numbers()


def nested(depth):
    return b")" + b"\x85" * depth


@pytest.mark.parametrize(
    ("data", "message"),
    [
        # The hash of such tuples, which a key or a memory of texts asks for, overflows the stack of C.
        (put(b"}", nested(1_000_000), b"K\x01s"), "a key is a tuple, not text or a number"),
        (put(b"c_codecs\nencode\n", nested(1_000_000), b"U\x06latin1\x86R"), "it encodes text by another"),
        (put(b"c_codecs\nencode\n}U\x08__code__K\x01sb"), "it sets the state of a _Name"),
        (put(b"cnumpy\ndtype\n}U\x04nameK\x01sb"), "it sets the state of a _Name"),
        (put(b"cnumpy\nndarray\n(J\xff\xff\xff\x7ftR"), "it calls ndarray"),
        (put(b"K\x01)R"), "it calls something that has no name"),
        (put(b"]K\x01K\x02s"), "it puts values into a list, not a dict"),
        (put(b"}(K\x01u"), "argument 2 is shorter"),
        (b"\x80\x04K\x01K\x02\x93.", "a name that is no text"),
        (put(b"K\x01\x86"), "too few values"),
        (put(b"h\x07"), "7"),
        (b"Sabc\n.", "a string is not between quotes"),
    ],
    ids=str.split("key encoded function dtype ndarray number list odd names few memo quotes"),
)
def test_what_no_data_holds_is_refused(data, message):
    with pytest.raises(pickles.PickleError, match=message):
        pickles.loads(data)


@pytest.mark.parametrize("place", [2**28, 2**31 - 1])
def test_a_place_in_the_memo_takes_no_memory(place):
    tracemalloc.start()
    assert pickles.loads(put(b"]r" + struct.pack("<I", place))) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_file_of_nothing_but_operations_is_ended(monkeypatch):
    monkeypatch.setattr(pickles, "_MOST", 1000)
    assert len(pickles.loads(put(b"(" + b"]" * 990 + b"l"))) == 990
    with pytest.raises(pickles.PickleError, match="it has more than 1000 operations"):
        pickles.loads(put(b"]" * 1000))


UNNEEDED = "INST OBJ NEWOBJ NEWOBJ_EX EXT1 PERSID BINPERSID NEXT_BUFFER READONLY_BUFFER DUP POP LONG4"


@pytest.mark.parametrize("name", UNNEEDED.split())
def test_an_operation_that_no_data_needs_is_refused(name):
    code = next(operation.code for operation in pickletools.opcodes if operation.name == name).encode("latin-1")
    operand = b"\x01\0\0\0\x01" if name == "LONG4" else b"a\nb\n"
    with pytest.raises(pickles.PickleError, match=f"^the operation {name} at byte 3 is refused$"):
        pickles.loads(put(b"N" + code + operand))
