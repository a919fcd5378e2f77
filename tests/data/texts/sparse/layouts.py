"""The same small rows of sparse features in every layout that is read."""

import pathlib

import numpy as np
import scipy.sparse

ROWS = {"train": 48, "test": 16, "valid": 12}
FEATURES, LABELS = 30, 9
_SHORT = {"train": "trn", "test": "tst", "valid": "val"}


def made(seed: int = 0) -> dict[str, tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]]:
    """Features and labels of each split: a row holds the features 3 l .. 3 l + 2 of its labels l, and one other.

    The last row of each split has neither features nor labels.
    """
    rng = np.random.default_rng(seed)
    found = {}
    for split, rows in ROWS.items():
        labels = np.zeros((rows, LABELS), np.float32)
        features = np.zeros((rows, FEATURES), np.float32)
        for row in range(rows - 1):
            labels[row, rng.choice(LABELS, size=rng.integers(1, 4), replace=False)] = 1
            features[row, : 3 * LABELS] = np.repeat(labels[row], 3) * rng.integers(1, 8, 3 * LABELS) / 8
            features[row, rng.integers(FEATURES)] = 0.25
        # So that a file without a header tells all widths, and where it counts from.
        features[0, [0, FEATURES - 1]], labels[0, LABELS - 1] = 0.5, 1
        found[split] = scipy.sparse.csr_matrix(features), scipy.sparse.csr_matrix(labels)
    return found


def _pairs(row: scipy.sparse.csr_matrix, first: int = 0) -> str:
    return " ".join(f"{i + first}:{v:g}" for i, v in zip(row.indices, row.data, strict=True))


def one_file(folder: pathlib.Path) -> None:
    for split, (features, labels) in made().items():
        lines = [f"{features.shape[0]} {FEATURES} {LABELS}"]
        lines += [f"{','.join(map(str, y.indices))} {_pairs(x)}" for x, y in zip(features, labels, strict=True)]
        (folder / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines))


def two_files(folder: pathlib.Path) -> None:
    for split, both in made().items():
        for matrix, what in zip(both, ("Xf", "Y"), strict=True):
            lines = [f"{matrix.shape[0]} {matrix.shape[1]}", *map(_pairs, matrix)]
            (folder / f"{_SHORT[split]}_X_{what}.txt").write_text("".join(f"{line}\n" for line in lines))
    (folder / "Yf.txt").write_text("".join(f"label {number}\n" for number in range(LABELS)))
    (folder / "filter_labels_test.txt").write_text("0 8\n3 1\n")


def pecos(folder: pathlib.Path) -> None:
    for split, (features, labels) in made().items():
        scipy.sparse.save_npz(folder / f"X.{_SHORT[split]}.npz", features)
        scipy.sparse.save_npz(folder / f"Y.{_SHORT[split]}.npz", labels)


def folders(folder: pathlib.Path) -> None:
    for split, (features, labels) in made().items():
        (folder / split).mkdir()
        scipy.sparse.save_npz(folder / split / "features.npz", features)
        scipy.sparse.save_npz(folder / split / "labels.npz", labels)


def svmlight(folder: pathlib.Path, first: int = 0) -> None:
    for split, (features, labels) in made().items():
        lines = [f"{','.join(map(str, y.indices))} {_pairs(x, first)}" for x, y in zip(features, labels, strict=True)]
        (folder / f"{split}.svm").write_text("".join(f"{line} # {split}\n" for line in lines))


WRITERS = {
    "one file": one_file,
    "two files": two_files,
    "pecos": pecos,
    "folders": folders,
    "svmlight": svmlight,
}
