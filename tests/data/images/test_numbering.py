"""Classes of labels as they are written."""

import numpy as np
import pytest

from mhe_jax.data.dataset import DataError
from mhe_jax.data.images.numbering import Written, numbered


def written(values, kind, name="a.tar"):
    return Written(np.array(values), kind, lambda index: f"{name}: {index}")


def numbers(names, splits):
    found, labels = numbered(splits, names, "classes.txt")
    return found, [of.tolist() for of in labels]


def test_words_are_sorted_and_integers_are_in_the_order_of_numbers():
    assert numbers((), [written(["b", "a", "b"], "strings"), written(["a"], "strings")]) == (
        ("a", "b"),
        [[1, 0, 1], [0]],
    )
    assert numbers((), [written([10, 2, 10], "integers")]) == (("2", "10"), [[1, 0, 1]])
    assert numbers((), [written(["10", "2"], "text")]) == (("2", "10"), [[1, 0]])
    # One word makes words of all; so do numbers in JSON's quotes.
    assert numbers((), [written(["10", "2"], "text"), written(["2"], "text")])[0] == ("2", "10")
    assert numbers((), [written(["10", "2", "x"], "text"), written(["2"], "text")])[0] == ("10", "2", "x")
    assert numbers((), [written(["10", "2", "0"], "integers")]) == (("0", "2", "10"), [[2, 1, 0]])  # as JSON has them
    assert numbers(("z", "a"), [written(["1", "0"], "integers")]) == (("z", "a"), [[1, 0]])
    assert numbers((), [written(["10", "2"], "strings")]) == (("10", "2"), [[0, 1]])


def test_names_number_the_classes_in_their_own_order():
    assert numbers(("z", "a"), [written([1, 0], "integers")]) == (("z", "a"), [[1, 0]])
    assert numbers(("z", "a"), [written(["a", "z"], "text")]) == (("z", "a"), [[1, 0]])


@pytest.mark.parametrize(
    ("names", "splits", "message"),
    [
        (
            ("z", "a"),
            [written([0, 2], "integers")],
            r"a.tar: 1: the label 2 is none of 0 .. 1, which classes.txt names",
        ),
        (("z", "a"), [written([-1], "integers")], r"a.tar: 0: the label -1 is none of 0 .. 1"),
        (("z", "a"), [written(["b"], "strings")], r"a.tar: 0: the class 'b' is none of classes.txt"),
        (("z", "z"), [written([0], "integers")], r"classes.txt: two classes are named 'z'"),
        (
            (),
            [written(["a"], "strings"), written(["A"], "strings", "b.tar")],
            r"b.tar: 0: the class 'A' is none of traini",
        ),
        (
            (),
            [written([1], "integers"), written([2], "integers", "b.tar")],
            r"b.tar: 0: the class 2 is none of training's",
        ),
        (
            (),
            [written([1], "integers"), written(["1"], "strings", "b.tar")],
            r"a.tar: 0 has integers .*, but b.tar: 0 str",
        ),
        ((), [written(["1", "-1"], "text")], r"a.tar: 1: the label -1 is negative"),
        ((), [written(["1", str(2**63)], "text")], r"a.tar: 1: the label 9223372036854775808 is too large"),
        ((), [written([str(-(2**63) - 1)], "integers")], r"a.tar: 0: the label -9223372036854775809 is too large"),
    ],
)
def test_labels_that_are_no_class_are_told(names, splits, message):
    with pytest.raises(DataError, match=message):
        numbered(splits, names, "classes.txt")
