"""Accuracies by class and confusions, counted by hand."""

import csv

import numpy as np

from mhe_jax.evaluation.by_class import by_class, write

LABELS = np.array([0, 0, 0, 0, 1, 1, 3, 3, 3, 3], np.int32)
PREDICTED = np.array([0, 1, 1, 3, 1, 0, 3, 3, 3, -1], np.int32)


def test_each_class_counts_as_much_as_the_next():
    found = by_class(LABELS, PREDICTED, 4)
    assert found.examples.tolist() == [4, 2, 0, 4]
    assert found.correct.tolist() == [1, 1, 0, 3]
    assert found.macro_accuracy == (1 / 4 + 1 / 2 + 3 / 4) / 3  # class 2 has no examples
    assert found.pairs.tolist() == [[0, 1, 2], [0, 3, 1], [1, 0, 1], [3, -1, 1]]


def test_without_a_mistake_there_are_no_pairs():
    found = by_class(LABELS, LABELS, 4)
    assert found.macro_accuracy == 1
    assert found.pairs.shape == (0, 3)


def test_the_files_name_the_classes(tmp_path):
    write(by_class(LABELS, PREDICTED, 4), ["ant", "bée", "cat, big", "dog"].__getitem__, tmp_path)
    read = lambda name: list(csv.reader((tmp_path / name).read_text(encoding="utf-8").splitlines()))
    header, *classes = read("by_class.csv")
    assert header == ["class", "name", "examples", "correct", "accuracy"]
    assert classes == [
        ["0", "ant", "4", "1", "0.25"],
        ["1", "bée", "2", "1", "0.5"],
        ["2", "cat, big", "0", "0", ""],
        ["3", "dog", "4", "3", "0.75"],
    ]
    _, *pairs = read("confusions.csv")
    assert pairs[0] == ["0", "ant", "1", "bée", "2", "0.5"]
    assert pairs[3] == ["3", "dog", "-1", "nothing", "1", "0.25"]


def test_bytes_of_a_name_that_are_not_utf8_are_escaped(tmp_path):
    write(by_class(LABELS, PREDICTED, 4), ["ant", "caf\udce9", "cat", "dog"].__getitem__, tmp_path)
    assert "1,caf\\udce9,2" in (tmp_path / "by_class.csv").read_text(encoding="utf-8")
