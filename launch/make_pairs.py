"""Makes pictures with several labels each out of CIFAR-100, in the layout of `image_folder_ohe:labels`.

    python launch/make_pairs.py --data_dir CIFAR --output DIR

Each picture has one to four of CIFAR's in its quarters, the others grey, and their classes as labels: the training
pictures in DIR/train and DIR/val, the test pictures in DIR/test, each with labels.csv. Nothing is drawn twice within a
split.
"""

import argparse
import csv
import pathlib

import numpy as np
import PIL.Image

from mhe_jax.data.images.cifar import Cifar100

_GREY = 128


def sheet(pictures, rng, side):
    """Up to four pictures uint8 [n, 32, 32, 3] in random quarters of one, uint8 [2 side, 2 side, 3]."""
    quarters = np.full((4, side, side, 3), _GREY, np.uint8)
    for place, picture in zip(rng.permutation(4), pictures, strict=False):
        quarters[place] = PIL.Image.fromarray(picture).resize((side, side), PIL.Image.Resampling.BILINEAR)
    return quarters.reshape(2, 2, side, side, 3).swapaxes(1, 2).reshape(2 * side, 2 * side, 3)


def write(folder, images, labels, names, rng, number, side):
    """Writes `number` sheets of the pictures, and the labels of each; returns how many pictures were used."""
    folder.mkdir(parents=True)
    used = 0
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file_name", "labels"])
        for index in range(number):
            some = slice(used, used + int(rng.integers(1, 5)))
            used = some.stop
            if used > len(images):
                raise SystemExit(f"{folder}: {number} sheets need more than the {len(images)} pictures there are")
            PIL.Image.fromarray(sheet(images[some], rng, side)).save(folder / f"{index:05}.png")
            rows.writerow([f"{index:05}.png", ";".join(sorted({names[label] for label in labels[some]}))])
    return used


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True, help="holds cifar-100-python/")
    parser.add_argument("--output", required=True, type=pathlib.Path, help="the folder to make")
    parser.add_argument("--train", type=int, default=8000, help="sheets to train on")
    parser.add_argument("--val", type=int, default=2000, help="sheets to choose weights and thresholds on")
    parser.add_argument("--test", type=int, default=2000, help="sheets to test")
    parser.add_argument("--side", type=int, default=16, help="pixels of a quarter's side")
    parser.add_argument("--seed", type=int, default=0, help="of the order, the numbers and the quarters")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    data = Cifar100(path=options.data_dir).load()
    order = rng.permutation(len(data.train.images))
    images, labels = data.train.images[order], data.train.labels[order]
    where = options.output
    used = write(where / "train", images, labels, data.class_names, rng, options.train, options.side)
    write(where / "val", images[used:], labels[used:], data.class_names, rng, options.val, options.side)
    order = rng.permutation(len(data.eval.images))
    tested = data.eval.images[order], data.eval.labels[order]
    write(where / "test", *tested, data.class_names, rng, options.test, options.side)


if __name__ == "__main__":
    main()
