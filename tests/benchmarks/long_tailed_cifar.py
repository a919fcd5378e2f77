"""CIFAR-100 with a long tail: class i of 100 keeps 500 / imbalance^(i / 99) of its 500 training images.

The first ones of each class are kept; the test images are all there, so that accuracy is balanced over the classes.

    python tests/benchmarks/long_tailed_cifar.py cifar-100-python OUTPUT [IMBALANCE]

Source: the exponential profile of Cao et al., Learning Imbalanced Datasets with LDAM (NeurIPS 2019).
"""

import pathlib
import pickle
import shutil
import sys

import numpy as np

from mhe_jax.data.images.cifar import read_pickle

CLASSES, MOST = 100, 500


def kept(labels: np.ndarray, imbalance: float) -> np.ndarray:
    """The images that stay, ascending."""
    rank = np.empty(len(labels), int)
    for label in range(CLASSES):
        own = np.flatnonzero(labels == label)
        rank[own] = np.arange(len(own))
    numbers = (MOST * imbalance ** (-np.arange(CLASSES) / (CLASSES - 1))).astype(int)
    return np.flatnonzero(rank < numbers[labels])


def main(source: str, output: str, imbalance: str = "100") -> None:
    folder = pathlib.Path(output, "cifar-100-python")
    folder.mkdir(parents=True)
    for name in ("meta", "test"):
        shutil.copy(pathlib.Path(source, name), folder / name)
    train = read_pickle(pathlib.Path(source, "train"))
    rows = kept(np.asarray(train["fine_labels"]), float(imbalance))
    chosen = {"data": train["data"][rows], "fine_labels": [int(train["fine_labels"][row]) for row in rows]}
    (folder / "train").write_bytes(pickle.dumps(chosen))
    print(f"{folder}: {len(rows):,} training images")


if __name__ == "__main__":
    main(*sys.argv[1:])
