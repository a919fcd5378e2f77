"""Writes features of classes that lie in a tree which their numbers do not tell: do codes find it, is it worth it?

    PYTHONPATH=. python tests/benchmarks/hidden_tree.py --branching=100,100,100 --rows=2000000 --output=tree
    mhe codes --features=tree/train/features.npy --labels=tree/train/labels.npy --head_sizes=1000x1000 --output=c.npy
    mhe train --config=features_mhc:1000x1000 --config.data.path=tree --config.codes.name=file --config.codes.path=c.npy

A node's vector is its parent's and a normal one of its own, shorter from level to level; a row is its class's
vector and noise. The classes are numbered at random. `config.data.name = 'features'` reads the folder, whose tree.npy
has the place of each class in the tree, so that its numbers are the best codes there are.
"""

import argparse
import math
import pathlib

import numpy as np

_BLOCK = 1 << 16  # rows that are made at a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--branching", default="100,100,100", help="children of a node, from the root down")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--rows", type=int, default=2_000_000, help="to train on: each class once, the rest at random")
    parser.add_argument("--test_rows", type=int, default=20_000)
    parser.add_argument("--shrink", type=float, default=0.7, help="of a level's vectors beside those above")
    parser.add_argument("--noise", type=float, default=1.0, help="of a row beside the first level's vectors")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    options = parser.parse_args()
    branching = [int(part) for part in options.branching.split(",")]
    num_classes = math.prod(branching)
    if options.rows < num_classes:
        raise SystemExit(f"--rows={options.rows}: each of the {num_classes} classes needs one")

    rng = np.random.default_rng(options.seed)
    vectors = class_vectors(branching, options.dim, options.shrink, rng)
    place = rng.permutation(num_classes).astype(np.int32)  # of a class, in the order of the tree's leaves
    options.output.mkdir(parents=True)
    np.save(options.output / "tree.npy", place)
    once = np.concatenate([np.arange(num_classes), rng.integers(num_classes, size=options.rows - num_classes)])
    splits = {"train": rng.permutation(once), "test": rng.integers(num_classes, size=options.test_rows)}
    for split, labels in splits.items():
        folder = options.output / split
        folder.mkdir()
        np.save(folder / "labels.npy", labels.astype(np.int32))
        shape = len(labels), options.dim
        rows = np.lib.format.open_memmap(folder / "features.npy", mode="w+", dtype=np.float16, shape=shape)
        for start in range(0, len(labels), _BLOCK):
            block = vectors[place[labels[start : start + _BLOCK]]]
            rows[start : start + _BLOCK] = block + options.noise * rng.standard_normal(block.shape, np.float32)
        rows.flush()


def class_vectors(branching: list[int], dim: int, shrink: float, rng: np.random.Generator) -> np.ndarray:
    """float32 [leaves, dim], in the order of the tree."""
    vectors = np.zeros((1, dim), np.float32)
    for level, children in enumerate(branching):
        own = rng.standard_normal((len(vectors) * children, dim), np.float32)
        vectors = np.repeat(vectors, children, axis=0) + shrink**level * own
    return vectors


if __name__ == "__main__":
    main()
