"""Features of few classes and of more, for tests of runs that are extended."""

import pathlib

import numpy as np

from tests import tiny_features_config

# The new ones are first, in the middle and last among the sorted names.
OLD = tuple(f"n{number:02d}" for number in (1, 2, 3, 4, 6, 7, 8, 9, 10, 11))
NEW = ("n00", "n05", "n12", "n13")
WIDTH = 12


def write(folder: pathlib.Path, names: tuple[str, ...], rows: int = 6, seed: int = 0, width: int = WIDTH) -> None:
    """Named rows around a centre for each class, which its name decides."""
    rng = np.random.default_rng(seed)
    centres = {name: np.random.default_rng(int(name[1:])).normal(size=width) for name in names}
    for split, count in (("train", rows), ("val", 2)):
        (folder / split).mkdir(parents=True, exist_ok=True)
        labels = rng.permutation(np.repeat(names, count))
        features = np.stack([centres[name] for name in labels]) + 0.2 * rng.normal(size=(len(labels), width))
        np.save(folder / split / "labels.npy", labels)
        np.save(folder / split / "features.npy", features.astype(np.float32))


def config_of(head: str, path: pathlib.Path, **fields):
    """A run of seconds on such a folder."""
    config = tiny_features_config.get_config("", head)
    config.data.path = str(path)
    config.total_steps, config.eval_every_steps, config.checkpoint_every_steps = 24, 12, 12
    config.schedule.learning_rate = 0.05
    if head != "ohe":
        config.head.head_sizes = (3, 4)
    with config.unlocked():
        config.update_from_flattened_dict(fields)
    return config
