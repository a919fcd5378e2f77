"""How well single classes are told apart: accuracy by class, its mean over the classes, and what is taken for what."""

import csv
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Pairs of classes that are listed; the rest are mostly single mistakes.
_LISTED = 1000


class ByClass(NamedTuple):
    """What was right and what was not, by class.

    examples, correct: int64 [C]. pairs: int64 [P, 3], class, what it was taken for, and how often; most often first.
    """

    examples: np.ndarray
    correct: np.ndarray
    pairs: np.ndarray

    @property
    def macro_accuracy(self) -> float:
        """The mean of the accuracies of the classes that have examples: each class counts as much as the next."""
        some = self.examples > 0
        return float(np.mean(self.correct[some] / self.examples[some]))


def by_class(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> ByClass:
    """Counts of N examples: int [N], int [N] with -1 where nothing was found.

    Pairs that are equally frequent are in the order of their classes.
    """
    labels, predicted = labels.astype(np.int64), predicted.astype(np.int64)
    right = labels == predicted
    wrong, counts = np.unique(np.stack([labels, predicted], axis=1)[~right], axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return ByClass(
        np.bincount(labels, minlength=num_classes),
        np.bincount(labels[right], minlength=num_classes),
        np.concatenate([wrong, counts[:, None]], axis=1)[order],
    )


def write(found: ByClass, name: Callable[[int], str], workdir: pathlib.Path) -> None:
    """Writes `by_class.csv`, a line a class, and `confusions.csv`, the thousand most frequent mistakes.

    Bytes of names that are not UTF-8 are written as escapes.
    """
    with (workdir / "by_class.csv").open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["class", "name", "examples", "correct", "accuracy"])
        for number, (examples, correct) in enumerate(zip(found.examples, found.correct, strict=True)):
            accuracy = f"{correct / examples:.6g}" if examples else ""
            lines.writerow([number, name(number), examples, correct, accuracy])
    with (workdir / "confusions.csv").open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["class", "name", "taken for", "name of that", "times", "share of the class"])
        for label, other, times in found.pairs[:_LISTED].tolist():
            taken_for = name(other) if other >= 0 else "nothing"
            lines.writerow([label, name(label), other, taken_for, times, f"{times / found.examples[label]:.6g}"])
