"""Names of any kind in messages."""

import pickle

import pytest

from mhe_jax.data.dataset import BadExample, DataError
from mhe_jax.data.faces.formats.recordio import DamagedRecord
from mhe_jax.data.names import look_alike, one_line


@pytest.mark.parametrize(
    "make", [DataError, BadExample, lambda text: DamagedRecord(text, 3, "cut")], ids=["data", "example", "record"]
)
def test_no_name_escapes_its_line_or_moves_the_cursor(make):
    name = "a\x1b[2J\r\nb\x9b1m\u202ec\u2028d\udcff\u00e9\u6f22"
    for error in (make(name), pickle.loads(pickle.dumps(make(name)))):
        assert str(error).startswith(r"a\x1b[2J\r\nb\x9b1m\u202ec\u2028d\udcff" + "\u00e9\u6f22")


def test_a_message_of_any_length_is_of_reasonable_length():
    message = one_line("begin" + "x" * 100_000 + "end")
    assert len(message) < 2100
    assert message.startswith("beginxxx")
    assert message.endswith("xxxend")
    assert "[98008 characters left out]" in message
    assert one_line("x" * 2000) == "x" * 2000


def test_names_that_do_not_look_alike():
    assert look_alike("cat", ["cat", "dog", "act"]) == ""
    assert look_alike("cat", ["dog", "CAT"]) == "; 'CAT' there differs from 'cat' in capitals"
    assert look_alike("a b", ["ab"]) == "; 'ab' there differs from 'a b' in white space or width"
