"""Small folders of features, for tests."""

import pathlib

import numpy as np
import scipy.sparse

CLASSES, WIDTH = 11, 12
ROWS = {"train": 66, "val": 21, "test": 13}


def write_features(
    root: pathlib.Path, multilabel: bool = False, rows: dict[str, int] = ROWS, dtype: type = np.float16, seed: int = 0
) -> None:
    """Rows around a centre for each class, of a third of their distance in noise; every class is in each long split.

    Of many labels, a row is the sum of the centres of its labels, of which the first of a split has none.
    """
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(7).normal(size=(CLASSES, WIDTH))
    for split, count in rows.items():
        (root / split).mkdir(parents=True, exist_ok=True)
        labels = rng.permutation(np.arange(count) % CLASSES)
        matrix = np.zeros((count, CLASSES), np.float32)
        matrix[np.arange(count), labels] = 1
        if multilabel:
            matrix[np.arange(count), rng.integers(CLASSES, size=count)] = 1
            matrix[0] = 0
            scipy.sparse.save_npz(root / split / "labels.npz", scipy.sparse.csr_matrix(matrix))
        else:
            np.save(root / split / "labels.npy", labels)
        features = matrix @ centers + 0.3 * rng.normal(size=(count, WIDTH))
        np.save(root / split / "features.npy", features.astype(dtype))
