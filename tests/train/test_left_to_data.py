"""Fields that a config leaves to the data: what they become, and that a run keeps it."""

import json
import math

import numpy as np
import PIL.Image
import pytest

import mhe_jax
from mhe_jax.inference.evaluate import evaluate
from mhe_jax.recipes import heads, image_folder
from mhe_jax.train import experiment, left_to_data
from mhe_jax.train.loop import train_and_evaluate
from mhe_jax.train.reporting.describe import describe

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("examples", "size"),
    [(20, 20), (100, 32), (1200, 32), (2048, 64), (5000, 128), (8191, 128), (8192, 256), (21_099, 256), (10**7, 256)],
)
def test_a_batch_leaves_an_epoch_32_steps_within_bounds(examples, size):
    assert left_to_data.batch_size(examples) == size


@pytest.mark.parametrize(("examples", "multiple", "size"), [(1200, 8, 32), (1200, 6, 30), (20, 8, 16), (1200, 64, 64)])
def test_a_batch_is_a_multiple_of_the_devices(examples, multiple, size):
    assert left_to_data.batch_size(examples, multiple) == size


def write_pictures(root, grey=False, names="ab", count=20):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in names:
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(256, size=(9, 9) if grey else (9, 9, 3), dtype=np.uint8)
                PIL.Image.fromarray(pixels).save(root / split / name / f"{number}.png")


def small(root, **data):
    config = image_folder.make(heads.ohe, "small")
    config.data.update(path=str(root), image_size=8, **data)
    config.backbone.update(features_dim=8, widths=(4,))
    config.total_epochs, config.eval_every_epochs = 1.0, 1.0
    return config


def kept(workdir):
    config = json.loads((workdir / "config.json").read_text())
    found = config["data"]["channels"], config["data"]["augmentation"], config["global_batch_size"]
    return *found, config["schedule"]["learning_rate"]


@pytest.mark.parametrize(("grey", "decided"), [(False, (3, "flip_crop", 32)), (True, (1, "affine", 32))])
def test_a_run_says_and_keeps_what_the_data_decided(tmp_path, capsys, grey, decided):
    write_pictures(tmp_path, grey)
    config, workdir = small(tmp_path), tmp_path / "run"
    result = train_and_evaluate(config, workdir)
    line = "by the data: data.channels = {}, data.augmentation = {!r}, global_batch_size = {}".format(*decided)
    assert f"{line}, schedule.learning_rate = 0.003536" in capsys.readouterr().out
    assert kept(workdir) == (*decided, 0.01 * math.sqrt(1 / 8))
    of_pictures = [path for path in left_to_data.LEFT if path not in ("data.features_dim", "data.embedding_dim")]
    assert left_to_data.left(config) == of_pictures  # the caller's stays
    # Others find it in the folder, and by the config as it was given.
    run = mhe_jax.load(workdir)
    assert run.predict(np.zeros((1, 8, 8, decided[0]), np.uint8), top_k=1)
    for given in (config, experiment.usable_config(workdir)):
        assert evaluate(given, workdir)["top1"] == result["last"]["top1"]


def test_a_run_goes_on_with_what_it_began_with(tmp_path):
    """Whatever the data, or another rule, would decide now."""
    write_pictures(tmp_path)
    begun = small(tmp_path, channels=1, augmentation="affine")
    begun.global_batch_size, begun.schedule.learning_rate = 16, 0.0025
    train_and_evaluate(begun, tmp_path / "run", interrupt_at=1)
    assert not left_to_data.left(begun)
    config = small(tmp_path)
    config.eval_every_epochs = 0.0
    result = train_and_evaluate(config, tmp_path / "run")
    assert (result["step"], result["interrupted"]) == (2, False)
    assert kept(tmp_path / "run") == (1, "affine", 16, 0.0025)
    explicit = small(tmp_path, channels=3)
    with pytest.raises(ValueError, match=r"made with another config: data\.channels: 1 there, 3 here; choose"):
        train_and_evaluate(explicit, tmp_path / "run")


def test_describe_asks_for_what_it_cannot_know(tmp_path):
    message = "say --config.data.num_classes, --config.data.channels, --config.global_batch_size$"
    with pytest.raises(ValueError, match=message):
        describe(small(tmp_path))
